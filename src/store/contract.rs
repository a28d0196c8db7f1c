//! The contract of every event store.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::stream;

use super::{
    Append, AppendCondition, Appended, BoxStream, Import, LoadStream, LoadStreamAnswer, LoadStreamRequest, Lookup,
    Piece, Query, QueryRequest, QueryStream, ReadAfterRequest, Served, StreamAppend, WaitRequest, lookup, read_after,
    refusal, served_by::served_by,
};
use crate::{Error, Event, Mark, NewEvent, Result, Role, StreamPlace, Token, filter::Selection};

/// A boxed future, as a method of a trait object returns it.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A log of events: appended to under a condition, read by filter.
///
/// [`append`](Self::append), [`query`](Self::query) and the methods after them are for users of a store. The methods
/// that begin with `run` are for its implementors: each receives one call as data, and returns a future or a stream
/// that owns all it needs. Every store implements two of them; the others have default implementations based on these,
/// which a store may replace with better ones. A store is therefore a handle that is cheap to clone inside, and
/// `dyn EventStore` can be held: `Arc<dyn EventStore>`, `Box<dyn EventStore>` and `&dyn EventStore` are stores themselves.
/// (Call the methods of the last one as `(&store).query(…)`, since the bare object has no generic methods.)
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
/// A store is one log in one total order: positions begin at 1 or higher and follow the order in which appends become
/// visible, and no event ever appears below a position that was visible. An append is written completely or not at all,
/// its events at consecutive positions. The events of a fixed stream have the versions 1, 2, 3 and so on, in the order
/// of the log. With the feature `testing`, `testing::event_store` holds these rules as tests, for any store.
///
/// # Making a store
///
/// A store uses these types and methods of this crate: [`AppendCondition::guard`] is what an append's condition asks
/// for; [`Guard`](crate::backend::Guard) and [`AppendRequest`] create the errors of refused appends;
/// [`AppendRequest::is_recorded_as`] recognises a repeat; [`StreamAppend::judge`] says whether a stream is as expected;
/// [`Event::in_stream`] puts an event into it; and [`NewEvent::into_recorded`] creates the event that is read back.
/// [`Filter::matches`](crate::Filter::matches), [`QueryRequest::selects`] and [`QueryRequest::select_from`] are for
/// stores that look at the events themselves. `examples/file_store.rs` is a complete store in a file.
///
/// Implement the methods that begin with `run_`, and [`token_of_unknown_place`](Self::token_of_unknown_place) if you need it. Leave the
/// others as they are: behind an `Arc` or a `Box`, and so in a [`CommandExecutor`](crate::CommandExecutor), only these
/// methods are yours.
///
/// # Wrapping a store
///
/// A store that passes calls on to another one, to trace or to encrypt them, implements *every* method that begins with
/// `run_`, and [`token_of_unknown_place`](Self::token_of_unknown_place). What it leaves out has the default, which is built
/// on its own `run_query`: right, but without what the inner store does better (a count that reads every event, a wait that
/// polls). The default of `token_of_unknown_place` is even wrong around a [`PostgresEventStore`](crate::PostgresEventStore):
/// a session would not see its own append of unknown outcome on a replica.
pub trait EventStore: fmt::Debug + Send + Sync {
    /// Executes an append. The events are already validated: see [`AppendRequest`].
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>>;

    /// Executes a query.
    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>>;

    /// Counts what a query would read. By default, it uses [`run_query`](Self::run_query).
    fn run_count(&self, request: QueryRequest) -> BoxFuture<Result<Served<u64>>> {
        let answer = self.run_query(request);
        Box::pin(async move {
            let Answer { events, node, role, token, .. } = answer.await?;
            Ok(Served::new(events.len() as u64).served_by(node, role).with_token(token))
        })
    }

    /// Whether a query would read anything. By default, it uses [`run_query`](Self::run_query) with a limit of 1.
    fn run_exists(&self, mut request: QueryRequest) -> BoxFuture<Result<Served<bool>>> {
        request.limit = Some(1);
        let answer = self.run_query(request);
        Box::pin(async move {
            let Answer { events, node, role, token, .. } = answer.await?;
            Ok(Served::new(!events.is_empty()).served_by(node, role).with_token(token))
        })
    }

