//! What a query has read.

use std::{ops::Deref, sync::Arc};

use super::AppendCondition;
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
    /// The events, lowest position first.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The events themselves.
    #[must_use]
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// The last event of the whole log in the snapshot that these events were read in, whether it matched or not.
    /// `None` when the log was empty.
    #[must_use]
    pub fn head(&self) -> Option<Mark> {
        self.head
    }

    /// What was asked for.
    #[must_use]
    pub fn selection(&self) -> &S {
        &self.selection
    }

    /// The name of the node that served the read.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// A token for reads that contain what this one has seen, also when the log was empty or nothing matched.
    ///
    /// It has the mark of the log's head, which is enough for reads of this log. Where that was written is asked for in a
    /// [`Session`](crate::Session) only, so without one, other reads of the database that ask for it go to the primary.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }
}

impl History {
    /// The condition that vouches for this read: no event that matches the filter has been appended since.
    ///
    /// It holds for a read from a replica too: positions are in commit order, so a replica is the log up to some
    /// position, and the primary looks at everything behind it. Only complete reads have this method; what a bound has
    /// hidden nobody can vouch for.
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

    /// The condition that no event which matches `filter` has been appended since this read, whatever was read.
    ///
    /// It is for who knows that not all that was read matters for the decision, or that more does. A narrower filter lets
    /// through what does not matter ([`Filter::without_types`]); a wider one refuses also what was not read. Of events
    /// that were not read only those count that have come since: what they were before, the decision has not seen, and this
    /// does not say.
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

impl<S> Deref for History<S> {
    type Target = [Event];

    fn deref(&self) -> &[Event] {
        &self.events
    }
}

impl<S> IntoIterator for History<S> {
    type Item = Event;
    type IntoIter = std::vec::IntoIter<Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.into_iter()
    }
}

impl<'a, S> IntoIterator for &'a History<S> {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.iter()
    }
}
