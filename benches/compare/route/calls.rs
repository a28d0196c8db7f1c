//! A query on a connection that the router chooses, beside the same on a bare connection.

use std::time::Duration;

use mainstem::{Consistency, Router};
use tokio::{task::yield_now, time::Instant};
use tokio_postgres::{Client, Statement};

use super::crew;
use crate::{
    Outcome,
    args::Args,
    report::Report,
    rounds::{Control, Lane, Plan, paired, take_turns},
    server,
    side::{Step, Worker},
};

/// The pause between two calls. After an answer the router sends a reset, so that nobody finds another caller's session state;
/// it completes within this pause. Without a pause the next call queues after it.
const PAUSE: Duration = Duration::from_micros(200);

const SELECT: &str = "SELECT value FROM kept WHERE id = $1";

/// One prepared query, repeated.
pub(super) struct Bare {
    client: Client,
    statement: Statement,
    pause: Duration,
    next: i64,
}

impl Bare {
    pub(super) async fn connect(url: &str, pause: Duration) -> Outcome<Self> {
        let client = server::connect(url).await?;
        let statement = client.prepare(SELECT).await?;
        Ok(Self { client, statement, pause, next: 0 })
    }
}

impl Worker for Bare {
    async fn step(&mut self) -> Outcome<Step> {
        self.next = self.next % 1000 + 1;
        let row = self.client.query_one(&self.statement, &[&self.next]).await?;
        std::hint::black_box(row.try_get::<_, &str>(0)?.len());
        Ok(Step::READ)
    }

    async fn rest(&mut self) {
        pause(self.pause).await;
    }
}

/// The same, each time on a connection that the router chooses.
pub(super) struct Routed {
    router: Router,
    level: Consistency,
    pause: Duration,
    next: i64,
}

impl Routed {
    pub(super) fn new(router: &Router, level: Consistency, pause: Duration) -> Self {
        Self { router: router.clone(), level, pause, next: 0 }
    }
}

impl Worker for Routed {
    async fn step(&mut self) -> Outcome<Step> {
        self.next = self.next % 1000 + 1;
        let client = self.router.client_at(self.level.clone()).await?;
        let row = client.query_one(SELECT, &[&self.next]).await?;
        std::hint::black_box(row.try_get::<_, &str>(0)?.len());
        Ok(Step::READ)
    }

    async fn rest(&mut self) {
        pause(self.pause).await;
    }
}

/// Waits without sleeping: a thread that has slept is slow at first, which would distort the comparison.
async fn pause(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        yield_now().await;
    }
}

pub(super) async fn compare(
    args: &Args,
    router: &Router,
    [primary, replica]: [&str; 2],
    control: &Control,
    report: &mut Report,
) -> Outcome {
    let (strong, eventual) = ((primary, Consistency::Strong), (replica, Consistency::Eventual));
    for (name, (url, level), pause, how) in [
        ("strong_vs_bare", &strong, PAUSE, "with a pause of 200 µs between two"),
        ("eventual_vs_bare", &eventual, PAUSE, "the same"),
        ("strong_at_once_vs_bare", &strong, Duration::ZERO, "one right after the other"),
        ("eventual_at_once_vs_bare", &eventual, Duration::ZERO, "the same"),
    ] {
        if !args.wants(&[name]) {
            continue;
        }
        let bare = Bare::connect(url, pause).await?;
        let mut lanes = [
            Lane::new("a call through the router", crew(Routed::new(router, level.clone(), pause)), control),
            Lane::new("prepared, on a bare client", crew(bare), control),
        ];
        take_turns(name, &mut lanes, Plan { rounds: args.pick(9, 21), span: args.span(300, 1000) }).await?;
        report.lanes(name, &lanes);
        let [ours, bare] = &lanes;
        let value = paired(ours, bare, |sample| sample.percentile(50), |ours, bare| ours / bare);
        report.figure(name, value, format!("p50 of a call ({level}), check-out included ÷ on a bare client; {how}"));
    }
    Ok(())
}
