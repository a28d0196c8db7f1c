//! The store beside plain SQL and beside its origin's SQL, in one run on one server.
//!
//!     cargo compare append|query|decide|consume|growth|route|peers|load|scale
//!
//! This is short for `cargo bench --features migrations,testing --bench compare -- …`. `docs/benchmarks.md` says what is measured and how.
//! `args` has the options.
//!
//! | file | what it holds |
//! |---|---|
//! | `append`, `query`, `decide`, `consume`, `growth`, `route`, `peers`, `load`, `scale` | the subcommands: which sides run, and the figures |
//! | `guarded`, `insert`, `origin`, `bare` | the sides: the store, a plain INSERT, the origin's statements, reads by hand |
//! | `reads`, `streams` | the readers among them |
//! | `cycle` | workers that read, decide and append |
//! | `hot` | many tasks on one boundary, the store's and the origin's |
//! | `procs` | the store in several processes |
//! | `side`, `rounds`, `stats`, `report` | how a side is driven, how sides take turns, medians and extremes, what is printed and kept |
//! | `library` | the events, generated from a seed |
//! | `fixture`, `fill`, `server`, `disk` | the server with its data, and what it runs on |

mod append;
mod args;
mod bare;
mod child_process;
mod consume;
mod cycle;
mod decide;
mod disk;
mod fill;
mod fixture;
mod growth;
mod guarded;
mod hot;
mod insert;
mod json_text;
mod library;
mod load;
mod origin;
mod peers;
mod procs;
mod progress;
mod query;
mod reads;
mod report;
mod rounds;
mod route;
mod scale;
mod server;
mod side;
mod stats;
mod streams;
mod utc;

use std::{error::Error, process::ExitCode};

use args::{Args, Command};
use peers::chain;

type Failure = Box<dyn Error + Send + Sync>;
type Outcome<T = ()> = Result<T, Failure>;

/// The threads of each process: the other half of the machine is for the server.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let outcome = match (Args::parse(std::env::args().skip(1)), runtime) {
        (Ok(Command::Help), _) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        (Ok(command), Ok(runtime)) => runtime.block_on(run(command)),
        (Err(error), _) => Err(error),
        (_, Err(error)) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Outcome {
    match command {
        Command::Append(args) => append::run(&args).await,
        Command::Query(args) => query::run(&args).await,
        Command::Decide(args) => decide::run(&args).await,
        Command::Consume(args) => consume::run(&args).await,
        Command::Growth(args) => growth::run(&args).await,
        Command::Route(args) => route::run(&args).await,
        Command::Peers(args) => peers::run(&args).await,
        Command::Peer => peers::work().await,
        Command::Load(args) => load::run(&args).await,
        Command::Scale(args) => scale::run(&args).await,
        Command::Worker => procs::work().await,
        Command::Loader => load::work().await,
        Command::Help => Ok(()),
    }
}
