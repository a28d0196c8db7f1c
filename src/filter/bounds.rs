//! Bounds: a part of what a filter matches.

use std::time::SystemTime;

use super::{Filter, FilterDigest, Subject};
use crate::{
    Event,
    event::time::{MAX_MICROS, MIN_MICROS, ceil_micros, floor_micros, from_micros},
};

/// The events of a filter in a part of the log: after a position, up to and including one, or both.
///
/// Use it to continue from where a snapshot or an earlier read ended, and to read what was there at a past position.
/// Each bound can be replaced.
///
/// ```
/// # use mainstem::Filter;
/// let filter = Filter::any_event();
/// let news = filter.clone().after_position(17);
/// let later = news.clone().after_position(20);
/// assert_eq!(later.filter(), &filter);
/// let between = news.until_position(30);
/// assert_eq!((between.after(), between.until()), (17, Some(30)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PositionBoundedFilter {
    filter: Filter,
    /// At most what `bigint` can hold, as is the other bound.
    after: u64,
    until: Option<u64>,
}

/// The events of a filter that occurred in a time range, both ends included.
///
/// The time is the one given by the appending client, [`Event::occurred_at`], and does not follow the order of the log.
/// The type is therefore for reading only: neither a condition nor a snapshot can be made of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimeBoundedFilter {
    filter: Filter,
    from: Option<i64>,
    until: Option<i64>,
}

/// The argument of a read: a [`Filter`], a [`PositionBoundedFilter`] or a [`TimeBoundedFilter`].
pub trait Selection: sealed::Sealed + Clone + Send + Sync + Unpin + 'static {
    /// Returns the filter: which events.
    fn filter(&self) -> &Filter;

    /// Returns the bounds: which part of them.
    fn bounds(&self) -> Bounds;
}

mod sealed {
    #[expect(unnameable_types, reason = "nobody else shall implement `Selection`: a store must know all of its bounds")]
    pub trait Sealed {}
    impl Sealed for super::Filter {}
    impl Sealed for super::PositionBoundedFilter {}
    impl Sealed for super::TimeBoundedFilter {}
}

/// The part of a filter's events that a [`Selection`] asks for: those within all of these bounds. A missing bound
/// excludes nothing. Reversed bounds select nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Bounds {
    /// Only events after this position.
    pub after: Option<u64>,
    /// Only events at this position or before it.
    pub until: Option<u64>,
    /// Only events that occurred at this time or later, in microseconds since 1970.
    pub occurred_from: Option<i64>,
    /// Only events that occurred at this time or earlier, in microseconds since 1970.
    pub occurred_until: Option<i64>,
}

impl Filter {
    /// Selects only events with a higher position than this one.
    #[must_use]
    pub fn after_position(self, position: u64) -> PositionBoundedFilter {
        PositionBoundedFilter { filter: self, after: clamped(position), until: None }
    }

    /// Selects only events with this position or a lower one.
    #[must_use]
    pub fn until_position(self, position: u64) -> PositionBoundedFilter {
        PositionBoundedFilter { filter: self, after: 0, until: Some(clamped(position)) }
    }

    /// Selects only events that occurred at this time or later.
    #[must_use]
    pub fn occurred_from(self, from: SystemTime) -> TimeBoundedFilter {
        TimeBoundedFilter { filter: self, from: Some(lower(from)), until: None }
    }

    /// Selects only events that occurred at this time or earlier.
    #[must_use]
    pub fn occurred_until(self, until: SystemTime) -> TimeBoundedFilter {
        TimeBoundedFilter { filter: self, from: None, until: Some(upper(until)) }
    }

    /// Selects only events that occurred between these times, both included; none if the times are reversed.
    #[must_use]
    pub fn occurred_between(self, from: SystemTime, until: SystemTime) -> TimeBoundedFilter {
        TimeBoundedFilter { filter: self, from: Some(lower(from)), until: Some(upper(until)) }
    }
}

impl PositionBoundedFilter {
    /// Returns the filter without the bounds.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Returns the filter without the bounds.
    #[must_use]
    pub fn into_filter(self) -> Filter {
        self.filter
    }

    /// Returns the position after which the events are; 0 if there is no such bound, since all events are after that.
    #[must_use]
    pub fn after(&self) -> u64 {
        self.after
    }

