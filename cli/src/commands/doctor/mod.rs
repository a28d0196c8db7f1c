//! `mainstem doctor`.
//!
//! | file | what it holds |
//! |---|---|
//! | `facts` | what is asked of the nodes |
//! | `finding` | what is told of them |
//! | `topology`, `settings`, `log` | which facts are which findings: pure |

mod facts;
mod finding;
mod log;
mod settings;
mod topology;

use std::time::Duration;

use clap::Args;
use mainstem::{LogName, NodeCondition, PostgresEventStore, PrimaryState, Router};
use tokio::time::Instant;

use self::{
    facts::{LogFacts, NodeFacts},
    finding::{Finding, Severity},
};
use crate::{
    failure::{FAULTS, Failure, Result, WARNINGS},
    nodes::{Nodes, Reached, reach},
    output::Output,
};

/// Looks for what is wrong with the cluster and the log, and says what to do
///
/// Roles and timelines of the nodes, how far replicas are behind, slots that hold WAL back, settings that lose data, stop
/// replication or fail reads, and on the primary the log: its tables, the role's rights, invalid indexes, and how the
/// conditions of appends are searched for.
///
/// A finding is a note (worth knowing), a warning (it will hurt), or a fault (it is broken, or loses data). It says what
/// was seen, why that matters and what to do. The exit status is that of the worst one: 0, 10 or 20. Only catalogs are
/// read. Grant pg_monitor to the role, so that it is told all of them.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DoctorArgs {
    /// Print JSON lines: severity, check, node, seen, why, do
    #[arg(long)]
    json: bool,
    /// The connections of your application's pool to each node, to compare with what the servers have
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 10)]
    pool: u32,
    /// How many instances of your application run
    #[arg(long, value_name = "INSTANCES", default_value_t = 1)]
    instances: u32,
    /// A replica that is further behind than this is a warning; healthy ones are behind by milliseconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    max_lag: u64,
    /// A session that is idle in a transaction for this long is a warning
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
    eprintln!("{faults} faults, {warnings} warnings, {notes} notes");
    match (faults, warnings) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::new(WARNINGS, "")),
        _ => Err(Failure::new(FAULTS, "")),
    }
}

async fn examine(args: &DoctorArgs, nodes: &Nodes, log: LogName) -> Result<Vec<Finding>> {
    // Whatever is wrong with the nodes is to be told, so nobody refuses them.
    let router = nodes.builder()?.probe_interval(Duration::from_millis(100)).build()?;
    settled(&router, nodes.limit().min(Duration::from_secs(6))).await;
    let status = router.status();
    let mut findings = topology::findings(&status, Duration::from_secs(args.max_lag));
    let limits = settings::Limits { pool: args.pool.saturating_mul(args.instances), max_idle: args.max_idle };
    let store = PostgresEventStore::with_name(&router, log);
    // Where nobody is known to take writes, who cannot be asked may be the one that should.
    let is_needed = |is_primary| is_primary || !matches!(status.primary, PrimaryState::Known(_));
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

/// Waits until each node has told how it is, or is known not to answer.
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
