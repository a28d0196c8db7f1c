//! The size of the next chunk of an import.

use std::time::Duration;

/// Chooses the number of events so that other appends wait for a chunk about as long as they may, judging by the chunk
/// before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    events: usize,
    most: usize,
    limit: Duration,
}

impl Pace {
    /// The first chunk has the largest size allowed: nothing is known about its time.
    pub(super) fn new(most: usize, limit: Duration) -> Self {
        Self { events: most, most, limit }
    }

    /// The events of the next chunk.
    pub(super) fn events(self) -> usize {
        self.events
    }

    /// This many events were already there, from an earlier attempt: its next chunk may have as many.
    pub(super) fn found(&mut self, events: usize) {
        self.events = events.clamp(1, self.most);
    }

    /// Records how long a chunk of this many events locked the log.
    ///
    /// A chunk that took far too long is not halved step by step, while others wait for each attempt. The size grows
    /// slowly, and not near the limit: a chunk that exceeds it costs others more than a small one costs the import.
    pub(super) fn took(&mut self, events: usize, locked: Duration) {
        if locked > self.limit {
            let fitting = events as u128 * self.limit.as_nanos() / locked.as_nanos();
            self.events = usize::try_from(fitting).unwrap_or(usize::MAX).min(events / 2).max(1);
        } else if locked <= self.limit / 2 {
            // A chunk that was smaller than allowed because of its bytes says nothing about larger ones.
            self.events = self.events.max(events.saturating_mul(2)).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    fn after(events: usize, locked_ms: u64) -> usize {
        let mut pace = Pace { events, ..Pace::new(1000, LIMIT) };
        pace.took(events, Duration::from_millis(locked_ms));
        pace.events()
    }

    #[test]
    fn a_chunk_that_took_too_long_makes_the_next_one_half_as_large_or_less() {
        assert_eq!((after(1000, 100), after(1000, 101), after(1000, 199)), (1000, 500, 500));
        assert_eq!((after(1000, 400), after(1000, 10_000)), (250, 10));
        assert_eq!((after(1000, 10_000_000), after(1, 101), after(3, 101)), (1, 1, 1));
    }

    #[test]
    fn it_grows_while_less_than_half_of_the_limit_is_taken() {
        assert_eq!((after(100, 0), after(100, 50), after(100, 51), after(100, 100)), (200, 200, 100, 100));
        assert_eq!((after(1, 50), after(600, 50), after(1000, 0)), (2, 1000, 1000));
    }

    #[test]
    fn a_chunk_that_its_bytes_kept_small_shows_nothing_of_large_ones() {
        let mut pace = Pace { events: 100, ..Pace::new(1000, LIMIT) };
        pace.took(10, Duration::ZERO);
        assert_eq!(pace.events(), 100);
        pace.took(60, Duration::ZERO);
        assert_eq!(pace.events(), 120);
        pace.took(4, Duration::from_millis(200));
        assert_eq!(pace.events(), 2);
    }

    #[test]
    fn what_is_there_is_asked_for_in_its_own_sizes_and_what_is_not_grows_from_there() {
        let mut pace = Pace::new(1000, LIMIT);
        pace.found(10);
        assert_eq!(pace.events(), 10);
        pace.took(10, Duration::ZERO);
        assert_eq!(pace.events(), 20);
        pace.found(5000);
        assert_eq!(pace.events(), 1000);
    }

    #[test]
    fn without_a_limit_it_stays_as_it_is_and_with_none_at_all_it_is_one() {
        for (limit, events) in [(Duration::MAX, 1000), (Duration::ZERO, 1)] {
            let mut pace = Pace::new(1000, limit);
            pace.took(1000, Duration::from_secs(1_000_000));
            assert_eq!(pace.events(), events, "{limit:?}");
        }
    }

    proptest! {
        /// Whatever an event takes, it finds the size within a few chunks, and none is larger than it may be.
        #[test]
        fn it_finds_what_takes_as_long_as_it_may(most in 1..100_000_usize, event_us in 0..10_000_000_u64) {
            let mut pace = Pace::new(most, LIMIT);
            let locked = |pace: Pace| Duration::from_micros(event_us) * u32::try_from(pace.events()).unwrap();
            for chunk in 0..20 {
                prop_assert!((1..=most).contains(&pace.events()));
                prop_assert!(chunk == 0 || locked(pace) <= LIMIT || pace.events() == 1);
                pace.took(pace.events(), locked(pace));
            }
            prop_assert!(pace.events() == most || pace.events() == 1 || locked(pace) > LIMIT / 4);
        }
    }
}
