//! A query as a store receives it, and helpers for answering it.

use std::time::Duration;

use futures_util::stream::try_unfold;

use super::{Answer, BoxStream, EventStore};
use crate::{
    Consistency, Error, ErrorKind, Event, Filter, Mark, Result, Token,
    filter::{Bounds, Selection, Subject},
    scope::current_consistency,
};

/// The number of events in one page of [`QueryRequest::in_pages`].
const PAGE: u64 = 1_000;

/// The direction in which the log is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// Lowest position first.
    #[default]
    OldestFirst,
    /// Highest position first.
    NewestFirst,
}

/// A query as a store receives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct QueryRequest {
    /// The filter: which events.
    pub filter: Filter,
    /// The bounds: which part of them.
    pub bounds: Bounds,
    /// The order in which they are returned.
    pub order: Order,
    /// The most events to return, the first ones in the order. Not set when events are counted.
    pub limit: Option<u64>,
    /// How fresh the read must be.
    pub consistency: Consistency,
    /// What the answer must contain, by its level and its session.
    pub floor: Token,
    /// Whether the caller uses the answer's token; one that costs nothing may be returned anyway.
    pub wants_token: bool,
    /// The time limit set by the caller; otherwise the store's own applies.
    pub timeout: Option<Duration>,
}

impl QueryRequest {
    /// Creates a request for all events of the selection, at the level of the current scope.
    pub(crate) fn new(selection: &impl Selection) -> Self {
        Self {
            filter: selection.filter().clone(),
            bounds: selection.bounds(),
            order: Order::OldestFirst,
            limit: None,
            consistency: current_consistency(),
            floor: Token::new(),
            wants_token: false,
            timeout: None,
        }
    }

    /// Whether the event is requested, apart from the limit: it matches the filter and is within the bounds.
    #[must_use]
    pub fn selects(&self, event: &Event) -> bool {
        let subject = Subject::from(event);
        self.bounds.admit(&subject) && self.filter.matches_subject(&subject)
    }

    /// Returns the requested events, in their order and up to the limit, out of events in the order of the log.
    #[must_use]
    pub fn select_from<'a>(&self, log: impl DoubleEndedIterator<Item = &'a Event>) -> Vec<Event> {
        let limit = self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let selected = log.filter(|event| self.selects(event));
        match self.order {
            Order::OldestFirst => selected.take(limit).cloned().collect(),
            Order::NewestFirst => selected.rev().take(limit).cloned().collect(),
        }
    }

    /// Creates a [stream](EventStore::run_query_stream) out of [queries](EventStore::run_query), each for the next thousand
    /// events after those before.
    ///
    /// It holds one page at a time. Each page is a separate search: this suits stores that find the events after a
    /// position without looking at everything before it.
    #[must_use]
    pub fn in_pages(self, store: impl EventStore + 'static) -> BoxStream<Result<Answer>> {
        let pages = Pages { store, rest: self, head: None, over: false };
        Box::pin(try_unfold(pages, async |pages| pages.next().await))
    }

    /// Removes what was read, up to its last event, from what is requested. Returns whether there can be more.
    pub(super) fn continue_after(&mut self, read: &[Event]) -> bool {
        if let Some(last) = read.last().map(Event::position) {
            match self.order {
                Order::OldestFirst => self.bounds.after = Some(last),
                Order::NewestFirst => self.bounds.until = Some(last - 1),
            }
        }
        self.limit = self.limit.map(|limit| limit.saturating_sub(read.len() as u64));
        let Bounds { after, until, .. } = self.bounds;
        self.limit != Some(0) && until.is_none_or(|until| after.unwrap_or(0) < until)
    }

    /// Excludes what was appended after this head.
    pub(super) fn end_at(&mut self, head: Mark) {
        let head = head.position();
        self.bounds.until = Some(self.bounds.until.map_or(head, |until| until.min(head)));
    }
}

struct Pages<E> {
    store: E,
    rest: QueryRequest,
    /// The head of the first page.
    head: Option<Option<Mark>>,
    over: bool,
}

impl<E: EventStore> Pages<E> {
    async fn next(mut self) -> Result<Option<(Answer, Self)>> {
        if self.over {
            return Ok(None);
        }
        let mut page = self.rest.clone();
        let amount = page.limit.map_or(PAGE, |limit| limit.min(PAGE));
        page.limit = Some(amount);
        let mut answer = self.store.run_query(page).await?;
        match (self.head, answer.head) {
            (None, head) => {
                self.head = Some(head);
                if let Some(head) = head {
                    self.rest.end_at(head);
                }
            }
            (Some(first), head) if head.map(|head| head.position()) < first.map(|first| first.position()) => {
                let message = "the log ends before the place where it ended when the stream began";
                return Err(Error::new(ErrorKind::Unavailable, message).with_node(answer.node));
            }
            (Some(first), _) => answer.head = first,
        }
        let is_full = answer.events.len() as u64 == amount;
        self.over = !self.rest.continue_after(&answer.events) || !is_full || answer.head.is_none();
        Ok(Some((answer, self)))
    }
}
