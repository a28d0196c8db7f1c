//! Appends in one batch: each is checked as if it were alone, and none of them harms another.

use std::{cell::Cell, future::IntoFuture};

use futures_util::future::join_all;
use mainstem::{AppendCondition, Error, ErrorKind, Event, EventStore, Filter, NewEvent, PostgresEventStore, Router};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::json;

use crate::support::{
    LogLock,
    boundary::{boundary, in_boundary, unless},
    event,
    random::{filter, new_event},
    store,
};

/// The results of appends that are made at the same time, in their order. The first goes alone, the others together.
async fn together(
    router: &Router,
    store: &PostgresEventStore,
    appends: Vec<(Vec<NewEvent>, AppendCondition)>,
) -> Vec<Result<(u64, bool), Error>> {
    let lock = LogLock::take(router).await;
    let first = tokio::spawn(store.append([event("First", json!({}))], AppendCondition::none()).into_future());
    LogLock::is_waited_for(router).await;
    let calls = appends.into_iter().map(|(events, condition)| {
        let store = store.clone();
        tokio::spawn(async move { store.append(events, condition).await })
    });
    let calls: Vec<_> = calls.collect();
    // They are in line as soon as they were polled once.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    lock.release().await;
    first.await.unwrap().unwrap();
    let results = join_all(calls).await.into_iter().map(Result::unwrap);
    results.map(|result| result.map(|appended| (appended.first_position(), appended.is_repeated()))).collect()
}

