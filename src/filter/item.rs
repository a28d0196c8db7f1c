//! One alternative of a filter, validated and canonical.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fragment, Predicate};
use crate::event::{check_tag, check_type};

/// One item of a [`Filter`](super::Filter): everything that an event must have.
///
/// It is in canonical form: everything sorted, each thing once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterItem {
    /// Empty: any type.
    types: BTreeSet<Box<str>>,
    /// Empty: any tags.
    tags: BTreeSet<Box<str>>,
    predicates: Option<PredicateGroup>,
}

/// The predicates of an item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PredicateGroup {
    /// At least one of these must be contained. A single predicate is always in this form.
    AnyOf(BTreeSet<Fragment>),
    /// All of these must be contained.
    AllOf(BTreeSet<Fragment>),
}

impl FilterItem {
    /// Returns the types, of which the event must have one; empty if it may have any.
    #[must_use]
    pub fn types(&self) -> impl ExactSizeIterator<Item = &str> {
        self.types.iter().map(|event_type| &**event_type)
    }

    /// Returns the tags, all of which the event must have; empty if it may have any.
    #[must_use]
    pub fn tags(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tags.iter().map(|tag| &**tag)
    }

    /// Returns the predicates, if there are any.
    #[must_use]
    pub fn predicates(&self) -> Option<&PredicateGroup> {
        self.predicates.as_ref()
    }

    /// Returns the item without these types; `None` if it has no others.
    pub(super) fn without_types<T: AsRef<str>>(&self, types: &[T]) -> Option<Self> {
        let mut item = self.clone();
        item.types.retain(|of_item| !types.iter().any(|event_type| event_type.as_ref() == &**of_item));
        (!item.types.is_empty()).then_some(item)
    }

    pub(super) fn has_type(&self, event_type: &str) -> bool {
        self.types.is_empty() || self.types.contains(event_type)
    }
}

/// Returns the same alternatives, merging those that differ only in their any-of predicates: the model of a copy and
/// its reader is then one search instead of two.
pub(super) fn merged(items: impl IntoIterator<Item = FilterItem>) -> BTreeSet<FilterItem> {
    let mut any: BTreeMap<_, BTreeSet<Fragment>> = BTreeMap::new();
    let mut merged = BTreeSet::new();
    for FilterItem { types, tags, predicates } in items {
        match predicates {
            Some(PredicateGroup::AnyOf(fragments)) => any.entry((types, tags)).or_default().extend(fragments),
            _ => drop(merged.insert(FilterItem { types, tags, predicates })),
        }
    }
    merged.extend(any.into_iter().map(|((types, tags), fragments)| {
        let predicates = Some(PredicateGroup::AnyOf(fragments));
        FilterItem { types, tags, predicates }
    }));
    merged
}

impl PredicateGroup {
    /// Returns the JSON fragments, each once.
    #[must_use]
    pub fn fragments(&self) -> impl ExactSizeIterator<Item = &Fragment> {
        let (Self::AnyOf(fragments) | Self::AllOf(fragments)) = self;
        fragments.iter()
    }
}

/// An item as written, not yet validated; `None` is a part that was not given.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) types: Option<Vec<Box<str>>>,
    pub(super) tags: Option<Vec<Box<str>>>,
    pub(super) any_predicate: Option<Vec<Predicate>>,
    pub(super) all_predicates: Option<Vec<Predicate>>,
}

impl Draft {
    /// Returns the item, or what is wrong with it.
    pub(super) fn check(self) -> Result<FilterItem, String> {
        if self.any_predicate.is_some() && self.all_predicates.is_some() {
            return Err("it has both any_predicate_of and all_predicates_of; one of them can be given".into());
        }
        let any = self.any_predicate.map(|predicates| fragments("any_predicate_of", predicates)).transpose()?;
        let all = self.all_predicates.map(|predicates| fragments("all_predicates_of", predicates)).transpose()?;
        let item = FilterItem {
            types: self.types.map(|types| texts("any_type_of", types, check_type)).transpose()?.unwrap_or_default(),
            tags: self.tags.map(|tags| texts("all_tags_of", tags, check_tag)).transpose()?.unwrap_or_default(),
            predicates: match (any, all) {
                (Some(any), _) => Some(PredicateGroup::AnyOf(any)),
                // For a single predicate, any and all are the same: one form for both.
                (None, Some(all)) if all.len() == 1 => Some(PredicateGroup::AnyOf(all)),
                (None, all) => all.map(PredicateGroup::AllOf),
            },
        };
        if item.types.is_empty() && item.tags.is_empty() && item.predicates.is_none() {
            return Err("it asks for nothing; Filter::any_event means every event".into());
        }
        Ok(item)
    }
}

fn texts(
    list: &str,
    texts: Vec<Box<str>>,
    check: fn(&str) -> Result<(), String>,
) -> Result<BTreeSet<Box<str>>, String> {
    not_empty(list, texts.is_empty())?;
    texts.iter().try_for_each(|text| check(text)).map_err(|what| format!("{list}: {what}"))?;
    Ok(texts.into_iter().collect())
}

fn fragments(list: &str, predicates: Vec<Predicate>) -> Result<BTreeSet<Fragment>, String> {
    not_empty(list, predicates.is_empty())?;
    let fragment = |(index, predicate): (usize, Predicate)| {
        predicate.into_fragment().map_err(|what| format!("{list}[{index}]: {what}"))
    };
    predicates.into_iter().enumerate().map(fragment).collect()
}

fn not_empty(list: &str, empty: bool) -> Result<(), String> {
    if empty { Err(format!("the list given to {list} is empty; leave the call out to match any")) } else { Ok(()) }
}
