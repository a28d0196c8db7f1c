//! Single decisions. The simulator covers what holds over many.

mod failover;
mod fallback;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{status::NodeCondition, *};
use crate::lsn::Lsn;

const NOW: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn config(replicas: usize) -> Config {
    let node = |index: usize| NodeConfig {
        name: Arc::from(format!("node {index}")),
        role: if index == 0 { Role::Primary } else { Role::Replica },
        weight: 1,
        is_near: true,
    };
    Config {
        nodes: (0..=replicas).map(node).collect(),
        fallback: Fallback::Protect,
        max_lag: 10 * SECOND,
        slow_start: SECOND,
        probe_interval: None,
        max_ejected_percent: 50,
    }
}

struct Core {
    cluster: Cluster,
    live: Live,
}

impl Core {
    fn new(config: Config) -> Self {
        let live = Live::new(config.nodes.iter().map(|_| Some(2)), Budget::new(1, None));
        Self { cluster: Cluster::new(config, 1), live }
    }

    fn replicas(replicas: usize) -> Self {
        Self::new(config(replicas))
    }

    fn probing(replicas: usize) -> Self {
        Self::new(Config { probe_interval: Some(SECOND / 2), max_lag: 60 * SECOND, ..config(replicas) })
    }

    fn choose(&self, want: Want, tried: &[usize], random: u64) -> Decision {
        self.cluster.table().choose(want, &self.live, tried.iter().copied().collect::<NodeSet>(), NOW, random)
    }

    /// The node and the reason of an eventual read.
    fn eventual(&self, tried: &[usize], random: u64) -> (usize, Reason) {
        match self.choose(Want::Eventual, tried, random) {
            Decision::Route(route) => (route.node, route.reason),
            other => panic!("{other:?}"),
        }
    }

    fn fail(&mut self, node: usize) {
        self.cluster.observe(node, Observation::ConnectFailed(ConnectFailure::NobodyListens), NOW);
    }

    fn report(&mut self, node: usize, sent_at: Duration, timeline: u32, standing: Standing) {
        let report = told(sent_at, (1, timeline, node as u64), standing);
        self.cluster.observe(node, Observation::Probed(report), sent_at);
    }

    /// A report of any server, of any cluster.
    fn tell(&mut self, node: usize, at: Duration, (system, timeline, instance): (u64, u32, u64), standing: Standing) {
        let report = told(at, (system, timeline, instance), standing);
        self.cluster.observe(node, Observation::Probed(report), at);
    }

    fn wishes(&mut self) -> Vec<Wish> {
        std::iter::from_fn(|| self.cluster.next_wish()).collect()
    }
}

fn told(sent_at: Duration, (system, timeline, instance): (u64, u32, u64), standing: Standing) -> Report {
    let (system, timeline, instance) = (Some(system), Some(timeline), Some(instance));
    Report { sent_at, system, timeline, may_be_newer: false, instance, standing }
}

fn primary(flush: u64) -> Standing {
    Standing::Primary { flush: Some(Lsn::new(flush)) }
}

fn replica(replay: u64) -> Standing {
    Standing::Replica { replay: Some(Lsn::new(replay)), received: None, is_receiving: Some(true) }
}

#[test]
fn a_strong_call_has_the_primary_or_nobody() {
    let mut core = Core::replicas(2);
    let primary = Decision::Route(Route { node: 0, reason: Reason::Primary });
    assert_eq!(core.choose(Want::Strong, &[], 0), primary);
    assert_eq!(core.choose(Want::Strong, &[0], 0), Decision::Refuse(Refusal::AllTried));
    core.fail(0);
    assert_eq!(core.choose(Want::Strong, &[], 0), primary, "there is nobody else to ask");
}

#[test]
fn an_eventual_call_goes_to_replicas_then_to_the_primary_then_back_to_who_was_down() {
    let mut core = Core::replicas(2);
    core.fail(2);
    assert_eq!(core.eventual(&[], 7), (1, Reason::Replica));
    assert_eq!(core.eventual(&[1], 7), (0, Reason::Fallback));
    assert_eq!(core.eventual(&[1, 0], 7), (2, Reason::LastResort));
    assert_eq!(core.choose(Want::Eventual, &[1, 0, 2], 7), Decision::Refuse(Refusal::AllTried));
}