    /// Executes a query answer by answer. Together, the answers are what [`run_query`](Self::run_query) would answer at
    /// the moment when the first one is requested, and each has the head of that moment. There is at least one answer,
    /// which may be empty; after an error, nothing more is requested.
    ///
    /// By default, it is one answer with everything in it. [`QueryRequest::in_pages`] creates a stream that holds
    /// little at a time.
    fn run_query_stream(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
        Box::pin(stream::once(self.run_query(request)))
    }

    /// Executes the load of a fixed stream. By default, it uses [`run_query`](Self::run_query), which reads the whole
    /// log for it.
    fn run_load_stream(&self, request: LoadStreamRequest) -> BoxFuture<Result<LoadStreamAnswer>> {
        let answer = self.run_query(request.of_everything());
        Box::pin(async move {
            let Answer { events, node, role, token, .. } = answer.await?;
            Ok(request.answer_from(events.iter()).served_by(node, role).with_token(token))
        })
    }

    /// Reads the next events after a place, and reports how far it has looked. The event named by
    /// [`after`](ReadAfterRequest::after) must exist in the snapshot of the read. If it does not, the answer is
    /// [`ReadAfterRequest::diverged`], unless a replica has not replayed that far yet: it answers with nothing. A
    /// piece has no more large events than [fit](ReadAfterRequest::fitting). By default, it uses
    /// [`run_query`](Self::run_query), once for each of these.
    fn run_read_after(&self, request: ReadAfterRequest) -> BoxFuture<Result<Piece>> {
        read_after::of_queries(self, request)
    }

    /// Waits until [`WaitRequest::is_over`] may be true of the log. This is a hint: the waiting caller then reads, and
    /// may find nothing. The wait may take any time, so the caller drops it when it is no longer needed.
    ///
    /// By default, it uses [`run_query`](Self::run_query), which requests the head once, and waits a moment if it is
    /// still the same.
    fn run_wait(&self, request: WaitRequest) -> BoxFuture<Result<()>> {
        read_after::by_polling(self, request)
    }

    /// Returns what a read must contain to show an append of unknown outcome, if it was written; a session requests it
    /// after such an append. By default, it is nothing, which is right where each read shows every append before it.
    fn token_of_unknown_place(&self) -> Token {
        Token::new()
    }

    /// Appends events, all or none, if the condition still holds. Await the returned value; see [`Append`].
    fn append(&self, events: impl IntoIterator<Item = NewEvent>, condition: AppendCondition) -> Append<'_>
    where
        Self: Sized,
    {
        Append::new(self, events.into_iter().collect(), condition)
    }

    /// Appends more events than fit into one append, in chunks. Await the returned value; see [`Import`].
    fn import<'a, I>(&'a self, events: I, condition: AppendCondition) -> Import<'a>
    where
        Self: Sized,
        I: IntoIterator<Item = NewEvent>,
        I::IntoIter: Send + 'a,
    {
        Import::new(self, Box::new(events.into_iter()), condition)
    }

    /// Reads all matching events, at the level of the scope. Await the returned value; see [`Query`].
    ///
    /// The scope is read when this method is called.
    fn query<S: Selection>(&self, selection: &S) -> Query<'_, S>
    where
        Self: Sized,
    {
        Query::new(self, selection.clone())
    }

    /// Loads a fixed stream, at the level of the scope. Await the returned value; see [`LoadStream`].
    ///
    /// The scope is read when this method is called.
    fn load_stream(&self, id: impl Into<Arc<str>>) -> LoadStream<'_>
    where
        Self: Sized,
    {
        LoadStream::new(self, id.into())
    }

    /// Reads all matching events one by one, at the level of the scope; see [`QueryStream`]. To change level or limits
    /// first, start with [`query`](Self::query) and end with [`Query::stream`].
    ///
    /// The scope is read when this method is called.
    fn query_stream<S: Selection>(&self, selection: &S) -> QueryStream<S>
    where
        Self: Sized,
    {
        self.query(selection).stream()
    }

    /// Finds the last matching event, if there is one, at the level of the scope. Await the returned value; see
    /// [`Lookup`].
    ///
    /// The scope is read when this method is called.
    fn last<S: Selection>(&self, selection: &S) -> Lookup<'_, Option<Event>>
    where
        Self: Sized,
    {
        lookup::last(self, selection)
    }

    /// Counts the matching events, at the level of the scope. Await the returned value; see [`Lookup`].
    ///
    /// The scope is read when this method is called.
    fn count<S: Selection>(&self, selection: &S) -> Lookup<'_, u64>
    where
        Self: Sized,
    {
        lookup::count(self, selection)
    }

    /// Checks whether any event matches, at the level of the scope. Await the returned value; see [`Lookup`].
    ///
    /// The scope is read when this method is called.
    fn exists<S: Selection>(&self, selection: &S) -> Lookup<'_, bool>
    where
        Self: Sized,
    {
        lookup::exists(self, selection)
    }
}

