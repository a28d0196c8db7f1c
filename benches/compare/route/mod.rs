//! `compare route`: a call through the router beside the same on a bare connection, and the cost of reads at least as new as
//! a token.
//!
//! | file | figures |
//! |---|---|
//! | `checkout` | `decision_ns`, `client_vs_bb8` |
//! | `calls` | `strong_vs_bare`, `eventual_vs_bare` |
//! | `causal` | `causal_extra_us`, `wake_ms` |
//! | `trips` | `…_extra_round_trips` |

mod calls;
mod causal;
mod checkout;
mod trips;

use mainstem::Router;

use crate::{
    Outcome,
    args::Args,
    report::{Report, print_title},
    rounds::Control,
    server,
    side::{Crew, Worker},
};

pub(crate) const FIGURES: &[&str] = &[
    "decision_ns",
    "client_vs_bb8",
    "strong_vs_bare",
    "strong_at_once_vs_bare",
    "strong_extra_round_trips",
    "eventual_vs_bare",
    "eventual_at_once_vs_bare",
    "eventual_extra_round_trips",
    "causal_extra_us",
    "causal_extra_round_trips",
    "wake_ms",
];

pub(crate) async fn run(args: &Args) -> Outcome {
    print_title("route", args);
    tokio::fs::create_dir_all(&args.folder).await?;
    let cluster = server::start_empty(args, 1).await?;
    let (primary, replica) = (cluster.primary().url(), cluster.replica(0).url());
    let router = Router::builder().primary(&primary).replica(&replica).max_connections(4).connect().await?;
    causal::migrate(&router).await?;
    let table = "CREATE TABLE kept (id bigint PRIMARY KEY, value text); \
                 INSERT INTO kept SELECT id, repeat('x', 100) FROM generate_series(1, 1000) id; \
                 VACUUM ANALYZE kept";
    for sql in table.split(';') {
        router.client().await?.batch_execute(sql).await?;
    }
    cluster.wait_until_caught_up().await?;
    let control = Control::connect(&primary).await?;
    let mut report = Report::new("route");
    server::print_facts(args, &cluster, &control, &mut report).await?;
    checkout::decision(args, &cluster, &mut report).await?;
    checkout::client(args, &router, &primary, &control, &mut report).await?;
    calls::compare(args, &router, [&primary, &replica], &control, &mut report).await?;
    causal::extra(args, &router, &control, &mut report).await?;
    trips::count(args, &cluster, &mut report).await?;
    causal::wake(args, &cluster, &mut report).await?;
    report.print(args, FIGURES)
}

fn crew<W: Worker>(worker: W) -> Crew<W> {
    Crew { workers: vec![worker], connections: 1, table: None }
}
