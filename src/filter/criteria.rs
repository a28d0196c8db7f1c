//! A filter item whose parts are known at run time only.

use super::{Filter, Predicate, builder::from_drafts, item::Draft};
use crate::Result;

/// Everything that an event must have, collected at run time: one item of a filter.
///
/// [`Filter::matching`] is for filters whose parts are known when the program is written, and lets the compiler check
/// them. Where a part is optional, as in a search form, its types change with every step; this type stays the same.
///
/// ```
/// # use mainstem::{Criteria, Filter, Predicate};
/// fn search(event_type: Option<&str>, tags: &[&str], book: Option<&str>) -> mainstem::Result<Filter> {
///     let mut criteria = Criteria::new();
///     if let Some(event_type) = event_type {
///         criteria = criteria.any_type_of([event_type]);
///     }
///     if !tags.is_empty() {
///         criteria = criteria.all_tags_of(tags.iter().copied());
///     }
///     if let Some(book) = book {
///         criteria = criteria.all_predicates_of([Predicate::payload("BookID", book)]);
///     }
///     if criteria.is_empty() { Ok(Filter::any_event()) } else { criteria.finish() }
/// }
///
/// let built = search(Some("BookLent"), &["copy:7"], None)?;
/// assert_eq!(built, Filter::matching().any_type_of(["BookLent"]).and_all_tags_of(["copy:7"]).finish()?);
/// assert_eq!(search(None, &[], None)?, Filter::any_event());
/// # Ok::<(), mainstem::Error>(())
/// ```
///
/// [`Filter::union`] joins the filters of several criteria.
#[derive(Clone, Debug, Default)]
#[must_use = "a filter is built by `finish`"]
pub struct Criteria {
    item: Draft,
}

impl Criteria {
    /// Creates criteria without any part.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is required so far. Criteria that require nothing do not make a filter, since an event of any
    /// kind would meet them: if that is what you mean, use [`Filter::any_event`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Draft { types, tags, any_predicate, all_predicates } = &self.item;
        types.is_none() && tags.is_none() && any_predicate.is_none() && all_predicates.is_none()
    }

    /// Requires one of these types. Called again, it adds to the types from which an event may have one.
    pub fn any_type_of<T: Into<Box<str>>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        add(&mut self.item.types, types.into_iter().map(Into::into));
        self
    }

    /// Requires all of these tags. Called again, it requires these, too.
    pub fn all_tags_of<T: Into<Box<str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        add(&mut self.item.tags, tags.into_iter().map(Into::into));
        self
    }

    /// Requires at least one of these predicates. Called again, it adds to the predicates of which one must hold.
    pub fn any_predicate_of(mut self, predicates: impl IntoIterator<Item = Predicate>) -> Self {
        add(&mut self.item.any_predicate, predicates);
        self
    }

    /// Requires all of these predicates. Called again, it requires these, too.
    pub fn all_predicates_of(mut self, predicates: impl IntoIterator<Item = Predicate>) -> Self {
        add(&mut self.item.all_predicates, predicates);
        self
    }

    /// Builds the filter of these criteria.
    ///
    /// # Errors
    ///
    /// As [`FilterBuilder::finish`](crate::FilterBuilder::finish); and if nothing was required, or both any and all of
    /// some predicates.
    pub fn finish(self) -> Result<Filter> {
        from_drafts(vec![self.item])
    }
}

/// A list that was given is there even if it is empty: that is an error, not a part left out.
fn add<T>(list: &mut Option<Vec<T>>, values: impl IntoIterator<Item = T>) {
    list.get_or_insert_default().extend(values);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn lists_given_twice_are_one_list() {
        let twice = Criteria::new().any_type_of(["A"]).all_tags_of(["t"]).any_type_of(["B"]).all_tags_of(["u"]);
        let once = Filter::matching().any_type_of(["A", "B"]).and_all_tags_of(["t", "u"]);
        assert_eq!(twice.finish().unwrap(), once.finish().unwrap());
    }

    #[test]
    fn nothing_that_would_widen_a_filter_is_accepted() {
        let predicate = || [Predicate::payload("a", 1)];
        for (criteria, part) in [
            (Criteria::new(), "any_event"),
            (Criteria::new().any_type_of(["A"]).all_tags_of([""; 0]), "all_tags_of"),
            (Criteria::new().any_type_of(["A"]).any_predicate_of([]), "any_predicate_of"),
            (Criteria::new().any_predicate_of(predicate()).all_predicates_of(predicate()), "both"),
        ] {
            let error = criteria.finish().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
