//! Consistency tokens: what a later read has to contain.
//!
//! | file | what it holds |
//! |---|---|
//! | `text` | the compact form for headers, cookies and messages |
//! | `key` | the form that is signed |
//!
//! A token has a part for each cluster that it speaks of. The part has places in the write-ahead log, which the router
//! checks, and marks, which a layer above adds and checks: of those the router knows nothing but where in the log they
//! were written. It uses nothing of the crate but [`Lsn`] and [`Mark`], so scopes can carry it.

mod key;
#[cfg(test)]
mod tests;
mod text;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use uuid::Uuid;

pub use self::key::TokenKey;
use crate::{event::Mark, lsn::Lsn};

/// What a read has to contain: the writes that somebody made, and the states that they saw.
///
/// An append gives one ([`Appended::token`](crate::Appended::token)), a read gives one, and
/// [`Client::token`](crate::Client::token) and [`Transaction::commit_with_token`](crate::Transaction::commit_with_token) give
/// one for SQL of your own. With
/// [`Consistency::AtLeast`](crate::Consistency::AtLeast) a replica that has got so far serves the read; so a user
/// sees what he has just written, and the primary is left alone. Its text goes through headers, cookies and messages to
/// another process:
///
/// ```
/// use mainstem::{Consistency, Token, with_consistency};
///
/// # async fn run(from_the_request: &str) -> mainstem::Result<()> {
/// let token: Token = from_the_request.parse()?;
/// with_consistency(Consistency::AtLeast(token), async {
///     // … reads that contain what the token speaks of
/// })
/// .await;
/// # Ok(())
/// # }
/// ```
///
/// Tokens are data of the client who sends them: a forged one can make a read wait, go to the primary or fail, and never show
/// anything that the reader could not see anyway. Where even that is too much, a [`TokenKey`] signs them.
///
/// # After a failover
///
/// A place in the write-ahead log says nothing on another timeline. A token that an append or a read of an event store gave
/// also has a mark, the position and the id of an event, which is judged by looking: what it speaks of is there, or the
/// read fails with [`LogDiverged`](crate::ErrorKind::LogDiverged), since the failover has lost it. What has only places of an older
/// timeline fails with [`Unproven`](crate::ErrorKind::Unproven), unless the router has seen itself that the new primary had
/// got so far. It is never taken for fresh. The application drops such a token.
///
/// A crash can take commits away without a failover, where `synchronous_commit` is off, and a restore to a point in time can. A
/// mark tells that too; a place does not, once the log has been written as far again, and neither does a mark that a later one
/// of the same timeline has been merged over.
///
/// # Merging
///
/// [`merge`](Self::merge) makes one token of two: a read that contains both. It may speak of several logs and of several
/// clusters; each of them only judges what is said of itself.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Token {
    /// In the order of the systems, each once.
    parts: Arc<[Part]>,
}

/// Stands for the system identifier where there is no cluster: of a log in memory.
const LOCAL: u64 = u64::MAX;

/// No log is called so: it stands for something that was seen, nobody knows where.
const NOWHERE: u64 = 0;

/// What a token says of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Part {
    /// The system identifier, 0 where nobody knew it.
    system: u64,
    /// In the order of the timelines, each once.
    places: Vec<Place>,
    /// In the order of logs and timelines, each pair once.
    marks: Vec<LogMark>,
}

/// A place in the write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) timeline: u32,
    pub(crate) lsn: Lsn,
}

/// An event that was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LogMark {
    /// Which log: a number that its store makes of its name.
    pub(crate) log: u64,
    pub(crate) position: u64,
    pub(crate) id: Uuid,
    /// Who has replayed this place has the event, on this timeline.
    pub(crate) place: Option<Place>,
}

impl LogMark {
    pub(crate) fn mark(self) -> Mark {
        Mark::new(self.position, self.id.into())
    }

    /// Marks of one log on two timelines may be of two histories, so one does not stand for the other.
    fn key(&self) -> (u64, u32) {
        (self.log, self.place.map_or(0, |place| place.timeline))
    }
}

impl Token {
    /// A token that asks for nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For a read that contains everything up to a place in the write-ahead log.
    pub(crate) fn of_place(system: Option<u64>, place: Place) -> Self {
        Self::of(Part { system: system.unwrap_or(0), places: vec![place], marks: Vec::new() })
    }

    /// For a read that contains an event.
    pub(crate) fn of_mark(system: Option<u64>, mark: LogMark) -> Self {
        Self::of(Part { system: system.unwrap_or(0), places: Vec::new(), marks: vec![mark] })
    }

