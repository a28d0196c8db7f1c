//! A query on a connection that the router chooses, beside the same on a bare one.

use mainstem::{Consistency, Router};
use tokio_postgres::{Client, Statement};

use super::crew;
use crate::{
    Outcome,
    args::Args,
    report::{Report, print_lanes},
    rounds::{Control, Lane, Plan, paired, take_turns},
    server,
    side::{Step, Worker},
};

const SELECT: &str = "SELECT value FROM kept WHERE id = $1";

/// One prepared query, again and again.
pub(super) struct Bare {
    client: Client,
    statement: Statement,
    next: i64,
}

impl Bare {
    pub(super) async fn connect(url: &str) -> Outcome<Self> {
        let client = server::connect(url).await?;
        let statement = client.prepare(SELECT).await?;
        Ok(Self { client, statement, next: 0 })
    }
}

impl Worker for Bare {
    async fn step(&mut self) -> Outcome<Step> {
        self.next = self.next % 1000 + 1;
        let row = self.client.query_one(&self.statement, &[&self.next]).await?;
        std::hint::black_box(row.try_get::<_, &str>(0)?.len());
        Ok(Step::READ)
    }
}

/// The same, each on a connection that the router chooses.
pub(super) struct Routed {
    router: Router,
    level: Consistency,
    next: i64,
}

impl Routed {
    pub(super) fn new(router: &Router, level: Consistency) -> Self {
        Self { router: router.clone(), level, next: 0 }
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
}

pub(super) async fn compare(
    args: &Args,
    router: &Router,
    [primary, replica]: [&str; 2],
    control: &Control,
    report: &mut Report,
) -> Outcome {
    for (name, url, level) in
        [("strong_vs_bare", primary, Consistency::Strong), ("eventual_vs_bare", replica, Consistency::Eventual)]
    {
        if !args.wants(&[name]) {
            continue;
        }
        let routed = Routed::new(router, level.clone());
        let mut lanes = [
            Lane::new("a call through the router", crew(routed), control),
            Lane::new("the same, prepared, on a bare client", crew(Bare::connect(url).await?), control),
        ];
        take_turns(name, &mut lanes, Plan { rounds: args.pick(9, 21), span: args.span(300, 1000) }).await?;
        print_lanes(name, &lanes);
        let [ours, bare] = &lanes;
        let value = paired(ours, bare, |sample| sample.percentile(50), |ours, bare| ours / bare);
        report.figure(name, value, format!("p50 of a {level} call, check-out included ÷ on a bare client"));
    }
    Ok(())
}
