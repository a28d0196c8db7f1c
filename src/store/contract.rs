//! What every event store does.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::stream;

use super::{
    Append, AppendCondition, Appended, BoxStream, Import, LoadAnswer, LoadRequest, LoadStream, Lookup, Piece, Query,
    QueryRequest, QueryStream, ReadBehindRequest, Served, StreamAppend, WaitRequest, behind, lookup, refusal,
};
use crate::{Error, Event, Mark, NewEvent, Result, Role, StreamPlace, Token, filter::Selection};

/// A future on the heap, as a method of a trait object returns it.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A log of events: appended to under a condition, read by filter.
///
/// [`append`](Self::append), [`query`](Self::query) and those behind it are for the users of a store. The methods that begin
/// with `run` are for its makers: each gets one call as data, and returns a future or a stream that owns all that it needs.
/// Two of them every store writes; the others are made of these, and are there for stores that can do better. So a store is
/// a handle that is cheap to clone inside, and `dyn EventStore` is a type to hold: `Arc<dyn EventStore>`, `Box<dyn EventStore>` and
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
/// [`Guard`](crate::Guard) and [`AppendRequest`] make the refusals, [`AppendRequest::is_recorded_as`] tells a repeat,
/// [`StreamAppend::judge`] says whether a stream is as expected, [`Event::in_stream`] puts an event into it,
/// [`NewEvent::into_recorded`] makes the event that is read back, and [`Filter::matches`](crate::Filter::matches),
/// [`QueryRequest::selects`] and [`QueryRequest::select_from`] are for stores that look at the events themselves. `examples/file_store.rs` is a store in a file, whole.
///
/// Implement the methods that begin with `run_`, and leave the others as they are: behind an `Arc` or a `Box`, and so in a
/// [`CommandExecutor`](crate::CommandExecutor), only the former are yours.
pub trait EventStore: fmt::Debug + Send + Sync {
    /// Carries an append out. The events are checked already: see [`AppendRequest`].
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>>;

    /// Carries a query out.
    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>>;

    /// Counts what a query would read. Made of [`run_query`](Self::run_query) unless the store can do better.
    fn run_count(&self, request: QueryRequest) -> BoxFuture<Result<Served<u64>>> {
        let answer = self.run_query(request);
        Box::pin(async move {
            let Answer { events, node, role, token, .. } = answer.await?;
            Ok(Served::new(events.len() as u64).served_by(node, role).with_token(token))
        })
    }

    /// Whether a query would read anything. Made of [`run_query`](Self::run_query), with a limit of 1, unless the store can
    /// do better.
    fn run_exists(&self, mut request: QueryRequest) -> BoxFuture<Result<Served<bool>>> {
        request.limit = Some(1);
        let answer = self.run_query(request);
        Box::pin(async move {
            let Answer { events, node, role, token, .. } = answer.await?;
            Ok(Served::new(!events.is_empty()).served_by(node, role).with_token(token))
        })
    }

    /// Carries a query out, answer by answer: all of them together are what [`run_query`](Self::run_query) would answer when
    /// the first one is asked for, and each has the head of that moment. There is at least one, which may be empty; after an
    /// error nothing more is asked for.
    ///
    /// Unless the store does better it is one answer, with everything in it. [`QueryRequest::in_pages`] makes one that holds
    /// little at a time.
    fn run_stream(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
        Box::pin(stream::once(self.run_query(request)))
    }

    /// Carries the load of a fixed stream out. Made of [`run_query`](Self::run_query), which reads the whole log for it,
    /// unless the store can do better.
    fn run_load(&self, request: LoadRequest) -> BoxFuture<Result<LoadAnswer>> {
        let answer = self.run_query(request.of_everything());
        Box::pin(async move {
            let Answer { events, node, role, token, .. } = answer.await?;
            Ok(request.answer_from(events.iter()).served_by(node, role).with_token(token))
        })
    }

    /// Reads the next events behind a place, and says how far it has looked. What [`after`](ReadBehindRequest::after) names
    /// must be there in the snapshot of the read: if it is not, the answer is [`ReadBehindRequest::diverged`], unless a
    /// replica just has not got there yet, which answers with nothing. Of large events a piece has no more than
    /// [fit](ReadBehindRequest::fitting). Made of [`run_query`](Self::run_query), which is
    /// asked for each of these, unless the store can do better.
    fn run_read_behind(&self, request: ReadBehindRequest) -> BoxFuture<Result<Piece>> {
        behind::of_queries(self, request)
    }

