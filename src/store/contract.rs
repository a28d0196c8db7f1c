//! What every event store does.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use super::{Append, AppendCondition, Appended, Query};
use crate::{Consistency, Event, Filter, Mark, NewEvent, Result, Role, filter::Bounds, filter::Selection};

/// A future on the heap, as a method of a trait object returns it.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A log of events: appended to under a condition, read by filter.
///
/// [`append`](Self::append) and [`query`](Self::query) are for the users of a store. The two methods without a body are for
/// its makers: each gets one call as data, and returns a future that owns all that it needs. So a store is a handle that is
/// cheap to clone inside, and `dyn EventStore` is a type to hold: `Arc<dyn EventStore>` is itself a store.
///
/// ```
/// # use mainstem::{AppendCondition, EventStore, Filter, MemoryEventStore, NewEvent};
/// # use std::sync::Arc;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mainstem::Result<()> {
/// let store: Arc<dyn EventStore> = Arc::new(MemoryEventStore::new());
/// let started = NewEvent::new("Started", &serde_json::json!({"by": "ada"}))?;
/// store.append([started], AppendCondition::none()).await?;
/// assert_eq!(store.query(&Filter::any_event()).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
///
/// # The rules
///
/// A store is one log in one total order: positions begin at 1 or higher, follow the order in which appends become visible,
/// and no event ever appears below a position that was visible. An append is written whole or not at all, its events at
/// positions that follow each other. With the feature `testing`, `testing::event_store` holds the rules as tests, for any
/// store.
pub trait EventStore: fmt::Debug + Send + Sync {
    /// Carries an append out. The events are checked already: see [`AppendRequest`].
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>>;

    /// Carries a query out.
    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>>;

    /// Appends events, all or none, if the condition still holds. Await what it returns; see [`Append`].
    fn append(&self, events: impl IntoIterator<Item = NewEvent>, condition: AppendCondition) -> Append<'_>
    where
        Self: Sized,
    {
        Append::new(self, events.into_iter().collect(), condition)
    }

    /// Reads all events that match, where the scope says. Await what it returns; see [`Query`].
    ///
    /// The scope is read when this method is called.
    fn query<S: Selection + Clone>(&self, selection: &S) -> Query<'_, S>
    where
        Self: Sized,
    {
        Query::new(self, selection.clone())
    }
}

/// The same methods on a trait object, which cannot have generic ones in the trait.
impl<'s> dyn EventStore + 's {
    /// See [`EventStore::append`].
    pub fn append(&self, events: impl IntoIterator<Item = NewEvent>, condition: AppendCondition) -> Append<'_> {
        Append::new(self, events.into_iter().collect(), condition)
    }

    /// See [`EventStore::query`].
    pub fn query<S: Selection + Clone>(&self, selection: &S) -> Query<'_, S> {
        Query::new(self, selection.clone())
    }
}

impl<T: EventStore + ?Sized> EventStore for Arc<T> {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        (**self).run_append(request)
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        (**self).run_query(request)
    }
}

/// An append, as a store gets it: there is at least one event, each is [valid](NewEvent::validate), and no two have the
/// same id.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AppendRequest {
    /// The events, in their order.
    pub events: Vec<NewEvent>,
    /// What must still hold.
    pub condition: AppendCondition,
    /// The limit that the caller has set; else the store's own.
    pub timeout: Option<Duration>,
}

/// A query, as a store gets it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueryRequest {
    /// Which events.
    pub filter: Filter,
    /// Which part of them.
    pub bounds: Bounds,
    /// How fresh.
    pub consistency: Consistency,
    /// The limit that the caller has set; else the store's own.
    pub timeout: Option<Duration>,
}

/// What a store answers to a query.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) events: Vec<Event>,
    pub(super) head: Option<Mark>,
    pub(super) node: Arc<str>,
    pub(super) role: Role,
}

impl Answer {
    /// The events that were asked for, lowest position first, and the last event of the whole log in the same snapshot,
    /// `None` when the log is empty.
    #[must_use]
    pub fn new(events: Vec<Event>, head: Option<Mark>) -> Self {
        Self { events, head, node: "local".into(), role: Role::Primary }
    }

    /// Says which node has served. Without it, it is a primary named `local`.
    #[must_use]
    pub fn served_by(mut self, node: impl Into<Arc<str>>, role: Role) -> Self {
        (self.node, self.role) = (node.into(), role);
        self
    }
}
