//! Checks whether every node is what the settings say.

use futures_util::future::join_all;

use crate::{
    error::{Error, ErrorKind, Result},
    router::{
        Deadline, Inner, Role, Router,
        core::{Decision, NodeSet, Refusal, Report, Want},
        lease::failure,
        nodes::{
            node::Node,
            probe::{self, Answer},
        },
    },
};

/// The oldest server that the crate is tested on.
const OLDEST_VERSION: i32 = 15;

/// Asks all nodes at once. An unreachable replica is an error only if `require_replicas`.
///
/// The settings may be older than the last failover: if nodes are probed regularly, they may have changed their roles,
/// as long as one of them is the primary now.
pub(in crate::router) async fn nodes(router: &Router, require_replicas: bool) -> Result<()> {
    let Inner { nodes, limits, probes, .. } = &*router.inner;
    let nodes = nodes.all();
    let deadline = Deadline::after(limits.acquire_timeout);
    let answers = join_all(nodes.iter().map(|node| probe::ask(node, deadline))).await;
    let leads = |node: &Node| node.role() == Role::Primary && !node.handle().is_fenced();
    // Without an answer, the primary of the settings is only assumed to be it.
    let mut answered = nodes.iter().zip(&answers).filter_map(|(node, answer)| answer.is_ok().then_some(node));
    let is_led = probes.are_asking() && answered.any(|node| leads(node));
    let (mut cluster, mut unreachable) = (None, Vec::new());
    for (node, answer) in nodes.iter().zip(answers) {
        // A name for replicas may well resolve to the primary, too.
        let may_be = |role| {
            node.is_found()
                || node.configured_role().is_none_or(|configured| role == configured)
                || is_led && (role == Role::Replica || leads(node))
        };
        let answer = answer.and_then(|answer| judge(node, answer, may_be));
        let system = match answer {
            Ok(report) => report.system,
            Err(error) => {
                let outage = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable);
                let dispensable = node.configured_role() != Some(Role::Primary) || is_led;
                if dispensable && outage && !require_replicas {
                    tracing::warn!(error = %error.for_log(), "a node cannot be reached; it is used once it answers");
                    unreachable.push(error);
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
    let names_primary = nodes.iter().any(|node| node.configured_role() == Some(Role::Primary));
    if names_primary || is_led { Ok(()) } else { Err(nobody_leads(router, unreachable)) }
}

/// The error if none of the nodes takes writes whose roles the settings leave open.
fn nobody_leads(router: &Router, mut unreachable: Vec<Error>) -> Error {
    let state = &router.inner.state;
    match state.choose(Want::Strong, NodeSet::EMPTY) {
        // Two of them do, or one that was replaced.
        Decision::Refuse(refusal @ (Refusal::SplitBrain(..) | Refusal::Fenced(_))) => {
            router.refused(refusal, Want::Strong, NodeSet::EMPTY, Vec::new()).error
        }
        _ => {
            let reports: Vec<String> = unreachable.iter().map(Error::report).collect();
            let why = if reports.is_empty() { "they all are replicas".to_owned() } else { reports.join("; ") };
            let error = Error::new(ErrorKind::Unavailable, format!("none of the nodes takes writes: {why}"));
            match unreachable.pop() {
                Some(last) => error.with_source(last),
                None => error,
            }
        }
    }
}

fn judge(node: &Node, Answer { report, version }: Answer, may_be: impl Fn(Role) -> bool) -> Result<Report> {
    self::version(node, version)?;
    if !may_be(report.standing.role()) {
        // Without a role in the settings it may be either.
        let expected = node.configured_role().unwrap_or(Role::Replica);
        return Err(failure::wrong_role(expected).with_node(node.name().clone()));
    }
    Ok(report)
}

/// Whether this is a version that the crate knows.
pub(in crate::router) fn version(node: &Node, version: i32) -> Result<()> {
    if version < OLDEST_VERSION {
        let message = format!("the server is PostgreSQL {version}; version {OLDEST_VERSION} or newer is needed");
        return Err(Error::configuration(message).with_node(node.name().clone()));
    }
    Ok(())
}