    /// Waits until [`WaitRequest::is_over`] may be true of the log. It is a hint: who waits reads then, and may find nothing.
    /// It may take any time, so whoever calls it drops it when it is no longer wanted.
    ///
    /// Made of [`run_query`](Self::run_query), which asks for the head once, and waits a moment if it is still the same,
    /// unless the store can do better.
    fn run_wait(&self, request: WaitRequest) -> BoxFuture<Result<()>> {
        behind::by_polling(self, request)
    }

    /// What a read has to contain so that it shows an append whose outcome nobody knows, if that was written: a session asks for it
    /// behind one. Nothing unless the store says so, which is right where each read shows every append before it.
    fn unknown_place(&self) -> Token {
        Token::new()
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
    fn query<S: Selection>(&self, selection: &S) -> Query<'_, S>
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

    /// Reads all events that match, one by one, where the scope says; see [`QueryStream`]. Begin with
    /// [`query`](Self::query) and end with [`Query::stream`] to change where and how long first.
    ///
    /// The scope is read when this method is called.
    fn stream<S: Selection>(&self, selection: &S) -> QueryStream<S>
    where
        Self: Sized,
    {
        self.query(selection).stream()
    }

    /// The last event that matches, if any does, where the scope says. Await what it returns; see [`Lookup`].
    ///
    /// The scope is read when this method is called.
    fn last<S: Selection>(&self, selection: &S) -> Lookup<'_, Option<Event>>
    where
        Self: Sized,
    {
        lookup::last(self, selection)
    }

    /// How many events match, where the scope says. Await what it returns; see [`Lookup`].
    ///
    /// The scope is read when this method is called.
    fn count<S: Selection>(&self, selection: &S) -> Lookup<'_, u64>
    where
        Self: Sized,
    {
        lookup::count(self, selection)
    }

    /// Whether any event matches, where the scope says. Await what it returns; see [`Lookup`].
    ///
    /// The scope is read when this method is called.
    fn exists<S: Selection>(&self, selection: &S) -> Lookup<'_, bool>
    where
        Self: Sized,
    {
        lookup::exists(self, selection)
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

            fn run_count(&self, request: QueryRequest) -> BoxFuture<Result<Served<u64>>> {
                (**self).run_count(request)
            }

            fn run_exists(&self, request: QueryRequest) -> BoxFuture<Result<Served<bool>>> {
                (**self).run_exists(request)
            }

            fn run_stream(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
                (**self).run_stream(request)
            }

            fn run_read_behind(&self, request: ReadBehindRequest) -> BoxFuture<Result<Piece>> {
                (**self).run_read_behind(request)
            }

            fn run_wait(&self, request: WaitRequest) -> BoxFuture<Result<()>> {
                (**self).run_wait(request)
            }

            fn unknown_place(&self) -> Token {
                (**self).unknown_place()
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

/// What a store answers to a query.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The events that were asked for, in the order that was asked for.
    pub events: Vec<Event>,
    /// The last event of the whole log, in the same snapshot.
    pub head: Option<Mark>,
    /// The name of the node that has served.
    pub node: Arc<str>,
    /// What that node is.
    pub role: Role,
    /// For reads that contain what this one has seen; empty when the store gives none.
    pub token: Token,
}

impl Answer {
    /// The events that were asked for, in the order that was asked for, and the last event of the whole log in the same snapshot,
    /// `None` when the log is empty.
    #[must_use]
    pub fn new(events: Vec<Event>, head: Option<Mark>) -> Self {
        Self { events, head, node: "local".into(), role: Role::Primary, token: Token::new() }
    }

    /// Adds the token for reads that contain what this one has seen.
    #[must_use]
    pub fn with_token(mut self, token: Token) -> Self {
        self.token = token;
        self
    }

    /// Says which node has served. Without it, it is a primary named `local`.
    #[must_use]
    pub fn served_by(mut self, node: impl Into<Arc<str>>, role: Role) -> Self {
        (self.node, self.role) = (node.into(), role);
        self
    }
}
