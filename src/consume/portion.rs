//! How much of the log to read at a time, judging by what was read before.

use crate::{Event, store::Piece};

/// The longest piece, in positions, for filters that match next to nothing.
const WIDEST: u64 = 1 << 40;

/// The assumed size of an event before one has been seen: large enough that the first piece is small, whatever it
/// contains, and small enough that the second one is full if events have the usual size.
const UNKNOWN: usize = 64 * 1024;

/// The factor by which the expected size of an event may fall at most: large events seldom come alone, and an
/// unexpected one is sent twice.
const FALL: usize = 16;

/// The size of the next piece.
///
/// It is a guess, not a bound: the store cuts off what exceeds a piece. The guess keeps the excess small, since all of
/// it is searched and sent in vain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion {
    batch_events: u64,
    batch_bytes: usize,
    /// The expected size of an event.
    event_bytes: usize,
    /// How many positions it may span, so that no search covers more than a few batches' worth.
    window: u64,
    /// No more events than this seem to arrive within the time limit.
    in_time: u64,
}

impl Portion {
    pub(super) fn new(batch_events: u64, batch_bytes: usize) -> Self {
        Self {
            batch_events,
            batch_bytes,
            event_bytes: UNKNOWN,
            window: batch_events.saturating_mul(2),
            in_time: batch_events,
        }
    }

    /// The maximum number of events.
    pub(super) fn events(&self) -> u64 {
        let fitting = self.batch_bytes / self.event_bytes.max(1);
        (fitting as u64).clamp(1, self.in_time)
    }

    /// The maximum number of positions.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Spans more positions: there was nothing in these.
    pub(super) fn widen(&mut self) {
        self.window = self.window.saturating_mul(2).min(WIDEST);
    }

    /// Halves the piece: this one did not arrive in time, and the same would not the next time either.
    pub(super) fn took_too_long(&mut self) {
        self.in_time = (self.events() / 2).max(1);
        self.window = (self.window / 2).max(1);
    }

