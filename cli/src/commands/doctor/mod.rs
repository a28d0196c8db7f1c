//! `mainstem doctor`.
//!
//! | file | what it holds |
//! |---|---|
//! | `facts` | what the nodes are asked |
//! | `finding` | what is reported |
//! | `topology`, `settings`, `log` | turn facts into findings, without I/O |

mod facts;
mod finding;
mod log;
mod settings;
mod topology;

use std::time::Duration;

use clap::Args;
use mainstem::{LogName, NodeCondition, PostgresEventStore, Router};
use tokio::time::Instant;

use self::{
    facts::{LogFacts, NodeFacts},
    finding::{Finding, Severity},
};
use crate::{
    failure::{FAULTS, Failure, Result, WARNINGS},
    nodes::{Nodes, Reached, reach},
    output::{self, Output},
};

/// Find problems of the cluster and the log, and say what to do about them
///
/// Checks the roles and timelines of the nodes, replication lag, slots that hold back WAL, the
/// connections that are available (by the server, the role and the database), transaction ids that
/// run out, and settings that lose data, stop replication or make reads fail. On the primary it also
/// checks the log: its tables, its statistics, the role's rights, invalid indexes, and how the
/// conditions of appends are searched.
///
/// A finding is a note (worth knowing), a warning (it will cause problems) or a fault (something is
/// broken, or loses data). It says what was seen, why it matters and what to do. The exit status is
/// that of the worst finding: 0, 10 or 20. Only catalogs are read. Grant pg_monitor to the role so
/// that it sees all of them.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DoctorArgs {
    /// Print the findings as JSON lines: severity, check, node, seen, why, do
    #[arg(long)]
    json: bool,
    /// Connections of your application's pool to each node, to compare with what server, role and database allow
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 10)]
    pool: u32,
    /// Number of instances of your application
    #[arg(long, value_name = "INSTANCES", default_value_t = 1)]
    instances: u32,
    /// Warn about a replica that lags by more than this; healthy replicas lag by milliseconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    max_lag: u64,
    /// Warn about a session that has been idle in a transaction for this long
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    max_idle: i64,
}

pub(crate) async fn run(args: DoctorArgs, nodes: Nodes, log: LogName) -> Result<()> {
    let mut findings = examine(&args, &nodes, log).await?;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut output = Output::stdout();
    for finding in &findings {
        match args.json {
            true => output.json(finding)?,
            false => output.line(finding.to_string())?,
        }
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (faults, warnings, notes) = (count(Severity::Fault), count(Severity::Warning), count(Severity::Note));
    output.flush()?;
    output::say(format_args!("{faults} faults, {warnings} warnings, {notes} notes"));
    match (faults, warnings) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::new(WARNINGS, "")),
        _ => Err(Failure::new(FAULTS, "")),
    }
}

async fn examine(args: &DoctorArgs, nodes: &Nodes, log: LogName) -> Result<Vec<Finding>> {
    // Problems of the nodes are to be reported, so build the router without refusing any node.
    let router = nodes.builder()?.probe_interval(Duration::from_millis(100)).build()?;
    settled(&router, nodes.limit().min(Duration::from_secs(6))).await;
    let status = router.status();
    let mut findings = topology::findings(&status, Duration::from_secs(args.max_lag));
    // Each instance has one more for probes, one that listens, and four for heartbeats of consumers.
    let connections = args.pool.saturating_add(6).saturating_mul(args.instances);
    let limits = settings::Limits { pool: connections, max_idle: args.max_idle };
    let store = PostgresEventStore::with_name(&router, log);
    // If no node is known to take writes, an unreachable node may be the one that should.
    let is_needed = |is_primary| is_primary || status.primary.known().is_none();
    let mut seen = Vec::new();
    for (Reached { name, client, is_primary }, node) in reach(&router).await.into_iter().zip(&status.nodes) {
        match client {
            Ok(client) => match NodeFacts::ask(&client).await {
                Ok(facts) => {
                    findings.extend(settings::findings(&name, node.role, is_primary, &facts, &limits));
                    if is_primary {
                        let asked = LogFacts::ask(client, &store).await?;
                        findings.extend(log::findings(&name, &facts, &asked));
                    }
                    seen.push((name, facts));
                }
                Err(failure) => findings.push(topology::unseen(&name, is_needed(is_primary), &failure.message)),
            },
            Err(error) => findings.push(topology::unseen(&name, is_needed(is_primary), &error.report())),
        }
    }
    findings.extend(topology::alike(&seen));
    if let Err(error) = store.check().await {
        findings.push(log::unfit(&error));
    }
    Ok(findings)
}

/// Waits until each node has reported its state, or is known not to answer.
async fn settled(router: &Router, limit: Duration) {
    let until = Instant::now() + limit;
    loop {
        let status = router.status();
        let has_told = |node: &mainstem::NodeStatus| {
            matches!(node.condition, NodeCondition::Ejected { .. } | NodeCondition::Foreign | NodeCondition::Fenced)
                || node.system_identifier.is_some() && (node.lag.is_some() || node.timeline != status.timeline)
        };
        if status.nodes.iter().all(has_told) || Instant::now() >= until {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
