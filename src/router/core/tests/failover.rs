//! Which node takes writes when primaries change, stop, come back, or belong to another cluster.

use super::*;

#[test]
fn the_newest_timeline_wins_and_the_old_primary_is_fenced_for_good() {
    let mut core = Core::replicas(2);
    core.report(0, NOW, 1, primary(100));
    core.report(1, NOW, 1, replica(100));
    assert_eq!(core.wishes(), []);
    core.cluster.observe(1, Observation::Role(Role::Primary), NOW);
    assert_eq!(core.wishes(), [Wish::Probe { node: 1 }, Wish::Drain { node: 1, generation: 1 }]);
    core.report(1, NOW + SECOND, 2, primary(110));
    assert_eq!(core.cluster.table().writer(), Writer::One(1));
    // It is down, and the old one continues to write.
    core.fail(1);
    core.report(0, NOW + 2 * SECOND, 1, primary(500));
    assert_eq!(core.cluster.table().writer(), Writer::One(1));
    core.cluster.observe(1, Observation::Role(Role::Replica), NOW + 3 * SECOND);
    assert_eq!(core.choose(Want::Strong, &[], 0), Decision::Refuse(Refusal::Fenced(0)));
    assert_eq!(core.cluster.status(&core.live, NodeSet::EMPTY, NOW).nodes[0].condition, NodeCondition::Fenced);
}

#[test]
fn two_on_one_timeline_are_both_named() {
    let mut core = Core::replicas(2);
    core.report(0, NOW, 1, primary(100));
    core.report(1, NOW, 2, primary(100));
    core.report(2, NOW, 2, primary(100));
    assert_eq!(core.choose(Want::Strong, &[], 0), Decision::Refuse(Refusal::SplitBrain(1, 2)));
    let split = PrimaryState::SplitBrain { nodes: vec!["node 1".into(), "node 2".into()] };
    assert_eq!(core.cluster.status(&core.live, NodeSet::EMPTY, NOW).primary, split);
    core.report(2, NOW + SECOND, 2, replica(100));
    assert_eq!(core.cluster.table().writer(), Writer::One(1));
}

#[test]
fn two_addresses_of_one_server_are_no_split_brain() {
    let mut core = Core::replicas(1);
    core.report(0, NOW, 1, primary(100));
    core.tell(1, NOW, (1, 1, 0), primary(100));
    assert_eq!(core.cluster.table().writer(), Writer::One(0));
    assert_eq!(core.eventual(&[], 0), (0, Reason::Fallback), "it is no replica");
}

/// Nodes 1 and 2 take writes on the newest timeline.
fn split_brain() -> Core {
    let mut core = Core::probing(2);
    core.tell(0, SECOND, (1, 1, 10), replica(100));
    core.tell(1, SECOND, (1, 2, 11), primary(100));
    core.tell(2, SECOND, (1, 2, 12), primary(100));
    assert_eq!(core.cluster.table().writer(), Writer::SplitBrain(1, 2));
    core
}

#[test]
fn a_split_brain_ends_when_one_of_the_two_is_stopped_and_is_back_with_it() {
    let mut core = split_brain();
    let split = Writer::SplitBrain(1, 2);
    for second in 2..30 {
        core.tell(1, SECOND * second, (1, 2, 11), primary(100));
        core.cluster.observe(2, Observation::ConnectFailed(ConnectFailure::NobodyListens), SECOND * second);
        assert_eq!(core.cluster.table().writer(), if second < 12 { split } else { Writer::One(1) }, "{second}");
    }
    // Now the other one is down: a stopped node does not become the primary because of that.
    for second in 30..60 {
        core.cluster.observe(1, Observation::ConnectFailed(ConnectFailure::NobodyListens), SECOND * second);
        core.cluster.observe(2, Observation::Role(Role::Primary), SECOND * second);
        assert_eq!(core.cluster.table().writer(), Writer::One(1));
    }
    core.tell(1, 60 * SECOND, (1, 2, 11), primary(100));
    core.tell(2, 60 * SECOND, (1, 2, 13), primary(100));
    assert_eq!(core.cluster.table().writer(), split);
    core.tell(2, 61 * SECOND, (1, 2, 13), replica(100));
    assert_eq!(core.cluster.table().writer(), Writer::One(1));
}

