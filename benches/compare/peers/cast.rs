//! The stores that take part.

use std::{fs, path::PathBuf};

/// A store that Mainstem is compared with.
#[derive(Debug)]
pub(super) struct Peer {
    /// For `--only`, and the name of its schema.
    pub(super) name: &'static str,
    /// What is driven, with a version if no package has it.
    pub(super) title: &'static str,
    /// The package that has its version, in a file of `benches/peers`. A Rust package is a feature there, named like the
    /// peer.
    pub(super) package: Option<(&'static str, &'static str)>,
    pub(super) program: Program,
    /// What readers should know about its figures.
    pub(super) note: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Program {
    /// From the package `mainstem-peers`, on the common PostgreSQL, with the SQL that fills its tables from the log.
    OnPostgres { fill: &'static str },
    /// `eventsourcing_dcb.py`, likewise.
    InPython { fill: &'static str },
    /// From the package `mainstem-peers`, with its own server, which it fills itself.
    WithServer,
}

const CARGO: &str = "Cargo.toml";
const PYTHON: &str = "requirements.txt";

pub(super) const PEERS: &[Peer] = &[
    Peer {
        name: "dynamic_streams",
        title: "dynamic-streams-eventstore-go 1.4, its SQL",
        package: None,
        program: Program::OnPostgres { fill: include_str!("sql/dynamic_streams.sql") },
        note: "UNSAFE: one statement without a lock, READ COMMITTED",
    },
    Peer {
        name: "crablet",
        title: "go-crablet 2025-09, its SQL",
        package: None,
        program: Program::OnPostgres { fill: include_str!("sql/crablet.sql") },
        note: "UNSAFE: no lock, READ COMMITTED; its guard skips what is newer than the oldest running transaction",
    },
    Peer {
        name: "simple_eventstore",
        title: "go-simple-eventstore 0.0.8, its SQL",
        package: None,
        program: Program::OnPostgres { fill: include_str!("sql/simple_eventstore.sql") },
        note: "streams only: a boundary is a stream of its own, and no condition is about two",
    },
    Peer {
        name: "disintegrate",
        title: "disintegrate-postgres",
        package: Some((CARGO, "disintegrate-postgres")),
        program: Program::OnPostgres { fill: include_str!("sql/disintegrate.sql") },
        note: "SERIALIZABLE; each 40001 is a conflict here, and is answered by another attempt",
    },
    Peer {
        name: "factstr",
        title: "factstr-postgres",
        package: Some((CARGO, "factstr-postgres")),
        program: Program::OnPostgres { fill: include_str!("sql/factstr.sql") },
        note: "one connection for everything; boundaries by payload, since it has no tags",
    },
    Peer {
        name: "eventsourcing",
        title: "eventsourcing (Python), DCB recorder",
        package: Some((PYTHON, "eventsourcing[postgres]")),
        program: Program::InPython { fill: include_str!("sql/eventsourcing.sql") },
        note: "threads of one Python process; LOCK TABLE in each append",
    },
    Peer {
        name: "umadb",
        title: "UmaDB",
        package: Some((CARGO, "umadb-client")),
        program: Program::WithServer,
        note: "its own server and file, a connection for each writer; it syncs each commit, and has no setting not to",
    },
];

pub(crate) const NAMES: &[&str] =
    &["dynamic_streams", "crablet", "simple_eventstore", "disintegrate", "factstr", "eventsourcing", "umadb"];

/// The folder of the programs.
pub(super) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

impl Peer {
    /// Whether it is known to accept what it should refuse, whatever the oracle sees of that in a run.
    pub(super) fn is_unsafe(&self) -> bool {
        self.note.starts_with("UNSAFE")
    }

    pub(super) fn on_postgres(&self) -> bool {
        !matches!(self.program, Program::WithServer)
    }

    pub(super) fn schema(&self) -> String {
        format!("peer_{}", self.name)
    }

    /// With the version that is built.
    pub(super) fn with_version(&self) -> String {
        let version = self.package.and_then(|(file, package)| {
            let text = fs::read_to_string(folder().join(file)).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(package))?;
            let version: String =
                line.chars().skip_while(|c| !c.is_ascii_digit()).take_while(|c| !matches!(c, '"' | ',')).collect();
            Some(version)
        });
        version.map_or_else(|| self.title.to_owned(), |version| format!("{} {version}", self.title))
    }
}
