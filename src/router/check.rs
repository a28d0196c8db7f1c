//! Is every node what the settings say it is?

use futures_util::future::join_all;

use super::{Deadline, Effect, Router, failure, node::Node};
use crate::{
    Role,
    error::{Error, ErrorKind, Result},
};

/// The oldest server that the crate is tested on.
const OLDEST_VERSION: i32 = 15;

/// What a node says of itself.
#[derive(Debug)]
struct Identity {
    in_recovery: bool,
    version: i32,
    /// The same on all nodes of a cluster. `None` where the server does not tell it to this user.
    system_identifier: Option<i64>,
}

/// Asks all nodes at once. An unreachable replica is an error only if `require_replicas`.
pub(super) async fn nodes(router: &Router, require_replicas: bool) -> Result<()> {
    let deadline = Deadline::after(router.inner.limits.acquire_timeout);
    let nodes = &router.inner.nodes;
    let answers = join_all(nodes.iter().map(|node| ask(node, deadline))).await;
    let mut cluster = None;
    for (node, answer) in nodes.iter().zip(answers) {
        let answer = answer.and_then(|identity| judge(node, identity));
        let system_identifier = match answer {
            Ok(Identity { system_identifier, .. }) => system_identifier,
            Err(error) => {
                let outage = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable);
                if node.role() == Role::Replica && outage && !require_replicas {
                    tracing::warn!(error = %error.report(), "a replica cannot be reached; it is used once it answers");
                    continue;
                }
                return Err(error);
            }
        };
        let Some(system_identifier) = system_identifier else { continue };
        let (first, first_identifier) = cluster.get_or_insert((node, system_identifier));
        if *first_identifier != system_identifier {
            let message = format!("not of the same cluster as {}: their system identifiers differ", first.name());
            return Err(Error::configuration(message).with_node(node.name().clone()));
        }
    }
    Ok(())
}

async fn ask(node: &std::sync::Arc<Node>, deadline: Deadline) -> Result<Identity> {
    let lease = node.lease(None, deadline.at(), deadline).await?;
    let sql = "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int4 / 10000";
    let rows = lease.query(Effect::Read, deadline, sql, &[]).await?;
    let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Database, "the server did not say who it is"))?;
    let (in_recovery, version) = (row.get(0), row.get(1));
    let sql = "SELECT system_identifier FROM pg_control_system()";
    let system_identifier = match lease.query(Effect::Read, deadline, sql, &[]).await {
        Ok(rows) => rows.first().map(|row| row.get(0)),
        // Some hosted servers keep it to themselves.
        Err(error) if error.kind() == ErrorKind::Database => None,
        Err(error) => return Err(error),
    };
    Ok(Identity { in_recovery, version, system_identifier })
}

fn judge(node: &Node, identity: Identity) -> Result<Identity> {
    let named = |error: Error| Err(error.with_node(node.name().clone()));
    if identity.version < OLDEST_VERSION {
        let version = identity.version;
        let message = format!("the server is PostgreSQL {version}; version {OLDEST_VERSION} or newer is needed");
        return named(Error::configuration(message));
    }
    if identity.in_recovery != (node.role() == Role::Replica) {
        return named(failure::wrong_role(node.role()));
    }
    Ok(identity)
}
