//! Round trips, counted on a network where each takes much longer than everything else.

use std::time::Duration;

use mainstem::{
    Consistency, PostgresEventStore, Router,
    testing::{Direction, LocalCluster},
};
use tokio::time::Instant;

use super::{
    calls::{Bare, Routed},
    causal::{Read, written},
};
use crate::{Outcome, args::Args, report::Report, side::Worker};

/// The latency of a message in one direction.
const WAY: Duration = Duration::from_millis(10);

pub(super) async fn count(args: &Args, cluster: &LocalCluster, report: &mut Report) -> Outcome {
    let names = ["strong_extra_round_trips", "eventual_extra_round_trips", "causal_extra_round_trips"];
    if !args.wants(&names) {
        return Ok(());
    }
    let (primary, replica) = (cluster.primary().proxy()?, cluster.replica(0).proxy()?);
    let (primary_url, replica_url) =
        (cluster.primary().url_through(&primary), cluster.replica(0).url_through(&replica));
    let router = Router::builder().primary(&primary_url).replica(&replica_url).max_connections(4).connect().await?;
    let store = PostgresEventStore::new(&router);
    let token = written(&store).await?;
    let routed = |level| Routed::new(&router, level, Duration::ZERO);
    let mut routed = [routed(Consistency::Strong), routed(Consistency::Eventual)];
    let mut bare =
        [Bare::connect(&primary_url, Duration::ZERO).await?, Bare::connect(&replica_url, Duration::ZERO).await?];
    let mut reads = [Read::new(&store, Consistency::AtLeast(token))?, Read::new(&store, Consistency::Eventual)?];
    // Until everything is connected and prepared.
    for _ in 0..20 {
        step(&mut routed).await?;
        step(&mut reads).await?;
    }
    primary.delay(Direction::Both, WAY);
    replica.delay(Direction::Both, WAY);
    let [strong, eventual] = trips(&mut routed).await?;
    let [on_primary, on_replica] = trips(&mut bare).await?;
    let [causal, read] = trips(&mut reads).await?;
    for (name, what, ours, other) in [
        (names[0], "a strong call", strong, on_primary),
        (names[1], "an eventual call", eventual, on_replica),
        (names[2], "a read at least as new as a token", causal, read),
    ] {
        let beside = if name == names[2] { "an eventual one" } else { "the same on a bare client" };
        let network = 2 * WAY.as_millis();
        let made_of =
            format!("round trips of {what} ({ours:.2}) − of {beside} ({other:.2}), on a network of {network} ms");
        report.figure(name, ours.round() - other.round(), made_of);
    }
    Ok(())
}

async fn step<W: Worker>(workers: &mut [W; 2]) -> Outcome {
    for worker in workers {
        worker.step().await?;
    }
    Ok(())
}

/// The round trips of a step of each worker: anything else can only add to them, so the shortest one counts.
async fn trips<W: Worker>(workers: &mut [W; 2]) -> Outcome<[f64; 2]> {
    let mut shortest = [f64::MAX; 2];
    for _ in 0..30 {
        for (worker, shortest) in workers.iter_mut().zip(&mut shortest) {
            let start = Instant::now();
            worker.step().await?;
            *shortest = shortest.min(start.elapsed().as_secs_f64() / (2.0 * WAY.as_secs_f64()));
        }
    }
    Ok(shortest)
}
