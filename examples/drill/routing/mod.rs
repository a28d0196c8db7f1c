//! The router's drills: real servers and a network that fail while calls are in flight.
//!
//! | file | what it shows |
//! |---|---|
//! | `causal` | clients see what they have written and seen, from any replica |
//! | `http` | browsers see what they have written through either of two instances (feature `tower`) |
//! | `failover`, `writers`, `verdict` | primaries are killed, stopped and replaced, and come back: nothing acknowledged is lost, nothing is written behind a fence |
//! | `silence` | nodes stop answering: no call waits beyond a limit, nothing leaks, they are back within a second |
//! | `shield` | all replicas are gone under ten times the load that the primary could bear: appends are not affected |
//! | `balance` | equal replicas get equal shares, a slow one gets next to nothing |
//! | `timeline` | what readers see in the meantime, for a chart |
//! | `options`, `faults`, `report` | what was asked for, how to break it on purpose, the result |

mod balance;
mod causal;
mod failover;
#[cfg(feature = "__faults")]
mod faults;
#[cfg(feature = "tower")]
mod http;
mod options;
mod report;
mod shield;
mod silence;
mod timeline;
mod verdict;
mod writers;

use std::{process::ExitCode, time::Duration};

use tokio::time::timeout;

pub(crate) use self::options::{Drill, HELP, Options, Parsed};
use crate::Outcome;

/// Far longer than a drill or any of its rounds takes: one that reaches it has hung.
const LIMIT: Duration = Duration::from_secs(180);
const LIMIT_OF_A_ROUND: Duration = Duration::from_secs(5);

pub(crate) async fn run(options: &Options) -> Outcome<ExitCode> {
    let broken = options.fault.as_ref().map(|name| format!(", broken by {name}")).unwrap_or_default();
    eprintln!("drill {}: {} rounds, seed {}{broken}", options.drill.name(), options.rounds, options.seed);
    options.break_the_library()?;
    let drill = async {
        match options.drill {
            Drill::Causal => causal::run(options).await,
            Drill::Failover => failover::run(options).await,
            Drill::Silence => silence::run(options).await,
            Drill::Shield => shield::run(options).await,
            #[cfg(feature = "tower")]
            Drill::Http => http::run(options).await,
            #[cfg(not(feature = "tower"))]
            Drill::Http => Err("this build has no HTTP: build it with --features testing,tower".into()),
            Drill::Balance => balance::run(options).await,
        }
    };
    let limit = LIMIT + LIMIT_OF_A_ROUND * options.rounds;
    let report = timeout(limit, drill).await.map_err(|_| format!("not through after {limit:?}"))??;
    report.conclude(options.drill.name(), options.judge)
}
