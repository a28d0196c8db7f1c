use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::from_secs(60);

fn core(replicas: usize) -> Core {
    Core::new(std::iter::once(Role::Primary).chain(std::iter::repeat_n(Role::Replica, replicas)))
}

fn choose(core: &Core, want: Want, tried: &[usize], random: u64) -> Option<(usize, Reason)> {
    core.choose(want, tried, |_| 0, random, NOW).map(|choice| (choice.node, choice.reason))
}

#[test]
fn a_strong_call_has_the_primary_or_nobody() {
    let mut core = core(2);
    assert_eq!(choose(&core, Want::Primary, &[], 0), Some((0, Reason::Primary)));
    assert_eq!(choose(&core, Want::Primary, &[0], 0), None);
    core.observe(0, Observation::Failed, NOW);
    assert_eq!(choose(&core, Want::Primary, &[], 0), Some((0, Reason::Primary)));
}

#[test]
fn an_eventual_call_goes_to_replicas_then_to_the_primary_then_back_to_who_was_down() {
    let mut core = core(2);
    core.observe(2, Observation::Failed, NOW);
    assert_eq!(choose(&core, Want::AnyReplica, &[], 7), Some((1, Reason::Replica)));
    assert_eq!(choose(&core, Want::AnyReplica, &[1], 7), Some((0, Reason::Fallback)));
    assert_eq!(choose(&core, Want::AnyReplica, &[1, 0], 7), Some((2, Reason::LastResort)));
    assert_eq!(choose(&core, Want::AnyReplica, &[1, 0, 2], 7), None);
}

#[test]
fn without_replicas_the_primary_serves() {
    assert_eq!(choose(&core(0), Want::AnyReplica, &[], 3), Some((0, Reason::Fallback)));
}

#[test]
fn equal_replicas_share_equally() {
    let core = core(3);
    let mut share = [0; 4];
    for random in 0..3000 {
        share[choose(&core, Want::AnyReplica, &[], random).unwrap().0] += 1;
    }
    assert_eq!(share, [0, 1000, 1000, 1000]);
}

#[test]
fn of_two_replicas_the_less_loaded_one_is_taken() {
    let core = core(2);
    for random in 0..100 {
        let load = |node| if node == 1 { 5 } else { 4 };
        assert_eq!(core.choose(Want::AnyReplica, &[], load, random, NOW).unwrap().node, 2);
    }
}

#[test]
fn a_failed_node_rests_longer_each_time_and_one_answer_forgives_all() {
    let mut core = core(1);
    let mut now = NOW;
    let mut last = Duration::ZERO;
    for _ in 0..20 {
        core.observe(1, Observation::Failed, now);
        core.observe(1, Observation::Failed, now); // the same outage, told twice
        let mut pause = Duration::ZERO;
        while !core.is_up(1, now + pause) {
            pause += Duration::from_millis(50);
        }
        assert!(pause >= last && pause <= Duration::from_secs(5), "{pause:?} after {last:?}");
        (last, now) = (pause, now + pause);
    }
    assert_eq!(last, Duration::from_secs(5));
    core.observe(1, Observation::Answered, now);
    core.observe(1, Observation::Failed, now);
    assert!(core.is_up(1, now + Duration::from_millis(100)));
}

proptest! {
    /// Whatever has failed, an eventual call reaches every node before it gives up, each once, and no strong call
    /// ever reaches a replica.
    #[test]
    fn every_node_is_tried_once_before_an_eventual_call_gives_up(
        replicas in 0_usize..6,
        failures in prop::collection::vec((0_usize..7, 0_u64..4000), 0..20),
        random in any::<u64>(),
        load in prop::collection::vec(0_usize..9, 7),
    ) {
        let mut core = core(replicas);
        for (node, before) in failures {
            core.observe(node, Observation::Failed, NOW.saturating_sub(Duration::from_millis(before)));
        }
        let mut tried = Vec::new();
        while let Some(choice) = core.choose(Want::AnyReplica, &tried, |node| load[node], random, NOW) {
            prop_assert!(!tried.contains(&choice.node));
            let up_replica_left = (1..=replicas).any(|node| !tried.contains(&node) && core.is_up(node, NOW));
            prop_assert_eq!(choice.reason == Reason::Replica, up_replica_left);
            tried.push(choice.node);
        }
        prop_assert_eq!(tried.len(), replicas + 1);
        let strong = core.choose(Want::Primary, &[], |node| load[node], random, NOW);
        prop_assert_eq!(strong.map(|choice| choice.node), Some(0));
    }
}