/// Counts the calls of the procedure.
async fn calls(router: &Router) -> i64 {
    let client = router.client().await.unwrap();
    client.query_one("SELECT count(DISTINCT xmin::text) FROM mainstem.events", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn appends_that_arrive_together_are_one_transaction() {
    let (_database, router, store) = store().await;
    let appends = (0..40).map(|n| (in_boundary(&n.to_string()), unless(&boundary(&n.to_string()))));
    let results = together(&router, &store, appends.collect()).await;
    let mut positions: Vec<u64> = results.into_iter().map(|result| result.unwrap().0).collect();
    positions.sort_unstable();
    assert_eq!(positions, (2..=41).collect::<Vec<_>>());
    // The first alone, and the rest.
    assert_eq!(calls(&router).await, 2);
}

#[tokio::test]
async fn concurrent_appends_to_one_boundary_have_one_winner() {
    let (_database, router, store) = store().await;
    let hot = boundary("hot");
    let appends = (0..30).map(|_| (in_boundary("hot"), unless(&hot)));
    let results = together(&router, &store, appends.collect()).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for error in lost.into_iter().filter_map(Result::err) {
        assert_eq!(error.conflict().map(|it| (it.position, &*it.event_type)), Some((2, "A")), "{}", error.report());
    }
    assert_eq!(store.query(&hot).await.unwrap().len(), 1);
}

/// Whoever is refused does not count: what stands behind it is judged as if it had not been there.
#[tokio::test]
async fn an_append_that_is_refused_stands_in_nobodys_way() {
    let (_database, router, store) = store().await;
    store.append(in_boundary("old"), AppendCondition::none()).await.unwrap();
    let both = Filter::union([boundary("old"), boundary("new")]).unwrap();
    let appends = vec![
        // Broken by the log.
        (in_boundary("new"), unless(&boundary("old"))),
        // Would be broken by the one before.
        (in_boundary("new"), unless(&boundary("new"))),
        // Is broken by the one before.
        (in_boundary("third"), unless(&boundary("new"))),
        (in_boundary("third"), AppendCondition::none()),
        (in_boundary("fourth"), unless(&both)),
    ];
    let results = together(&router, &store, appends).await;
    // Written, and broken by.
    let written: Vec<_> = results.iter().map(|result| result.as_ref().ok().map(|(position, _)| *position)).collect();
    assert!(matches!(written[..], [None, Some(_), None, Some(_), None]), "{results:?}");
    let told = |index: usize| results[index].as_ref().err().and_then(Error::conflict).map(|it| it.position);
    assert_eq!((told(0), told(2)), (Some(1), written[1]));
    assert!([Some(1), written[1]].contains(&told(4)), "{results:?}");
}

/// Most conditions on the whole log are about what is new; those that are not are judged by all that they say.
#[tokio::test]
async fn conditions_on_the_whole_log_are_judged_together() {
    let (_database, router, store) = store().await;
    let tagged = |tags: &[&str]| vec![event("T", json!({})).with_tags(tags.iter().copied())];
    let by = |tags: &[&str]| Filter::matching().all_tags_of(tags.iter().copied()).finish().unwrap();
    let whole = AppendCondition::fail_if_events_match;
    let known = tagged(&["known"]);
    store.append(tagged(&["taken"]), AppendCondition::none()).await.unwrap();
    store.append(known.clone(), AppendCondition::none()).await.unwrap();
    // Further back than what is judged under the lock.
    let old = (0..1200).map(|_| event("Old", json!({})));
    store.append(old.collect::<Vec<_>>(), AppendCondition::none()).await.unwrap();
    let of_other_type = Filter::matching().any_type_of(["U"]).and_all_tags_of(["taken"]).finish().unwrap();
    // Asked again, it is known that the tags are there.
    for round in 0..3 {
        let [one, two, three, same] = ["one", "two", "three", "same"].map(|name| format!("{name}:{round}"));
        let appends = vec![
            (tagged(&[&one]), whole(by(&[&one]))),
            (tagged(&[]), whole(by(&["taken"]))),
            (tagged(&[]), whole(of_other_type.clone())),
            (tagged(&[]), whole(Filter::union([by(&[&two]), by(&["taken"])]).unwrap())),
            (tagged(&[]), whole(by(&["taken", &three]))),
            (known.clone(), whole(by(&["known"]))),
            (tagged(&[&same]), whole(by(&[&same]))),
            (tagged(&[&same]), whole(by(&[&same]))),
        ];
        let results = together(&router, &store, appends).await;
        let written = |index: usize| matches!(results[index], Ok((_, false)));
        assert!(written(0) && written(2) && written(4), "round {round}: {results:?}");
        for index in [1, 3] {
            let conflict = results[index].as_ref().err().and_then(Error::conflict);
            assert_eq!(conflict.map(|it| (it.position, &*it.event_type)), Some((1, "T")), "round {round}: {results:?}");
        }
        assert!(matches!(results[5], Ok((2, true))), "round {round}: {results:?}");
        assert!(written(6) != written(7), "round {round}: {results:?}");
    }
}

/// Who is overtaken is not sent; but one that was written before has its result, and not a conflict.
#[tokio::test]
async fn a_repeat_that_is_overtaken_has_its_first_result() {
    let (_database, router, store) = store().await;
    let (hot, known) = (boundary("hot"), in_boundary("hot"));
    let written = store.append(known.clone(), unless(&hot)).await.unwrap();
    let head = AppendCondition::fail_if_events_match(hot.clone()).after(written.last());
    for guard in [head, unless(&boundary("else"))] {
        let appends = vec![
            // Both are overtaken by it, or broken by what this process knows.
            (in_boundary("hot"), AppendCondition::none()),
            (known.clone(), guard.clone()),
            (vec![known[0].clone(), event("B", json!({}))], guard.clone()),
            (in_boundary("hot"), AppendCondition::fail_if_events_match(hot.clone()).after(written.last())),
            (known.clone(), AppendCondition::fail_if_events_match(hot.clone()).after(written.last())),
        ];
        let results = together(&router, &store, appends).await;
        let [Ok((_, false)), Ok(first), Err(reused), Err(conflict), Ok(again)] = &results[..] else {
            panic!("{results:?}");
        };
        assert_eq!([first, again], [&(written.first_position(), true); 2]);
        assert_eq!(reused.kind(), ErrorKind::InvalidInput, "{}", reused.report());
        assert!(conflict.is_conflict(), "{}", conflict.report());
    }
}

/// An event of the same batch is none that has come behind what the log does not hold yet.
#[tokio::test]
async fn a_condition_from_beyond_the_head_is_no_conflict_with_the_batch() {
    let (_database, router, store) = store().await;
    let beyond = AppendCondition::fail_if_events_match(boundary("hot")).after_position(50);
    let appends = vec![(in_boundary("hot"), AppendCondition::none()), (in_boundary("hot"), beyond)];
    let results = together(&router, &store, appends).await;
    assert!(results[0].is_ok(), "{results:?}");
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::LogDiverged, "{results:?}");
}

/// Who is not sent is answered by who has the lock: nobody else would know whether an earlier try of it is under way.
#[tokio::test]
async fn without_anything_to_send_the_lock_is_waited_for_all_the_same() {
    let (_database, router, store) = store().await;
    // What this process has written counts in sessions that are older than that.
    drop(join_all((0..4).map(|_| router.client())).await);
    let read = store.append(in_boundary("hot"), AppendCondition::none()).await.unwrap().last();
    store.append(in_boundary("hot"), AppendCondition::none()).await.unwrap();
    let stale = || AppendCondition::fail_if_events_match(boundary("hot")).after(read);
    let lock = LogLock::take(&router).await;
    let refused = tokio::spawn(store.append(in_boundary("hot"), stale()).into_future());
    LogLock::is_waited_for(&router).await;
    lock.release().await;
    assert_eq!(refused.await.unwrap().unwrap_err().conflict().map(|it| it.position), Some(2));
    let lock = LogLock::take(&router).await;
    let late = store.append(in_boundary("hot"), stale()).timeout(std::time::Duration::from_millis(200)).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout, "and not longer than the call may take");
    lock.release().await;
}

