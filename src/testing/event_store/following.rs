//! Reading on from a place, piece by piece.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{join_all, join3};
use serde_json::json;

use super::{
    concurrency::{RACERS, ROUNDS, elsewhere},
    fixture::{Store, append, append_one, event, expect, log, of_type, plain, positions, read, tagged, with_tags},
    shapes,
};
use crate::{
    AppendCondition, Consistency, ErrorKind, Event, EventId, EventStore, Filter, Mark, Result,
    backend::{After, Piece, ReadAfterRequest},
};

/// All pieces from the beginning of the log to its end, each after the one before it.
async fn pieces(store: Store<'_>, filter: &Filter, limit: u64, limit_bytes: usize) -> Vec<Piece> {
    let (mut pieces, mut after) = (Vec::<Piece>::new(), After::Beginning);
    loop {
        let mut request = ReadAfterRequest::new(filter.clone(), after, limit, Consistency::Strong);
        request.limit_bytes = limit_bytes;
        let piece = expect(store.run_read_after(request).await, "a piece should have been read");
        let Some(reached) = piece.reached else {
            assert!(piece.events.is_empty(), "events, and no place after them");
            let end = piece.head.map_or(0, |head| head.position());
            assert_eq!(after.position(), end, "nothing more, and that is not the end of the log");
            return pieces;
        };
        assert!(reached.position() > after.position(), "the piece after {after:?} is no step forward: {reached}");
        let up_to = |event: &Event| event.position() <= reached.position();
        assert!(piece.events.iter().all(up_to), "an event after {reached}, which the piece has reached");
        after = After::Mark(reached);
        pieces.push(piece);
    }
}

fn events(pieces: &[Piece]) -> Vec<Event> {
    pieces.iter().flat_map(|piece| &piece.events).cloned().collect()
}

pub(super) async fn pieces_of_the_log_are_the_whole(store: Store<'_>) {
    assert!(pieces(store, &Filter::any_event(), 3, usize::MAX).await.is_empty(), "pieces of an empty log");
    append(store, shapes::events()).await;
    append(store, [tagged("Other", ["t"])]).await;
    for (_, filter) in shapes::filters() {
        for limit in [1, 2, 5, 1_000] {
            let pieces = pieces(store, &filter, limit, usize::MAX).await;
            let longest = pieces.iter().map(|piece| piece.events.len() as u64).max();
            assert!(longest <= Some(limit), "{longest:?} events of at most {limit}");
            let whole = read(store, &filter).await;
            assert_eq!(events(&pieces), whole.events(), "{limit} at a time by {filter:?}");
        }
    }
}

pub(super) async fn a_piece_ends_at_its_bytes(store: Store<'_>) {
    const LIMIT: usize = 2_000;
    // Each of these alone is below, at or above the limit; together they fill it in every way.
    for length in [10, 1_900, 10, 10, 5_000, 5_000, 10, 700, 700, 700, 700, 1, 1_990, 1, 6_000, 10] {
        append(store, [event("A", json!("x".repeat(length))).with_tag("t"), tagged("B", ["u"])]).await;
    }
    let bytes = |piece: &Piece| piece.events.iter().map(Event::byte_len).sum::<usize>();
    for filter in [Filter::any_event(), of_type("A"), with_tags(["t"])] {
        for limit in [1, 2, 3, 1_000] {
            let pieces = pieces(store, &filter, limit, LIMIT).await;
            for piece in &pieces {
                let (amount, bytes) = (piece.events.len(), bytes(piece));
                assert!(bytes <= LIMIT || amount == 1, "{amount} events of {bytes} bytes, of at most {LIMIT}");
            }
            let whole = read(store, &filter).await;
            assert_eq!(events(&pieces), whole.events(), "{limit} at a time by {filter:?}");
        }
        // Zero is a valid limit, too: one event at a time.
        let one_by_one = pieces(store, &filter, 1_000, 0).await;
        assert!(one_by_one.iter().all(|piece| piece.events.len() <= 1), "more than an event where none has room");
        assert_eq!(events(&one_by_one), read(store, &filter).await.events(), "one by one by {filter:?}");
    }
    let all = log(store).await;
    let whole = pieces(store, &Filter::any_event(), 1_000, usize::MAX).await;
    assert_eq!(events(&whole), all.events(), "without a bound on bytes");
}

/// The next piece that looks at this many positions at most. Where they are a gap, which the log may have, it is more.
async fn piece_within(store: Store<'_>, filter: &Filter, after: After, limit: u64, window: u64) -> Option<Piece> {
    let mut window = window;
    loop {
        let mut request = ReadAfterRequest::new(filter.clone(), after, limit, Consistency::Strong);
        let until = after.position().saturating_add(window);
        request.until = Some(until);
        let piece = elsewhere(store.run_read_after(request)).await;
        let piece = expect(piece, "a piece up to a position should have been read");
        let end = piece.head.map_or(0, |head| head.position());
        if let Some(reached) = piece.reached {
            let within = after.position() + 1..=until;
            assert!(within.contains(&reached.position()), "a piece of {within:?} has reached {reached}");
            let is_within =
                |event: &Event| within.contains(&event.position()) && event.position() <= reached.position();
            assert!(piece.events.iter().all(is_within), "an event outside of {within:?}, or after {reached}");
            return Some(piece);
        }
        assert!(piece.events.is_empty(), "events, and no place after them");
        if until >= end {
            return None;
        }
        window *= 2;
    }
}

