//! Any history, and any conditions.

use proptest::{collection::vec, prelude::*};

use super::{Answer, Log};
use crate::{
    NewEvent,
    filter::{
        Subject,
        tests::model::{filters, new_events},
    },
    store::{condition::After, postgres::tail::LocalCheck},
};

proptest! {
    /// What the server is not asked to look at has no match, whoever writes, and in whatever order the answers arrive.
    #[test]
    fn nothing_that_is_passed_over_matches_and_what_is_called_broken_is(
        steps in vec((0..4_u8, vec(new_events(), 1..4)), 1..12),
        conditions in vec((filters(), any::<prop::sample::Index>()), 8),
    ) {
        let mut log = Log::new();
        let mut in_flight = Vec::new();
        for (how, events) in steps {
            match how {
                0 => log.others_write(events),
                1 => in_flight.push(log.commit(events)),
                2 => log.write(events),
                _ => in_flight.pop().into_iter().for_each(Answer::arrive),
            }
            for (filter, after) in &conditions {
                let after = after.index(log.events.len() + 1) as u64;
                let Some(mark) = (after > 0).then(|| log.mark(after)) else { continue };
                let (judged, predecessor) = log.judge_after_predecessor(log.session, filter, After::Mark(mark));
                let until = match judged {
                    LocalCheck::Unknown => continue,
                    LocalCheck::HeldUntil(until) => until,
                    LocalCheck::HeldAfterPredecessor(until) => {
                        let predecessor = predecessor.expect("a batch");
                        prop_assert_eq!(predecessor.head, until);
                        if log.remembered == Some((predecessor.call, until)) {
                            log.mark(until.position() + predecessor.events)
                        } else {
                            until
                        }
                    }
                    LocalCheck::Broken { position, .. } => {
                        let breaks = |event: &NewEvent| filter.matches_subject(&Subject::from(event));
                        let first = log.events.iter().skip(usize::try_from(after).unwrap()).position(breaks);
                        prop_assert_eq!(first.map(|first| after + first as u64 + 1), Some(position), "{:?}", filter);
                        continue;
                    }
                };
                prop_assert_eq!(until, log.mark(until.position()));
                for passed_over in &log.events[usize::try_from(after).unwrap()..usize::try_from(until.position()).unwrap()] {
                    prop_assert!(!filter.matches_subject(&Subject::from(passed_over)), "{:?} {:?}", filter, passed_over);
                }
            }
        }
    }
}
