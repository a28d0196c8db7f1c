//! Filters: which events of the log belong to a decision, a projection or a stream.
//!
//! Pure code. The PostgreSQL store turns a filter into SQL; the memory store and the group commit use
//! [`matches`](Filter::matches). Both select the same events.

mod bounds;
mod builder;
mod canonical;
mod criteria;
mod item;
mod matches;
mod predicate;
mod wire;

#[cfg(test)]
pub(crate) mod tests;

use std::{collections::BTreeSet, sync::Arc};

use self::item::merged;
pub(crate) use self::matches::Subject;
pub use self::{
    bounds::{Bounds, PositionBoundedFilter, Selection, TimeBoundedFilter},
    builder::{FilterBuilder, Matching},
    canonical::FilterDigest,
    criteria::Criteria,
    item::{FilterItem, PredicateGroup},
    predicate::{Fragment, JsonPath, Predicate, Side},
};
use crate::{Error, Event, Result};

/// A filter for events of the log: every event, or those that match at least one item.
///
/// An item has up to three parts, and an event matches the item when it satisfies all of them: it has one of the types,
/// all of the tags, and any or all of the predicates. This is the query of the Dynamic Consistency Boundary
/// specification (query items, types OR, tags AND), plus predicates on the JSON of payload and metadata.
///
/// ```
/// use mainstem::{Filter, Predicate};
///
/// let everything = Filter::any_event();
///
/// let lending = Filter::matching()
///     .any_type_of(["BookLent", "BookReturned"])
///     .and_any_predicate_of([Predicate::payload("BookID", "b-1"), Predicate::payload("ReaderID", "r-7")])
///     .or_matching()
///     .all_tags_of(["reader:r-7", "contract"])
///     .finish()?;
///
/// // What is the same is equal, in whatever order it was written.
/// let types = |types: [&str; 2]| Filter::matching().any_type_of(types).finish();
/// assert_eq!(types(["BookLent", "BookReturned"])?, types(["BookReturned", "BookLent"])?);
/// # Ok::<(), mainstem::Error>(())
/// ```
///
/// # Bounds
///
/// A filter says *which* events. A read may select a part of them, and then has another type: a range of positions
/// ([`after_position`](Self::after_position), [`until_position`](Self::until_position), a [`PositionBoundedFilter`]),
/// or a time range ([`occurred_from`](Self::occurred_from) and its siblings, a [`TimeBoundedFilter`]). An append
/// condition takes the filter without bounds, because an event that a bound hides would break the decision unnoticed. A
/// position bound can be replaced, for the next read of the same filter; a time bound closes the filter:
///
/// ```compile_fail,E0599
/// # use std::time::SystemTime;
/// # use mainstem::Filter;
/// Filter::any_event().after_position(17).occurred_from(SystemTime::now());
/// ```
/// ```compile_fail,E0599
/// # use std::time::SystemTime;
/// # use mainstem::Filter;
/// Filter::any_event().occurred_from(SystemTime::now()).after_position(17);
/// ```
///
/// # What is refused
///
/// Everything that would silently widen a filter, and with it the boundary that guards an append: an empty list, an
/// empty type, tag or path, a predicate that every object satisfies. To select every event, use
/// [`any_event`](Self::any_event). Types and tags that no event can have are rejected too.
///
/// # As JSON
///
/// The names are those of the methods. Other fields are rejected, and so is everything that
/// [`finish`](FilterBuilder::finish) rejects. The format works with `serde_json` only, as [`Json`](crate::Json) does.
///
/// ```
/// # use mainstem::{Filter, Predicate};
/// let filter: Filter = serde_json::from_str(r#"{"matching": [
///     {"any_type_of": ["BookLent"], "any_predicate_of": [{"payload": {"BookID": "b-1"}}]},
///     {"all_tags_of": ["reader:r-7"], "all_predicates_of": [{"metadata": {"tenant": 1}}]}
/// ]}"#)?;
/// assert_eq!(serde_json::to_string(&Filter::any_event())?, r#"{"matching":"any_event"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// The bounded types add `"after_position": 17` and `"until_position": 30`, or `"occurred_from"` and `"occurred_until"` in microseconds since
/// 1970.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    /// `None`: any event. Shared, because reads, conditions and waiting appends each hold the filter.
    items: Option<Arc<BTreeSet<FilterItem>>>,
}

