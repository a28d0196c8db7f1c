//! Lines on standard output, lines and progress on standard error.

use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal, Write},
    path::Path,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::{BROKEN_PIPE, Failure, Result};

/// Where lines go. They are written out once [`flush`](Self::flush) has succeeded.
pub(crate) struct Output {
    to: io::BufWriter<Box<dyn Write + Send>>,
    /// For messages.
    name: String,
    file: Option<File>,
}

impl Output {
    pub(crate) fn stdout() -> Self {
        Self { to: io::BufWriter::new(Box::new(io::stdout())), name: "standard output".into(), file: None }
    }

    pub(crate) fn file(path: &Path, file: File) -> Result<Self> {
        let name = path.display().to_string();
        let copy = file.try_clone().map_err(|error| unwritten(&name, &error))?;
        Ok(Self { to: io::BufWriter::with_capacity(1 << 16, Box::new(copy)), name, file: Some(file) })
    }

    pub(crate) fn line(&mut self, line: impl AsRef<str>) -> Result<()> {
        let line = line.as_ref().as_bytes();
        let written = self.to.write_all(line).and_then(|()| self.to.write_all(b"\n"));
        written.map_err(|error| unwritten(&self.name, &error))
    }

    /// Writes the text as it is, without a newline.
    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        self.to.write_all(text.as_bytes()).map_err(|error| unwritten(&self.name, &error))
    }

    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let line =
            serde_json::to_string(value).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
        self.line(line)
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.to.flush().map_err(|error| unwritten(&self.name, &error))
    }

    /// Makes a complete file durable: it survives a crash of the machine.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.file.map_or(Ok(()), |file| file.sync_all()).map_err(|error| unwritten(&self.name, &error))
    }
}

fn unwritten(name: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(BROKEN_PIPE, ""),
        _ => Failure::failed(format!("cannot write {name}: {error}")),
    }
}

/// Writes a line to standard error. If nobody reads it, the command goes on: what it does counts, and its exit status.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// A progress bar on standard error, if that is a terminal.
pub(crate) fn progress(amount: u64, what: &str) -> ProgressBar {
    let target = match io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let style = ProgressStyle::with_template("{msg} {bar:30} {human_pos}/{human_len} {per_sec} {eta}");
    let bar = ProgressBar::with_draw_target(Some(amount), target);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what.to_owned())
}
