//! Is every node what the settings say it is?

use futures_util::future::join_all;

use super::{
    Deadline, Role, Router,
    core::Report,
    failure,
    node::Node,
    probe::{self, Answer},
};
use crate::error::{Error, ErrorKind, Result};

/// The oldest server that the crate is tested on.
const OLDEST_VERSION: i32 = 15;

/// Asks all nodes at once. An unreachable replica is an error only if `require_replicas`.
pub(super) async fn nodes(router: &Router, require_replicas: bool) -> Result<()> {
    let deadline = Deadline::after(router.inner.limits.acquire_timeout);
    let nodes = &router.inner.nodes;
    let answers = join_all(nodes.iter().map(|node| probe::ask(node, deadline))).await;
    let mut cluster = None;
    for (node, answer) in nodes.iter().zip(answers) {
        let answer = answer.and_then(|answer| judge(node, answer));
        let system = match answer {
            Ok(report) => report.system,
            Err(error) => {
                let outage = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable);
                if node.configured_role() == Role::Replica && outage && !require_replicas {
                    tracing::warn!(error = %error.report(), "a replica cannot be reached; it is used once it answers");
                    continue;
                }
                return Err(error);
            }
        };
        let Some(system) = system else { continue };
        let (first, first_system) = cluster.get_or_insert((node, system));
        if *first_system != system {
            let message = format!("not of the same cluster as {}: their system identifiers differ", first.name());
            return Err(Error::configuration(message).with_node(node.name().clone()));
        }
    }
    Ok(())
}

fn judge(node: &Node, Answer { report, version }: Answer) -> Result<Report> {
    let named = |error: Error| Err(error.with_node(node.name().clone()));
    if version < OLDEST_VERSION {
        let message = format!("the server is PostgreSQL {version}; version {OLDEST_VERSION} or newer is needed");
        return named(Error::configuration(message));
    }
    let expected = node.configured_role();
    if report.standing.role() != expected {
        return named(failure::wrong_role(expected));
    }
    Ok(report)
}