    fn of(part: Part) -> Self {
        Self { parts: Arc::new([part]) }
    }

    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// A token for reads that contain what either of them asks for.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        if self.is_empty() || self == other {
            return other.clone();
        }
        if other.is_empty() {
            return self.clone();
        }
        let mut parts = self.parts.to_vec();
        for part in other.parts.iter() {
            match parts.binary_search_by_key(&part.system, |part| part.system) {
                Ok(found) => parts[found].merge(part),
                Err(place) => parts.insert(place, part.clone()),
            }
        }
        Self { parts: parts.into() }
    }

    /// This token, in which what `proven` asks for stands no more where `now` speaks of the same: a read has contained it, and
    /// gave `now`. So what is lost or of an old timeline is asked for once, and not for ever.
    pub(crate) fn advance(&self, proven: &Self, now: &Self) -> Self {
        self.without_proven(proven, now).merge(now)
    }

    /// What of it has not been proven by a read that has contained `proven` and gave `now`.
    pub(crate) fn without_proven(&self, proven: &Self, now: &Self) -> Self {
        if self.is_empty() {
            return Self::new();
        }
        let mut parts = self.parts.to_vec();
        for part in &mut parts {
            // What nobody knew the cluster of, the one that has answered was held to.
            let speaks = |now: &&Part| now.system == part.system || part.system == 0 && now.system != LOCAL;
            let Some(now) = now.parts.iter().find(speaks) else { continue };
            let Some(proven) = proven.parts.iter().find(|proven| proven.system == part.system) else { continue };
            let place = now.places.last().copied().or_else(|| now.marks.iter().find_map(|mark| mark.place));
            part.places.retain(|asked| now.places.is_empty() || !proven.places.contains(asked));
            let speaks_of = |log: u64| now.marks.iter().any(|mark| mark.log == log);
            part.marks.retain(|mark| !(speaks_of(mark.log) && proven.marks.contains(mark)));
            // What is known to be nowhere in particular only the primary serves: so it is before the primary's place.
            let Some(place) = place else { continue };
            let (nowhere, known): (Vec<_>, Vec<_>) = std::mem::take(&mut part.marks)
                .into_iter()
                .partition(|mark| mark.place.is_none() && proven.marks.contains(mark));
            part.marks = known;
            for mark in nowhere.into_iter().filter(|mark| mark.log != NOWHERE) {
                part.merge(&Part { marks: vec![LogMark { place: Some(place), ..mark }], ..Part::empty(part.system) });
            }
        }
        parts.retain(|part| !part.places.is_empty() || !part.marks.is_empty());
        Self { parts: parts.into() }
    }

    /// For a read that contains something that was seen, nobody knows where: only the primary is sure to have it. Each one is another
    /// one, and the later one stands for both: a read that was asked for the first says nothing of what has come since.
    pub(crate) fn of_unknown_place(system: Option<u64>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        // By the clock, so that one of another process is not taken for a later one for long.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        LAST.fetch_max(now, Ordering::Relaxed);
        let position = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        Self::of_mark(system, LogMark { log: NOWHERE, position, id: Uuid::nil(), place: None })
    }

    /// For the makers of stores that are in no PostgreSQL: a token for reads that contain the event of this mark. `log` is a
    /// number of the log's own, which no other one has: of its name, for example, or by chance.
    #[must_use]
    pub fn of_log(log: u64, mark: Mark) -> Self {
        let (position, id) = (mark.position(), mark.id().into());
        Self::of_mark(Some(LOCAL), LogMark { log, position, id, place: None })
    }

    /// For the makers of such stores: the events that a read of this log has to contain.
    pub fn marks_of(&self, log: u64) -> impl Iterator<Item = Mark> {
        self.marks(Some(LOCAL), log).map(LogMark::mark)
    }

    /// The marks alone.
    pub(crate) fn without_places(&self) -> Self {
        let parts = self.parts.iter().filter(|part| !part.marks.is_empty());
        Self { parts: parts.map(|part| Part { places: Vec::new(), ..part.clone() }).collect() }
    }

    /// The same in fewer bytes: in the place of each mark that has one, the place up to which it has been written. It asks for as
    /// much, but nobody can tell any more whether that is there behind a failover.
    #[cfg(feature = "tower")]
    pub(crate) fn with_places_for_marks(&self) -> Self {
        let parts = self.parts.iter().map(|part| {
            let (nowhere, known): (Vec<_>, Vec<_>) = part.marks.iter().partition(|mark| mark.place.is_none());
            let mut short = Part { system: part.system, places: part.places.clone(), marks: nowhere };
            for place in known.into_iter().filter_map(|mark| mark.place) {
                short.merge(&Part { places: vec![place], ..Part::empty(part.system) });
            }
            short
        });
        Self { parts: parts.collect() }
    }

    /// The parts that this cluster has to judge: its own ones, and those that nobody can tell whose they are.
    fn parts_of(&self, system: Option<u64>) -> impl Iterator<Item = &Part> {
        self.parts
            .iter()
            .filter(move |part| part.system == 0 || system.map_or(part.system != LOCAL, |system| system == part.system))
    }

    /// Whether it speaks only of other clusters.
    pub(crate) fn is_foreign(&self, system: Option<u64>) -> bool {
        !self.is_empty() && self.parts_of(system).next().is_none()
    }

    /// The places that a read of this cluster has to contain; `None` for one that nobody knew. This log's marks are judged by
    /// looking, so they have no part in it.
    pub(crate) fn places(&self, system: Option<u64>, but_log: Option<u64>) -> impl Iterator<Item = Option<Place>> {
        self.parts_of(system).flat_map(move |part| {
            let others = part.marks.iter().filter(move |mark| Some(mark.log) != but_log);
            part.places.iter().copied().map(Some).chain(others.map(|mark| mark.place))
        })
    }

    /// The events of a log that a read of it has to contain.
    pub(crate) fn marks(&self, system: Option<u64>, log: u64) -> impl Iterator<Item = LogMark> {
        self.parts_of(system).flat_map(|part| &part.marks).copied().filter(move |mark| mark.log == log)
    }
}

impl Part {
    fn empty(system: u64) -> Self {
        Self { system, places: Vec::new(), marks: Vec::new() }
    }

    fn merge(&mut self, other: &Self) {
        for place in &other.places {
            match self.places.binary_search_by_key(&place.timeline, |place| place.timeline) {
                Ok(found) => self.places[found] = self.places[found].max(*place),
                Err(index) => self.places.insert(index, *place),
            }
        }
        for mark in &other.marks {
            match self.marks.binary_search_by_key(&mark.key(), LogMark::key) {
                // Of one history the later event stands for the earlier one.
                Ok(found) if (self.marks[found].position, self.marks[found].id) < (mark.position, mark.id) => {
                    self.marks[found] = *mark;
                }
                Ok(_) => {}
                Err(index) => self.marks.insert(index, *mark),
            }
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.parts).finish()
    }
}
