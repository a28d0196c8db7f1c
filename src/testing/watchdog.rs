//! Makes sure that nothing is left running: a shell that outlives this process by a moment.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{Error, Result};

use super::account::Account;

/// How long a drop waits. An immediate shutdown of a few servers takes a tenth of a second.
const LIMIT: Duration = Duration::from_secs(10);

/// Holds a pipe to a shell. When the pipe closes, because this is finished or dropped or because the process has ended,
/// for whatever reason, the shell ends every server in the folder and removes it.
#[derive(Debug)]
pub(super) struct Watchdog {
    shell: Child,
    folder: PathBuf,
}

impl Watchdog {
    /// Takes ownership of the folder: it is removed when this is dropped.
    pub(super) fn start(folder: &Path, account: &Account) -> Result<Self> {
        let mut command = Command::new("sh");
        command
            .args(["-c", include_str!("watchdog.sh")])
            .env("MAINSTEM_FOLDER", folder)
            .stdin(Stdio::piped())
            // A reader of this process's output waits until every process that could write to it has ended.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal goes to the process group of the test.
            .process_group(0);
        account.apply(&mut command);
        let shell = command.spawn().map_err(|error| {
            Error::configuration("cannot start sh, which would end the servers if this process dies; is it in PATH?")
                .with_source(error)
        })?;
        Ok(Self { shell, folder: folder.to_path_buf() })
    }

    /// Makes the shell end the servers now, and waits for it.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        drop(self.shell.stdin.take());
        let deadline = Instant::now() + LIMIT;
        while self.shell.try_wait()?.is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        self.shell.kill()?;
        self.shell.wait().map(drop)
    }

    /// Removes the folder if the shell was killed before it could.
    pub(super) fn remove_folder(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