/// An append is compared with a few of those before it. If none of these is written, nothing is known of the others.
#[tokio::test]
async fn behind_many_that_are_refused_an_append_is_judged_again() {
    let (_database, router, store) = store().await;
    store.append(in_boundary("old"), AppendCondition::none()).await.unwrap();
    let refused = || (in_boundary("hot"), unless(&boundary("old")));
    let last = || (in_boundary("last"), unless(&boundary("hot")));
    for (written, expected) in [(false, true), (true, false)] {
        let mut appends: Vec<_> = (0..20).map(|_| refused()).collect();
        if written {
            appends.push((in_boundary("hot"), AppendCondition::none()));
        }
        appends.push(last());
        let results = together(&router, &store, appends).await;
        assert!(results.iter().take(20).all(Result::is_err));
        assert_eq!(results.last().is_some_and(Result::is_ok), expected, "{:?}", results.last());
    }
}

#[tokio::test]
async fn appends_refused_only_by_the_server_harm_no_others_in_the_batch() {
    let (_database, router, store) = store().await;
    let client = router.client().await.unwrap();
    client
        .batch_execute(
            "ALTER TABLE mainstem.events ADD CHECK (payload -> 'bad' IS NULL); \
             CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF NEW.type = 'Raised' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER picky BEFORE INSERT ON mainstem.events FOR EACH ROW EXECUTE FUNCTION picky()",
        )
        .await
        .unwrap();
    drop(client);
    let append = |n: usize| match n % 5 {
        1 => vec![event("A", json!({"bad": n}))],
        3 => vec![event("Raised", json!({})), event("A", json!({}))],
        _ => vec![event("A", json!({"n": n})), event("B", json!({}))],
    };
    let results = together(&router, &store, (0..30).map(|n| (append(n), AppendCondition::none())).collect()).await;
    for (n, result) in results.iter().enumerate() {
        match (n % 5, result) {
            (1, Err(error)) => {
                assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::InvalidInput, Some("23514")), "{n}");
            }
            (3, Err(error)) => {
                assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Database, Some("P0001")), "{n}");
            }
            (0 | 2 | 4, Ok(_)) => {}
            (_, result) => panic!("{n}: {result:?}"),
        }
    }
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 1 + 18 * 2);
}

