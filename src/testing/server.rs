//! One running server: the process, from its start until it is reaped.

use std::{
    env, fs,
    fs::OpenOptions,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::{Error, ErrorKind, Result};

use super::{account::Account, processes, programs::Programs};

/// What every program of the cluster needs to run.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    pub(super) programs: Programs,
    pub(super) account: Account,
    pub(super) password: String,
}

impl Environment {
    /// Builds the command of a PostgreSQL program to be run in this folder: the watchdog recognises the cluster's
    /// processes by it.
    pub(super) fn command(&self, program: &str, folder: &Path) -> Command {
        self.command_at(self.programs.program(program), folder)
    }

    /// The same for a program of the system.
    pub(super) fn command_at(&self, program: PathBuf, folder: &Path) -> Command {
        let mut command = Command::new(program);
        // PGDATA, PGPORT, PGOPTIONS and the like would change what the programs do.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        command
            .env("LC_ALL", "C")
            .env("PGPASSWORD", &self.password)
            .current_dir(folder)
            .stdin(Stdio::null())
            .process_group(0);
        self.account.apply(&mut command);
        command
    }

    /// Runs a program to its end.
    pub(super) async fn run(&self, command: Command, limit: Duration) -> Result<()> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut command = tokio::process::Command::from(command);
        let output = command.kill_on_drop(true).output();
        let output = tokio::time::timeout(limit, output)
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, format!("{program} has not ended after {limit:?}")))?
            .map_err(|error| Error::configuration(format!("cannot run {program}")).with_source(error))?;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        Err(Error::new(ErrorKind::Unavailable, format!("{program} failed with {}: {}", output.status, tail(&text))))
    }
}

/// A server process that has been started and not reaped, so that its process id cannot be reused.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pid_file: PathBuf,
}

impl Server {
    pub(super) fn spawn(mut command: Command, data: &Path, log: &Path) -> Result<Self> {
        let unusable = |error: io::Error| {
            Error::configuration(format!("cannot start a server in {}", data.display())).with_source(error)
        };
        let log = OpenOptions::new().create(true).append(true).open(log).map_err(unusable)?;
        command.stdout(log.try_clone().map_err(unusable)?).stderr(log);
        let child = command.spawn().map_err(unusable)?;
        Ok(Self { child, pid_file: data.join("postmaster.pid") })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn exit_status(&mut self) -> Option<ExitStatus> {
        // This fails only for a child that was already waited for: it has ended as well.
        self.child.try_wait().unwrap_or_else(|_| Some(ExitStatus::default()))
    }

    /// Whether it accepts connections: the first and the eighth line of the file tell which process it is, and its
    /// state.
    pub(super) fn is_ready(&self) -> bool {
        let Ok(text) = fs::read_to_string(&self.pid_file) else { return false };
        let mut lines = text.lines().map(str::trim);
        lines.next() == Some(&self.pid().to_string()) && lines.nth(6) == Some("ready")
    }

    /// Kills it at once, regardless of its children. For the case that the watchdog could not.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.exit_status().is_none() {
            let tree = processes::Snapshot::take()?.tree(self.pid());
            processes::send("KILL", &tree)?;
            self.child.wait()?;
        }
        Ok(())
    }
}

/// The last lines of a log, for an error message.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