#[test]
fn a_split_brain_stays_while_both_answer_now_and_then_or_one_is_silent() {
    let mut core = split_brain();
    for second in 2..60 {
        core.tell(1, SECOND * second, (1, 2, 11), primary(100));
        core.cluster.observe(2, Observation::Silent { answers: 1 }, SECOND * second);
        assert_eq!(core.cluster.table().writer(), Writer::SplitBrain(1, 2));
    }
    for second in 60..120 {
        core.cluster.observe(1, Observation::ConnectFailed(ConnectFailure::NobodyListens), SECOND * second);
        if second % 9 == 0 {
            core.cluster.observe(1, Observation::Answered, SECOND * second);
        }
        assert_eq!(core.cluster.table().writer(), Writer::SplitBrain(1, 2));
    }
}

/// A full server, or one out of our reach, may still receive writes from others.
#[test]
fn a_split_brain_stays_while_one_of_the_two_lets_nobody_in_or_is_out_of_reach() {
    for failure in [ConnectFailure::Refused, ConnectFailure::NoAnswer] {
        let mut core = split_brain();
        for second in 2..60 {
            core.tell(1, SECOND * second, (1, 2, 11), primary(100));
            core.cluster.observe(2, Observation::ConnectFailed(failure), SECOND * second);
            assert_eq!(core.cluster.table().writer(), Writer::SplitBrain(1, 2), "{failure:?}");
        }
    }
}

#[test]
fn a_node_that_refuses_is_out_of_service_and_not_stopped() {
    let mut core = split_brain();
    for second in 2..30 {
        let failure = if second % 9 == 0 { ConnectFailure::Refused } else { ConnectFailure::NobodyListens };
        core.cluster.observe(2, Observation::ConnectFailed(failure), SECOND * second);
        assert_eq!(core.cluster.table().writer(), Writer::SplitBrain(1, 2));
    }
    let mut core = Core::probing(2);
    core.cluster.observe(1, Observation::ConnectFailed(ConnectFailure::Refused), SECOND);
    let state = core.cluster.status(&core.live, NodeSet::EMPTY, SECOND).nodes[1].condition.clone();
    assert_eq!(state, NodeCondition::Ejected { cause: EjectionCause::Refusing, elapsed: Duration::ZERO });
}

#[test]
fn a_replica_that_is_cut_from_its_primary_stays_on_its_timeline_until_it_restarts() {
    let mut core = Core::probing(2);
    core.tell(0, SECOND, (1, 1, 10), primary(100));
    core.tell(1, SECOND, (1, 2, 11), primary(100));
    core.tell(2, SECOND, (1, 2, 12), replica(100));
    let node = |core: &Core| {
        let node = core.cluster.status(&core.live, NodeSet::EMPTY, SECOND).nodes[2].clone();
        (node.timeline, node.generation)
    };
    let (_, generation) = node(&core);
    core.tell(2, 2 * SECOND, (1, 1, 12), replica(100));
    assert_eq!(node(&core), (Some(2), generation));
    core.tell(2, 3 * SECOND, (1, 1, 13), replica(100));
    assert_eq!(node(&core), (Some(1), generation + 1), "it was rewound");
}

#[test]
fn a_promotion_that_is_known_stops_writes_on_the_old_primary() {
    let mut core = Core::probing(2);
    core.tell(0, SECOND, (1, 1, 10), primary(100));
    core.tell(1, SECOND, (1, 1, 11), replica(100));
    core.cluster.observe(1, Observation::Role(Role::Primary), 2 * SECOND);
    assert_eq!(core.choose(Want::Strong, &[], 0), Decision::Refuse(Refusal::NoPrimary));
    core.tell(1, 3 * SECOND, (1, 2, 11), primary(100));
    assert_eq!(core.cluster.table().writer(), Writer::One(1));
}

#[test]
fn an_address_that_leads_from_a_replica_to_the_primary_stops_writes_only_until_it_has_told_so() {
    let mut core = Core::probing(2);
    core.tell(0, SECOND, (1, 1, 10), primary(100));
    core.tell(1, SECOND, (1, 1, 11), replica(100));
    core.cluster.observe(1, Observation::Role(Role::Primary), 2 * SECOND);
    core.tell(1, 3 * SECOND, (1, 1, 10), primary(100));
    assert_eq!(core.cluster.table().writer(), Writer::One(0));
    core.cluster.observe(1, Observation::Role(Role::Replica), 4 * SECOND);
    assert_eq!(core.cluster.table().writer(), Writer::One(0));
    core.tell(1, 4 * SECOND, (1, 1, 11), replica(100));
    core.cluster.observe(1, Observation::Role(Role::Primary), 5 * SECOND);
    core.cluster.observe(1, Observation::Role(Role::Replica), 6 * SECOND);
    assert_eq!(core.cluster.table().writer(), Writer::One(0));
}