pub(super) async fn a_piece_up_to_a_position_looks_no_further(store: Store<'_>) {
    assert!(piece_within(store, &Filter::any_event(), After::Beginning, 5, 3).await.is_none(), "an empty log");
    append(store, shapes::events()).await;
    append(store, [tagged("Other", ["t"])]).await;
    for (_, filter) in shapes::filters() {
        for (window, limit) in [(1, 5), (3, 1), (3, 5), (7, 2), (1_000_000, 5), (u64::MAX, 1_000)] {
            let (mut found, mut after) = (Vec::new(), After::Beginning);
            while let Some(piece) = piece_within(store, &filter, after, limit, window).await {
                assert!(piece.events.len() as u64 <= limit, "{} events of at most {limit}", piece.events.len());
                after = piece.reached.map_or(after, After::Mark);
                found.extend(piece.events);
            }
            let whole = read(store, &filter).await;
            assert_eq!(found, whole.events(), "{limit} at a time of {window} positions by {filter:?}");
        }
    }
}

pub(super) async fn reading_on_from_what_the_log_does_not_hold_has_diverged(store: Store<'_>) {
    let ask = async |mark: Mark, limit: u64| -> Result<Piece> {
        let request = ReadAfterRequest::new(of_type("B"), After::Mark(mark), limit, Consistency::Strong);
        store.run_read_after(request).await
    };
    let diverges = async |marks: &[Mark]| {
        for (mark, limit) in marks.iter().flat_map(|mark| [(*mark, 0), (*mark, 5)]) {
            let error = match ask(mark, limit).await {
                Ok(piece) => panic!("read on from {mark}, which the log does not hold: {piece:?}"),
                Err(error) => error,
            };
            assert_eq!(error.kind(), ErrorKind::LogDiverged, "refused for another reason, {error}");
        }
    };
    diverges(&[Mark::new(1, EventId::new())]).await;
    let first = append_one(store, "A").await.last();
    let second = append_one(store, "B").await.last();
    let beyond = second.position() + 1;
    diverges(&[
        Mark::new(first.position(), EventId::new()),
        Mark::new(second.position(), EventId::new()),
        // Events of this log, each at the other's place.
        Mark::new(first.position(), second.id()),
        Mark::new(second.position(), first.id()),
        Mark::new(beyond, second.id()),
        Mark::new(beyond, EventId::new()),
    ])
    .await;
    let piece = expect(ask(first, 5).await, "the log holds the first event");
    assert_eq!((positions(&piece.events), piece.reached), (vec![second.position()], Some(second)));
}

pub(super) async fn a_piece_of_no_events_only_asks_for_its_place(store: Store<'_>) {
    let first = append_one(store, "A").await.last();
    append(store, [tagged("A", ["t"]), plain("B")]).await;
    for filter in [Filter::any_event(), of_type("A"), of_type("Z")] {
        for after in [After::Beginning, After::Mark(first)] {
            let request = ReadAfterRequest::new(filter.clone(), after, 0, Consistency::Strong);
            let piece = expect(store.run_read_after(request).await, "a piece of no events");
            assert!(piece.events.is_empty(), "{} events after {after:?}, of at most none", piece.events.len());
            // Where it has looked all the same, there must be none.
            let reached = piece.reached.map_or(0, |reached| reached.position());
            let passed = |event: &&Event| event.position() > after.position() && event.position() <= reached;
            let whole = read(store, &filter).await;
            assert_eq!(whole.events().iter().find(passed), None, "passed over, from {after:?} to {reached}");
        }
    }
}

pub(super) async fn pieces_among_appends_are_the_log(store: Store<'_>) {
    let done = AtomicBool::new(false);
    let writing = async {
        let writers = (0..RACERS).map(|writer| async move {
            for round in 0..ROUNDS {
                let tags = if (writer + round) % 2 == 0 { ["t"] } else { ["u"] };
                let events = (0..1 + (writer + round) % 3).map(|_| tagged("A", tags));
                expect(elsewhere(store.append(events, AppendCondition::none())).await, "a writer's append");
            }
        });
        join_all(writers).await;
        done.store(true, Ordering::SeqCst);
    };
    let follow = async |filter: Filter, window: Option<u64>| {
        let (mut seen, mut after) = (Vec::new(), After::Beginning);
        loop {
            // Checked before the read, so that there is a read after the last append.
            let is_last = done.load(Ordering::SeqCst);
            let piece = match window {
                Some(window) => piece_within(store, &filter, after, 7, window).await,
                None => {
                    let request = ReadAfterRequest::new(filter.clone(), after, 7, Consistency::Strong);
                    let piece = expect(elsewhere(store.run_read_after(request)).await, "a follower's piece");
                    Some(piece).filter(|piece| piece.reached.is_some())
                }
            };
            match piece {
                Some(piece) => {
                    seen.extend(positions(&piece.events));
                    after = piece.reached.map_or(after, After::Mark);
                }
                None if is_last => return seen,
                None => {}
            }
        }
    };
    let (all, tagged) = (follow(Filter::any_event(), None), follow(with_tags(["t"]), Some(20)));
    let ((), all, tagged) = join3(writing, all, tagged).await;
    assert_eq!(all, positions(&log(store).await), "who followed the log has not seen it");
    assert_eq!(
        tagged,
        positions(&read(store, &with_tags(["t"])).await),
        "who followed a part of the log has not seen it"
    );
}
