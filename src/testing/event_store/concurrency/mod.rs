//! What must hold with many concurrent appends and reads.

mod oracle;
pub(super) mod race;

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{join_all, join3};
use serde_json::json;

pub(super) use self::race::elsewhere;
use self::race::{Move, Start};
use super::fixture::{
    Store, append_if, append_one, event, expect, log, none_of, of_type, of_types, plain, positions, tagged,
    with_predicate, with_tags,
};
use crate::{AppendCondition, Error, EventStore, Filter, NewEvent, Predicate};

pub(super) const RACERS: usize = 16;
pub(super) const ROUNDS: usize = 8;

/// A race in which all appends have conditions and some must lose.
async fn contended(store: Store<'_>, plan: impl Fn(usize, usize) -> Move) {
    let score = race::run(store, RACERS, ROUNDS, plan).await;
    assert_eq!(score.won + score.lost, RACERS * ROUNDS);
    assert!(score.won >= ROUNDS / 2, "somebody wins when all have read the same: {score:?}");
    assert!(score.lost > 0, "nobody lost, though all have read the same: {score:?}");
}

fn guarded(filter: Filter, events: Vec<NewEvent>) -> Move {
    Move { filter, events, guarded: true }
}

pub(super) async fn each_version_of_a_boundary_has_one_winner(store: Store<'_>) {
    contended(store, |racer, round| {
        let boundary = format!("b{}", (racer + round) % 2);
        let filter = expect(
            Filter::matching()
                .any_type_of(["Raced"])
                .and_any_predicate_of([Predicate::payload("boundary", &boundary)])
                .finish(),
            "a filter",
        );
        guarded(filter, vec![event("Raced", json!({"boundary": boundary, "racer": racer}))])
    })
    .await;
}

pub(super) async fn a_narrow_and_a_wide_set_of_types_see_each_other(store: Store<'_>) {
    contended(store, |racer, round| {
        let filter = if racer % 2 == 0 { of_type("A") } else { of_types(["A", "B"]) };
        let written = if (racer / 2 + round) % 2 == 0 { "A" } else { "B" };
        guarded(filter, vec![plain(written)])
    })
    .await;
}

pub(super) async fn conditions_by_type_and_by_tag_see_each_other(store: Store<'_>) {
    contended(store, |racer, round| {
        let filter = if racer % 2 == 0 { of_type("A") } else { with_tags(["t"]) };
        let written = match (racer / 2 + round) % 3 {
            0 => plain("A"),
            1 => tagged("B", ["t"]),
            _ => tagged("A", ["t", "u"]),
        };
        guarded(filter, vec![written])
    })
    .await;
}

pub(super) async fn conditions_see_appends_that_have_none(store: Store<'_>) {
    let score = race::run(store, RACERS, ROUNDS, |racer, _| Move {
        filter: with_tags(["t"]),
        events: vec![tagged("A", ["t"])],
        guarded: racer % 4 != 0,
    });
    let score = score.await;
    assert!(score.won >= RACERS / 4 * ROUNDS, "an append without a condition was refused: {score:?}");
    assert!(score.lost > 0, "nobody lost: {score:?}");
}

pub(super) async fn conditions_of_several_items_are_judged_as_one(store: Store<'_>) {
    contended(store, |racer, round| {
        // Most conditions differ, and yet have an item in common.
        let course = format!("course:{}", racer % 2);
        let student = format!("student:{}", (racer / 2 + round) % 4);
        let filter = expect(
            Filter::matching()
                .any_type_of(["Subscribed"])
                .and_all_tags_of([&*course])
                .or_matching()
                .any_type_of(["Subscribed"])
                .and_all_tags_of([&*student])
                .finish(),
            "a filter",
        );
        guarded(filter, vec![tagged("Subscribed", [&course, &student])])
    })
    .await;
}

pub(super) async fn conditions_of_every_shape_see_each_other(store: Store<'_>) {
    contended(store, |racer, round| {
        let filter = match racer % 5 {
            0 => Filter::any_event(),
            1 => of_type("A"),
            2 => with_tags(["t"]),
            3 => with_predicate(Predicate::payload("key", 1)),
            _ => expect(Filter::union([of_type("B"), with_predicate(Predicate::metadata("m", 1))]), "a filter"),
        };
        let event_type = if round % 2 == 0 { "A" } else { "B" };
        let written = event(event_type, json!({"key": racer % 2})).with_tag("t");
        let written = expect(written.with_metadata(&json!({"m": racer % 3})), "metadata");
        guarded(filter, vec![written, plain("Filler")])
    })
    .await;
}

pub(super) async fn staggered_readers_miss_nothing_below_their_head(store: Store<'_>) {
    let score = race::run_from(store, Start::Staggered, RACERS, ROUNDS, |racer, round| {
        let course = format!("course:{}", (racer + round) % 2);
        guarded(with_tags([&course]), vec![tagged("A", [&course]), plain("Filler")])
    });
    let score = score.await;
    assert!(score.won >= ROUNDS && score.lost > 0, "racers who start one after the other still meet: {score:?}");
}

