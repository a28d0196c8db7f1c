//! The grammar of filters, checked by the compiler.

use std::sync::Arc;

use super::{
    Filter, Predicate,
    item::{Draft, merged},
};
use crate::{Error, Result};

/// A filter item without any part yet: it needs one before the filter can go on.
///
/// ```compile_fail,E0599
/// mainstem::Filter::matching().finish();
/// ```
/// ```compile_fail,E0599
/// mainstem::Filter::matching().any_type_of(["A"]).or_matching().finish();
/// ```
/// ```compile_fail,E0599
/// mainstem::Filter::matching().or_matching();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a filter is built by `finish`"]
pub struct Matching {
    finished: Vec<Draft>,
}

/// A filter under construction. The const parameters say which parts the current item has.
///
/// ```text
/// Filter::any_event()
/// Filter::matching()   any_type_of | all_tags_of | any_predicate_of | all_predicates_of
///                      and_… each other part, at most once, in any order
///     .or_matching()   the next item, in the same way
///     .finish()
/// ```
///
/// ```
/// # use mainstem::{Filter, Predicate};
/// let filter = Filter::matching()
///     .any_type_of(["SeatReserved", "SeatReleased"])
///     .and_all_tags_of(["show:9", "seat:A1"])
///     .or_matching()
///     .all_predicates_of([Predicate::payload("ShowID", "9"), Predicate::metadata("tenant", 4)])
///     .and_any_type_of(["ShowCancelled"])
///     .finish()?;
/// # Ok::<(), mainstem::Error>(())
/// ```
///
/// Each part is given once, with all its values, so two lists cannot be mistaken for a choice or a conjunction:
///
/// ```compile_fail,E0599
/// mainstem::Filter::matching().any_type_of(["A"]).and_any_type_of(["B"]);
/// ```
/// ```compile_fail,E0599
/// mainstem::Filter::matching().any_type_of(["A"]).and_all_tags_of(["t"]).and_any_type_of(["B"]);
/// ```
/// ```compile_fail,E0599
/// mainstem::Filter::matching().all_tags_of(["a"]).and_all_tags_of(["b"]);
/// ```
/// ```compile_fail,E0599
/// # use mainstem::{Filter, Predicate};
/// Filter::matching().any_predicate_of([Predicate::payload("a", 1)]).and_all_predicates_of([Predicate::payload("b", 2)]);
/// ```
///
/// The first part of an item and the following ones have different names, so an `and` always follows something:
///
/// ```compile_fail,E0599
/// mainstem::Filter::matching().and_any_type_of(["A"]);
/// ```
/// ```compile_fail,E0599
/// mainstem::Filter::matching().any_type_of(["A"]).all_tags_of(["t"]);
/// ```
///
/// Bounds are set on the finished filter, so nothing can follow them:
///
/// ```compile_fail,E0599
/// mainstem::Filter::matching().any_type_of(["A"]).after_position(1).or_matching();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a filter is built by `finish`"]
pub struct FilterBuilder<const TYPES: bool, const TAGS: bool, const PREDICATES: bool> {
    finished: Vec<Draft>,
    item: Draft,
}

impl Matching {
    pub(super) fn first() -> Self {
        Self { finished: Vec::new() }
    }

    /// Selects events of any of these types.
    pub fn any_type_of<T: Into<Box<str>>>(
        self,
        types: impl IntoIterator<Item = T>,
    ) -> FilterBuilder<true, false, false> {
        self.begin(|item| item.types = texts(types))
    }

    /// Selects events that have all of these tags.
    pub fn all_tags_of<T: Into<Box<str>>>(
        self,
        tags: impl IntoIterator<Item = T>,
    ) -> FilterBuilder<false, true, false> {
        self.begin(|item| item.tags = texts(tags))
    }

    /// Selects events that satisfy at least one of these predicates.
    pub fn any_predicate_of(
        self,
        predicates: impl IntoIterator<Item = Predicate>,
    ) -> FilterBuilder<false, false, true> {
        self.begin(|item| item.any_predicate = Some(predicates.into_iter().collect()))
    }

