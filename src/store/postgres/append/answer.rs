//! The answer of the append procedure. `migrations/V2__append.sql` says what it means.
//!
//! An outcome of NULL means that the append is written, so a malformed answer could look like a success. Therefore every
//! other column is checked against it, and if they disagree, the outcome of the batch is unknown.

use std::time::Duration;

use tokio_postgres::types::PgLsn;
use uuid::Uuid;

use super::prepared::Prepared;
use crate::{
    lsn::Lsn,
    store::postgres::{
        array::Array,
        wire::{self, Columns, Unreadable},
    },
};

/// The outcome of one append of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store::postgres) enum AppendOutcome {
    /// Written, from this position on; its last event has this version, if it went to a stream.
    Appended { position: u64, version: Option<u64> },
    /// It had been written before, there.
    Repeated { position: u64, version: Option<u64> },
    /// An event that the condition forbids has been appended.
    Conflict { position: u64, event_type: String },
    /// What the condition is based on does not exist; the log ends here.
    Diverged(u64),
    /// The condition looks too far back to be checked under the lock.
    Far,
    /// The stream has this version, not the expected one.
    Version(u64),
    /// The stream has the expected version, but another event has it.
    Replaced(u64),
    /// An id is taken, by the event at this position.
    Reused(u64),
}

/// The procedure's answer.
#[derive(Debug)]
pub(in crate::store::postgres) struct Answers {
    /// One for each append.
    pub(in crate::store::postgres) outcomes: Vec<AppendOutcome>,
    /// The looked-up ids that are in the log.
    pub(in crate::store::postgres) known: Vec<Uuid>,
    /// Everything that was written is before this place.
    pub(in crate::store::postgres) lsn: Lsn,
    /// How long the lock was held until the commit, if it was.
    pub(in crate::store::postgres) lock_time: Option<Duration>,
}

/// The properties of an append with which its answer must agree.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::postgres) struct Sent {
    pub(in crate::store::postgres) events: u64,
    pub(in crate::store::postgres) has_condition: bool,
    pub(in crate::store::postgres) goes_to_stream: bool,
}

impl Sent {
    pub(in crate::store::postgres) fn new(append: &Prepared) -> Self {
        let events = append.events.len() as u64;
        Self { events, has_condition: append.guard.is_some(), goes_to_stream: append.stream.is_some() }
    }
}

/// The row.
#[derive(Debug)]
pub(in crate::store::postgres) struct Answer {
    known: Option<Vec<Uuid>>,
    head: u64,
    /// One for each append; `None` if all are written.
    outcomes: Option<Vec<Outcome>>,
    /// The version of each append's last event, if any went to a stream.
    versions: Option<Vec<Option<i64>>>,
    /// Everything is before this place.
    lsn: Lsn,
    lock_time: Option<Duration>,
}

/// Its name, and the position and the type that come with it.
type Outcome = (Option<String>, Option<i64>, Option<String>);

impl Answer {
    pub(in crate::store::postgres) fn read(row: &impl Columns) -> Result<Self, Unreadable> {
        let outcomes: Option<Array<Option<String>>> = row.get(2)?;
        let positions: Option<Array<Option<i64>>> = row.get(3)?;
        let types: Option<Array<Option<String>>> = row.get(4)?;
        Ok(Self {
            known: row.get::<Option<Array<Uuid>>>(0)?.map(|known| known.0),
            head: wire::position(row.get(1)?)?,
            outcomes: match (outcomes, positions, types) {
                (None, None, None) => None,
                (Some(outcomes), Some(positions), Some(types))
                    if outcomes.0.len() == positions.0.len() && outcomes.0.len() == types.0.len() =>
                {
                    let rest = positions.0.into_iter().zip(types.0);
                    let outcome = |(outcome, (position, event_type))| (outcome, position, event_type);
                    Some(outcomes.0.into_iter().zip(rest).map(outcome).collect())
                }
                _ => return Err(Unreadable::Half("an outcome, its position or its type")),
            },
            versions: row.get::<Option<Array<Option<i64>>>>(5)?.map(|versions| versions.0),
            lsn: Lsn::new(row.get::<PgLsn>(6)?.into()),
            // Negative if the server's clock was set back meanwhile.
            lock_time: row.get::<Option<i64>>(7)?.map(|us| Duration::from_micros(us.try_into().unwrap_or(0))),
        })
    }

    /// One for each append, or `None` if this version does not know one of them, or one is impossible. `looks_up` is
    /// whether the call asked which ids exist.
    pub(in crate::store::postgres) fn read_for(self, sent: &[Sent], looks_up: bool) -> Option<Answers> {
        let words = self.outcomes.unwrap_or_else(|| vec![(None, None, None); sent.len()]);
        let versions = self.versions.unwrap_or_else(|| vec![None; sent.len()]);
        // With too many outcomes, nobody knows which append they belong to.
        if words.len() != sent.len() || versions.len() != sent.len() {
            return None;
        }
        let mut outcomes: Vec<AppendOutcome> = Vec::with_capacity(sent.len());
        let mut next = self.head.checked_add(1)?;
        for ((one, (word, position, event_type)), version) in sent.iter().zip(words).zip(versions) {
            let version = version.map(wire::position).transpose().ok()?;
            let Some(word) = word else {
                if position.is_some() || event_type.is_some() || !one.may_have(version) {
                    return None;
                }
                outcomes.push(AppendOutcome::Appended { position: next, version });
                next = next.checked_add(one.events)?;
                continue;
            };
            let position = wire::position(position?).ok()?;
            // Positions begin at 1.
            let of_event = (position > 0).then_some(position);
            outcomes.push(match (&*word, one.has_condition) {
                ("repeated", _) if one.may_have(version) => AppendOutcome::Repeated { position: of_event?, version },
                ("conflict", true) => AppendOutcome::Conflict { position: of_event?, event_type: event_type? },
                ("diverged", true) => AppendOutcome::Diverged(position),
                ("far", true) => AppendOutcome::Far,
                ("version", _) if one.goes_to_stream => AppendOutcome::Version(position),
                ("replaced", _) if one.goes_to_stream => AppendOutcome::Replaced(of_event?),
                ("reused", _) => AppendOutcome::Reused(of_event?),
                _ => return None,
            });
        }
        // The last position is one that the log can hold.
        i64::try_from(next - 1).ok()?;
        let known = if looks_up { self.known? } else { Vec::new() };
        Some(Answers { outcomes, known, lsn: self.lsn, lock_time: self.lock_time })
    }
}

impl Sent {
    /// Whether its last event can have this version.
    fn may_have(&self, version: Option<u64>) -> bool {
        match version {
            None => !self.goes_to_stream,
            Some(last) => self.goes_to_stream && last >= self.events,
        }
    }
}
