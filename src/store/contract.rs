//! What every event store does.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use super::{
    Append, AppendCondition, Appended, Import, LoadAnswer, LoadRequest, LoadStream, Query, StreamAppend, refusal,
};
use crate::{
    Consistency, Error, Event, Filter, Mark, NewEvent, Result, Role, StreamPlace,
    filter::{Bounds, Selection, Subject},
};

/// A future on the heap, as a method of a trait object returns it.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A log of events: appended to under a condition, read by filter.
///
/// [`append`](Self::append) and [`query`](Self::query) are for the users of a store. Those that begin with `run` are for
/// its makers: each gets one call as data, and returns a future that owns all that it needs. So a store is a handle that is
/// cheap to clone inside, and `dyn EventStore` is a type to hold: `Arc<dyn EventStore>`, `Box<dyn EventStore>` and
/// `&dyn EventStore` are stores themselves. (Call the last one's methods as `(&store).query(…)`, since the bare object has no
/// generic methods.)
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
/// positions that follow each other. The events of a fixed stream have the versions 1, 2, 3 and so on, in the order of the
/// log. With the feature `testing`, `testing::event_store` holds the rules as tests, for any
/// store.
///
/// # Making a store
///
/// A store says what it is asked in the words of this crate: [`AppendCondition::guard`] is what an append's condition asks,
/// [`Guard`](crate::Guard) and [`AppendRequest`] make the refusals, [`AppendRequest::is_recorded_as`] tells a repeat, [`StreamAppend::judge`] whether a stream is as expected,
/// [`NewEvent::into_recorded`] makes the event that is read back, and [`Filter::matches`] and [`QueryRequest::selects`] are
/// for stores that look at the events themselves. `examples/file_store.rs` is a store in a file, whole.
pub trait EventStore: fmt::Debug + Send + Sync {
    /// Carries an append out. The events are checked already: see [`AppendRequest`].
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>>;

    /// Carries a query out.
    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>>;

    /// Carries the load of a fixed stream out. Made of [`run_query`](Self::run_query), which reads the whole log for it,
    /// unless the store can do better.
    fn run_load(&self, request: LoadRequest) -> BoxFuture<Result<LoadAnswer>> {
        let (filter, bounds) = (Filter::any_event(), Bounds::Unbounded);
        let (consistency, timeout) = (request.consistency.clone(), request.timeout);
        let answer = self.run_query(QueryRequest { filter, bounds, consistency, timeout });
        Box::pin(async move {
            let Answer { events, node, role, .. } = answer.await?;
            Ok(request.answer_from(events.iter()).served_by(node, role))
        })
    }

    /// Appends events, all or none, if the condition still holds. Await what it returns; see [`Append`].
    fn append(&self, events: impl IntoIterator<Item = NewEvent>, condition: AppendCondition) -> Append<'_>
    where
        Self: Sized,
    {
        Append::new(self, events.into_iter().collect(), condition)
    }

    /// Appends more events than go into one append, in chunks. Await what it returns; see [`Import`].
    fn import<'a, I>(&'a self, events: I, condition: AppendCondition) -> Import<'a>
    where
        Self: Sized,
        I: IntoIterator<Item = NewEvent>,
        I::IntoIter: Send + 'a,
    {
        Import::new(self, Box::new(events.into_iter()), condition)
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

    /// Loads a fixed stream, where the scope says. Await what it returns; see [`LoadStream`].
    ///
    /// The scope is read when this method is called.
    fn load_stream(&self, id: impl Into<Arc<str>>) -> LoadStream<'_>
    where
        Self: Sized,
    {
        LoadStream::new(self, id.into())
    }
}

/// Makes a handle on a store a store, so that a trait object behind it has the methods that are not the object's own.
macro_rules! forward {
    ($($handle:ty),+) => { $(
        impl<T: EventStore + ?Sized> EventStore for $handle {
            fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
                (**self).run_append(request)
            }

            fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
                (**self).run_query(request)
            }

            fn run_load(&self, request: LoadRequest) -> BoxFuture<Result<LoadAnswer>> {
                (**self).run_load(request)
            }
        }
    )+ };
}

forward!(&T, Arc<T>, Box<T>);

/// An append, as a store gets it: there is at least one event, each is [valid](NewEvent::validate), and no two have the
/// same id.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AppendRequest {
    /// The events, in their order.
    pub events: Vec<NewEvent>,
    /// What must still hold.
    pub condition: AppendCondition,
    /// The stream that they go to, if they go to one.
    pub stream: Option<StreamAppend>,
    /// The limit that the caller has set; else the store's own.
    pub timeout: Option<Duration>,
}

impl AppendRequest {
    /// For the makers of stores: the refusal when the log holds some of the ids, the first at `position`, and this is
    /// not the repeat of an append.
    ///
    /// A repeat has all events of the first append, in its order, and they [are as they were](Self::is_recorded_as): that
    /// is answered with [`Appended::as_repeated`], whatever the condition and the expected version say now.
    #[must_use]
    pub fn reused_ids(position: u64) -> Error {
        refusal::reused(position)
    }

    /// For the makers of stores: whether the first of these events of the log are those of this append, each
    /// [as it was](NewEvent::is_recorded_as) and in the same stream.
    #[must_use]
    pub fn is_recorded_as<'a>(&self, recorded: impl IntoIterator<Item = &'a Event>) -> bool {
        let stream = self.stream.as_ref().map(|stream| &*stream.id);
        let mut recorded = recorded.into_iter();
        self.events.iter().all(|event| {
            recorded.next().is_some_and(|recorded| {
                event.is_recorded_as(recorded) && recorded.stream().map(StreamPlace::id) == stream
            })
        })
    }
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

impl QueryRequest {
    /// Whether the event is asked for: it matches the filter and is within the bounds.
    #[must_use]
    pub fn selects(&self, event: &Event) -> bool {
        let subject = Subject::from(event);
        self.bounds.admit(&subject) && self.filter.matches_subject(&subject)
    }
}

/// What a store answers to a query.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The events that were asked for, lowest position first.
    pub events: Vec<Event>,
    /// The last event of the whole log, in the same snapshot.
    pub head: Option<Mark>,
    /// The name of the node that has served.
    pub node: Arc<str>,
    /// What that node is.
    pub role: Role,
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
