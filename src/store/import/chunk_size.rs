//! The size of the next chunk of an import.

use std::time::Duration;

/// Chooses the number of events so that other appends wait for a chunk about as long as they may, judging by the chunk
/// before.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkSize {
    events: usize,
    most: usize,
    limit: Duration,
}

impl ChunkSize {
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
        let mut size = ChunkSize { events, ..ChunkSize::new(1000, LIMIT) };
        size.took(events, Duration::from_millis(locked_ms));
        size.events()
    }

    #[test]
    fn a_chunk_that_took_too_long_makes_the_next_one_half_as_large_or_less() {
        assert_eq!((after(1000, 100), after(1000, 101), after(1000, 199)), (1000, 500, 500));
        assert_eq!((after(1000, 400), after(1000, 10_000)), (250, 10));
        assert_eq!((after(1000, 10_000_000), after(1, 101), after(3, 101)), (1, 1, 1));
    }

    #[test]
    fn the_chunk_size_grows_if_a_chunk_took_at_most_half_of_the_limit() {
        assert_eq!((after(100, 0), after(100, 50), after(100, 51), after(100, 100)), (200, 200, 100, 100));
        assert_eq!((after(1, 50), after(600, 50), after(1000, 0)), (2, 1000, 1000));
    }

    #[test]
    fn a_chunk_that_its_bytes_kept_small_shows_nothing_of_large_ones() {
        let mut size = ChunkSize { events: 100, ..ChunkSize::new(1000, LIMIT) };
        size.took(10, Duration::ZERO);
        assert_eq!(size.events(), 100);
        size.took(60, Duration::ZERO);
        assert_eq!(size.events(), 120);
        size.took(4, Duration::from_millis(200));
        assert_eq!(size.events(), 2);
    }

    #[test]
    fn a_chunk_found_in_the_log_sets_the_size_of_the_next_chunk() {
        let mut size = ChunkSize::new(1000, LIMIT);
        size.found(10);
        assert_eq!(size.events(), 10);
        size.took(10, Duration::ZERO);
        assert_eq!(size.events(), 20);
        size.found(5000);
        assert_eq!(size.events(), 1000);
    }

    #[test]
    fn without_a_limit_it_stays_as_it_is_and_with_none_at_all_it_is_one() {
        for (limit, events) in [(Duration::MAX, 1000), (Duration::ZERO, 1)] {
            let mut size = ChunkSize::new(1000, limit);
            size.took(1000, Duration::from_secs(1_000_000));
            assert_eq!(size.events(), events, "{limit:?}");
        }
    }

    proptest! {
        /// Whatever an event takes, it finds the size within a few chunks, and none is larger than it may be.
        #[test]
        fn the_chunk_size_approaches_the_limit_within_a_few_chunks(most in 1..100_000_usize, event_us in 0..10_000_000_u64) {
            let mut size = ChunkSize::new(most, LIMIT);
            let locked = |size: ChunkSize| Duration::from_micros(event_us) * u32::try_from(size.events()).unwrap();
            for chunk in 0..20 {
                prop_assert!((1..=most).contains(&size.events()));
                prop_assert!(chunk == 0 || locked(size) <= LIMIT || size.events() == 1);
                size.took(size.events(), locked(size));
            }
            prop_assert!(size.events() == most || size.events() == 1 || locked(size) > LIMIT / 4);
        }
    }
}
