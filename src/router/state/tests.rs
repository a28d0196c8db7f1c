use super::*;
use crate::{Lsn, Scope, current_consistency, router::core::Standing, with_eventual_consistency};

fn state() -> State {
    let node = |role| NodeConfig { name: "node".into(), role, weight: 1, is_near: true };
    let config = Config {
        nodes: [Role::Primary, Role::Replica, Role::Replica].map(node).into(),
        fallback: crate::Fallback::Protect,
        max_lag: Duration::from_secs(60),
        slow_start: Duration::from_secs(5),
        probe_interval: None,
        max_ejected_percent: 50,
    };
    State::new(config, vec![Some(10); 3], Budget::unlimited(), false)
}

fn is_decided(state: &State) -> bool {
    let want = crate::router::route::want(&current_consistency());
    matches!(std::hint::black_box(state.choose(want, NodeSet::EMPTY)), Decision::Route(_))
}

#[tokio::test]
async fn a_decision_allocates_nothing_and_waits_for_nobody_who_tells_news() {
    let state = state();
    let decide = async || {
        let (sender, decided) = std::sync::mpsc::channel();
        let news = state.lock();
        std::thread::scope(|threads| {
            // A thread allocates what it needs for its first decision once.
            let scope = Scope::current();
            let state = &state;
            threads.spawn(move || {
                scope.run_sync(|| {
                    let first = is_decided(state);
                    let mut all = first;
                    let counted = allocation_counter::measure(|| all &= (0..1000).all(|_| is_decided(state)));
                    let _ = sender.send((all, counted.count_total));
                });
            });
            let decided = decided.recv_timeout(Duration::from_secs(30));
            // The waiter continues, and the scope ends.
            drop(news);
            assert_eq!(decided, Ok((true, 0)));
        });
    };
    decide().await;
    with_eventual_consistency(decide()).await;
}

/// Each proof of each reader reports the node's place.
#[tokio::test]
async fn a_place_that_is_known_is_no_news() {
    let state = Arc::new(state());
    let handle = NodeHandle::new(Arc::clone(&state), 1);
    let place = |lsn: u64| crate::token::Place { timeline: 1, lsn: Lsn::new(lsn) };
    let report = |standing| crate::router::core::Report {
        sent_at: state.now(),
        system: Some(1),
        timeline: Some(1),
        may_be_newer: false,
        instance: None,
        standing,
    };
    let replay = Some(Lsn::new(10));
    handle.probed(report(Standing::Replica { replay, received: replay, is_receiving: Some(true) }));
    NodeHandle::new(Arc::clone(&state), 0).probed(report(Standing::Primary { flush: Some(Lsn::new(30)) }));
    let before = state.table.load_full();
    for known in [10, 9, 10] {
        handle.replayed(place(known), state.now());
        assert!(Arc::ptr_eq(&before, &state.table.load_full()), "{known}");
    }
    // Neither is a probe's result that waiters hear of.
    let waiting = Arc::clone(&state);
    let want = Want::AtLeast { timeline: 1, lsn: Lsn::new(11) };
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    let waiter = tokio::spawn(async move { waiting.until_fresh(NodeSet::one(1), want, until).await });
    tokio::task::yield_now().await;
    let replay = Some(Lsn::new(11));
    handle.probed(report(Standing::Replica { replay, received: replay, is_receiving: Some(true) }));
    handle.replayed(place(11), state.now());
    tokio::time::timeout(Duration::from_secs(10), waiter).await.expect("it was told").unwrap();
    handle.replayed(place(12), state.now());
    let after = state.table.load_full();
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(state.table.load().is_fresh(1, Want::AtLeast { timeline: 1, lsn: Lsn::new(12) }, state.now()));
}

/// It accepts logins, and answers nothing after them.
#[tokio::test]
async fn a_node_that_answers_nothing_after_login_is_ejected() {
    let state = Arc::new(state());
    let handle = NodeHandle::new(Arc::clone(&state), 1);
    let calls: Vec<_> = (0..3)
        .map(|_| {
            handle.logged_in();
            handle.answers()
        })
        .collect();
    calls.into_iter().for_each(|answers| handle.was_silent(answers));
    assert!(handle.is_ejected());
}

#[tokio::test]
async fn a_decision_with_clock_and_scope_takes_no_time() {
    let state = state();
    let rounds = if cfg!(debug_assertions) { 10_000 } else { 3_000_000 };
    let decide = async || {
        let started = Instant::now();
        for _ in 0..rounds {
            assert!(is_decided(&state));
        }
        started.elapsed().as_nanos() as f64 / f64::from(rounds)
    };
    println!("strong: decision_ns={:.1}", decide().await);
    println!("eventual: decision_ns={:.1}", with_eventual_consistency(decide()).await);
}