/// The same ids twice in one batch would be a unique violation for all.
#[tokio::test]
async fn an_append_that_is_made_twice_at_the_same_time_is_written_once() {
    let (_database, router, store) = store().await;
    let twice = vec![event("A", json!({})), event("B", json!({}))];
    let part = vec![twice[1].clone()];
    let mixed = vec![twice[1].clone(), event("C", json!({}))];
    let changed = twice.iter().map(|one| event("A", json!({"other": 1})).with_id(one.id())).collect();
    let other = in_boundary("other");
    let appends = vec![
        (twice.clone(), unless(&Filter::matching().any_type_of(["A", "B"]).finish().unwrap())),
        (twice.clone(), unless(&Filter::matching().any_type_of(["A", "B"]).finish().unwrap())),
        (part, AppendCondition::none()),
        (mixed, AppendCondition::none()),
        (changed, AppendCondition::none()),
        (other, AppendCondition::none()),
    ];
    let results = together(&router, &store, appends).await;
    let [Ok(first), Ok(second), refused @ .., Ok(_)] = &results[..] else { panic!("{results:?}") };
    assert_eq!((first.0, [first.1, second.1]), (second.0, [false, true]));
    assert_eq!(refused.len(), 3);
    for refused in refused {
        let error = refused.as_ref().expect_err("its ids are taken");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", error.report());
    }
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 4, "the first one, two, and the other");
}

/// The batch judges by a join of keys, a single append by looking at every event: here both are asked, in every shape.
#[test]
fn a_batch_judges_like_the_one_matching_function() {
    const FILTERS: usize = 60;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let events = prop::collection::vec(new_event(), 40).new_tree(&mut TestRunner::default()).unwrap().current();
    let (_database, router, store) = runtime.block_on(store());
    runtime.block_on(store.append(events, AppendCondition::none()).into_future()).unwrap();
    let guards = prop::collection::vec((filter(), new_event(), 0..45_u64), FILTERS);
    let config = Config { cases: 12, failure_persistence: None, ..Config::default() };
    let tally = [Cell::new(0), Cell::new(0)];
    let run = TestRunner::new(config).run(&guards, |guards| {
        let (log, results) = runtime.block_on(async {
            let head = store.query(&Filter::any_event()).await.unwrap().len() as u64;
            let condition = |filter: &Filter, back: u64| {
                AppendCondition::fail_if_events_match(filter.clone()).after_position(head.saturating_sub(back))
            };
            let appends = guards.iter().map(|(filter, event, back)| {
                // A new id for each: the generator's are used again when it looks for a smaller case.
                (vec![event.clone().with_id(mainstem::EventId::new())], condition(filter, *back))
            });
            let results = together(&router, &store, appends.collect()).await;
            (store.query(&Filter::any_event()).await.unwrap().into_events(), (head, results))
        });
        let (head, results) = results;
        for ((filter, _, back), result) in guards.iter().zip(results) {
            let counter = &tally[usize::from(result.is_ok())];
            counter.set(counter.get() + 1);
            let after = head.saturating_sub(*back);
            let breaks = |event: &&Event| event.position() > after && filter.matches(event);
            match result {
                Ok((position, _)) => {
                    let broken = log.iter().take_while(|event| event.position() < position).find(breaks);
                    prop_assert!(broken.is_none(), "written at {position}, behind {broken:?}: {filter:?}");
                }
                Err(error) => {
                    let found = error.conflict().map(|conflict| conflict.position);
                    let is_match = |event: &Event| Some(event.position()) == found && breaks(&event);
                    prop_assert!(log.iter().any(is_match), "{found:?}: {}", error.report());
                }
            }
        }
        Ok(())
    });
    run.unwrap();
    let [conflicts, written] = tally.map(Cell::into_inner);
    assert!(
        conflicts > FILTERS && written > FILTERS,
        "hardly anything was asked: {conflicts} conflicts, {written} written"
    );
}
