//! The primary's past positions and their times, which turn a replica's place in the log into an age.
//!
//! A replica that has replayed what the primary had flushed at some moment contains every commit acknowledged before
//! it, so it is no older than that moment. This needs no heartbeat, and reads no clock but ours: a primary that writes
//! nothing flushes nothing new, so its replicas stay fresh; a replica that is cut off stays where it is, and the
//! primary leaves it behind. (The age of the last replayed transaction says the opposite in both cases.)
//!
//! A commit under `synchronous_commit = off` is acknowledged before it is flushed: such a commit may be missing
//! although it is older, by three times `wal_writer_delay` at most.

use std::{collections::VecDeque, time::Duration};

use crate::lsn::Lsn;

/// The most moments that are kept. At two probes per second they would cover four minutes, but longer lags have to be
/// known too: so the older they are, the further apart.
const MOST: usize = 512;

/// Flush positions of one primary on one timeline, each with the moment before which it was reached.
#[derive(Debug, Default)]
pub(super) struct History {
    moments: VecDeque<(Duration, Lsn)>,
}

impl History {
    /// Records that the primary, when it was asked at `sent_at`, had flushed its log up to `flush`.
    ///
    /// `sent_at` and not the time of the answer: a commit that was acknowledged in between may be missing in it.
    pub(super) fn add(&mut self, sent_at: Duration, flush: Lsn) {
        if let Some((last_at, last)) = self.moments.back_mut() {
            // An answer overtaken by a later one contains nothing new.
            if sent_at < *last_at || flush < *last {
                return;
            }
            // Of the moments at one position only the latest counts: an idle primary must not look like a lagging
            // replica.
            if flush == *last {
                *last_at = sent_at;
                return;
            }
        }
        if self.moments.len() == MOST {
            self.thin();
        }
        self.moments.push_back((sent_at, flush));
    }

    /// Drops the moment that is least needed: without it a replica's age may seem greater by the distance between its
    /// neighbours, never less, and that is little compared with the age itself. Dropping every second one of the older
    /// half, repeatedly, would make gaps that grow faster than the age, and count replicas as late that are not.
    fn thin(&mut self) {
        let Some((last, _)) = self.last() else { return };
        let missed = |&index: &usize| {
            let at = |index: usize| self.moments.get(index).map_or(last, |(at, _)| *at);
            let gap = at(index + 1).saturating_sub(at(index - 1));
            gap.as_secs_f64() / last.saturating_sub(at(index)).as_secs_f64().max(1e-9)
        };
        // The first one stays, so that the span grows, and the last one is the present.
        let least =
            (1..self.moments.len().saturating_sub(1)).min_by(|one, other| missed(one).total_cmp(&missed(other)));
        self.moments.remove(least.unwrap_or(0));
    }

    pub(super) fn clear(&mut self) {
        self.moments.clear();
    }

    /// The latest moment before which everything acknowledged is before `replay`.
    pub(super) fn as_of(&self, replay: Lsn) -> Option<Duration> {
        let passed = self.moments.partition_point(|(_, flush)| *flush <= replay);
        self.moments.get(passed.checked_sub(1)?).map(|(at, _)| *at)
    }

    /// When the primary was last asked, and its position then.
    pub(super) fn last(&self) -> Option<(Duration, Lsn)> {
        self.moments.back().copied()
    }

    /// The time from the first moment to the last.
    pub(super) fn span(&self) -> Duration {
        match (self.moments.front(), self.moments.back()) {
            (Some((first, _)), Some((last, _))) => last.saturating_sub(*first),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_idle_primary_leaves_nobody_behind_and_a_busy_one_who_stands_still() {
        let mut history = History::default();
        assert_eq!(history.as_of(Lsn::new(5)), None);
        for second in 0..100 {
            history.add(secs(second), Lsn::new(7));
        }
        assert_eq!(history.as_of(Lsn::new(7)), Some(secs(99)));
        assert_eq!(history.as_of(Lsn::new(6)), None, "nobody knows how old that is");
        for second in 100..200 {
            history.add(secs(second), Lsn::new(second));
        }
        assert_eq!(history.as_of(Lsn::new(7)), Some(secs(99)));
        assert_eq!(history.as_of(Lsn::new(150)), Some(secs(150)));
        assert_eq!(history.as_of(Lsn::new(9999)), Some(secs(199)), "no later than it was asked");
    }

    #[test]
    fn a_long_history_is_never_younger_than_the_truth_and_little_older() {
        let mut history = History::default();
        let at = |tick: u64| Duration::from_millis(100 * tick);
        let ticks = 36_000;
        for tick in 0..ticks {
            history.add(at(tick), Lsn::new(tick));
        }
        assert_eq!((history.moments.len(), history.span()), (MOST, at(ticks - 1)));
        for tick in 0..ticks {
            let (age, truth) = (at(ticks - 1) - history.as_of(Lsn::new(tick)).unwrap(), at(ticks - 1 - tick));
            assert!(age >= truth && age <= truth + truth / 20 + at(1), "{age:?} instead of {truth:?}");
        }
    }

    #[test]
    fn an_answer_that_was_overtaken_changes_nothing() {
        let mut history = History::default();
        history.add(secs(5), Lsn::new(50));
        history.add(secs(4), Lsn::new(60));
        history.add(secs(6), Lsn::new(40));
        assert_eq!((history.last(), history.as_of(Lsn::new(60))), (Some((secs(5), Lsn::new(50))), Some(secs(5))));
    }
}
