//! One store of a run: its process, the results of its rounds, and what is wrong with it.

use std::{process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{
    build::Built,
    cast::{Peer, Program},
    driver::{Digest, Opening, Order, Ran, Row, Written},
    oracle::Verdict,
    process::Process,
};
use crate::{Outcome, args::Args, fixture, rounds::Control, side::Sample};

pub(super) struct Lane {
    /// None for Mainstem.
    pub(super) peer: Option<&'static Peer>,
    process: Process,
    _server: Option<Server>,
    /// Why it no longer takes part.
    pub(super) out: Option<Failed>,
    /// What it is working on: the title of the row.
    at: String,
    /// The samples of this row.
    pub(super) samples: Vec<Sample>,
    pub(super) acknowledged: Vec<(u64, u64)>,
    /// None until it is judged.
    pub(super) row_verdict: Option<Verdict>,
    /// The verdict over all rows.
    pub(super) verdict: Verdict,
}

#[derive(Clone, Debug)]
pub(super) struct Failed {
    /// In which row, or in which step before the first.
    pub(super) at: String,
    pub(super) reason: String,
}

/// UmaDB's server. When dropped, it is killed and its folder is removed.
struct Server {
    _child: Child,
    address: String,
    _folder: TempDir,
}

impl Lane {
    pub(super) async fn ours(url: &str) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("peer");
        let opening = Opening { url: url.to_owned(), server: None };
        let process = Process::start(command, &opening).await?;
        Ok(Self::new(None, process, None))
    }

    /// Starts a peer's program, creates its tables, and fills them from the log.
    pub(super) async fn start(
        args: &Args,
        url: &str,
        control: &Control,
        built: &Built,
        peer: &'static Peer,
    ) -> Outcome<Self> {
        let schema = peer.schema();
        let mut opening = Opening { url: format!("{url}?options=-c%20search_path%3D{schema}"), server: None };
        let mut server = None;
        if let Program::WithServer = peer.program {
            let started = start_umadb(args, built)?;
            opening = Opening { url: url.to_owned(), server: Some(started.address.clone()) };
            server = Some(started);
        } else {
            control.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
        }
        let mut process = Process::start(built.command(peer)?, &opening).await?;
        process.ask::<()>(&Order::Prepare).await?;
        match peer.program {
            Program::OnPostgres { fill } | Program::InPython { fill } => {
                let fill = format!("SET search_path = {schema}; {fill}; RESET search_path");
                control.batch_execute(&fill).await?;
                // Our indexes were built when the events were there, too.
                control.batch_execute(&format!("REINDEX SCHEMA {schema}")).await?;
            }
            Program::WithServer => process.ask::<()>(&Order::Fill).await?,
        }
        Ok(Self::new(Some(peer), process, server))
    }

    fn new(peer: Option<&'static Peer>, process: Process, server: Option<Server>) -> Self {
        let (samples, acknowledged, verdict) = (Vec::new(), Vec::new(), Verdict::default());
        let at = "finding the events".to_owned();
        Self { peer, process, _server: server, out: None, at, samples, acknowledged, row_verdict: None, verdict }
    }

    pub(super) fn title(&self) -> String {
        self.peer.map_or_else(|| "Mainstem".to_owned(), Peer::with_version)
    }

    /// The digests of the whole log and of these boundaries.
    pub(super) async fn look(&mut self, books: &[String]) -> Outcome<(Digest, Digest)> {
        self.process.ask(&Order::Look(books.to_vec())).await
    }

    pub(super) async fn begin(&mut self, title: &str, row: &Row) {
        title.clone_into(&mut self.at);
        self.row_verdict = None;
        self.samples.clear();
        self.acknowledged.clear();
        let begun = self.process.ask::<()>(&Order::Begin(row.clone())).await;
        self.keep(begun);
    }

    /// Runs a round; `counts` is false for the first.
    pub(super) async fn round(&mut self, span: Duration, counts: bool) {
        let ran: Outcome<Ran> = match u64::try_from(span.as_millis()) {
            Ok(millis) => self.process.ask(&Order::Run(millis)).await,
            Err(error) => Err(error.into()),
        };
        let Some(ran) = self.keep(ran) else { return };
        if ran.done == 0 {
            self.keep::<()>(Err(format!("nothing was done in a round of {span:?}").into()));
        }
        self.acknowledged.extend(ran.acknowledged);
        if counts {
            let mut micros = ran.latencies;
            micros.sort_unstable();
            let elapsed = Duration::from_micros(ran.micros);
            self.samples.push(Sample { done: ran.done, written: 0, conflicts: ran.conflicts, elapsed, micros });
        }
    }

    /// The events that the row added.
    pub(super) async fn end(&mut self) -> Option<Vec<Written>> {
        let written = self.process.ask(&Order::End).await;
        self.keep(written)
    }

    /// A store that fails is left out from then on, which is reported at once.
    fn keep<T>(&mut self, outcome: Outcome<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail(super::chain(&*error));
                None
            }
        }
    }

    pub(super) fn fail(&mut self, reason: String) {
        let failed = Failed { at: self.at.clone(), reason };
        eprintln!("\nLEFT OUT from here on: {}: {}\n", self.title(), failed.shown());
        self.out = Some(failed);
        self.process.stop();
    }
}

impl Failed {
    pub(super) fn shown(&self) -> String {
        format!("failed at: {}: {}", self.at, self.reason)
    }
}

/// UmaDB's own server with its default settings. Its file is on the same disk as PostgreSQL's.
fn start_umadb(args: &Args, built: &Built) -> Outcome<Server> {
    let folder = tempfile::Builder::new().prefix("umadb-").tempdir_in(fixture::place(args)?)?;
    // Free now; no other program is likely to take it in the meantime.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let mut command = built.umadb_server()?;
    command.args(["--listen", &address, "--db-path"]).arg(folder.path().join("events.db"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    Ok(Server { _child: command.spawn()?, address: format!("http://{address}"), _folder: folder })
}
