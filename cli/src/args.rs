//! The options that all commands share.

use clap::{Args, Parser, Subcommand};
use mainstem::LogName;

use crate::{
    commands::{append, doctor, export, import, migrate, tail, verify, watch},
    failure::{EXIT_STATUS, Result},
};

/// Manage a Mainstem event log in PostgreSQL, and the primary and replicas that hold it.
///
/// Name the nodes with --url (one URL for all nodes, or one --url for each), or in the environment, which other users
/// of the machine cannot see: MAINSTEM_URL, or MAINSTEM_PRIMARY_URL and MAINSTEM_REPLICA_URLS (separated by commas), or
/// PGHOST. The command detects which node is the primary. Encryption is set in the URL: sslmode, sslrootcert, sslcert,
/// sslkey.
///
/// Every setting of the library's router is available: in a URL of all nodes as ?mainstem.connect_timeout=5s, in the
/// environment as MAINSTEM_CONNECT_TIMEOUT=5s. What URLs omit comes from PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE and
/// so on.
///
/// Data goes to standard output, as JSON lines where programs may read it; everything else goes to standard error.
/// Passwords are never printed. Ctrl-C ends every command cleanly; a second Ctrl-C ends it at once.
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
    /// URL of all nodes: postgres://user:password@host1,host2:port/database. Or repeat the option with one node each, the
    /// primary first
    #[arg(long = "url", value_name = "URL", global = true, help_heading = "Connection")]
    pub(crate) urls: Vec<String>,
    /// Schema that contains the log
    #[arg(long, value_name = "NAME", default_value = "mainstem", global = true, help_heading = "Connection")]
    schema: String,
    /// Name of the log
    #[arg(long, value_name = "NAME", default_value = "events", global = true, help_heading = "Connection")]
    log: String,
    /// Limit for each call to a server, and for waiting for nodes. The default is 30; MAINSTEM_CALL_TIMEOUT or the URL may
    /// set another limit for calls. If it is too short, searches in a long log fail; if it is too long, a server that
    /// does not answer is noticed late
    #[arg(long, value_name = "SECONDS", global = true, help_heading = "Connection",
          value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) timeout: Option<u64>,
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
