//! `mainstem migrate`.

use std::time::Duration;

use clap::Args;
use mainstem::{LogName, schema::MigrationState};

use crate::{
    failure::{Failure, Result},
    interrupt::Interrupt,
    nodes::Nodes,
    output::{self, Output},
};

/// Create the log's tables, or update them to this version
///
/// Any number of these commands, and of applications that migrate at their start, may run at once:
/// one works and the others wait. Each migration is a transaction: whatever ends the command, the
/// log is left between two migrations, and another run continues there. The role needs CREATE on the
/// schema, or on the database if the schema does not exist.
///
/// Prints a line for each migration: its name, and whether it is applied, pending, changed (another
/// content was run under this name) or unknown (a newer version has run it).
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MigrateArgs {
    /// Print what would be run, and change nothing. The exit status is 0 even if migrations are pending
    #[arg(long, visible_alias = "status")]
    dry_run: bool,
    /// Limit for the whole command, including the wait for others. The default is 15 minutes
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86400))]
    limit: u64,
}

pub(crate) async fn run(args: MigrateArgs, nodes: Nodes, log: LogName, interrupt: &Interrupt) -> Result<()> {
    let store = nodes.store(log).await?;
    if !args.dry_run {
        let stopped = "the log is left between two migrations: repeat the command to continue there";
        let migrated =
            interrupt.or(stopped, store.migrate().timeout(Duration::from_secs(args.limit)).into_future()).await??;
        output::say(format_args!("{} applied", counted(migrated.applied.len())));
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
            "this version would refuse to migrate the log: {}; run the version that migrated it, or restore what was changed",
            refused.join(", ")
        ))),
    }
}

fn counted(migrations: usize) -> String {
    match migrations {
        0 => "no migration".into(),
        1 => "one migration".into(),
        more => format!("{more} migrations"),
    }
}