#[test]
fn near_before_far_and_free_before_full() {
    let mut config = config(3);
    config.nodes[2].is_near = false;
    config.nodes[3].is_near = false;
    let core = Core::new(config);
    let enter = |node: usize| core.live.node(node).enter();
    assert_eq!(core.eventual(&[], 5), (1, Reason::Replica));
    enter(1);
    assert_eq!(core.eventual(&[], 5), (1, Reason::Replica));
    enter(1);
    assert!(matches!(core.eventual(&[], 5), (2 | 3, Reason::SpillOver)));
    [2, 2, 3].into_iter().for_each(enter);
    assert_eq!(core.eventual(&[], 5), (3, Reason::SpillOver));
    enter(3);
    assert_eq!(core.eventual(&[], 5), (1, Reason::Full), "the one that is near is waited for, not the primary");
}

#[test]
fn the_less_loaded_of_two_replicas_is_chosen() {
    let core = Core::replicas(2);
    core.live.node(1).enter();
    for random in 0..100 {
        assert_eq!(core.eventual(&[], mix(random)).0, 2);
    }
}

#[test]
fn without_probes_one_call_at_a_time_finds_out_whether_a_node_is_back() {
    let mut core = Core::replicas(2);
    core.fail(1);
    let at = |core: &Core, ms: u64| {
        let now = NOW + Duration::from_millis(ms);
        match core.cluster.table().choose(Want::Eventual, &core.live, NodeSet::EMPTY, now, 0) {
            Decision::Route(route) => (route.node, route.reason),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(at(&core, 50), (2, Reason::Replica));
    assert_eq!([at(&core, 200), at(&core, 200)], [(1, Reason::Trial), (2, Reason::Replica)]);
    core.cluster.observe(1, Observation::Answered, NOW + Duration::from_millis(200));
    assert!((0..99).any(|random| {
        let now = NOW + 5 * SECOND;
        let decision = core.cluster.table().choose(Want::Eventual, &core.live, NodeSet::EMPTY, now, mix(random));
        decision == Decision::Route(Route { node: 1, reason: Reason::Replica })
    }));
}

#[test]
fn a_floor_of_an_old_timeline_is_unproven() {
    let mut core = Core::replicas(1);
    core.report(0, NOW, 2, primary(100));
    core.report(1, NOW, 2, replica(90));
    let at_least = |timeline, lsn| Want::AtLeast { timeline, lsn: Lsn::new(lsn) };
    let route = |node, reason| Decision::Route(Route { node, reason });
    assert_eq!(core.choose(at_least(2, 90), &[], 0), route(1, Reason::Replica));
    // Its connection may prove that it has caught up since; the primary is next.
    assert_eq!(core.choose(at_least(2, 91), &[], 0), route(1, Reason::Unconfirmed));
    assert_eq!(core.choose(at_least(2, 91), &[1], 0), route(0, Reason::Fallback));
    let asked = Asked { tried: NodeSet::one(1), behind: NodeSet::one(1), may_wait: true, has_floor: true };
    let again = |core: &Core| core.cluster.table().choose(at_least(2, 91), &core.live, asked, NOW, 0);
    assert_eq!(again(&core), Decision::WaitForReplay);
    core.report(1, NOW, 2, replica(91));
    assert_eq!(again(&core), route(1, Reason::Replica));
    assert_eq!(core.choose(at_least(1, 10), &[], 0), Decision::Refuse(Refusal::Unproven));
    assert_eq!(core.choose(at_least(3, 10), &[], 0), Decision::Refuse(Refusal::Unproven));
}

#[test]
fn a_new_timeline_holds_what_the_promoted_node_had_reported() {
    let mut core = Core::replicas(2);
    core.report(0, NOW, 1, primary(100));
    core.report(1, NOW, 1, replica(90));
    let holds = |core: &Core, timeline, lsn| core.cluster.table().holds(timeline, Lsn::new(lsn));
    assert!(!holds(&core, 1, 10), "it is the present one");
    core.report(1, NOW + SECOND, 2, primary(95));
    assert!(holds(&core, 1, 90) && !holds(&core, 1, 91) && !holds(&core, 3, 1));
    // Nobody has seen how much of that the next one contains.
    core.report(2, NOW + SECOND, 2, replica(80));
    core.report(2, NOW + 2 * SECOND, 3, primary(85));
    assert!(holds(&core, 2, 80) && !holds(&core, 2, 81) && !holds(&core, 1, 10));
}

#[test]
fn positions_reported_before_a_restart_do_not_count_as_held() {
    let mut core = Core::replicas(1);
    core.tell(0, NOW, (1, 1, 10), primary(100));
    core.tell(1, NOW, (1, 1, 11), replica(90));
    core.tell(1, NOW + SECOND, (1, 2, 12), primary(95));
    assert!(!core.cluster.table().holds(1, Lsn::new(10)));
}

#[test]
fn a_replica_that_is_known_to_lag_serves_no_eventual_reads_while_the_primary_can() {
    let mut core = Core::replicas(1);
    core.report(1, Duration::ZERO, 1, replica(1));
    for second in 0..12 {
        core.report(0, second * SECOND, 1, primary(u64::from(second) + 1));
    }
    let status = core.cluster.status(&core.live, NodeSet::EMPTY, 13 * SECOND);
    let node = &status.nodes[1];
    assert_eq!((node.lag_bytes, node.lag, node.staleness), (Some(11), Some(11 * SECOND), Some(13 * SECOND)));
    assert_eq!(node.condition, NodeCondition::Lagging);
    assert_eq!(core.eventual(&[], 0), (0, Reason::Fallback));
    assert_eq!(core.cluster.table().exclusion(1, Want::Eventual, NodeSet::EMPTY, NOW), Some(Exclusion::Lagging));
    core.fail(0);
    assert_eq!(core.eventual(&[], 0), (1, Reason::Lagging), "late is better than nothing");
}

#[test]
fn a_replica_that_is_far_behind_lags_however_often_the_primary_is_asked() {
    for (interval, max_lag) in [(SECOND / 10, 60 * SECOND), (SECOND / 2, 600 * SECOND)] {
        let mut core = Core::new(Config { probe_interval: Some(interval), max_lag, ..config(1) });
        let mut tell = |tick: u32, replay: u64| {
            core.tell(0, SECOND + interval * tick, (1, 1, 10), primary(100 + u64::from(tick)));
            core.tell(1, SECOND + interval * tick, (1, 1, 11), replica(replay));
            core.cluster.table().exclusion(1, Want::Eventual, NodeSet::EMPTY, SECOND + interval * tick)
        };
        let late = (max_lag.as_millis() / interval.as_millis()) as u32;
        for tick in 0..3 * late {
            assert_eq!(tell(tick, 100), (tick > late).then_some(Exclusion::Lagging), "{interval:?} {tick}");
        }
        let almost = 3 * late - late * 9 / 10;
        assert_eq!(tell(3 * late, 100 + u64::from(almost)), None, "{interval:?}");
    }
}

/// Its probes come when the core requests them, and take no time.
#[test]
fn a_node_serves_within_a_second_of_its_return_however_often_it_was_gone() {
    const MS: Duration = Duration::from_millis(1);
    for interval in [SECOND / 2, 30 * SECOND] {
        let mut core = Core::new(Config { probe_interval: Some(interval), ..config(2) });
        core.tell(0, SECOND, (1, 1, 10), primary(100));
        let is_out = |core: &Core| core.cluster.table().ejected.contains(1);
        let mut now = SECOND;
        let (mut longest, mut random) = (Duration::ZERO, 5);
        for round in 0..3000 {
            random = mix(random);
            // Gone for up to four seconds, which a call notices, and there for up to one, or until it serves.
            let returns = now + MS * (random % 4000) as u32;
            let leaves = returns + MS * (random / 4000 % 1000) as u32;
            core.cluster.observe(1, Observation::ConnectFailed(ConnectFailure::NoAnswer), now);
            while now < leaves || is_out(&core) {
                now += MS;
                if now >= core.cluster.next_probe(1) {
                    match now < returns {
                        true => core.cluster.observe(1, Observation::ConnectFailed(ConnectFailure::NoAnswer), now),
                        false => core.tell(1, now, (1, 1, 11), replica(100)),
                    }
                }
                if now > returns && is_out(&core) {
                    longest = longest.max(now - returns);
                    assert!(longest < SECOND, "{longest:?} in round {round}");
                }
            }
        }
        assert!(longest > SECOND / 4, "{longest:?}: it has never been out for long");
    }
}

/// A lagging replica is better than none: an eventual read requires no proof.
#[test]
fn a_lagging_replica_serves_eventual_reads_when_the_primary_may_not() {
    let lagging = |fallback, budget| {
        let mut core = Core::new(Config { fallback, ..config(2) });
        core.live = Live::new([None, None, None], budget);
        for second in 0..20 {
            core.report(0, SECOND * second, 1, primary(100 + u64::from(second)));
        }
        (1..=2).for_each(|node| core.report(node, 20 * SECOND, 1, replica(100)));
        core
    };
    let route = |node, reason| Decision::Route(Route { node, reason });
    let core = lagging(Fallback::Protect, Budget::new(1, None));
    assert_eq!(core.choose(Want::Eventual, &[], 0), route(0, Reason::Fallback), "the primary knows better");
    assert_eq!(core.choose(Want::Eventual, &[1], 0), route(2, Reason::Lagging), "the budget is spent");
    assert_eq!(core.choose(Want::Bounded(SECOND), &[], 0), Decision::WaitForBudget, "this one asks for a proof");
    let mut core = lagging(Fallback::Never, Budget::unlimited());
    assert_eq!(core.choose(Want::Eventual, &[2], 0), route(1, Reason::Lagging));
    assert_eq!(core.choose(Want::Eventual, &[1, 2], 0), Decision::Refuse(Refusal::NoReplica));
    core.fail(0);
    core.fail(1);
    assert_eq!(core.eventual(&[], 0), (2, Reason::Lagging), "before one that is out of service");
}

#[test]
fn the_longest_times_are_no_panic() {
    for now in [SECOND, Duration::MAX] {
        let longest = Duration::MAX;
        let probe_interval = Some(longest);
        let mut core = Core::new(Config { probe_interval, max_lag: longest, slow_start: longest, ..config(2) });
        for observation in [
            Observation::ConnectFailed(ConnectFailure::NobodyListens),
            Observation::Silent { answers: 0 },
            Observation::Lost { served: 0 },
            Observation::CallFailed { served: 0 },
            Observation::Role(Role::Primary),
            Observation::Answered,
        ] {
            for _ in 0..20 {
                core.cluster.observe(1, observation, now);
            }
        }
        core.tell(1, now, (1, 1, 11), replica(100));
        core.tell(0, now, (1, 1, 10), primary(100));
        for want in [Want::Strong, Want::Eventual, Want::Bounded(longest)] {
            let decision = core.cluster.table().choose(want, &core.live, NodeSet::EMPTY, now, 3);
            assert!(matches!(decision, Decision::Route(_)), "{want:?}: {decision:?}");
        }
        core.cluster.status(&core.live, NodeSet::EMPTY, now);
    }
}

#[test]
fn a_decision_takes_no_time() {
    let mut core = Core::replicas(3);
    core.report(0, NOW, 1, primary(100));
    (1..=3).for_each(|node| core.report(node, NOW, 1, replica(100)));
    let rounds = if cfg!(debug_assertions) { 10_000 } else { 3_000_000 };
    for want in [Want::Strong, Want::Eventual, Want::Bounded(SECOND)] {
        let (table, mut random, started) = (core.cluster.table(), 1, Instant::now());
        for _ in 0..rounds {
            random = mix(random);
            std::hint::black_box(table.choose(want, &core.live, NodeSet::EMPTY, NOW, random));
        }
        println!("{want:?}: decision_ns={:.1}", started.elapsed().as_nanos() as f64 / f64::from(rounds));
    }
}

proptest! {
    /// Whatever has failed, an eventual call tries every node once before it fails, and no strong call ever reaches a
    /// replica.
    #[test]
    fn every_node_is_tried_once_before_an_eventual_call_gives_up(
        replicas in 0_usize..6,
        failures in prop::collection::vec((0_usize..7, 0_u64..4000), 0..20),
        random in any::<u64>(),
        load in prop::collection::vec(0_u32..4, 7),
    ) {
        let mut core = Core::replicas(replicas);
        core.live = Live::new(vec![Some(2); replicas + 1], Budget::unlimited());
        for (node, before) in failures {
            core.cluster.observe(node, Observation::ConnectFailed(ConnectFailure::NobodyListens), NOW.saturating_sub(Duration::from_millis(before)));
        }
        for (node, calls) in load.into_iter().enumerate().take(replicas + 1) {
            (0..calls).for_each(|_| core.live.node(node).enter());
        }
        let mut tried = Vec::new();
        while let Decision::Route(route) = core.choose(Want::Eventual, &tried, random) {
            prop_assert!(!tried.contains(&route.node));
            tried.push(route.node);
        }
        prop_assert_eq!(tried.len(), replicas + 1);
        prop_assert_eq!(core.choose(Want::Strong, &[], random), Decision::Route(Route { node: 0, reason: Reason::Primary }));
    }
}
