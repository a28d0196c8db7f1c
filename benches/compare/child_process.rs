//! This program once more, in a process of its own, driven by lines of JSON. The first line says what it is; each of the others is
//! an order, which it answers with a line. It ends when its input ends.

use std::{process::Stdio, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin, Stdout},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::Outcome;

/// The limit of one answer, beyond the length of the round.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// Such a process, as its parent sees it.
pub(crate) struct Process {
    // Killed when dropped.
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts this program once more, as `role`; the first line gives it the rest.
    pub(crate) async fn start(role: &str, first: &impl Serialize) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let mut process = Self { _child: child, input, output };
        process.send(first).await?;
        Ok(process)
    }

    pub(crate) async fn send(&mut self, what: &impl Serialize) -> Outcome {
        let line = serde_json::to_string(what)? + "\n";
        Ok(self.input.write_all(line.as_bytes()).await?)
    }

    pub(crate) async fn receive<T: DeserializeOwned>(&mut self, limit: Duration) -> Outcome<T> {
        let line =
            timeout(limit, self.output.next_line()).await.map_err(|_| format!("no answer within {limit:?}"))??;
        Ok(serde_json::from_str(&line.ok_or("a process has ended; its reason is on standard error")?)?)
    }
}

/// The orders that such a process receives, and where it answers.
pub(crate) struct Orders {
    input: Lines<BufReader<Stdin>>,
    output: Stdout,
}

impl Orders {
    /// Reads the first line. `starter` names what starts such a process, for the message if it was started by hand.
    pub(crate) async fn open<T: DeserializeOwned>(starter: &str) -> Outcome<(Self, T)> {
        let mut orders = Self { input: BufReader::new(tokio::io::stdin()).lines(), output: tokio::io::stdout() };
        let first = orders.next().await?.ok_or_else(|| format!("this is started by {starter} only"))?;
        Ok((orders, first))
    }

    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Outcome<Option<T>> {
        let line = self.input.next_line().await?;
        Ok(line.map(|line| serde_json::from_str(&line)).transpose()?)
    }

    pub(crate) async fn answer(&mut self, what: &impl Serialize) -> Outcome {
        let line = serde_json::to_string(what)? + "\n";
        self.output.write_all(line.as_bytes()).await?;
        Ok(self.output.flush().await?)
    }
}