impl Filter {
    /// The longest filter, in bytes of its canonical form (its types, tags and predicates, and a small overhead for
    /// each): 1 MiB.
    ///
    /// A filter is sent to the server with every read and every append that it guards, and is kept while the call
    /// waits. A filter of this size has tens of thousands of keys; use a wider one (a type, a common tag) instead.
    pub const MAX_LEN: usize = 1024 * 1024;

    /// Selects every event of the log.
    #[must_use]
    pub fn any_event() -> Self {
        Self { items: None }
    }

    /// Starts a filter with its first item; [`FilterBuilder`] shows the grammar. Where parts are optional at run time, use
    /// [`Criteria`].
    pub fn matching() -> Matching {
        Matching::first()
    }

    /// Selects the events of any of these filters.
    ///
    /// Use it for the boundary of a decision that consists of several parts, each with its own filter.
    ///
    /// ```
    /// # use mainstem::Filter;
    /// let course = Filter::matching().all_tags_of(["course:1"]).finish()?;
    /// let student = Filter::matching().all_tags_of(["student:2"]).finish()?;
    /// let both = Filter::matching().all_tags_of(["student:2"]).or_matching().all_tags_of(["course:1"]).finish()?;
    /// assert_eq!(Filter::union([course, student])?, both);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if there is no filter, or if the union is longer than
    /// [`MAX_LEN`](Self::MAX_LEN).
    pub fn union(filters: impl IntoIterator<Item = Self>) -> Result<Self> {
        let mut filters = filters.into_iter().peekable();
        if filters.peek().is_none() {
            return Err(Error::invalid_input("a union of no filters matches nothing; give it at least one"));
        }
        let all: Option<Vec<_>> = filters.map(|filter| filter.items).collect();
        let items = all.map(|all| all.into_iter().flat_map(Arc::unwrap_or_clone));
        Self { items: items.map(|items| Arc::new(merged(items))) }.limited()
    }

    /// Returns the same filter without events of these types.
    ///
    /// Use it for a boundary that is narrower than what was read: see
    /// [`History::unchanged_for`](crate::History::unchanged_for).
    ///
    /// ```
    /// # use mainstem::Filter;
    /// let all = Filter::matching().any_type_of(["CopyLent", "CopyRated"]).finish()?;
    /// assert_eq!(all.without_types(["CopyRated"])?, Filter::matching().any_type_of(["CopyLent"]).finish()?);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if an item selects events of any type, since a filter says what
    /// an event has, not what it lacks; and if nothing is left.
    pub fn without_types<T: AsRef<str>>(&self, types: impl IntoIterator<Item = T>) -> Result<Self> {
        let types: Vec<T> = types.into_iter().collect();
        let all = self.items.iter().flat_map(|items| items.iter());
        if self.items.is_none() || all.clone().any(|item| item.types().len() == 0) {
            return Err(Error::invalid_input(
                "of any type, some cannot be left out; list the types that the filter is to match",
            ));
        }
        let left = merged(all.filter_map(|item| item.without_types(&types)));
        if left.is_empty() {
            return Err(Error::invalid_input("without these types the filter matches nothing"));
        }
        Ok(Self { items: Some(Arc::new(left)) })
    }

    /// Returns the items, each once, in their canonical order; `None` if any event matches.
    #[must_use]
    pub fn items(&self) -> Option<impl ExactSizeIterator<Item = &FilterItem>> {
        self.items.as_ref().map(|items| items.iter())
    }

    /// Whether an event matches; the answer is the same as the database's.
    ///
    /// Types and tags are compared byte by byte. A predicate is PostgreSQL's `jsonb` containment, `@>`: see
    /// [`Predicate`].
    ///
    /// ```
    /// # use std::time::SystemTime;
    /// # use mainstem::{Filter, NewEvent, Predicate};
    /// # use serde_json::json;
    /// let filter = Filter::matching().all_predicates_of([Predicate::payload("pages", 120)]).finish()?;
    /// let event = |payload| NewEvent::new("BookAdded", &payload).map(|event| event.into_recorded(1, SystemTime::now()));
    /// assert!(filter.matches(&event(json!({"pages": 120.0, "BookID": "b-1"}))?));
    /// assert!(!filter.matches(&event(json!({"pages": "120"}))?));
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        self.matches_subject(&Subject::from(event))
    }

    fn limited(self) -> Result<Self> {
        match self.canonical_len() {
            len if len > Self::MAX_LEN => Err(Error::invalid_input(format!(
                "the filter has {len} bytes, more than the limit of {}; match a common tag or type instead of so many \
                 keys",
                Self::MAX_LEN
            ))),
            _ => Ok(self),
        }
    }
}