    /// Learns from this piece, which spans this many positions.
    pub(super) fn saw(&mut self, piece: &Piece, span: u64) {
        let events = piece.events.len() as u64;
        // By an eighth: each time it is too much, a whole time limit passes.
        self.in_time = self.in_time.saturating_add(self.in_time.div_ceil(8)).min(self.batch_events);
        if events > 0 {
            let bytes: usize = piece.events.iter().map(Event::byte_len).sum();
            self.event_bytes = (bytes / piece.events.len()).max(self.event_bytes / FALL);
        }
        if piece.is_at_head() {
            return;
        }
        self.widen();
        if events > 0 && piece.events.last().map(Event::mark) == piece.reached {
            // It ended because it had enough events. Twice as many positions as the next ones are expected in should
            // contain them.
            let next = span.div_ceil(events).saturating_mul(self.events()).saturating_mul(2);
            self.window = next.max(self.batch_events).min(self.window);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{Mark, NewEvent, Payload};

    const MIB: usize = 1 << 20;

    /// A piece of this many events of this size, each `apart` positions after the one before it, in a log without an
    /// end.
    fn piece(events: u64, bytes: usize, apart: u64) -> Piece {
        let event = |n: u64| {
            let event = NewEvent::from_payload("A", Payload::bytes("b", vec![0; bytes]))
                .into_recorded(n * apart, SystemTime::now());
            assert_eq!(event.byte_len(), bytes + 4, "its type, its content type and {{}}");
            event
        };
        let events: Vec<Event> = (1..=events).map(event).collect();
        let reached = events.last().map(Event::mark);
        Piece::new(events, Some(Mark::new(u64::MAX, crate::EventId::new()))).reached(reached)
    }

    #[test]
    fn the_first_piece_is_small_and_the_second_whole_unless_events_are_large() {
        let mut portion = Portion::new(1000, 4 * MIB);
        assert_eq!(portion.events(), 64);
        portion.saw(&piece(64, 200, 1), 64);
        assert_eq!(portion.events(), 1000);
        // And it stays there.
        portion.saw(&piece(1000, 200, 1), 1000);
        assert_eq!(portion.events(), 1000);
        for (bytes, expected) in [(4 * MIB, 1), (MIB - 4, 4), (MIB - 3, 3), (64 * 1024 - 4, 64), (16 * MIB, 1)] {
            portion.saw(&piece(1, bytes, 1), 1);
            assert_eq!(portion.events(), expected, "after an event of {bytes} bytes");
        }
    }

    #[test]
    fn portions_grow_in_steps_after_large_events() {
        let mut portion = Portion::new(1000, 4 * MIB);
        portion.saw(&piece(1, 16 * MIB - 4, 1), 1);
        let mut amounts = vec![portion.events()];
        for _ in 0..3 {
            portion.saw(&piece(1, 0, 1), 1);
            amounts.push(portion.events());
        }
        assert_eq!(amounts, [1, 4, 64, 1000]);
    }

    #[test]
    fn a_step_without_events_tells_nothing_of_their_size() {
        let mut portion = Portion::new(1000, 4 * MIB);
        portion.saw(&piece(1, MIB - 4, 1), 1);
        let nothing = Piece { reached: Some(Mark::new(500, crate::EventId::new())), ..piece(0, 0, 1) };
        portion.saw(&nothing, 500);
        assert_eq!(portion.events(), 4);
    }

    #[test]
    fn a_portion_that_times_out_is_halved_and_grows_back_slowly() {
        let mut portion = Portion::new(1000, 4 * MIB);
        portion.saw(&piece(64, 200, 1), 64);
        let mut amounts = vec![(portion.events(), portion.window())];
        for _ in 0..3 {
            portion.took_too_long();
            amounts.push((portion.events(), portion.window()));
        }
        assert_eq!(amounts, [(1000, 2000), (500, 1000), (250, 500), (125, 250)]);
        portion.saw(&piece(125, 200, 1), 125);
        assert_eq!(portion.events(), 141);
        (0..30).for_each(|_| portion.saw(&piece(100, 200, 1), 100));
        assert_eq!(portion.events(), 1000);
        (0..100).for_each(|_| portion.took_too_long());
        assert_eq!((portion.events(), portion.window()), (1, 1));
        portion.saw(&piece(1, 200, 1), 1);
        assert_eq!(portion.events(), 2);
    }

    #[test]
    fn no_setting_is_so_small_that_nothing_is_read() {
        for (size, bytes) in [(1, 1), (1, usize::MAX), (u64::MAX, 1), (u64::MAX, usize::MAX)] {
            let mut portion = Portion::new(size, bytes);
            portion.saw(&piece(1, MIB, 1), 1);
            assert!((1..=size).contains(&portion.events()) && portion.window() >= 1, "{size} and {bytes}");
        }
    }

    #[test]
    fn positions_are_as_many_as_the_next_events_should_be_in_and_twice_that() {
        // The events of the first piece took 64 of 2000 positions, and a thousand take a thousand.
        let mut portion = Portion::new(1000, 4 * MIB);
        portion.saw(&piece(64, 200, 1), 64);
        assert_eq!(portion.window(), 2000);
        // Every third matches, and then every thousandth: never more than twice as many as before.
        portion.saw(&piece(1000, 200, 3), 3000);
        assert_eq!(portion.window(), 4000);
        portion.saw(&piece(1000, 200, 3), 3000);
        assert_eq!(portion.window(), 6000);
        portion.saw(&piece(1, 200, 1000), 1000);
        assert_eq!(portion.window(), 12_000);
        // Nothing at all.
        let nothing = Piece { reached: Some(Mark::new(6000, crate::EventId::new())), ..piece(0, 0, 1) };
        portion.saw(&nothing, 12_000);
        assert_eq!(portion.window(), 24_000);
        // Large events need fewer positions, but a batch of small ones may follow.
        portion.saw(&piece(4, MIB, 1), 4);
        assert_eq!(portion.window(), 1000);
        (0..100).for_each(|_| portion.widen());
        assert_eq!(portion.window(), WIDEST);
    }
}
