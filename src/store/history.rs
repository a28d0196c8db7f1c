//! The result of a query.

use std::sync::Arc;

use super::{AppendCondition, event_list::event_list};
use crate::{Event, Filter, Mark, Role, Token};

/// All events of a filter, in the order of the log, with the log's head at the moment of the read.
///
/// It dereferences to the slice of its events.
///
/// ```
/// # use mainstem::{Event, History};
/// fn copies(history: &History) -> i64 {
///     history.iter().map(|event| if event.event_type() == "CopyAdded" { 1 } else { -1 }).sum()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct History<S = Filter> {
    pub(super) selection: S,
    pub(super) events: Vec<Event>,
    pub(super) head: Option<Mark>,
    pub(super) node: Arc<str>,
    pub(super) role: Role,
    pub(super) token: Token,
}

impl<S> History<S> {
    /// Returns the events, lowest position first.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Consumes this and returns the events.
    #[must_use]
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Returns the last event of the whole log in the snapshot of this read, whether it matched or not. `None` if the
    /// log was empty.
    #[must_use]
    pub fn head(&self) -> Option<Mark> {
        self.head
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

    /// Returns a token for reads that contain what this one has seen, even if the log was empty or nothing matched.
    ///
    /// It has the mark of the log's head, which is enough for reads of this log. The place where that event was written
    /// is only looked up in a [`Session`](crate::Session). Without one, other reads of the database with this token go
    /// to the primary.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }
}

impl History {
    /// Returns the condition that guards this read: no event that matches the filter has been appended since.
    ///
    /// It also holds for a read from a replica: positions are in commit order, so a replica is the log up to some
    /// position, and the primary checks everything after it. Only complete reads have this method: no condition can
    /// cover what a bound has hidden.
    ///
    /// ```compile_fail,E0599
    /// # async fn run(store: mainstem::MemoryEventStore, filter: mainstem::Filter) -> mainstem::Result<()> {
    /// # use mainstem::EventStore;
    /// store.query(&filter.after_position(17)).await?.unchanged();
    /// # Ok(())
    /// # }
    /// ```
    /// ```compile_fail,E0599
    /// # async fn run(store: mainstem::MemoryEventStore, filter: mainstem::Filter) -> mainstem::Result<()> {
    /// # use mainstem::EventStore;
    /// store.query(&filter.occurred_from(std::time::SystemTime::UNIX_EPOCH)).await?.unchanged();
    /// # Ok(())
    /// # }
    /// ```
    pub fn unchanged(&self) -> AppendCondition {
        AppendCondition::since(self.head, self.selection.clone())
    }

    /// Returns the condition that no event which matches `filter` has been appended since this read, whatever was read.
    ///
    /// Use it if not everything that was read matters for the decision, or if more does. A narrower filter ignores
    /// events that do not matter ([`Filter::without_types`]); a wider one also counts events that were not read. Of the
    /// events that were not read, only those appended since count: the decision has not seen earlier ones, and this
    /// condition does not cover them.
    ///
    /// ```
    /// # use mainstem::{EventStore, Filter, MemoryEventStore, NewEvent};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> mainstem::Result<()> {
    /// # let store = MemoryEventStore::new();
    /// let copy = Filter::matching().any_type_of(["CopyLent", "CopyReturned", "CopyRated"]).and_all_tags_of(["copy:7"]).finish()?;
    /// let history = store.query(&copy).await?;
    /// // A rating that comes in between changes nothing about who has the book.
    /// let decisive = copy.without_types(["CopyRated"])?;
    /// let lent = NewEvent::new("CopyLent", &())?.with_tag("copy:7");
    /// store.append([lent], history.unchanged_for(decisive)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn unchanged_for(&self, filter: Filter) -> AppendCondition {
        AppendCondition::since(self.head, filter)
    }
}

event_list!(History<S>);
