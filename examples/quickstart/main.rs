//! The quickstart: a small lending library on a primary with replicas.
//!
//!     cargo run --example quickstart --features migrations,testing
//!
//! It starts its own cluster from the PostgreSQL programs on this machine (`scripts/quickstart` installs them if
//! needed), or uses a running one: MAINSTEM_PRIMARY_URL, and MAINSTEM_REPLICA_URLS separated by commas. On a running
//! cluster it writes only to the schema `mainstem_quickstart`, and pauses replay on the first replica for a moment if
//! it is allowed to. If you kill it at that moment, resume replay there with `SELECT pg_wal_replay_resume()`.
//!
//! Each line says what happened, on which node, and how long it took. What is shown is also checked: the program ends
//! with `quickstart: ok`, or with the reason for the failure and status 1. `library.rs` holds the commands and queries.

mod library;
mod nodes;

use std::{
    error::Error,
    process::ExitCode,
    time::{Duration, Instant},
};

use library::{Library, Refusal};
use mainstem::{
    Conflict, ErrorKind, History, LogName, PostgresEventStore, Role, Router, with_eventual_consistency,
    with_strong_consistency,
};
use nodes::Nodes;
use tokio::time::{sleep, timeout};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The limit of each single wait.
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => {
            println!("quickstart: ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Outcome {
    let mut report = Report { run: format!("-{}", uuid::Uuid::now_v7()), last: Instant::now() };
    let nodes = Nodes::find().await?;
    let router = nodes.router(&nodes.replicas).await?;
    report.line("", &format!("connected to a primary and {} of its replicas", nodes.replicas.len()));

    let store = store(&router)?;
    let migrated = timeout(LIMIT, store.migrate()).await.map_err(|_| format!("no migration within {LIMIT:?}"))??;
    report.line("primary", &format!("{} migrations of the log {}", migrated.applied.len(), store.name()));

    let library = Library { store };
    lend_and_refuse(&library, &mut report).await?;
    two_want_the_same(&library, &mut report).await?;
    fall_behind(&nodes, &mut report).await
}

fn store(router: &Router) -> Outcome<PostgresEventStore> {
    Ok(PostgresEventStore::with_name(router, LogName::new("mainstem_quickstart", "events")?))
}

/// Commands read, decide and write on the primary: a strong scope.
async fn lend_and_refuse(library: &Library, report: &mut Report) -> Outcome {
    let [copy_1, copy_2, ada] = &["copy-1", "copy-2", "ada"].map(|name| report.id(name));
    for copy in [copy_1, copy_2] {
        let done = with_strong_consistency(async { library.register(copy).await }).await?;
        report.served(Role::Primary, &done.history, &format!("{copy} is registered, at position {}", done.position))?;
    }
    let done = with_strong_consistency(async { library.lend(copy_1, ada).await }).await?;
    report.served(Role::Primary, &done.history, &format!("{ada} borrows {copy_1}, at position {}", done.position))?;

    let rule = rule(with_strong_consistency(async { library.lend(copy_2, ada).await }).await)?;
    report.line("primary", &format!("{ada} asks for {copy_2}, refused: {rule}"));
    Ok(())
}

/// Two readers find the same copy on the shelf at the same time. Each append would invalidate the history that the
/// other decision is based on, so one of the two is refused.
async fn two_want_the_same(library: &Library, report: &mut Report) -> Outcome {
    let [copy, grace, hedy] = &["copy-2", "grace", "hedy"].map(|name| report.id(name));
    let outcomes = with_strong_consistency(async {
        let both = tokio::try_join!(library.decide_to_lend(copy, grace), library.decide_to_lend(copy, hedy));
        let (for_grace, for_hedy) = both?;
        Outcome::Ok(tokio::join!(library.carry_out(for_grace), library.carry_out(for_hedy)))
    });
    let (winner, done, loser, error) = match outcomes.await? {
        (Ok(done), Err(Refusal::Store(error))) => (grace, done, hedy, error),
        (Err(Refusal::Store(error)), Ok(done)) => (hedy, done, grace, error),
        (Err(error), _) | (_, Err(error)) => return Err(error.into()),
        (Ok(_), Ok(_)) => return Err("one copy was lent twice".into()),
    };
    let Some(conflict) = error.conflict() else { return Err(error.into()) };
    check("the event in conflict", (conflict.position, &*conflict.event_type), (done.position, "CopyLent"))?;
    let what = format!("{grace} and {hedy} ask for {copy} at once: {winner} gets it, at position {}", done.position);
    report.served(Role::Primary, &done.history, &what)?;
    report.line("primary", &format!("{loser} is told: {}", told(conflict)));

    // After a conflict: read again, decide again.
    let rule = rule(with_strong_consistency(async { library.lend(copy, loser).await }).await)?;
    report.line("primary", &format!("{loser} asks again, refused: {rule}"));
    let (holder, history) = library.holder(copy).await?;
    check("who has the copy, and its events", (holder.as_deref(), history.len()), (Some(&**winner), 2))
}

/// Queries read from a replica: an eventual scope. Pausing the replica's replay shows what that means.
async fn fall_behind(nodes: &Nodes, report: &mut Report) -> Outcome {
    let [copy, ada] = &["copy-1", "ada"].map(|name| report.id(name));
    let router = nodes.router(&nodes.replicas[..1]).await?;
    let library = Library { store: store(&router)? };
    let history = arrival(&library, copy, Some(ada)).await?;
    report.served(Role::Replica, &history, &format!("who has {copy}? {ada}"))?;
    if let Err(reason) = nodes.pause_replay(&router).await? {
        report.line("", &format!("skipped: replay cannot be paused on {}: {reason}", history.node()));
        return Ok(());
    }
    report.served(Role::Replica, &history, "replay is paused")?;
    let shown = while_paused(&library, report).await;
    nodes.resume_replay(&router).await?;
    shown?;
    report.served(Role::Replica, &history, "replay goes on")?;
    let history = arrival(&library, copy, None).await?;
    report.served(Role::Replica, &history, &format!("who has {copy}? nobody: the event has arrived"))
}

async fn while_paused(library: &Library, report: &mut Report) -> Outcome {
    let [copy, ada] = &["copy-1", "ada"].map(|name| report.id(name));
    let done = with_strong_consistency(async { library.take_back(copy).await }).await?;
    report.served(Role::Primary, &done.history, &format!("{ada} returns {copy}, at position {}", done.position))?;

    let (holder, history) = with_strong_consistency(async { library.holder(copy).await }).await?;
    check("who has the copy, on the primary", holder.as_deref(), None)?;
    report.served(Role::Primary, &history, &format!("who has {copy}? nobody"))?;

    let (holder, history) = with_eventual_consistency(async { library.holder(copy).await }).await?;
    check("who has the copy, on the replica", holder.as_deref(), Some(&**ada))?;
    report.served(Role::Replica, &history, &format!("who has {copy}? still {ada}"))?;

    // An append goes to the primary in any scope, and the primary knows the events that the replica lacks.
    let error = match with_eventual_consistency(async { library.take_back(copy).await }).await {
        Err(Refusal::Store(error)) if error.is_conflict() => error,
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("a decision on the past was written".into()),
    };
    let Some(conflict) = error.conflict() else { return Err(error.into()) };
    check("the event in conflict", (conflict.position, &*conflict.event_type), (done.position, "CopyReturned"))?;
    let what = format!("{copy} is returned again, as the replica shows it; refused: {}", told(conflict));
    report.line("primary", &what);
    Ok(())
}

/// Asks replicas until they show that `holder` has the copy.
async fn arrival(library: &Library, copy: &str, holder: Option<&str>) -> Outcome<History> {
    wait_for("the arrival of an event on a replica", async || {
        match with_eventual_consistency(async { library.holder(copy).await }).await {
            Ok((now, history)) => Ok((!history.is_empty() && now.as_deref() == holder).then_some(history)),
            // The tables have to arrive, too.
            Err(error) if error.kind() == ErrorKind::Schema => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

async fn wait_for<T>(what: &str, mut ask: impl AsyncFnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        sleep(Duration::from_millis(2)).await;
    }
    Err(format!("{what} took more than {LIMIT:?}").into())
}

fn told(conflict: &Conflict) -> String {
    format!("conflict with {} at position {}", conflict.event_type, conflict.position)
}

/// The rule that refused a command.
fn rule<T>(outcome: Result<T, Refusal>) -> Outcome<String> {
    match outcome {
        Err(Refusal::Rule(rule)) => Ok(rule),
        Err(error) => Err(error.into()),
        Ok(_) => Err("a loan against the rules was written".into()),
    }
}

fn check<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}").into()) }
}

/// Prints a line per step.
struct Report {
    run: String,
    last: Instant,
}

impl Report {
    /// An id that no earlier run has used.
    fn id(&self, name: &str) -> String {
        format!("{name}{}", self.run)
    }

    /// Reports a step that was served by the node named in `history`, which must have this role.
    fn served(&mut self, role: Role, history: &History, what: &str) -> Outcome {
        check("the role of the node", history.role(), role)?;
        self.line(&format!("{role} {}", history.node()), what);
        Ok(())
    }

    fn line(&mut self, node: &str, what: &str) {
        let took = self.last.elapsed().as_secs_f64() * 1000.0;
        println!("{took:8.1} ms  {node:<23}  {}", what.replace(&self.run, ""));
        self.last = Instant::now();
    }
}
