//! Counts the instructions that the client's side of a call takes, with callgrind. Unlike times, counts hardly vary, so a regression shows on any
//! machine.
//!
//!     cargo instructions                 counts, and compares with `baselines.json`; fails beyond the tolerance
//!     cargo instructions --record        writes what it counts there instead
//!     cargo instructions --only CASE     one of them; `cases` has their names
//!
//! This is short for `cargo bench --features migrations,testing --bench instructions -- …`. It needs Valgrind. It counts this process alone, all of
//! its threads, without the server. A case runs twice, many times over and a few times: the difference of the counts divided by the difference of the
//! numbers is the cost of one. The cost of the start is in neither.
//!
//! | file | what it holds |
//! |---|---|
//! | `cases` | what is counted |
//! | `valgrind` | how it is counted |
//! | `baselines` | the allowed range |
//! | `listeners` | who listens to metrics, spans or log during the count, if `MAINSTEM_TEST_LISTEN` says so: [docs/telemetry.md](../../docs/telemetry.md) has what that costs |

mod baselines;
mod cases;
mod listeners;
mod valgrind;

use std::{error::Error, process::ExitCode};

use mainstem::testing::LocalCluster;

use crate::{baselines::Baselines, cases::Case};

type Failure = Box<dyn Error + Send + Sync>;
type Outcome<T = ()> = Result<T, Failure>;

const USAGE: &str = "cargo instructions [--record] [--only CASE]";

/// The counted code runs in a process of its own, as `counted CASE TIMES PRIMARY REPLICA REPLICA`.
const COUNTED: &str = "counted";

fn main() -> ExitCode {
    // One thread: scheduling is not part of the count.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // `cargo bench` adds this one.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(args: &[String]) -> Outcome<ExitCode> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let [first, case, times, nodes @ ..] = args.as_slice()
        && *first == COUNTED
    {
        listeners::listen()?;
        Case::named(case)?.run(times.parse()?, nodes).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let (record, cases) = match args.as_slice() {
        [] => (false, Case::ALL.to_vec()),
        ["--record"] => (true, Case::ALL.to_vec()),
        ["--only", case] => (false, vec![Case::named(case)?]),
        ["--record", "--only", case] | ["--only", case, "--record"] => (true, vec![Case::named(case)?]),
        _ => return Err(format!("these arguments are not understood: {}\n{USAGE}", args.join(" ")).into()),
    };
    valgrind::check().await?;
    let cluster = LocalCluster::builder().replicas(2).start().await?;
    cases::prepare(&cluster).await?;
    let nodes = [cluster.primary().url(), cluster.replica(0).url(), cluster.replica(1).url()];
    let mut baselines = Baselines::read()?;
    let mut held = true;
    for case in cases {
        let count = valgrind::count(case, &nodes).await?;
        if record {
            println!("{:<22} {count:>9} recorded, before {}", case.name(), baselines.text(case.name()));
            baselines.set(case.name(), count);
        } else {
            let verdict = baselines.judge(case.name(), count);
            println!("{:<22} {count:>9} {verdict}", case.name());
            held &= verdict.holds();
        }
    }
    if record {
        baselines.write()?;
    } else if !held {
        println!("instructions: more, or much less, than recorded; once that is wanted: cargo instructions --record");
        return Ok(ExitCode::FAILURE);
    }
    println!("instructions: ok");
    Ok(ExitCode::SUCCESS)
}
