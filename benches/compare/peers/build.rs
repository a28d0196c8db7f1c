//! Builds what the peers need: a release build of `benches/peers`, and a Python environment with exact versions.
//!
//! Both are kept in cargo's target folder. Anything that cannot be built is left out, with the reason.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::cast::{Peer, Program, folder};
use crate::Outcome;

/// Where everything is.
#[derive(Debug)]
pub(super) struct Built {
    python: Result<PathBuf, String>,
    programs: PathBuf,
}

/// Variables that cargo sets for the programs it runs.
const ABOUT_THE_BENCH: [&str; 5] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];

const PROTOC: &str = "#!/bin/sh\nexec \"${0%/*}/python\" -m grpc_tools.protoc \"$@\"\n";

/// Builds for these peers. The first time it takes minutes.
pub(super) fn build(peers: &[&'static Peer]) -> Outcome<Built> {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("peers");
    fs::create_dir_all(&place)?;
    let needs_python = peers.iter().any(|peer| !matches!(peer.program, Program::OnPostgres { .. }));
    let python = if needs_python {
        python(&place).map_err(|error| error.to_string())
    } else {
        Err("no peer needs Python".to_owned())
    };
    let programs = place.join("target/release");
    let rust: Vec<_> = peers.iter().copied().filter(|peer| !matches!(peer.program, Program::InPython { .. })).collect();
    if rust.is_empty() {
        return Ok(Built { python, programs });
    }
    for peer in &rust {
        // Otherwise the program of an earlier build would be taken for this one's.
        let _ = fs::remove_file(programs.join(peer.name));
    }
    let protoc = python.as_ref().ok().map(|python| python.with_file_name("protoc"));
    eprintln!("building the peers' programs …");
    if !cargo_build(&place, &rust, protoc.as_deref())? && rust.len() > 1 {
        // All of them are built together, with the features that any of them needs. If one cannot be built, the others
        // still are.
        for peer in rust {
            cargo_build(&place, &[peer], protoc.as_deref())?;
        }
    }
    // A missing program shows which build failed.
    Ok(Built { python, programs })
}

/// Whether these programs could be built. Cargo prints what was wrong.
fn cargo_build(place: &Path, peers: &[&'static Peer], protoc: Option<&Path>) -> Outcome<bool> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--manifest-path"]);
    cargo.arg(folder().join("Cargo.toml")).env("CARGO_TARGET_DIR", place.join("target"));
    // Some build scripts would take the bench's cargo variables for changes of their own, and run again.
    for (name, _) in env::vars_os() {
        if ABOUT_THE_BENCH.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    if let Some(protoc) = protoc {
        // UmaDB's client is generated from its protocol's definition.
        cargo.env("PROTOC", protoc);
    }
    for peer in peers {
        cargo.args(["--bin", peer.name]);
        if peer.package.is_some() {
            cargo.args(["--features", peer.name]);
        }
    }
    Ok(cargo.status().map_err(|error| format!("cargo does not start: {error}"))?.success())
}

impl Built {
    /// The command that starts a peer's program.
    pub(super) fn command(&self, peer: &Peer) -> Result<tokio::process::Command, String> {
        match peer.program {
            Program::InPython { .. } => {
                let mut command = tokio::process::Command::new(self.python.clone()?);
                command.arg(folder().join("eventsourcing_dcb.py"));
                Ok(command)
            }
            Program::OnPostgres { .. } | Program::WithServer => {
                let program = self.programs.join(peer.name);
                if !program.exists() {
                    return Err("it was not built: cargo's messages are above".to_owned());
                }
                Ok(tokio::process::Command::new(program))
            }
        }
    }

    /// UmaDB's server, from its Python package.
    pub(super) fn umadb_server(&self) -> Result<tokio::process::Command, String> {
        Ok(tokio::process::Command::new(self.python.clone()?.with_file_name("umadb")))
    }
}

/// The environment's interpreter.
fn python(place: &Path) -> Outcome<PathBuf> {
    let wanted = fs::read_to_string(folder().join("requirements.txt"))?;
    let (environment, stamp) = (place.join("python"), place.join("python-has"));
    let interpreter = environment.join("bin/python");
    if fs::read_to_string(&stamp).is_ok_and(|has| has == wanted) {
        return Ok(interpreter);
    }
    eprintln!("making a Python environment for the peers …");
    let _ = fs::remove_dir_all(&environment);
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "-r"];
    run(Command::new(&interpreter).args(pip).arg(folder().join("requirements.txt")))?;
    let protoc = environment.join("bin/protoc");
    fs::write(&protoc, PROTOC)?;
    fs::set_permissions(&protoc, fs::Permissions::from_mode(0o755))?;
    fs::write(&stamp, &wanted)?;
    Ok(interpreter)
}

fn run(command: &mut Command) -> Outcome {
    let shown = format!("{command:?}");
    let status = command.status().map_err(|error| format!("{shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown}: {status}").into()) }
}
