//! What all commands are told.

use clap::{Args, Parser, Subcommand};
use mainstem::LogName;

use crate::{
    commands::{append, doctor, export, import, migrate, tail, verify, watch},
    failure::{EXIT_STATUS, Result},
};

/// Looks after an event log of Mainstem in PostgreSQL, and the primary and replicas that it lives in.
///
/// The nodes come from --url, once for the primary and once for each replica, or from MAINSTEM_PRIMARY_URL and
/// MAINSTEM_REPLICA_URLS (separated by commas), which other users of the machine cannot see. Which node is the primary
/// now is found out. Encryption is part of the URL: sslmode, sslrootcert, sslcert, sslkey.
///
/// Data goes to standard output, as JSON lines where programs may read it; everything else to standard error. No
/// password is ever printed. Ctrl-C ends every command cleanly, a second one at once.
#[derive(Parser)]
#[command(name = "mainstem", version, after_long_help = EXIT_STATUS, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args)]
pub(crate) struct Connection {
    /// A node of the cluster, the primary first: postgres://user:password@host:port/database (a comma in it is %2C)
    #[arg(long = "url", value_name = "URL", global = true, value_delimiter = ',', help_heading = "Connection")]
    pub(crate) urls: Vec<String>,
    /// The schema that the log is in
    #[arg(long, value_name = "NAME", default_value = "mainstem", global = true, help_heading = "Connection")]
    schema: String,
    /// The name of the log
    #[arg(long, value_name = "NAME", default_value = "events", global = true, help_heading = "Connection")]
    log: String,
    /// The longest that a call to a server may take. Too short and searches in a long log fail; too long and a server
    /// that says nothing is noticed late
    #[arg(long, value_name = "SECONDS", default_value_t = 30, global = true, help_heading = "Connection",
          value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) timeout: u64,
}

impl Connection {
    pub(crate) fn log(&self) -> Result<LogName> {
        Ok(LogName::new(&*self.schema, &*self.log)?)
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Doctor(doctor::DoctorArgs),
    Watch(watch::WatchArgs),
    Migrate(migrate::MigrateArgs),
    Tail(tail::TailArgs),
    Append(append::AppendArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Verify(verify::VerifyArgs),
}