    /// Returns the last position that an event may have.
    #[must_use]
    pub fn until(&self) -> Option<u64> {
        self.until
    }

    /// Replaces the position after which the events are.
    #[must_use]
    pub fn after_position(self, position: u64) -> Self {
        Self { after: clamped(position), ..self }
    }

    /// Replaces the last position that an event may have.
    #[must_use]
    pub fn until_position(self, position: u64) -> Self {
        Self { until: Some(clamped(position)), ..self }
    }

    /// Whether an event matches the filter and is within the position bounds.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        Subject::from(event).is_selected_by(self)
    }

    /// Returns the digest of filter and bounds. For a snapshot, use the digest of the [filter](Self::filter), which
    /// stays the same.
    #[must_use]
    pub fn digest(&self) -> FilterDigest {
        FilterDigest::of(self)
    }
}

impl TimeBoundedFilter {
    /// Returns the filter without the bounds.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Returns the earliest time, in whole microseconds.
    #[must_use]
    pub fn occurred_from(&self) -> Option<SystemTime> {
        self.from.and_then(from_micros)
    }

    /// Returns the latest time, in whole microseconds.
    #[must_use]
    pub fn occurred_until(&self) -> Option<SystemTime> {
        self.until.and_then(from_micros)
    }

    /// Whether an event matches the filter and occurred in the time range.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        Subject::from(event).is_selected_by(self)
    }

    /// Returns the digest of filter and bounds.
    #[must_use]
    pub fn digest(&self) -> FilterDigest {
        FilterDigest::of(self)
    }

    pub(super) fn micros(&self) -> (Option<i64>, Option<i64>) {
        (self.from, self.until)
    }

    /// Creates it from bounds in microseconds, of which at least one must be present, and which must be values that a
    /// time can produce.
    pub(super) fn from_micros(filter: Filter, from: Option<i64>, until: Option<i64>) -> Result<Self, String> {
        if from.is_none() && until.is_none() {
            return Err("neither occurred_from nor occurred_until is given".into());
        }
        let range = MIN_MICROS - 1..=MAX_MICROS + 1;
        match [from, until].into_iter().flatten().find(|bound| !range.contains(bound)) {
            Some(bound) => Err(format!("{bound} microseconds are before 4714 BC, which PostgreSQL cannot store")),
            None => Ok(Self { filter, from, until }),
        }
    }
}

impl Selection for Filter {
    fn filter(&self) -> &Filter {
        self
    }

    fn bounds(&self) -> Bounds {
        Bounds::default()
    }
}

impl Selection for PositionBoundedFilter {
    fn filter(&self) -> &Filter {
        &self.filter
    }

    fn bounds(&self) -> Bounds {
        Bounds { after: Some(self.after), until: self.until, ..Bounds::default() }
    }
}

impl Selection for TimeBoundedFilter {
    fn filter(&self) -> &Filter {
        &self.filter
    }

    fn bounds(&self) -> Bounds {
        Bounds { occurred_from: self.from, occurred_until: self.until, ..Bounds::default() }
    }
}

impl Bounds {
    pub(crate) fn admit(self, subject: &Subject<'_>) -> bool {
        let Self { after, until, occurred_from, occurred_until } = self;
        // An event that has no position yet may get any.
        let is_there = subject.position().is_none_or(|position| {
            after.is_none_or(|after| position > after) && until.is_none_or(|until| position <= until)
        });
        is_there
            && (occurred_from.is_none() && occurred_until.is_none() || {
                let occurred_at = subject.occurred_micros();
                occurred_from.is_none_or(|from| from <= occurred_at)
                    && occurred_until.is_none_or(|until| occurred_at <= until)
            })
    }
}

/// A position that `bigint` can hold. No event is after a higher one either.
fn clamped(position: u64) -> u64 {
    position.min(i64::MAX.unsigned_abs())
}

/// The first microsecond of a lower bound. A bound beyond all events stays beyond them, where it can still be sent.
fn lower(from: SystemTime) -> i64 {
    ceil_micros(from).clamp(MIN_MICROS - 1, MAX_MICROS + 1)
}

fn upper(until: SystemTime) -> i64 {
    floor_micros(until).clamp(MIN_MICROS - 1, MAX_MICROS + 1)
}
