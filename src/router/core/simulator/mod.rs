//! A cluster that fails in every way, the router's core in the middle of it, and the rules that must always hold.
//!
//! Everything follows from a seed: a failure prints it, and can be reproduced with it. `world` is the cluster as it is.
//! `client` is a shell in miniature: it calls, probes (`probes`), changes its list of nodes (`members`) and reports to
//! the core what it sees. `oracle` knows what the core has been told, and judges each decision by that and by the
//! world. `faults` contains what goes wrong.
//!
//! `rules` runs it over many seeds, and violates each rule of the core once to check that this is noticed; `shares`
//! measures how the calls are distributed.

mod client;
mod faults;
mod members;
mod oracle;
mod probes;
mod rules;
mod shares;
mod world;

use std::time::Duration;

use self::{
    client::{Client, Served},
    oracle::{Rule, Violation, broken},
    world::{SECOND, Time, World},
};
use super::random::Random;

/// The cluster and the router, at one moment.
struct Simulation {
    world: World,
    client: Client,
    random: Random,
    now: Time,
    steps: u64,
    has_strangers: bool,
}

/// What a run has done, to check that it did anything.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    steps: u64,
    strong: u64,
    fresh: u64,
    eventual: u64,
    fallbacks: u64,
    waits: u64,
    split_brains: u64,
    fenced: u64,
    refusals: u64,
    outliers: u64,
    /// Nodes that their guard has found lagging.
    behind: u64,
    left: u64,
    joined: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = 2 + random.below(4) as usize;
        let mut world = World::new(count);
        // Then no node says which cluster this is, and the first one heard counts: so there are no foreign nodes.
        let has_strangers = random.below(8) > 0;
        if !has_strangers {
            world.fail_over_before_anybody_looks(&mut random);
        }
        let client = Client::new(count, random.next());
        Self { world, client, random, now: SECOND, steps: 0, has_strangers }
    }

    /// Lets a little time pass, and makes one thing happen.
    fn step(&mut self, with_faults: bool) -> Result<(), Violation> {
        self.steps += 1;
        self.now += self.random.below(6000);
        self.client.answers(&self.world, self.now, &mut self.random)?;
        self.client.probe(&self.world, self.now, &mut self.random);
        let nodes = self.world.servers.len() as u64;
        match self.random.below(16) {
            0..=2 => self.world.write(self.now, 1 + self.random.below(100)),
            3..=6 => {
                let node = self.random.below(nodes) as usize;
                self.world.replicate(node, &mut self.random);
            }
            _ => self.client.call(&self.world, self.now, &mut self.random)?,
        }
        if with_faults && self.random.below(60) == 0 {
            self.go_wrong();
        }
        Ok(())
    }

    /// Injects faults for `steps`, then no more, and a minute later everything has to be as it should be.
    fn run(mut self, steps: u64) -> Result<Tally, Violation> {
        for _ in 0..steps {
            self.step(true)?;
        }
        self.world.heal(self.now);
        // The longest ejection of an outlier, its jitter, and a probe.
        let healed = self.now + 40 * SECOND;
        while self.now < healed {
            self.client.complete_list(self.now);
            self.now += self.random.below(20_000);
            self.step(false)?;
        }
        self.client.forget_served();
        let end = self.now + 20 * SECOND;
        while self.now < end {
            self.now += self.random.below(10_000);
            self.step(false)?;
        }
        self.judge_recovery()?;
        Ok(Tally { steps: self.steps, ..self.client.tally })
    }

    fn judge_recovery(&self) -> Result<(), Violation> {
        let leader = self.world.leader();
        let unused = |what: String| Err(broken(Rule::UsedAgain, format!("{what}: {:?}", self.client.cluster)));
        let nodes = || self.client.served.iter().enumerate();
        let replicas = || nodes().filter(|(node, _)| Some(*node) != leader).map(|(_, served)| served);
        // A quarter of an equal share: one call now and then would be a trial.
        let enough = |of: fn(&Served) -> u64| {
            let (sum, least) = (replicas().map(of).sum::<u64>(), replicas().map(of).min());
            least.is_none_or(|least| least > 0 && least * 4 * replicas().count() as u64 >= sum)
        };
        if !nodes().any(|(node, served)| Some(node) == leader && served.strong > 0) {
            return unused(format!("the primary, node {leader:?}, has served no strong call"));
        }
        if !enough(|served| served.eventual) || !enough(|served| served.fresh) {
            return unused(format!("of the others one has served too little: {:?}", self.client.served));
        }
        Ok(())
    }
}

fn duration(time: Time) -> Duration {
    Duration::from_micros(time)
}
