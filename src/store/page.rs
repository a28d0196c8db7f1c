//! The result of a partial query.

use std::sync::Arc;

use super::{Answer, event_list::event_list};
use crate::{Event, Filter, Mark, Role, Token};

/// Some events of a filter, in the requested order.
///
/// It dereferences to the slice of its events. It has no [`unchanged`](crate::History::unchanged): nothing has looked
/// at what the limit left out. To continue, bound the filter by the last event that was read:
///
/// ```
/// # use mainstem::{AppendCondition, EventStore, Filter, MemoryEventStore, NewEvent};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mainstem::Result<()> {
/// # let store = MemoryEventStore::new();
/// # let events = (0..5).map(|_| NewEvent::new("A", &())).collect::<Result<Vec<_>, _>>()?;
/// # store.append(events, AppendCondition::none()).await?;
/// let mut rest = Filter::any_event().after_position(0);
/// let mut pages = 0;
/// while let Some(last) = store.query(&rest).limit(2).await?.last_read() {
///     rest = rest.after_position(last.position());
///     pages += 1;
/// }
/// assert_eq!(pages, 3);
/// # Ok(())
/// # }
/// ```
///
/// ```compile_fail,E0599
/// # async fn run(store: mainstem::MemoryEventStore, filter: mainstem::Filter) -> mainstem::Result<()> {
/// # use mainstem::EventStore;
/// store.query(&filter).limit(10).await?.unchanged();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Page<S = Filter> {
    selection: S,
    events: Vec<Event>,
    node: Arc<str>,
    role: Role,
    token: Token,
}

impl<S> Page<S> {
    pub(super) fn new(answer: Answer, selection: S) -> Self {
        let Answer { events, node, role, token, .. } = answer;
        Self { selection, events, node, role, token }
    }

    /// Returns the events, in the requested order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Consumes this and returns the events.
    #[must_use]
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Returns the last event that was read: in a read with the [newest first](crate::Query::newest_first), the oldest.
    /// `None` if there is none.
    #[must_use]
    pub fn last_read(&self) -> Option<Mark> {
        self.events.last().map(Event::mark)
    }

    /// Returns the selection that was read.
    #[must_use]
    pub fn selection(&self) -> &S {
        &self.selection
    }

    /// Returns the name of the node that served the read.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns the role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns a token for reads that contain what this one has seen; see [`History::token`](crate::History::token).
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }
}

event_list!(Page<S>);
