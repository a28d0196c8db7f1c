//! A process that drives one store: it gets orders, and answers them, line by line.

use std::{process::Stdio, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::driver::{Opening, Order};
use crate::Outcome;

/// The limit of one answer, beyond the length of a round. A store that needs longer is left out.
const LIMIT: Duration = Duration::from_secs(120);

pub(super) struct Process {
    // Killed when dropped.
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(super) async fn start(mut command: Command, opening: &Opening) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let mut process = Self { child, input, output };
        process.say::<()>(opening, LIMIT).await?;
        Ok(process)
    }

    /// Stops a store that no longer takes part, so that it does not disturb the others.
    pub(super) fn stop(&mut self) {
        let _ = self.child.start_kill();
    }

    pub(super) async fn ask<T: DeserializeOwned>(&mut self, order: &Order) -> Outcome<T> {
        let span = if let Order::Run(millis) = order { Duration::from_millis(*millis) } else { Duration::ZERO };
        self.say(order, span + LIMIT).await
    }

    async fn say<T: DeserializeOwned>(&mut self, what: &impl Serialize, limit: Duration) -> Outcome<T> {
        let line = serde_json::to_string(what)? + "\n";
        self.input.write_all(line.as_bytes()).await.map_err(|error| format!("it does not listen: {error}"))?;
        let answer = timeout(limit, self.output.next_line()).await;
        let line = answer.map_err(|_| format!("no answer within {limit:?}"))??;
        let line = line.ok_or("it has ended; its reason is on standard error")?;
        let answer: Result<T, String> = serde_json::from_str(&line)?;
        Ok(answer?)
    }
}
