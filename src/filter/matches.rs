//! The only function that decides whether an event matches.

use std::{cell::OnceCell, time::SystemTime};

use super::{Filter, FilterItem, Fragment, PredicateGroup, Selection, Side};
use crate::{Event, Json, NewEvent, Payload, event::time::floor_micros, json::Document};

/// An event to be matched against filters: recorded, or about to be.
///
/// The top level of its JSON is parsed when a predicate first needs it, and then kept: create one subject per event and
/// match all filters against it.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    event: Source<'a>,
    /// `None` if it is opaque.
    payload: OnceCell<Option<Document<'a>>>,
    metadata: OnceCell<Document<'a>>,
}

#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Recorded(&'a Event),
    New(&'a NewEvent),
}

impl<'a> From<&'a Event> for Subject<'a> {
    fn from(event: &'a Event) -> Self {
        Self::new(Source::Recorded(event))
    }
}

impl<'a> From<&'a NewEvent> for Subject<'a> {
    fn from(event: &'a NewEvent) -> Self {
        Self::new(Source::New(event))
    }
}

impl<'a> Subject<'a> {
    fn new(event: Source<'a>) -> Self {
        Self { event, payload: OnceCell::new(), metadata: OnceCell::new() }
    }

    pub(super) fn position(&self) -> Option<u64> {
        match self.event {
            Source::Recorded(event) => Some(event.position()),
            Source::New(_) => None,
        }
    }

    pub(super) fn occurred_micros(&self) -> i64 {
        floor_micros(match self.event {
            Source::Recorded(event) => event.occurred_at(),
            Source::New(event) => event.occurred_at().unwrap_or_else(SystemTime::now),
        })
    }

    /// Whether a read of this selection would return the event.
    pub(crate) fn is_selected_by(&self, selection: &impl Selection) -> bool {
        selection.bounds().admit(self) && selection.filter().matches_subject(self)
    }

    fn event_type(&self) -> &'a str {
        match self.event {
            Source::Recorded(event) => event.event_type(),
            Source::New(event) => event.event_type(),
        }
    }

    fn has_tag(&self, tag: &str) -> bool {
        match self.event {
            Source::Recorded(event) => event.has_tag(tag),
            Source::New(event) => event.has_tag(tag),
        }
    }

    fn contains(&self, fragment: &Fragment) -> bool {
        let (payload, metadata): (&'a Payload, &'a Json) = match self.event {
            Source::Recorded(event) => (event.payload(), event.metadata()),
            Source::New(event) => (event.payload(), event.metadata()),
        };
        let document = match fragment.side() {
            Side::Payload => {
                let of_json = || payload.as_json().map(|json| Document::new(json.as_str()));
                self.payload.get_or_init(of_json).as_ref()
            }
            Side::Metadata => Some(self.metadata.get_or_init(|| Document::new(metadata.as_str()))),
        };
        document.is_some_and(|document| document.contains(fragment.value()))
    }
}

impl Filter {
    /// Whether the event matches; the cheap parts are checked first.
    pub(crate) fn matches_subject(&self, subject: &Subject<'_>) -> bool {
        self.items.as_ref().is_none_or(|items| items.iter().any(|item| item.matches(subject)))
    }
}

impl FilterItem {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        self.has_type(subject.event_type())
            && self.tags().all(|tag| subject.has_tag(tag))
            && self.predicates().is_none_or(|predicates| match predicates {
                PredicateGroup::AnyOf(fragments) => fragments.iter().any(|fragment| subject.contains(fragment)),
                PredicateGroup::AllOf(fragments) => fragments.iter().all(|fragment| subject.contains(fragment)),
            })
    }
}
