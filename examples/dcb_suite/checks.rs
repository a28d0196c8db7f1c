//! The same checks as the suite's three scripts make, over HTTP.
//!
//! | script | writers | what must hold |
//! |---|---|---|
//! | `dcb-consistency.ts` | 20 | the last event that matched before an append is the one that its writer saw |
//! | `dcb-monotonic.ts` | 5, and a reader | no event appears between or before positions that were read |
//! | `dcb-parallel-writes.ts` | 20 | unrelated appends do not fail |
//!
//! Three differences, all stricter. Here the writers have ended before anything is verified. A reader whose positions go back has
//! found a fault, which the script only prints. The reader compares all positions; the script compares the last six, and where many
//! appends come between two reads, none of those six is among the next read's.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use super::{
    Result,
    client::{Appended, Client, Options, Sequenced},
    fixture::{Decision, Dice, Item, NewEvent, Query, Variety},
};

/// The suite's own size is 10 s and the first 1000 events.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) duration: Duration,
    pub(crate) verified: u64,
    pub(crate) seed: u64,
}

/// What a script observed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) appends: u64,
    /// How many of them were refused because their condition failed.
    pub(crate) refused: u64,
    pub(crate) checks: u64,
    pub(crate) broken: Vec<String>,
}

const WRITERS: u64 = 20;
const WRITERS_WHILE_READING: u64 = 5;
const VERIFIERS: u64 = 5;
/// How many of the last positions are reported.
const SHOWN: usize = 10;

const CONSISTENCY: Variety = Variety { types: 10, tags: 10, events_per_append: (1, 2) };
const MONOTONIC: Variety = Variety { types: 5, tags: 5, events_per_append: (2, 5) };

/// `dcb-consistency.ts`
pub(crate) async fn consistency(client: &Arc<Client>, size: Size) -> Result<Seen> {
    let mut seen = Writing::start(client, Writes::Decisions(CONSISTENCY), WRITERS, size).end().await?;
    let mut verifiers: JoinSet<Result<Seen>> = JoinSet::new();
    for verifier in 0..VERIFIERS {
        let client = Arc::clone(client);
        verifiers.spawn(async move {
            let mut found = Seen::default();
            for from in (0..size.verified).filter(|from| from % VERIFIERS == verifier) {
                verify(&client, from, &mut found).await?;
            }
            Ok(found)
        });
    }
    while let Some(found) = verifiers.join_next().await {
        let Seen { checks, broken, .. } = found??;
        seen.checks += checks;
        seen.broken.extend(broken);
    }
    Ok(seen)
}

/// Verifies the first event from there on, if it is the first of its append.
async fn verify(client: &Client, from: u64, found: &mut Seen) -> Result {
    let first = Options { from: Some(from), limit: Some(1), backwards: None };
    let Some(Sequenced { position, event }) = client.read(&Query::all(), Some(first)).await?.into_iter().next() else {
        return Ok(());
    };
    let Ok(Decision { batch_index: 0, query: Some(query), last_matching_event_position: told }) =
        serde_json::from_str(&event.data)
    else {
        return Ok(());
    };
    let matching = client.read(&query, None).await?;
    let last = matching.iter().rev().map(|event| event.position).find(|at| *at < position).unwrap_or(0);
    found.checks += 1;
    if last != told {
        found
            .broken
            .push(format!("event {position} was decided behind {told}, and behind {last} one matches: {query:?}"));
    }
    Ok(())
}

/// `dcb-monotonic.ts`
pub(crate) async fn monotonic(client: &Arc<Client>, size: Size) -> Result<Seen> {
    let writing = Writing::start(client, Writes::Decisions(MONOTONIC), WRITERS_WHILE_READING, size);
    let (end, mut last, mut found) = (Instant::now() + size.duration, Vec::new(), Seen::default());
    while Instant::now() < end {
        let positions = client.read(&Query::all(), None).await?.into_iter().map(|event| event.position);
        let positions: Vec<u64> = positions.collect();
        compare(&last, &positions, &mut found);
        last = positions;
    }
    let Seen { appends, refused, .. } = writing.end().await?;
    Ok(Seen { appends, refused, ..found })
}

