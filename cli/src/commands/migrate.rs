//! `mainstem migrate`.

use std::time::Duration;

use clap::Args;
use mainstem::{LogName, MigrationState};

use crate::{
    failure::{Failure, Result},
    interrupt::Interrupt,
    nodes::Nodes,
    output::Output,
};

/// Creates the log's tables, or brings them up to this version
///
/// Any number of these, and of applications that migrate at their start, may run at once: one works and the others wait.
/// Each migration is a transaction, so that whatever ends this, the log is left between two of them, and the same again
/// goes on there. The role needs CREATE on the schema, or on the database if the schema is not there.
///
/// Prints a line for each migration: its name, and whether it is applied, pending, changed (another content was run under
/// this name) or unknown (a newer version has run it).
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MigrateArgs {
    /// Say what would be run, and change nothing. The exit status is 0 whether there is something to do or not
    #[arg(long, visible_alias = "status")]
    dry_run: bool,
    /// The longest that all of it may take, waiting for others included: 15 minutes
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86400))]
    limit: u64,
}

pub(crate) async fn run(args: MigrateArgs, nodes: Nodes, log: LogName, interrupt: &Interrupt) -> Result<()> {
    let store = nodes.store(log).await?;
    if !args.dry_run {
        let stopped = "the log is left between two migrations: the same again goes on there";
        let migrated =
            interrupt.or(stopped, store.migrate().timeout(Duration::from_secs(args.limit)).into_future()).await??;
        eprintln!("{} run now", counted(migrated.applied.len()));
    }
    let mut output = Output::stdout();
    let mut refused = Vec::new();
    for migration in store.migration_status().await? {
        let state = match migration.state {
            MigrationState::Applied => "applied",
            MigrationState::Pending => "pending",
            MigrationState::Changed => "changed",
            MigrationState::Unknown => "unknown",
            _ => "?",
        };
        if matches!(migration.state, MigrationState::Changed | MigrationState::Unknown) {
            refused.push(format!("{} is {state}", migration.name));
        }
        output.line(format!("{} {state}", migration.name))?;
    }
    output.flush()?;
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Failure::failed(format!(
            "this version would refuse to migrate the log: {}; run the version that has made it, or restore what was changed",
            refused.join(", ")
        ))),
    }
}

fn counted(migrations: usize) -> String {
    match migrations {
        0 => "no migration was".into(),
        1 => "one migration was".into(),
        more => format!("{more} migrations were"),
    }
}