    /// Selects events that satisfy all of these predicates.
    pub fn all_predicates_of(
        self,
        predicates: impl IntoIterator<Item = Predicate>,
    ) -> FilterBuilder<false, false, true> {
        self.begin(|item| item.all_predicates = Some(predicates.into_iter().collect()))
    }

    fn begin<const TYPES: bool, const TAGS: bool, const PREDICATES: bool>(
        self,
        set: impl FnOnce(&mut Draft),
    ) -> FilterBuilder<TYPES, TAGS, PREDICATES> {
        let mut item = Draft::default();
        set(&mut item);
        FilterBuilder { finished: self.finished, item }
    }
}

impl<const TAGS: bool, const PREDICATES: bool> FilterBuilder<false, TAGS, PREDICATES> {
    /// Requires, in addition, any of these types.
    pub fn and_any_type_of<T: Into<Box<str>>>(
        self,
        types: impl IntoIterator<Item = T>,
    ) -> FilterBuilder<true, TAGS, PREDICATES> {
        self.with(|item| item.types = texts(types))
    }
}

impl<const TYPES: bool, const PREDICATES: bool> FilterBuilder<TYPES, false, PREDICATES> {
    /// Requires, in addition, all of these tags.
    pub fn and_all_tags_of<T: Into<Box<str>>>(
        self,
        tags: impl IntoIterator<Item = T>,
    ) -> FilterBuilder<TYPES, true, PREDICATES> {
        self.with(|item| item.tags = texts(tags))
    }
}

impl<const TYPES: bool, const TAGS: bool> FilterBuilder<TYPES, TAGS, false> {
    /// Requires, in addition, at least one of these predicates.
    pub fn and_any_predicate_of(
        self,
        predicates: impl IntoIterator<Item = Predicate>,
    ) -> FilterBuilder<TYPES, TAGS, true> {
        self.with(|item| item.any_predicate = Some(predicates.into_iter().collect()))
    }

    /// Requires, in addition, all of these predicates.
    pub fn and_all_predicates_of(
        self,
        predicates: impl IntoIterator<Item = Predicate>,
    ) -> FilterBuilder<TYPES, TAGS, true> {
        self.with(|item| item.all_predicates = Some(predicates.into_iter().collect()))
    }
}

impl<const TYPES: bool, const TAGS: bool, const PREDICATES: bool> FilterBuilder<TYPES, TAGS, PREDICATES> {
    /// Ends the item and starts another one: events that match either are selected.
    pub fn or_matching(self) -> Matching {
        let mut finished = self.finished;
        finished.push(self.item);
        Matching { finished }
    }

    /// Builds the filter.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) naming the item, counted from 0, and the list, if a list is
    /// empty, a type or tag is one that no event can have, a predicate is one that PostgreSQL cannot evaluate, or the
    /// whole is longer than [`Filter::MAX_LEN`].
    pub fn finish(self) -> Result<Filter> {
        let mut drafts = self.finished;
        drafts.push(self.item);
        from_drafts(drafts)
    }

    fn with<const A: bool, const B: bool, const C: bool>(
        mut self,
        set: impl FnOnce(&mut Draft),
    ) -> FilterBuilder<A, B, C> {
        set(&mut self.item);
        FilterBuilder { finished: self.finished, item: self.item }
    }
}

/// The only way from anything written to a filter.
pub(super) fn from_drafts(drafts: Vec<Draft>) -> Result<Filter> {
    if drafts.is_empty() {
        return Err(Error::invalid_input("the filter has no items; Filter::any_event means every event"));
    }
    let item = |(index, draft): (usize, Draft)| {
        draft.check().map_err(|what| Error::invalid_input(format!("item {index} of the filter: {what}")))
    };
    let items = drafts.into_iter().enumerate().map(item).collect::<Result<Vec<_>>>()?;
    Filter { items: Some(Arc::new(merged(items))) }.limited()
}

fn texts<T: Into<Box<str>>>(texts: impl IntoIterator<Item = T>) -> Option<Vec<Box<str>>> {
    Some(texts.into_iter().map(Into::into).collect())
}
