//! Consistency tokens: what a later read has to contain.
//!
//! | file | what it holds |
//! |---|---|
//! | `text` | the compact form for headers, cookies and messages |
//! | `key` | the signed form |
//!
//! A token has one part for each cluster that it covers. The part has places in the write-ahead log, which the router
//! checks, and marks, which a layer above adds and checks. Of a mark, the router knows only where in the log it was
//! written. This module uses nothing of the crate but [`Lsn`] and [`Mark`], so scopes can carry a token.

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

/// What a read must contain: the writes that a client made, and the states that it saw.
///
/// An append returns one ([`Appended::token`](crate::Appended::token)), and so does a read. For your own SQL,
/// [`Client::token`](crate::Client::token) and
/// [`Transaction::commit_with_token`](crate::Transaction::commit_with_token) return one. With
/// [`Consistency::AtLeast`](crate::Consistency::AtLeast), a replica that has replayed that far serves the read: users
/// see what they have just written, without load on the primary. A token's text travels to another process in headers,
/// cookies and messages:
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
/// A token is data from the client that sends it. A forged one can make a read wait, go to the primary or fail, but
/// never shows anything that the reader could not see anyway. Where even that is too much, sign tokens with a
/// [`TokenKey`].
///
/// # After a failover
///
/// A place in the write-ahead log means nothing on another timeline. A token from an append or a read of an event store
/// therefore also has a mark, the position and the id of an event, which is checked by looking it up: either the event
/// is there, or the failover has lost it and the read fails with [`LogDiverged`](crate::ErrorKind::LogDiverged). A
/// token that has only places of an older timeline fails with [`Unproven`](crate::ErrorKind::Unproven), unless the
/// router itself has seen that the new primary had reached them. It is never assumed to be fresh. The application drops
/// such a token.
///
/// Commits can also be lost without a failover: in a crash, where `synchronous_commit` is off, and by a restore to a
/// point in time. A mark detects that too. A place does not, once the log has been written that far again; neither does
/// a mark that was merged into a later one of the same timeline.
///
/// # Merging
///
/// [`merge`](Self::merge) combines two tokens into one: a read with it contains both. A token may cover several logs
/// and several clusters; each of them checks only what concerns it.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Token {
    /// Ordered by system, each once.
    parts: Arc<[Part]>,
}

/// Stands in for the system identifier where there is no cluster, as for a log in memory.
const LOCAL: u64 = u64::MAX;

/// No log has this number: it stands for something that was seen at an unknown place.
const NOWHERE: u64 = 0;

/// What a token says about one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Part {
    /// The system identifier, or 0 if it was unknown.
    system: u64,
    /// Ordered by timeline, each once.
    places: Vec<Place>,
    /// Ordered by log and timeline, each pair once.
    marks: Vec<LogMark>,
}

/// A place in the write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) timeline: u32,
    pub(crate) lsn: Lsn,
}

/// An event that a reader has seen or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LogMark {
    /// The log: a number that its store derives from its name.
    pub(crate) log: u64,
    pub(crate) position: u64,
    pub(crate) id: Uuid,
    /// A node that has replayed up to this place, on this timeline, has the event.
    pub(crate) place: Option<Place>,
}

impl LogMark {
    pub(crate) fn mark(self) -> Mark {
        Mark::new(self.position, self.id.into())
    }

    /// Marks of one log on two timelines may belong to two histories, so one does not stand for the other.
    fn key(&self) -> (u64, u32) {
        (self.log, self.place.map_or(0, |place| place.timeline))
    }
}

impl Token {
    /// Creates a token that asks for nothing.
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

    /// Whether the token asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns a token for reads that contain what either token asks for.
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

    /// Returns this token without what `proven` asks for, where `now` covers the same: a read has contained it and
    /// returned `now`. So what is lost or of an old timeline is asked for once, not for ever.
    pub(crate) fn advance(&self, proven: &Self, now: &Self) -> Self {
        self.without_proven(proven, now).merge(now)
    }

