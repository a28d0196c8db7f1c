//! How the nodes relate to each other.

use std::{sync::Arc, time::Duration};

use mainstem::{NodeCondition, NodeStatus, PrimaryState, Role, RouterStatus};

use super::{
    facts::NodeFacts,
    finding::{
        Finding,
        Severity::{Fault, Note, Warning},
    },
};

pub(crate) fn findings(status: &RouterStatus, max_lag: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &status.primary {
        PrimaryState::Known { .. } => {}
        PrimaryState::SplitBrain { nodes, .. } => findings.push(Finding::new(
            Fault,
            "split_brain",
            format!("{} both take writes, on the same timeline", nodes.join(" and ")),
            "the writes to one of them will be lost",
            "stop one of them, and rebuild it as a replica of the other",
        )),
        PrimaryState::Fenced { node, .. } => findings.push(Finding::new(
            Fault,
            "no_primary",
            format!("only {node} takes writes, but another node has seen a newer timeline"),
            "it was replaced: writes to it are not part of the current history",
            "list the new primary, and rebuild this node as its replica (pg_rewind)",
        )),
        _ => findings.push(Finding::new(
            Fault,
            "no_primary",
            "no node takes writes",
            "appends and strong reads fail",
            "start the primary, promote a replica (pg_ctl promote), or list the current primary",
        )),
    }
    if let [only] = &*status.nodes {
        findings.push(
            Finding::new(
                Note,
                "no_replicas",
                "it is the only node in the list",
                "eventual reads go to the primary, and losing it means a restore",
                "list the replicas too, if there are any",
            )
            .at(&only.name),
        );
    }
    findings.extend(status.nodes.iter().filter_map(|node| of_node(node, status.timeline, max_lag)));
    findings
}

fn of_node(node: &NodeStatus, newest: Option<u32>, max_lag: Duration) -> Option<Finding> {
    let timeline = |timeline: Option<u32>| timeline.map_or_else(|| "?".to_owned(), |it| it.to_string());
    let finding = match node.condition {
        // `unseen` says why.
        NodeCondition::Ejected { .. } => return None,
        NodeCondition::Foreign => Finding::new(
            Fault,
            "foreign_node",
            "it belongs to another cluster: its system identifier is not that of the others",
            "it has different data, and serves no reads",
            "correct its URL, or rebuild it with pg_basebackup",
        ),
        NodeCondition::Fenced => Finding::new(
            Fault,
            "fenced_node",
            format!("it takes writes on timeline {}, but is not the primary", timeline(node.timeline)),
            "all that is still written to it will be lost",
            "stop it, and rebuild it as a replica (pg_rewind)",
        ),
        NodeCondition::OlderTimeline => Finding::new(
            Fault,
            "older_timeline",
            format!("it is on timeline {}, but the cluster is on {}", timeline(node.timeline), timeline(newest)),
            "it did not follow the last failover, and serves no reads",
            "point its primary_conninfo at the new primary; if it has WAL that the new primary lacks, rebuild it (pg_rewind)",
        ),
        _ if node.is_receiving == Some(false) && node.role == Role::Replica => Finding::new(
            Warning,
            "not_receiving",
            "it is not connected to the node that it follows",
            "it falls behind with every write, and its slot holds back WAL on the primary",
            "check its server log: the address, the password or the slot in primary_conninfo may be wrong",
        ),
        _ if node.lag.is_some_and(|lag| lag > max_lag) => Finding::new(
            Warning,
            "lag",
            format!(
                "it is {:.1} s behind the primary ({} bytes)",
                node.lag?.as_secs_f64(),
                node.lag_bytes.unwrap_or(0)
            ),
            "reads there are that stale, and reads that need newer data go to the primary",
            "look for long reads that stop replay, recovery_min_apply_delay, a paused replay, and a slow disk",
        ),
        _ => return None,
    };
    Some(finding.at(&node.name))
}

/// A node that could not be reached.
pub(crate) fn unseen(name: &str, is_needed: bool, error: &str) -> Finding {
    let (severity, why) = match is_needed {
        true => (Fault, "appends and strong reads fail"),
        false => (Warning, "the others carry its load, and it could not be checked"),
    };
    let todo = "start it, correct its URL, or remove it from the list";
    Finding::new(severity, "unreachable", format!("it does not serve: {error}"), why, todo).at(name)
}

/// Checks what must be the same on all nodes.
pub(crate) fn alike(nodes: &[(Arc<str>, NodeFacts)]) -> Vec<Finding> {
    let Some(((first_name, first), others)) = nodes.split_first() else { return Vec::new() };
    let mut findings = Vec::new();
    for (name, facts) in others {
        if facts.database != first.database {
            findings.push(
                Finding::new(
                    Fault,
                    "other_database",
                    format!(
                        "its URL names the database {:?}, but that of {first_name} names {:?}",
                        facts.database, first.database
                    ),
                    "reads there find a different log, or none",
                    "correct the URL",
                )
                .at(name),
            );
        }
        let waits = |facts: &NodeFacts| !facts.setting("synchronous_standby_names").is_empty();
        if waits(facts) != waits(first) {
            let (with, without) = if waits(facts) { (name, first_name) } else { (first_name, name) };
            findings.push(
                Finding::new(
                    Warning,
                    "other_durability",
                    format!("synchronous_standby_names is set on {with}, and empty on {without}"),
                    "the setting is a node's own: if that one is promoted, appends are acknowledged that no other node has",
                    "ALTER SYSTEM SET synchronous_standby_names on every node, naming all that may be standbys; with Patroni, synchronous_mode",
                )
                .at(name),
            );
        }
        if facts.version != first.version {
            findings.push(
                Finding::new(
                    Warning,
                    "other_version",
                    format!("it runs PostgreSQL {}, but {first_name} runs {}", facts.version, first.version),
                    "one lacks fixes of the other, and after a failover the cluster behaves differently",
                    "update them to the same minor version, replicas first",
                )
                .at(name),
            );
        }
    }
    findings
}