#[test]
fn a_restart_under_one_of_two_addresses_is_no_split_brain_when_the_other_is_gone() {
    let mut core = Core::probing(1);
    core.tell(0, SECOND, (1, 1, 10), primary(100));
    core.tell(1, SECOND, (1, 1, 10), primary(100));
    assert_eq!(core.cluster.table().writer(), Writer::One(0));
    for second in 2..60 {
        core.cluster.observe(1, Observation::ConnectFailed(ConnectFailure::NobodyListens), SECOND * second);
        core.tell(0, SECOND * second, (1, 1, 10 + u64::from(second) / 20), primary(100));
        assert_eq!(core.cluster.table().writer(), Writer::One(0));
    }
}

#[test]
fn an_address_that_leads_to_another_server_now_hides_no_split_brain() {
    for other in [5, 50] {
        let mut core = Core::probing(1);
        core.tell(0, SECOND, (1, 1, 10), primary(100));
        core.tell(1, SECOND, (1, 1, 10), primary(100));
        core.tell(1, 2 * SECOND, (1, 1, other), primary(100));
        for second in 3..6 {
            core.tell(0, SECOND * second, (1, 1, 10), primary(100));
            assert_eq!(core.cluster.table().writer(), Writer::SplitBrain(0, 1), "{other}");
            core.tell(1, SECOND * second, (1, 1, other), primary(100));
            assert_eq!(core.cluster.table().writer(), Writer::SplitBrain(0, 1), "{other}");
        }
    }
}

#[test]
fn an_empty_server_in_place_of_a_replaced_primary_turns_nobody_foreign() {
    let mut core = Core::probing(2);
    core.tell(0, SECOND, (1, 1, 10), primary(100));
    core.tell(1, SECOND, (1, 1, 11), replica(100));
    core.tell(2, SECOND, (1, 1, 12), replica(100));
    core.cluster.observe(0, Observation::ConnectFailed(ConnectFailure::NobodyListens), 2 * SECOND);
    core.tell(1, 3 * SECOND, (1, 2, 11), primary(120));
    core.tell(2, 3 * SECOND, (1, 2, 12), replica(120));
    assert_eq!(core.cluster.table().writer(), Writer::One(1));
    core.tell(0, 4 * SECOND, (77, 1, 20), primary(5));
    assert_eq!(core.cluster.table().writer(), Writer::One(1));
    assert_eq!(core.cluster.status(&core.live, NodeSet::EMPTY, 4 * SECOND).nodes[0].condition, NodeCondition::Foreign);
}

#[test]
fn an_empty_server_in_place_of_the_primary_gets_no_write() {
    let mut core = Core::probing(2);
    core.tell(0, SECOND, (1, 1, 10), primary(100));
    core.tell(1, SECOND, (1, 1, 11), replica(100));
    core.tell(0, 4 * SECOND, (77, 1, 20), primary(5));
    assert_eq!(core.choose(Want::Strong, &[], 0), Decision::Refuse(Refusal::NoPrimary));
    core.tell(0, 5 * SECOND, (1, 1, 21), primary(100));
    assert_eq!(core.cluster.table().writer(), Writer::One(0));
}

#[test]
fn the_successor_of_an_unavailable_primary_identifies_the_cluster() {
    let mut core = Core::probing(2);
    core.cluster.observe(0, Observation::ConnectFailed(ConnectFailure::NobodyListens), SECOND);
    core.tell(1, SECOND, (1, 2, 11), primary(100));
    core.tell(2, SECOND, (77, 9, 12), primary(100));
    assert_eq!(core.cluster.table().writer(), Writer::One(1));
    core.tell(0, 2 * SECOND, (77, 1, 20), primary(5));
    assert_eq!(core.cluster.table().writer(), Writer::One(1));
}

