//! An append prepared by its caller: work that the drain, of which there is one, would otherwise have to do for all.

use crate::{
    Filter, NewEvent,
    filter::FilterItem,
    store::{
        AppendRequest, StreamAppend,
        batch::{Candidate, EventKeys, GuardKeys, array_text},
        postgres::filter_sql,
    },
};

/// An append that can be put into a batch.
#[derive(Debug)]
pub(in crate::store::postgres) struct Prepared {
    pub(in crate::store::postgres) events: Vec<NewEvent>,
    pub(in crate::store::postgres) keys: Vec<EventKeys>,
    /// For each event, the text of an array.
    pub(in crate::store::postgres) tags: Vec<String>,
    pub(in crate::store::postgres) guard: Option<PreparedGuard>,
    pub(in crate::store::postgres) stream: Option<StreamAppend>,
    /// The approximate number of bytes that it sends.
    pub(in crate::store::postgres) len: usize,
}

#[derive(Debug)]
pub(in crate::store::postgres) struct PreparedGuard {
    pub(in crate::store::postgres) filter: Filter,
    pub(in crate::store::postgres) keys: GuardKeys,
    /// The filter in the form of the procedure's argument.
    pub(in crate::store::postgres) items: String,
    /// The tags of each item, as the text of an array; `None` if an item has none, or if there are many.
    pub(in crate::store::postgres) tags: Option<Vec<String>>,
}

impl Prepared {
    pub(in crate::store::postgres) fn new(request: AppendRequest) -> Self {
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

    pub(in crate::store::postgres) fn candidate(&self, goes_first: bool) -> Candidate<'_> {
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
