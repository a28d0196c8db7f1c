//! The drills: what no single test can reproduce, on real servers, checked afterwards.
//!
//! `append` produces histories of contended appends; the router's drills are in `routing`.
//!
//!     cargo run --release --features testing --example drill -- append --writers 32 --seconds 20
//!
//! It starts a primary with a replica on a disk, and writers in several processes, each with its own store. They read, decide and
//! append under overlapping conditions, while connections are killed, the primary is killed and restarted, and an old transaction
//! is open in another database. One reader polls the primary, another the replica. Afterwards the whole log is compared with
//! every attempt and its answer: `oracle` has the rules.
//!
//! `decide` does the same with commands that a `CommandExecutor` executes: enrolments, transfers of money, bookings of seats,
//! recorded and repeated, half of them read from the replica first. No course may be overbooked, no account overdrawn and no seat
//! taken twice, and every decision must have seen what was true at its place in the log.
//!
//! The last line of standard output is `drill append: anomalies=0 appends=N conflicts=N`, with status 0. If rules were broken,
//! their names come before it, and the status is 1. Anything that keeps the drill from showing anything (no contention, a server
//! that does not come back, an answer that cannot be explained) is reported on standard error, with status 2.
//!
//! | file | what it holds |
//! |---|---|
//! | `args` | the options |
//! | `append` | the subcommand, and its verdict |
//! | `scene` | what surrounds the writers: servers, trouble, readers, and the final log |
//! | `consume` | the subcommand for followers of the log |
//! | `database` | the log, created from the files in `migrations/` |
//! | `faults` | how to break it on purpose (`--break NAME`, feature `__faults`) |
//! | `processes`, `writer`, `plan` | the processes, what each writer in them does, and what it chooses from |
//! | `readers`, `trouble` | who reads, and what breaks in the meantime |
//! | `schedule` | which fault happens when, and to whom, by the seed |
//! | `routing` | the drills `causal`, `http`, `failover`, `silence`, `shield`, `balance` |
//! | `journal`, `oracle` | the attempts and their answers, and the rules they must satisfy |
//! | `soak` | all drills, for as long as asked |
//! | `decide` | the same for commands: what decisions are based on, who asks, and the rules |

mod append;
mod args;
#[path = "../../benches/compare/peers/driver/chain.rs"]
mod chain;
mod consume;
mod database;
mod decide;
#[cfg(feature = "__faults")]
mod faults;
mod journal;
mod oracle;
mod plan;
mod processes;
mod readers;
mod routing;
mod scene;
mod schedule;
mod soak;
mod trouble;
mod writer;

use std::{error::Error, process::ExitCode};

use args::Command;

type Failure = Box<dyn Error + Send + Sync>;
type Outcome<T = ()> = Result<T, Failure>;

/// The status of a run without a verdict on the library: it shows nothing, or something else went wrong.
const UNDECIDED: u8 = 2;

/// How the reason begins when a run shows nothing, which is no fault of the library.
const SHOWS_NOTHING: &str = "this run shows nothing";

/// Whether to repeat the same call, where that is harmless, as with an append, whose events have ids.
fn may_pass(error: &mainstem::Error) -> bool {
    error.is_retryable() || error.is_outcome_unknown()
}

fn main() -> ExitCode {
    match std::panic::catch_unwind(|| Command::parse(std::env::args().skip(1)).and_then(run)) {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            eprintln!("drill: {}", report(&*error));
            ExitCode::from(UNDECIDED)
        }
        // The panic has been reported already.
        Err(_) => ExitCode::from(UNDECIDED),
    }
}

fn run(command: Command) -> Outcome<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let status = match command {
        Command::Append(args) => runtime.block_on(append::run(&args)),
        Command::Consume(args) => runtime.block_on(consume::run(&args)),
        Command::Consumers => runtime.block_on(consume::member::work()).map(|()| ExitCode::SUCCESS),
        Command::Routing(options) => runtime.block_on(routing::run(&options)),
        Command::Decide(args) => runtime.block_on(decide::run(&args)),
        Command::Soak(args) => runtime.block_on(soak::run(&args)),
        Command::Writers => runtime.block_on(writer::work(writer::run)).map(|()| ExitCode::SUCCESS),
        Command::Deciders => runtime.block_on(writer::work(decide::deciders::run)).map(|()| ExitCode::SUCCESS),
        Command::Print(text) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
    };
    // A thread that waits for standard input must not keep the process running.
    runtime.shutdown_background();
    status
}

/// An error with its causes.
fn report(error: &(dyn Error + 'static)) -> String {
    error.downcast_ref::<mainstem::Error>().map_or_else(|| chain::chain(error), mainstem::Error::report)
}