/// Compares the positions of one read of everything with those of the next: new ones must come after the old ones.
fn compare(last: &[u64], new: &[u64], seen: &mut Seen) {
    if last.is_empty() {
        return;
    }
    seen.checks += 1;
    if !new.starts_with(last) || !new.is_sorted_by(|one, next| one < next) {
        let end = |positions: &[u64]| positions[positions.len().saturating_sub(SHOWN)..].to_vec();
        seen.broken.push(format!("the last positions were {:?}, and then {:?}", end(last), end(new)));
    }
}

/// `dcb-parallel-writes.ts`
pub(crate) async fn parallel_writes(client: &Arc<Client>, size: Size) -> Result<Seen> {
    let mut seen = Writing::start(client, Writes::Unrelated, WRITERS, size).end().await?;
    seen.checks = seen.appends;
    if seen.refused > 0 {
        seen.broken.push(format!("{} of {} appends that were unrelated failed", seen.refused, seen.appends));
    }
    Ok(seen)
}

/// What writers do repeatedly.
#[derive(Clone, Copy)]
enum Writes {
    /// Each writer reads, decides on the last event it found, and appends after it.
    Decisions(Variety),
    /// Each writer appends an event that is not there yet, with a condition on exactly that.
    Unrelated,
}

struct Writing(JoinSet<Result<Seen>>);

impl Writing {
    fn start(client: &Arc<Client>, writes: Writes, writers: u64, size: Size) -> Self {
        let (mut running, end) = (JoinSet::new(), Instant::now() + size.duration);
        for writer in 1..=writers {
            let (client, mut dice) = (Arc::clone(client), Dice::new(size.seed, writer));
            running.spawn(async move {
                let mut seen = Seen::default();
                while Instant::now() < end {
                    let appended = match writes {
                        Writes::Decisions(variety) => decide(&client, variety, &mut dice).await?,
                        // Without the seed, a second run on the same log would fail, as it does with the script.
                        Writes::Unrelated => {
                            unrelated(&client, format!("seed{}-vu{writer}-iter{}", size.seed, seen.appends)).await?
                        }
                    };
                    if appended.duration_in_microseconds < 0.0 {
                        return Err("an append has taken less than no time".into());
                    }
                    seen.appends += 1;
                    seen.refused += u64::from(appended.append_condition_failed);
                }
                Ok(seen)
            });
        }
        Self(running)
    }

    /// Waits for all of them, and returns what they observed.
    async fn end(mut self) -> Result<Seen> {
        let mut seen = Seen::default();
        while let Some(one) = self.0.join_next().await {
            let Seen { appends, refused, .. } = one??;
            seen.appends += appends;
            seen.refused += refused;
        }
        Ok(seen)
    }
}

async fn decide(client: &Client, variety: Variety, dice: &mut Dice) -> Result<Appended> {
    let query = variety.query(dice);
    let last = client.last_position(&query).await?;
    let events = variety.events(dice, &query, last);
    client.append(&events, &query, Some(last)).await
}

async fn unrelated(client: &Client, tag: String) -> Result<Appended> {
    let types = vec!["SomeEvent".to_owned()];
    let query = Query { items: vec![Item { types, tags: vec![tag.clone()] }] };
    let event = NewEvent { r#type: "SomeEvent".to_owned(), tags: vec![tag], data: "{}".to_owned() };
    client.append(&[event], &query, None).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_that_is_filled_later_and_a_step_back_are_found() {
        let of = |last: &[u64], new: &[u64]| {
            let mut seen = Seen::default();
            compare(last, new, &mut seen);
            (seen.checks, seen.broken.len())
        };
        assert_eq!(of(&[], &[1, 2]), (0, 0));
        for held in [&[1, 2][..], &[1, 2, 3], &[1, 2, 9, 10]] {
            assert_eq!(of(&[1, 2], held), (1, 0));
        }
        for broken in [&[1, 3, 4][..], &[2, 3], &[3, 4, 5], &[3, 4, 6, 5, 7], &[]] {
            assert_eq!(of(&[3, 4, 6], broken), (1, 1));
        }
    }
}
