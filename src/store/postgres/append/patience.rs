//! Who goes in a batch with appends that have waited for the log's lock in vain.

use std::{collections::HashSet, sync::Arc};

use tokio::time::Instant;

use super::{drain::LOCK_SHARE, group::Waiting};

/// An append may share a batch with one that has already waited for the lock in vain only if it can wait this many times
/// longer than that one has.
const LONGER: u32 = 2;

/// A batch waits for the lock no longer than the one with the least time left can, and has lost its place in the line
/// then. Those who have waited in vain get no company that ends their next wait as early: otherwise newly arrived ones
/// with short limits could keep them from the lock until their own limits end. The second list may not go along.
pub(in crate::store::postgres) fn patient(candidates: Vec<Waiting>) -> (Vec<Waiting>, Vec<Waiting>) {
    let now = Instant::now();
    let have_waited = candidates.iter().filter(|one| !one.waited.is_zero());
    let Some(last) = have_waited.clone().map(|one| one.deadline.at()).max() else { return (candidates, Vec::new()) };
    let waited = have_waited.map(|one| one.waited).max().unwrap_or_default();
    // If none of them can wait that long any more, whoever has half as much time left as any of them goes along.
    let half = now + last.saturating_duration_since(now) / LONGER;
    let until = (now + (waited * LONGER).div_f64(LOCK_SHARE)).min(half).min(last);
    let mut is_patient: Vec<bool> = candidates.iter().map(|one| one.deadline.at() >= until).collect();
    // Appends to one stream stay in order: the later one may expect the version that the earlier one leaves.
    let mut streams = HashSet::new();
    for (one, is_patient) in candidates.iter().zip(&mut is_patient).rev() {
        if let Some(stream) = &one.append.stream {
            *is_patient |= streams.contains(&stream.id);
            if *is_patient {
                streams.insert(Arc::clone(&stream.id));
            }
        }
    }
    let mut goes = is_patient.into_iter();
    candidates.into_iter().partition(|_| goes.next().unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        AppendCondition, ExpectedVersion, NewEvent,
        router::Deadline,
        store::{AppendRequest, StreamAppend, postgres::append::prepared::Prepared},
    };

    /// An append with so many milliseconds left, and so many for which it has waited in vain.
    fn append(left: u64, waited: u64) -> Waiting {
        to_stream(left, waited, None)
    }

    fn to_stream(left: u64, waited: u64, stream: Option<&str>) -> Waiting {
        let events = vec![NewEvent::new("A", &()).expect("it is valid")];
        let stream = stream.map(|id| StreamAppend { id: id.into(), expected: ExpectedVersion::Any });
        let request = AppendRequest { events, condition: AppendCondition::none(), stream, timeout: None };
        let deadline = Deadline::after(Duration::from_millis(left));
        let mut waiting = Waiting::new(Arc::new(Prepared::new(request)), None, deadline).0;
        waiting.waited = Duration::from_millis(waited);
        waiting
    }

    /// The places of those who go.
    fn go(candidates: Vec<Waiting>) -> Vec<u64> {
        let numbered = candidates.into_iter().zip(0..).map(|(mut one, number)| {
            one.number = number;
            one
        });
        patient(numbered.collect()).0.iter().map(|one| one.number).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn appends_with_short_limits_stay_out_of_a_batch_that_may_wait_long() {
        assert_eq!(go(vec![append(100, 0), append(60_000, 0)]), [0, 1], "nobody has waited in vain");
        assert_eq!(go(vec![append(60_000, 1000), append(1000, 0), append(2000, 0), append(3000, 0)]), [0, 3]);
        assert_eq!(go(vec![append(60_000, 1000), append(1000, 1000)]), [0], "each wait is longer than the one before");
    }

    #[tokio::test(start_paused = true)]
    async fn appends_that_waited_in_vain_are_not_held_back_by_later_ones() {
        // All have the same limit, of which little is left to those who have waited.
        let candidates = (0..10).map(|n| append(200 + 10 * n, 800)).chain((0..10).map(|_| append(1000, 0)));
        assert_eq!(go(candidates.collect()), (0..20).collect::<Vec<_>>());
        assert_eq!(go(vec![append(0, 800), append(0, 800)]), [0, 1], "there is always somebody who goes");
        assert_eq!(go(vec![append(10, 800), append(100, 800)]), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn appends_to_a_stream_stay_in_order() {
        let streams = [(60_000, 1000, None), (10, 0, Some("a")), (10, 0, Some("b")), (60_000, 0, Some("a"))];
        let candidates = streams.map(|(left, waited, stream)| to_stream(left, waited, stream));
        assert_eq!(go(candidates.into()), [0, 1, 3]);
    }
}
