//! What the primary serves in place of replicas.

use super::*;

#[test]
fn without_replicas_in_the_settings_the_primary_needs_no_protection() {
    let core = Core::replicas(0);
    for _ in 0..9 {
        assert_eq!(core.eventual(&[], 3), (0, Reason::OnlyNode));
    }
}

#[test]
fn a_primary_whose_replicas_are_still_to_come_from_a_name_is_not_alone() {
    let never = || Core::new(Config { fallback: Fallback::Never, ..config(0) });
    let readiness = |core: &Core| core.cluster.status(&core.live, NodeSet::EMPTY, NOW).readiness();
    let alone = never();
    assert_eq!(alone.eventual(&[], 3), (0, Reason::OnlyNode));
    assert!(readiness(&alone).eventual.is_available());

    let mut named = never();
    named.cluster = named.cluster.with_unlisted_replicas();
    assert_eq!(named.choose(Want::Eventual, &[], 3), Decision::Refuse(Refusal::NoReplica));
    assert!(!readiness(&named).eventual.is_available(), "{}", readiness(&named));
}

#[test]
fn the_fallback_is_what_the_settings_say() {
    let decisions = |fallback, budget| {
        let mut core = Core::new(Config { fallback, ..config(1) });
        core.live = Live::new([None, None], budget);
        core.fail(1);
        [(); 3].map(|()| core.choose(Want::Eventual, &[], 0))
    };
    let route = Decision::Route(Route { node: 0, reason: Reason::Fallback });
    let protect = decisions(Fallback::Protect, Budget::new(1, None));
    assert_eq!(protect, [route, Decision::WaitForBudget, Decision::WaitForBudget]);
    assert_eq!(decisions(Fallback::Unlimited, Budget::unlimited()), [route; 3]);
    assert_eq!(decisions(Fallback::Never, Budget::unlimited()), [Decision::Refuse(Refusal::NoReplica); 3]);
}