pub(super) async fn boundaries_without_common_events_never_conflict(store: Store<'_>) {
    let score = race::run(store, RACERS, ROUNDS, |racer, _| {
        let own = format!("own:{racer}");
        guarded(with_tags([&own]), vec![tagged("Same", [&own])])
    });
    let score = score.await;
    assert_eq!((score.won, score.lost), (RACERS * ROUNDS, 0), "each racer has a boundary of its own");
}

pub(super) async fn appends_of_several_events_are_never_mixed_or_seen_in_part(store: Store<'_>) {
    let score = race::run(store, RACERS, ROUNDS, |racer, round| Move {
        filter: with_tags(["batch"]),
        events: (0..2 + (racer + round) % 9).map(|_| tagged("A", ["batch"])).collect(),
        guarded: racer % 2 == 0,
    });
    assert!(score.await.won > 0);
}

pub(super) async fn no_event_appears_below_one_that_was_seen(store: Store<'_>) {
    let done = AtomicBool::new(false);
    let writing = async {
        let writers = (0..RACERS).map(|writer| async move {
            for round in 0..ROUNDS {
                let events: Vec<_> = (0..1 + (writer + round) % 3).map(|_| plain("A")).collect();
                expect(elsewhere(store.append(events, AppendCondition::none())).await, "a writer's append");
            }
        });
        join_all(writers).await;
        done.store(true, Ordering::SeqCst);
    };
    let reading = async {
        let (mut seen, mut last) = (Vec::new(), 0);
        loop {
            // Checked before the read, so that there is a read after the last append.
            let is_last = done.load(Ordering::SeqCst);
            let news = elsewhere(store.query(&Filter::any_event().after_position(last))).await;
            let news = expect(news, "a reader's query");
            seen.extend(positions(&news));
            assert!(news.head().is_some() || last == 0, "the log was there, and then it was empty");
            // Continue from the head, which may be after the last event that was asked for.
            last = news.head().map_or(0, |head| head.position());
            if is_last {
                return seen;
            }
        }
    };
    let ((), one, other) = join3(writing, reading, reading_again(store, &done)).await;
    let whole = positions(&log(store).await);
    assert_eq!(one, whole, "who read on from each head has not seen the log");
    assert_eq!(other, whole, "who read all again each time has not seen the log");
}

/// Reads the whole log repeatedly: each read must begin with the result of the one before.
async fn reading_again(store: Store<'_>, done: &AtomicBool) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        let is_last = done.load(Ordering::SeqCst);
        let now = positions(&expect(elsewhere(store.query(&Filter::any_event())).await, "a reader's query"));
        assert!(now.starts_with(&seen), "what was read before, {seen:?}, is not how the log begins: {now:?}");
        seen = now;
        if is_last {
            return seen;
        }
    }
}

pub(super) async fn one_append_made_many_times_at_once_is_written_once(store: Store<'_>) {
    for _ in 0..4 {
        let events = [tagged("A", ["t"]), plain("B")];
        let condition = AppendCondition::fail_if_events_match(with_tags(["u"]));
        let same = (0..RACERS).map(|_| elsewhere(store.append(events.clone(), condition.clone())));
        let appended: Vec<_> =
            join_all(same).await.into_iter().map(|outcome| expect(outcome, "one of many equal appends")).collect();
        let first_ones = appended.iter().filter(|appended| !appended.is_repeated()).count();
        assert_eq!(first_ones, 1, "of appends that are the same, one is the first");
        assert!(appended.iter().all(|it| it.positions() == appended[0].positions()), "{appended:?}");
    }
    assert_eq!(log(store).await.len(), 8);
}

pub(super) async fn a_name_is_taken_by_exactly_one(store: Store<'_>) {
    for round in 0..4 {
        let name = format!("name:{round}");
        let (free, taken) = (none_of(&with_tags([&name])), || tagged("Registered", [&name]));
        let all = (0..RACERS).map(|_| elsewhere(store.append([taken()], free.clone())));
        let outcomes = join_all(all).await;
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let lost = outcomes.iter().filter(|outcome| outcome.as_ref().is_err_and(Error::is_conflict)).count();
        assert_eq!((won, lost), (1, RACERS - 1), "{name} is taken once: {outcomes:?}");
    }
    assert_eq!(log(store).await.len(), 4);
}

pub(super) async fn nobody_wins_what_was_taken_before(store: Store<'_>) {
    append_if(store, [plain("Taken")], none_of(&of_type("Taken"))).await;
    let all = (0..RACERS).map(|_| elsewhere(store.append([plain("Taken")], none_of(&of_type("Taken")))));
    let outcomes = join_all(all).await;
    assert!(outcomes.iter().all(|it| it.as_ref().is_err_and(Error::is_conflict)), "{outcomes:?}");
    append_one(store, "Other").await;
    assert_eq!(log(store).await.len(), 2);
}