#[test]
fn a_writable_stranger_takes_nothing_over_from_replicas_that_were_heard_first() {
    let mut core = Core::probing(2);
    core.cluster.observe(0, Observation::ConnectFailed(ConnectFailure::NobodyListens), SECOND);
    core.tell(1, SECOND, (1, 1, 11), replica(100));
    core.tell(2, SECOND, (77, 9, 12), primary(100));
    assert!(matches!(core.choose(Want::Strong, &[], 0), Decision::Route(Route { node: 0, .. })));
}

#[test]
fn a_writable_stranger_heard_first_gives_way_to_the_primary_of_the_settings() {
    let mut core = Core::probing(1);
    core.tell(1, SECOND, (77, 9, 11), primary(100));
    core.tell(0, SECOND, (1, 1, 10), primary(100));
    assert_eq!(core.cluster.table().writer(), Writer::One(0));
}

#[test]
fn the_timeline_of_a_stranger_heard_first_fences_nobody() {
    let mut core = Core::probing(2);
    core.tell(2, SECOND, (77, 50, 12), replica(100));
    core.tell(0, SECOND, (1, 1, 10), primary(100));
    core.tell(1, SECOND, (1, 1, 11), replica(100));
    assert_eq!(core.cluster.table().writer(), Writer::One(0));
    assert_eq!(core.cluster.status(&core.live, NodeSet::EMPTY, SECOND).timeline, Some(1));
}

/// Its connection was lost after it was asked, so its answer counts for nothing else.
#[test]
fn an_answer_that_was_overtaken_before_the_cluster_is_known_still_tells_of_its_timeline() {
    let mut core = Core::probing(2);
    for (node, system) in [(1, 1), (2, 77)] {
        core.cluster.observe(node, Observation::Role(Role::Primary), 2 * SECOND);
        core.tell(node, SECOND, (system, 5 + system as u32, 10), primary(100));
    }
    assert_eq!(core.cluster.status(&core.live, NodeSet::EMPTY, 2 * SECOND).timeline, None);
    core.tell(0, 3 * SECOND, (1, 4, 10), primary(100));
    // That of the other cluster is no affair of ours.
    assert_eq!(core.cluster.status(&core.live, NodeSet::EMPTY, 3 * SECOND).timeline, Some(6));
    assert_ne!(core.cluster.table().writer(), Writer::One(0));
}

/// A clone of the cluster was among the nodes, and was promoted.
#[test]
fn reports_of_a_forgotten_node_alone_no_longer_count() {
    let mut core = Core::probing(2);
    core.tell(0, SECOND, (1, 1, 10), primary(100));
    core.tell(1, SECOND, (1, 1, 11), replica(100));
    core.tell(2, SECOND, (1, 2, 12), primary(90));
    assert_eq!(core.cluster.table().writer(), Writer::One(2));
    core.cluster.observe(2, Observation::ConnectFailed(ConnectFailure::NobodyListens), 2 * SECOND);
    core.tell(0, 3 * SECOND, (1, 1, 10), primary(200));
    assert_eq!(core.cluster.table().writer(), Writer::One(2), "it may come back");
    core.wishes();
    core.cluster.observe(2, Observation::Forgotten, 4 * SECOND);
    assert_eq!(core.cluster.table().writer(), Writer::One(0));
    let drained = core.wishes().iter().any(|wish| matches!(wish, Wish::Drain { node: 2, .. }));
    assert!(drained, "nobody keeps a connection to it");
    // Answers to earlier queries are forgotten, too, and what it reports from now on is not.
    let early = Observation::Probed(told(3 * SECOND, (1, 2, 12), primary(90)));
    core.cluster.observe(2, early, 5 * SECOND);
    assert_eq!(core.cluster.table().writer(), Writer::One(0));
    core.tell(2, 6 * SECOND, (1, 2, 12), primary(90));
    assert_eq!(core.cluster.table().writer(), Writer::One(2));
}

#[test]
fn facts_also_reported_by_other_nodes_are_not_forgotten() {
    let mut core = Core::probing(2);
    core.tell(0, SECOND, (1, 1, 10), primary(100));
    core.tell(1, SECOND, (1, 2, 11), primary(100));
    core.tell(2, SECOND, (1, 2, 12), replica(100));
    core.cluster.observe(1, Observation::Forgotten, 2 * SECOND);
    assert_eq!(core.cluster.table().writer(), Writer::Fenced(0), "there is a replica of the newer one");
    core.cluster.observe(2, Observation::Forgotten, 2 * SECOND);
    assert_eq!(core.cluster.table().writer(), Writer::One(0));
}

