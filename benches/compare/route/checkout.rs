//! Getting a connection, without using it.

use mainstem::{Consistency, Router, testing::LocalCluster, with_eventual_consistency};
use tokio::time::Instant;
use tokio_postgres::NoTls;

use super::crew;
use crate::{
    Outcome,
    args::Args,
    report::Report,
    rounds::{Control, Lane, Plan, median, paired, take_turns},
    side::{Sample, Step, Worker},
    stats::highest,
};

/// Gets a connection and returns it, a thousand times a step.
enum Checkout {
    Ours(Router),
    Bb8(bb8::Pool<bb8_postgres::PostgresConnectionManager<NoTls>>),
}

impl Worker for Checkout {
    async fn step(&mut self) -> Outcome<Step> {
        for _ in 0..1000 {
            match self {
                Self::Ours(router) => drop(router.client_at(Consistency::Eventual).await?),
                Self::Bb8(pool) => drop(pool.get().await?),
            }
        }
        Ok(Step::READ)
    }
}

/// The number of decisions between two readings of the clock.
const DECISIONS: u32 = 100_000;

/// Between two replicas, so that there is a choice: here they are the same server at two addresses.
pub(super) async fn decision(args: &Args, cluster: &LocalCluster, report: &mut Report) -> Outcome {
    let name = "decision_ns";
    if !args.wants(&[name]) {
        return Ok(());
    }
    let (node, proxy) = (cluster.replica(0), cluster.replica(0).proxy()?);
    let builder = Router::builder().primary(cluster.primary().url()).replica(node.url());
    let router = builder.replica(node.url_through(&proxy)).connect().await?;
    router.client_at(Consistency::Strong).await?;
    let decide = async || {
        let times = (0..args.pick(9, 51)).map(|_| {
            let start = Instant::now();
            let decided = (0..DECISIONS).all(|_| std::hint::black_box(&router).__decides());
            if decided { start.elapsed().as_nanos() as f64 / f64::from(DECISIONS) } else { f64::NAN }
        });
        median(times.collect())
    };
    let (strong, eventual) = (decide().await, with_eventual_consistency(decide()).await);
    let made_of =
        format!("ns of a decision, scope read included: strong {strong:.1}, eventual {eventual:.1}; the longer one");
    report.figure(name, highest([strong, eventual]), made_of);
    Ok(())
}

pub(super) async fn client(args: &Args, router: &Router, url: &str, control: &Control, report: &mut Report) -> Outcome {
    let name = "client_vs_bb8";
    if !args.wants(&[name]) {
        return Ok(());
    }
    let manager = bb8_postgres::PostgresConnectionManager::new_from_stringlike(url, NoTls)?;
    let pool = bb8::Pool::builder().max_size(4).test_on_check_out(false).build(manager).await?;
    let mut lanes = [
        Lane::new("router.client()", crew(Checkout::Ours(router.clone())), control),
        Lane::new("bb8 get()", crew(Checkout::Bb8(pool)), control),
    ];
    take_turns("check-out", &mut lanes, Plan { rounds: args.pick(9, 21), span: args.span(200, 500) }).await?;
    report.lanes("a thousand connections, one after the other, and back", &lanes);
    let [ours, theirs] = &lanes;
    let value = paired(ours, theirs, Sample::per_second, |ours, theirs| theirs / ours);
    report.figure(name, value, "time of a check-out ÷ of bb8's, without its test");
    Ok(())
}
