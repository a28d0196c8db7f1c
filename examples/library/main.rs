//! A lending library: six commands, seven queries, and with `--simulate` many readers and librarians at once.
//!
//!     cargo run --example library --features migrations,testing
//!     cargo run --release --example library --features migrations,testing -- --simulate --readers 200 --seconds 20
//!
//! Commands run on the primary; queries run on a replica and start from snapshots.
//!
//! | file | what it holds |
//! |---|---|
//! | `events` | what can happen |
//! | `state` | what decisions are based on: a copy, a reader |
//! | `commands` | the six commands |
//! | `queries` | the seven queries |
//! | `simulation` | readers and librarians, and the check of the log they leave |

mod commands;
mod events;
mod queries;
mod simulation;
mod state;

use std::time::Duration;

use mainstem::{
    Command, CommandError, CommandExecutor, CommandOutcome, CommandRecord, PostgresEventStore, Router, SnapshotStore,
    testing::LocalCluster, with_eventual_consistency,
};

use commands::{AddCopy, CancelContract, LendCopy, Refusal, RegisterReader, RemoveCopy, ReturnCopy};
use queries::{
    CancelledReaders, CopiesInCirculation, CopiesLentByReader, CopiesLentOut, FinishedLendings, RegisteredReaders,
    RemovedCopies, answer,
};
pub(crate) use simulation::{Settings, judge, simulate};

pub(crate) type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const HELP: &str = "\
library                                     a tour of the commands and queries
library --simulate [--readers N]            how many readers lend and return at the same time    (default: 100)
                   [--librarians N]         how many librarians add and remove copies            (default: 4)
                   [--copies N]             how many copies there are to begin with              (default: 200)
                   [--seconds N]            for how long                                         (default: 10)
                   [--seed N]               what they choose by                                  (default: 1)
                   [--repeats PER_MILLE]    how many commands are made twice                     (default: 3)
";

#[tokio::main]
async fn main() -> Result {
    let mut settings = Settings::default();
    let mut words = std::env::args().skip(1);
    let is_simulation = match words.next().as_deref() {
        None => false,
        Some("--simulate") => true,
        Some(_) => return Err(HELP.into()),
    };
    while let Some(option) = words.next() {
        let number: u64 = words.next().and_then(|word| word.parse().ok()).ok_or(HELP)?;
        match &*option {
            "--readers" => settings.readers = u32::try_from(number)?,
            "--librarians" => settings.librarians = u32::try_from(number)?,
            "--copies" => settings.copies = u32::try_from(number)?,
            "--seconds" => settings.duration = Duration::from_secs(number),
            "--seed" => settings.seed = number,
            "--repeats" => settings.repeats_per_mille = number,
            _ => return Err(HELP.into()),
        }
    }
    let cluster = LocalCluster::builder().replicas(1).start().await?;
    let router = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url()).connect().await?;
    let store = PostgresEventStore::new(&router);
    store.migrate().await?;
    cluster.wait_until_caught_up().await?;
    match is_simulation {
        true => {
            let figures = simulate(store.clone(), settings).await?;
            judge(&store).await?;
            println!("library: {figures}");
        }
        false => tour(store).await?,
    }
    Ok(())
}

