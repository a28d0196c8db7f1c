//! How calls are distributed if nothing fails or one node is slow.

use std::{collections::BinaryHeap, sync::Arc, time::Duration};

use super::{
    duration,
    world::{SECOND, Time},
};
use crate::router::core::{
    Fallback, Role,
    budget::Budget,
    cluster::{Cluster, Config},
    flaw::{self, Flaw},
    live::Live,
    node::NodeConfig,
    observation::{ConnectFailure, Observation},
    random::Random,
    set::NodeSet,
    table::{Decision, Want},
};

/// A replica on which nothing ever fails.
#[derive(Clone, Copy)]
struct Replica {
    weight: u32,
    latency: Time,
}

const EQUAL: Replica = Replica { weight: 1, latency: 1000 };

struct Load {
    cluster: Cluster,
    live: Live,
    replicas: Vec<Replica>,
    random: Random,
    now: Time,
    answers: BinaryHeap<std::cmp::Reverse<(Time, usize, Time)>>,
}

impl Load {
    fn new(replicas: &[Replica], seed: u64) -> Self {
        let node = |role, weight| NodeConfig { name: Arc::from("node"), role, weight, is_near: true };
        let nodes = replicas.iter().map(|replica| node(Role::Replica, replica.weight));
        let config = Config {
            nodes: std::iter::once(node(Role::Primary, 1)).chain(nodes).collect(),
            fallback: Fallback::Never,
            max_lag: Duration::from_secs(10),
            slow_start: Duration::from_secs(5),
            probe_interval: None,
            max_ejected_percent: 50,
        };
        let live = Live::new(config.nodes.iter().map(|_| Some(1000)), Budget::unlimited());
        let cluster = Cluster::new(config, seed);
        let (random, answers) = (Random::new(seed), BinaryHeap::new());
        Self { cluster, live, replicas: replicas.to_vec(), random, now: SECOND, answers }
    }

    /// Sends this many calls a second for a while; returns the share of each replica, in percent.
    fn run(&mut self, per_second: u64, time: Time) -> Vec<f64> {
        let mut calls = vec![0_u32; self.replicas.len()];
        let end = self.now + time;
        while self.now < end {
            self.now += self.random.below(2 * SECOND / per_second);
            self.take_answers();
            let now = duration(self.now);
            let random = self.random.next();
            let table = self.cluster.table();
            let Decision::Route(route) = table.choose(Want::Eventual, &self.live, NodeSet::EMPTY, now, random) else {
                panic!("nobody serves");
            };
            let latency = self.replicas[route.node - 1].latency;
            // Between a half and one and a half of it, and now and then a statement that takes ten times as long.
            let often = latency / 2 + self.random.below(latency);
            let takes = if self.random.below(50) == 0 { 10 * often } else { often };
            self.live.node(route.node).enter();
            self.answers.push(std::cmp::Reverse((self.now + takes, route.node, takes)));
            calls[route.node - 1] += 1;
        }
        let sum: u32 = calls.iter().sum();
        calls.iter().map(|&calls| f64::from(calls) * 100.0 / f64::from(sum)).collect()
    }

    fn take_answers(&mut self) {
        while let Some(&std::cmp::Reverse((at, node, takes))) = self.answers.peek()
            && at <= self.now
        {
            self.answers.pop();
            self.live.node(node).leave();
            self.live.node(node).measured(duration(at), duration(takes));
        }
    }
}

/// The largest distance from an equal share, in percent of it.
fn unevenness(shares: &[f64]) -> f64 {
    let equal = 100.0 / shares.len() as f64;
    shares.iter().map(|share| (share - equal).abs() * 100.0 / equal).fold(0.0, f64::max)
}

#[test]
fn equals_share_equally() {
    for (seed, per_second) in [(1, 50), (2, 1000), (3, 10_000)] {
        for count in [2, 3, 5] {
            let shares = Load::new(&vec![EQUAL; count], seed).run(per_second, 40_000 / per_second * SECOND);
            assert!(unevenness(&shares) < 5.0, "{shares:?} at {per_second} calls a second");
        }
    }
}

#[test]
fn sending_all_to_the_first_is_noticed() {
    let shares = flaw::with(Flaw::AlwaysFirst, || Load::new(&[EQUAL; 3], 1).run(1000, 10 * SECOND));
    assert!(unevenness(&shares) > 5.0);
}

/// The share of a slow node, after it was slow for two seconds, and after it has been normal again for five.
fn slow_and_well_again(count: usize, per_second: u64) -> (f64, f64) {
    let mut load = Load::new(&vec![EQUAL; count], 5);
    load.run(per_second, 2 * SECOND);
    load.replicas[0].latency = 20 * EQUAL.latency;
    load.run(per_second, 2 * SECOND);
    let slow = load.run(per_second, 20 * SECOND)[0];
    load.replicas[0].latency = EQUAL.latency;
    load.run(per_second, 5 * SECOND);
    (slow, unevenness(&load.run(per_second, 20 * SECOND)))
}

#[test]
fn a_slow_node_gets_next_to_nothing_until_it_is_well_again() {
    for count in [2, 3, 5] {
        for per_second in [500, 3000] {
            let (slow, uneven) = slow_and_well_again(count, per_second);
            assert!(slow < 2.0, "{slow} % of {per_second} calls a second to the slow one of {count}");
            assert!(uneven < 5.0, "{uneven} % away from an equal share after it is well again");
        }
    }
}

#[test]
fn not_comparing_latencies_is_noticed() {
    let (slow, _) = flaw::with(Flaw::IgnoreLatency, || slow_and_well_again(3, 500));
    assert!(slow > 2.0, "{slow}");
}

#[test]
fn weights_are_shares() {
    let heavy = Replica { weight: 3, ..EQUAL };
    for per_second in [50, 20_000] {
        let shares = Load::new(&[heavy, EQUAL], 9).run(per_second, 20_000 / per_second.min(1000) * SECOND);
        assert!((shares[0] - 75.0).abs() < 5.0, "{shares:?} at {per_second} calls a second");
    }
}

/// The share of a node in its first half second back in service.
fn first_share() -> f64 {
    let mut load = Load::new(&[EQUAL; 3], 11);
    load.run(1000, SECOND);
    let out = duration(load.now);
    load.cluster.observe(1, Observation::ConnectFailed(ConnectFailure::NobodyListens), out);
    load.now += SECOND;
    load.cluster.observe(1, Observation::Answered, duration(load.now));
    let first = load.run(1000, SECOND / 2)[0];
    load.run(1000, 5 * SECOND);
    assert!(unevenness(&load.run(1000, 20 * SECOND)) < 5.0, "and then its whole share");
    first
}

#[test]
fn a_node_that_comes_back_starts_slowly() {
    let first = first_share();
    assert!((0.5..12.0).contains(&first), "{first} %");
}

#[test]
fn a_node_that_comes_back_to_its_whole_share_is_noticed() {
    let first = flaw::with(Flaw::NoSlowStart, first_share);
    assert!(first > 12.0, "{first} %");
}