    /// The part of the token that a read containing `proven` and returning `now` has not proven.
    pub(crate) fn without_proven(&self, proven: &Self, now: &Self) -> Self {
        if self.is_empty() {
            return Self::new();
        }
        let mut parts = self.parts.to_vec();
        for part in &mut parts {
            // A part of an unknown cluster was checked by the cluster that answered.
            let speaks = |now: &&Part| now.system == part.system || part.system == 0 && now.system != LOCAL;
            let Some(now) = now.parts.iter().find(speaks) else { continue };
            let Some(proven) = proven.parts.iter().find(|proven| proven.system == part.system) else { continue };
            let place = now.places.last().copied().or_else(|| now.marks.iter().find_map(|mark| mark.place));
            part.places.retain(|asked| now.places.is_empty() || !proven.places.contains(asked));
            let speaks_of = |log: u64| now.marks.iter().any(|mark| mark.log == log);
            part.marks.retain(|mark| !(speaks_of(mark.log) && proven.marks.contains(mark)));
            // A mark without a known place is served only by the primary: so it is before the primary's place.
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

    /// For a read that contains something seen at an unknown place: only the primary is sure to have it. Each such
    /// token is distinct, and the later one stands for both: a read that asked for the first proves nothing about what
    /// has come since.
    pub(crate) fn of_unknown_place(system: Option<u64>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        // From the clock, so that one of another process is not mistaken for a later one for long.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        LAST.fetch_max(now, Ordering::Relaxed);
        let position = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        Self::of_mark(system, LogMark { log: NOWHERE, position, id: Uuid::nil(), place: None })
    }

    /// Creates a token for reads that contain the event of this mark, for implementors of stores outside PostgreSQL.
    /// `log` is a number that no other log has: derived from its name, for example, or random.
    #[must_use]
    pub fn of_log(log: u64, mark: Mark) -> Self {
        let (position, id) = (mark.position(), mark.id().into());
        Self::of_mark(Some(LOCAL), LogMark { log, position, id, place: None })
    }

    /// Returns the events that a read of this log must contain, for implementors of such stores.
    pub fn marks_of(&self, log: u64) -> impl Iterator<Item = Mark> {
        self.marks(Some(LOCAL), log).map(LogMark::mark)
    }

    /// Returns the marks alone.
    pub(crate) fn without_places(&self) -> Self {
        let parts = self.parts.iter().filter(|part| !part.marks.is_empty());
        Self { parts: parts.map(|part| Part { places: Vec::new(), ..part.clone() }).collect() }
    }

    /// Returns the same token in fewer bytes: each mark that has a place is replaced by the place up to which it has
    /// been written. It asks for as much, but after a failover, nobody can tell any more whether that is there.
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

    /// The parts that this cluster must check: its own, and those of an unknown cluster.
    fn parts_of(&self, system: Option<u64>) -> impl Iterator<Item = &Part> {
        self.parts
            .iter()
            .filter(move |part| part.system == 0 || system.map_or(part.system != LOCAL, |system| system == part.system))
    }

    /// Whether the token covers only other clusters.
    pub(crate) fn is_foreign(&self, system: Option<u64>) -> bool {
        !self.is_empty() && self.parts_of(system).next().is_none()
    }

    /// The places that a read of this cluster must contain; `None` for an unknown one. The marks of this log are
    /// checked by looking them up, so they are left out.
    pub(crate) fn places(&self, system: Option<u64>, but_log: Option<u64>) -> impl Iterator<Item = Option<Place>> {
        self.parts_of(system).flat_map(move |part| {
            let others = part.marks.iter().filter(move |mark| Some(mark.log) != but_log);
            part.places.iter().copied().map(Some).chain(others.map(|mark| mark.place))
        })
    }

    /// The events of a log that a read of it must contain.
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
                // Within one history, the later event stands for the earlier one.
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
