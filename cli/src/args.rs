//! What all commands are told.

use clap::{Args, Parser, Subcommand};
use mainstem::LogName;

use crate::{
    commands::{append, doctor, export, import, migrate, tail, verify, watch},
    failure::{EXIT_STATUS, Result},
};

/// Looks after an event log of Mainstem in PostgreSQL, and the primary and replicas that it lives in.
///
/// The nodes come from --url, which names all of them or is given once for each, or from the environment, which other
/// users of the machine cannot see: MAINSTEM_URL, or MAINSTEM_PRIMARY_URL and MAINSTEM_REPLICA_URLS (separated by
/// commas), or PGHOST. Which node is the primary now is found out. Encryption is part of the URL: sslmode, sslrootcert,
/// sslcert, sslkey.
///
/// Every setting of the library's router can be given: in a URL of all nodes as in ?mainstem.connect_timeout=5s, in the
/// environment as in MAINSTEM_CONNECT_TIMEOUT=5s. What URLs leave out comes from PGUSER, PGPASSWORD, PGDATABASE,
/// PGSSLMODE and so on.
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
    /// All nodes of the cluster: postgres://user:password@host1,host2:port/database. Or several times, a node each, the
    /// primary first
    #[arg(long = "url", value_name = "URL", global = true, help_heading = "Connection")]
    pub(crate) urls: Vec<String>,
    /// The schema that the log is in
    #[arg(long, value_name = "NAME", default_value = "mainstem", global = true, help_heading = "Connection")]
    schema: String,
    /// The name of the log
    #[arg(long, value_name = "NAME", default_value = "events", global = true, help_heading = "Connection")]
    log: String,
    /// The longest that a call to a server may take, and that nodes are waited for: 30 unless MAINSTEM_CALL_TIMEOUT or the
    /// URL says another thing for calls. Too short and searches in a long log fail; too long and a server that says
    /// nothing is noticed late
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
