//! An append prepared by its caller: work that the drain, of which there is one, would otherwise have to do for all.

use super::filter_sql;
use crate::{
    Filter, NewEvent,
    filter::FilterItem,
    store::{
        AppendRequest, StreamAppend,
        batch::{Candidate, EventKeys, GuardKeys, array_text},
    },
};

/// An append that can be put into a batch.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) events: Vec<NewEvent>,
    pub(super) keys: Vec<EventKeys>,
    /// For each event, the text of an array.
    pub(super) tags: Vec<String>,
    pub(super) guard: Option<PreparedGuard>,
    pub(super) stream: Option<StreamAppend>,
    /// The approximate number of bytes that it sends.
    pub(super) len: usize,
}

#[derive(Debug)]
pub(super) struct PreparedGuard {
    pub(super) filter: Filter,
    pub(super) keys: GuardKeys,
    /// The filter in the form of the procedure's argument.
    pub(super) items: String,
    /// The tags of each item, as the text of an array; `None` if an item has none, or if there are many.
    pub(super) tags: Option<Vec<String>>,
}

impl Prepared {
    pub(super) fn new(request: AppendRequest) -> Self {
        let AppendRequest { events, condition, stream, .. } = request;
        let guard = condition.guard().map(|guard| PreparedGuard {
            filter: guard.filter.clone(),
            keys: GuardKeys::of(&guard.filter),
            items: filter_sql::items_json(&guard.filter),
            tags: whole_tags(&guard.filter),
        });
        let tags: Vec<String> = events.iter().map(|event| array_text(event.tags())).collect();
        let sent = events
            .iter()
            .map(|event| event.event_type().len() + event.payload().len() + event.metadata().as_str().len());
        let len = sent.sum::<usize>()
            + tags.iter().map(String::len).sum::<usize>()
            + guard.as_ref().map_or(0, |guard| guard.items.len());
        Self { keys: events.iter().map(EventKeys::of).collect(), tags, guard, stream, len, events }
    }

    pub(super) fn candidate(&self, goes_first: bool) -> Candidate<'_> {
        let guard = self.guard.as_ref().map(|guard| (&guard.filter, &guard.keys));
        let stream = self.stream.as_ref().map(|stream| &*stream.id);
        Candidate { events: &self.events, keys: &self.keys, guard, stream, goes_first }
    }
}

/// All appends of a batch wait while the tags of one are looked up, for some microseconds each.
const MOST_ITEMS: usize = 64;

fn whole_tags(filter: &Filter) -> Option<Vec<String>> {
    filter.items().filter(|items| items.len() <= MOST_ITEMS)?.map(item_tags).collect()
}

fn item_tags(item: &FilterItem) -> Option<String> {
    (item.tags().len() > 0).then(|| array_text(item.tags()))
}
