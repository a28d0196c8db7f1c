//! Reading on from a place, piece by piece.

use serde_json::json;

use super::{
    fixture::{Store, append, event, expect, log, of_type, read, tagged, with_tags},
    shapes,
};
use crate::{After, Consistency, Event, EventStore, Filter, Piece, ReadBehindRequest};

/// All pieces from the beginning of the log to its end, each after the one before it.
async fn pieces(store: Store<'_>, filter: &Filter, limit: u64, limit_bytes: usize) -> Vec<Piece> {
    let (mut pieces, mut after) = (Vec::<Piece>::new(), After::Beginning);
    loop {
        let mut request = ReadBehindRequest::new(filter.clone(), after, limit, Consistency::Strong);
        request.limit_bytes = limit_bytes;
        let piece = expect(store.run_read_behind(request).await, "a piece should have been read");
        let Some(reached) = piece.reached else {
            assert!(piece.events.is_empty(), "events, and no place behind them");
            let end = piece.head.map_or(0, |head| head.position());
            assert_eq!(after.position(), end, "nothing more, and that is not the end of the log");
            return pieces;
        };
        assert!(reached.position() > after.position(), "the piece behind {after:?} is no step forward: {reached}");
        let up_to = |event: &Event| event.position() <= reached.position();
        assert!(piece.events.iter().all(up_to), "an event behind {reached}, which the piece has reached");
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