/// All servers were created anew under the old addresses.
#[test]
fn which_cluster_it_is_can_be_forgotten_by_all_who_have_told_it() {
    let mut core = Core::probing(1);
    core.tell(0, SECOND, (1, 5, 10), primary(100));
    core.tell(1, SECOND, (1, 5, 11), replica(100));
    core.tell(0, 2 * SECOND, (77, 1, 20), primary(5));
    core.cluster.observe(0, Observation::Forgotten, 3 * SECOND);
    core.tell(0, 4 * SECOND, (77, 1, 20), primary(5));
    assert_eq!(
        core.choose(Want::Strong, &[], 0),
        Decision::Refuse(Refusal::NoPrimary),
        "the other one has told the old"
    );
    core.tell(1, 4 * SECOND, (77, 1, 21), replica(5));
    core.cluster.observe(0, Observation::Forgotten, 5 * SECOND);
    core.tell(0, 6 * SECOND, (77, 1, 20), primary(5));
    assert_eq!(core.cluster.table().writer(), Writer::One(0));
    assert_eq!(core.eventual(&[], 0), (1, Reason::Replica));
}

/// A role without pg_read_all_stats cannot see which timeline a replica receives, only one that it has reached.
#[test]
fn a_replica_that_does_not_tell_which_timeline_it_follows_is_not_taken_for_one_that_was_left_behind() {
    let mut core = Core::probing(2);
    core.tell(0, SECOND, (1, 1, 10), primary(100));
    let least = |at: Duration, timeline| Report { may_be_newer: true, ..told(at, (1, timeline, 12), replica(100)) };
    let state = |core: &Core| {
        let node = core.cluster.status(&core.live, NodeSet::EMPTY, NOW).nodes[2].clone();
        (node.timeline, node.condition, node.generation)
    };
    core.cluster.observe(2, Observation::Probed(least(SECOND, 1)), SECOND);
    assert_eq!(state(&core), (Some(1), NodeCondition::Serving, 0), "no timeline is newer");
    core.tell(1, 2 * SECOND, (1, 2, 11), primary(100));
    assert_eq!(state(&core), (Some(1), NodeCondition::OlderTimeline, 0), "until it is asked");
    core.cluster.observe(2, Observation::Probed(least(3 * SECOND, 1)), 3 * SECOND);
    assert_eq!(state(&core), (None, NodeCondition::Serving, 0));
    assert_eq!(
        core.cluster.table().exclusion(2, Want::Bounded(SECOND), NodeSet::EMPTY, NOW),
        Some(Exclusion::NotFresh)
    );
    // If it is promoted, no node takes writes until it has reported.
    core.cluster.observe(2, Observation::Role(Role::Primary), 4 * SECOND);
    assert_eq!(core.cluster.table().writer(), Writer::Nobody);
    core.tell(2, 5 * SECOND, (1, 3, 12), primary(100));
    assert_eq!(core.cluster.table().writer(), Writer::One(2));
    core.tell(2, 6 * SECOND, (1, 3, 13), replica(100));
    core.tell(1, 6 * SECOND, (1, 3, 11), primary(100));
    core.cluster.observe(2, Observation::Probed(Report { instance: Some(13), ..least(7 * SECOND, 2) }), 7 * SECOND);
    assert_eq!(state(&core).0, Some(3), "it runs, and never goes back");
}

#[test]
fn only_the_newest_timelines_are_kept_after_many_promotions() {
    let mut core = Core::replicas(2);
    core.report(0, NOW, 1, primary(100));
    core.report(2, NOW, 1000, replica(100));
    for timeline in 1..1000 {
        core.report(1, NOW + SECOND * (2 * timeline), timeline, replica(100));
        core.report(1, NOW + SECOND * (2 * timeline + 1), 1000, primary(110));
    }
    let held: Vec<u32> = core.cluster.table().held.iter().map(|(timeline, _)| *timeline).collect();
    assert_eq!(held, (1000 - u32::try_from(cluster::HELD).unwrap()..1000).collect::<Vec<_>>(), "the newest ones");
}