/// Implements the trait for a handle on a store, so a trait object behind it has the methods that the object itself
/// lacks.
macro_rules! forward {
    ($($handle:ty),+) => { $(
        impl<T: EventStore + ?Sized> EventStore for $handle {
            fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
                (**self).run_append(request)
            }

            fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
                (**self).run_query(request)
            }

            fn run_load_stream(&self, request: LoadStreamRequest) -> BoxFuture<Result<LoadStreamAnswer>> {
                (**self).run_load_stream(request)
            }

            fn run_count(&self, request: QueryRequest) -> BoxFuture<Result<Served<u64>>> {
                (**self).run_count(request)
            }

            fn run_exists(&self, request: QueryRequest) -> BoxFuture<Result<Served<bool>>> {
                (**self).run_exists(request)
            }

            fn run_query_stream(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
                (**self).run_query_stream(request)
            }

            fn run_read_after(&self, request: ReadAfterRequest) -> BoxFuture<Result<Piece>> {
                (**self).run_read_after(request)
            }

            fn run_wait(&self, request: WaitRequest) -> BoxFuture<Result<()>> {
                (**self).run_wait(request)
            }

            fn token_of_unknown_place(&self) -> Token {
                (**self).token_of_unknown_place()
            }
        }
    )+ };
}

forward!(&T, Arc<T>, Box<T>);

/// An append as a store receives it: there is at least one event, each is [valid](NewEvent::validate), and no two have
/// the same id.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AppendRequest {
    /// The events, in order.
    pub events: Vec<NewEvent>,
    /// What must still hold.
    pub condition: AppendCondition,
    /// The stream that they go to, if any.
    pub stream: Option<StreamAppend>,
    /// The time limit set by the caller; otherwise the store's own applies.
    pub timeout: Option<Duration>,
}

impl AppendRequest {
    /// Creates the error for an append of which the log already holds some ids, the first at `position`, and which is
    /// not a repeat; for implementors of stores.
    ///
    /// A repeat has all events of the first append, in the same order, and they [are as they
    /// were](Self::is_recorded_as). The store answers it with [`Appended::as_repeated`], whatever the condition and the
    /// expected version say now.
    #[must_use]
    pub fn reused_ids(position: u64) -> Error {
        refusal::reused(position)
    }

    /// Whether the first of these recorded events are those of this append, each [as it was](NewEvent::is_recorded_as)
    /// and in the same stream; for implementors of stores.
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

/// A store's answer to a query.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The requested events, in the requested order.
    pub events: Vec<Event>,
    /// The last event of the whole log, in the same snapshot.
    pub head: Option<Mark>,
    /// The name of the node that served the read.
    pub node: Arc<str>,
    /// The role of that node.
    pub role: Role,
    /// For reads that contain what this one has seen; empty if the store returns none.
    pub token: Token,
}

served_by!(Answer);

impl Answer {
    /// Creates an answer from the requested events, in the requested order, and the last event of the whole log in the
    /// same snapshot, which is `None` if the log is empty.
    #[must_use]
    pub fn new(events: Vec<Event>, head: Option<Mark>) -> Self {
        Self { events, head, node: "local".into(), role: Role::Primary, token: Token::new() }
    }
}