/// Runs each command and each query once, and some commands that are refused.
pub(crate) async fn tour(store: impl SnapshotStore + Clone + 'static) -> Result {
    let executor = CommandExecutor::new(store.clone());
    let (logic, poems, ada, grace) = (1, 2, 1, 2);
    done(&executor, AddCopy { copy: logic, title: "Logic".into() }).await?;
    done(&executor, AddCopy { copy: poems, title: "Poems".into() }).await?;
    done(&executor, RegisterReader { reader: ada, name: "Ada".into() }).await?;
    done(&executor, RegisterReader { reader: grace, name: "Grace".into() }).await?;
    done(&executor, LendCopy { copy: logic, reader: ada }).await?;
    done(&executor, LendCopy { copy: poems, reader: grace }).await?;
    done(&executor, ReturnCopy { copy: poems, reader: grace }).await?;

    // A repeated command has no further effect.
    let again = executor.execute(&LendCopy { copy: logic, reader: ada }).await?;
    check("lending again", again.outcome, CommandOutcome::Nothing)?;
    // A refusal is an error for the caller, and an event for readers of the log.
    refused(&executor, LendCopy { copy: logic, reader: grace }, Refusal::LentOut).await?;
    refused(&executor, LendCopy { copy: poems, reader: 99 }, Refusal::NoContract).await?;
    refused(&executor, RemoveCopy { copy: logic }, Refusal::LentOut).await?;
    refused(&executor, CancelContract { reader: ada }, Refusal::HasCopies).await?;
    refused(&executor, ReturnCopy { copy: logic, reader: grace }, Refusal::LentToAnother).await?;
    done(&executor, RemoveCopy { copy: poems }).await?;
    refused(&executor, LendCopy { copy: poems, reader: grace }, Refusal::NotInCirculation).await?;
    done(&executor, CancelContract { reader: grace }).await?;

    // A message that is delivered twice has one result.
    let record = || CommandRecord::new("message-1", "ReturnCopy");
    let command = ReturnCopy { copy: logic, reader: ada };
    let first = executor.execute(&command).recorded(record()).await?;
    let second = executor.execute(&command).recorded(record()).await?;
    check("the second delivery", (second.outcome, second.is_repeated), (first.outcome, true))?;
    done(&executor, LendCopy { copy: logic, reader: ada }).await?;

    judge(&store).await?;
    ask(&store).await
}

/// The queries, in an eventual scope: a replica answers them once it has the last event.
async fn ask(store: &impl SnapshotStore) -> Result {
    let lent = async || with_eventual_consistency(async { answer(store, CopiesLentOut::default()).await }).await;
    let limit = tokio::time::Instant::now() + Duration::from_secs(10);
    while lent().await?.lent.len() != 1 {
        check("a replica that is behind", tokio::time::Instant::now() < limit, true)?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    with_eventual_consistency(async {
        let circulation = answer(store, CopiesInCirculation::default()).await?;
        check("copies in circulation", circulation.titles.into_values().collect(), vec!["Logic".to_owned()])?;
        check("removed copies", answer(store, RemovedCopies::default()).await?.copies, [2].into())?;
        check("copies lent out", lent().await?.lent, [(1, 1)].into())?;
        let of = |reader| CopiesLentByReader { reader, copies: Default::default() };
        check("copies lent by Ada", answer(store, of(1)).await?.copies, [1].into())?;
        check("copies lent by Grace", answer(store, of(2)).await?.copies, [].into())?;
        let registered = answer(store, RegisteredReaders::default()).await?;
        check("registered readers", registered.names.into_values().collect(), vec!["Ada".to_owned()])?;
        check("readers who have left", answer(store, CancelledReaders::default()).await?.readers, [2].into())?;
        check("finished lendings", answer(store, FinishedLendings::default()).await?.of_copies, [(1, 1), (2, 1)].into())
    })
    .await
}

async fn done<C: Command<Refusal = Refusal> + std::fmt::Debug>(executor: &CommandExecutor, command: C) -> Result {
    let executed = executor.execute(&command).await?;
    let position = executed.appended.map_or(0, |appended| appended.first_position());
    println!("{position:>3}  {command:?}");
    Ok(())
}

async fn refused<C: Command<Refusal = Refusal> + std::fmt::Debug>(
    executor: &CommandExecutor,
    command: C,
    expected: Refusal,
) -> Result {
    match executor.execute(&command).await {
        Err(CommandError::Refused { reason, appended: Some(appended), .. }) if reason == expected => {
            println!("{:>3}  {command:?}, refused: {reason}", appended.first_position());
            Ok(())
        }
        other => Err(format!("{command:?} is not refused with {expected:?}: {other:?}").into()),
    }
}

fn check<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result {
    println!("     {what}: {found:?}");
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, and not {expected:?}").into()) }
}
