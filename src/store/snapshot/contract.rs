//! The contract of every store with snapshots.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{DeleteSnapshot, LoadSnapshot, Project, SaveSnapshot, Saved, Snapshot, SnapshotKey};
use crate::{
    Consistency, Error, ErrorKind, Event, Filter, Json, Mark, Result, Token,
    store::{Answer, BoxFuture, EventStore},
};

/// An event store that also stores snapshots: states of projections.
///
/// A snapshot is a cache. It saves reading events again, and may be lost or deleted at any time without harm, so never
/// store anything in one that is not in the log. Most users only need [`project`](Self::project): it loads the
/// snapshot, reads the events appended since, and saves from time to time.
///
/// ```
/// # use mainstem::{AppendCondition, EventStore, Filter, MemoryEventStore, NewEvent, SnapshotKey, SnapshotStore};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mainstem::Result<()> {
/// # let store = MemoryEventStore::new();
/// # store.append([NewEvent::new("Lent", &())?], AppendCondition::none()).await?;
/// let filter = Filter::matching().any_type_of(["Lent", "Returned"]).finish()?;
/// let key = SnapshotKey::new("lent books", 1, &filter);
/// let lent = store
///     .project(&key, 0_i64, |lent, event| {
///         *lent += if event.event_type() == "Lent" { 1 } else { -1 };
///         Ok(())
///     })
///     .await?;
/// if *lent.state() < 3 {
///     // What the decision is based on is the state, the snapshot included.
///     store.append([NewEvent::new("Lent", &())?], lent.unchanged()).await?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// # The rules
///
/// A snapshot has a [`Mark`]: the log's last event when its state was computed. When a store saves or loads a snapshot,
/// it checks in the same step whether its log holds that event: a snapshot of another history is never returned and
/// never saved. One of a lower position never replaces one of a higher, except that any valid one replaces one of
/// another history. A log without events has no mark, and its projections have nothing to save.
///
/// With the feature `testing`, `testing::event_store::snapshots` holds the rules as tests, for any store.
///
/// # Making a store
///
/// The four methods without a body are for implementors of stores, as those of [`EventStore`] are. A store need not
/// have snapshots, so this is a separate trait. `dyn SnapshotStore` can be held, as `dyn EventStore` can.
pub trait SnapshotStore: EventStore {
    /// Executes a save, on the primary. The key is [valid](SnapshotKey::validate).
    ///
    /// If the log does not hold the mark, it answers [`SaveSnapshotRequest::diverged`].
    fn run_save_snapshot(&self, request: SaveSnapshotRequest) -> BoxFuture<Result<Saved>>;

    /// Executes a load. The key is valid. There may be no snapshot.
    ///
    /// If the log does not hold the snapshot's mark, in the same snapshot of the database, it answers
    /// [`LoadSnapshotRequest::diverged`].
    fn run_load_snapshot(&self, request: LoadSnapshotRequest) -> BoxFuture<Result<Option<Snapshot>>>;

    /// Executes a deletion, on the primary, and returns whether there was a snapshot. The key is valid.
    fn run_delete_snapshot(&self, request: DeleteSnapshotRequest) -> BoxFuture<Result<bool>>;

    /// Reads on from a snapshot: the matching events after its mark, and the log's head at the same moment.
    ///
    /// If the log holds another event at the mark, it answers [`ReadAfterSnapshotRequest::diverged`], since the history may have
    /// been lost after the snapshot was loaded. It does the same if the log ends before the mark, except on a replica:
    /// that may merely lag behind the node which served the snapshot, and answers with no events and its head.
    fn run_read_after_snapshot(&self, request: ReadAfterSnapshotRequest) -> BoxFuture<Result<Answer>>;

    /// Saves the state that was computed from all events of the key's filter up to `mark`, which is the log's
    /// [head](crate::History::head) at the read. Await the returned value; see [`SaveSnapshot`].
    ///
    /// The state is serialised when this method is called.
    fn save_snapshot<T: Serialize + ?Sized>(&self, key: &SnapshotKey, mark: Mark, state: &T) -> SaveSnapshot<'_>
    where
        Self: Sized,
    {
        SaveSnapshot::new(self, key.clone(), mark, Json::from_serialize(state))
    }

    /// Loads the snapshot, at the level of the scope. Await the returned value; see [`LoadSnapshot`].
    ///
    /// The scope is read when this method is called.
    fn load_snapshot(&self, key: &SnapshotKey) -> LoadSnapshot<'_>
    where
        Self: Sized,
    {
        LoadSnapshot::new(self, key.clone())
    }

    /// Deletes the snapshot, if there is one. Await the returned value; see [`DeleteSnapshot`].
    fn delete_snapshot(&self, key: &SnapshotKey) -> DeleteSnapshot<'_>
    where
        Self: Sized,
    {
        DeleteSnapshot::new(self, key.clone())
    }

    /// Computes the state of a projection from its snapshot, if there is one, and the events appended since, and saves
    /// a new snapshot when it is due. Await the returned value; see [`Project`].
    ///
    /// `initial` is the state before the first event, and `apply` updates a state with one event.
    ///
    /// The scope is read when this method is called: it determines where snapshot and events are read.
    fn project<S, F>(&self, key: &SnapshotKey, initial: S, apply: F) -> Project<'_, S, F>
    where
        Self: Sized,
        F: FnMut(&mut S, &Event) -> Result<()>,
    {
        Project::new(self, key.clone(), initial, apply)
    }
}

/// Implements the trait for a handle on a store, as in [`EventStore`].
macro_rules! forward {
    ($($handle:ty),+) => { $(
        impl<T: SnapshotStore + ?Sized> SnapshotStore for $handle {
            fn run_save_snapshot(&self, request: SaveSnapshotRequest) -> BoxFuture<Result<Saved>> {
                (**self).run_save_snapshot(request)
            }

            fn run_load_snapshot(&self, request: LoadSnapshotRequest) -> BoxFuture<Result<Option<Snapshot>>> {
                (**self).run_load_snapshot(request)
            }

            fn run_delete_snapshot(&self, request: DeleteSnapshotRequest) -> BoxFuture<Result<bool>> {
                (**self).run_delete_snapshot(request)
            }

            fn run_read_after_snapshot(&self, request: ReadAfterSnapshotRequest) -> BoxFuture<Result<Answer>> {
                (**self).run_read_after_snapshot(request)
            }
        }
    )+ };
}

forward!(&T, Arc<T>, Box<T>);

/// A save as a store receives it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SaveSnapshotRequest {
    /// The key of the snapshot.
    pub key: SnapshotKey,
    /// The place up to which the state was computed.
    pub mark: Mark,
    /// The state there.
    pub state: Json,
    /// The time limit set by the caller; otherwise the store's own applies.
    pub timeout: Option<Duration>,
}

/// A load as a store receives it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadSnapshotRequest {
    /// The key of the snapshot.
    pub key: SnapshotKey,
    /// How fresh the read must be.
    pub consistency: Consistency,
    /// What the answer must contain, by its level and its session.
    pub floor: Token,
    /// Whether the caller uses the answer's token.
    pub wants_token: bool,
    /// The time limit set by the caller; otherwise the store's own applies.
    pub timeout: Option<Duration>,
}

impl ReadAfterSnapshotRequest {
    /// Creates a request for the events of this filter after this mark, at this level.
    #[must_use]
    pub fn new(filter: Filter, mark: Mark, consistency: Consistency) -> Self {
        Self { filter, mark, consistency, floor: Token::new(), wants_token: false, timeout: None }
    }
}

impl LoadSnapshotRequest {
    pub(super) fn new(key: SnapshotKey, consistency: Consistency) -> Self {
        Self { key, consistency, floor: Token::new(), wants_token: false, timeout: None }
    }
}

/// A deletion as a store receives it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeleteSnapshotRequest {
    /// The key of the snapshot.
    pub key: SnapshotKey,
    /// The time limit set by the caller; otherwise the store's own applies.
    pub timeout: Option<Duration>,
}

/// A read of the events appended since a snapshot, as a store receives it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadAfterSnapshotRequest {
    /// The filter: which events.
    pub filter: Filter,
    /// The event after which to read, which must exist.
    pub mark: Mark,
    /// How fresh the read must be.
    pub consistency: Consistency,
    /// What the answer must contain, by its level and its session.
    pub floor: Token,
    /// Whether the caller uses the answer's token.
    pub wants_token: bool,
    /// The time limit set by the caller; otherwise the store's own applies.
    pub timeout: Option<Duration>,
}

impl SaveSnapshotRequest {
    /// Creates the error for a log, whose last event is at `head`, that does not hold the mark. An empty log ends at 0.
    #[must_use]
    pub fn diverged(&self, head: u64) -> Error {
        let key = &self.key;
        diverged(head, self.mark, format_args!("the new snapshot of {key} was computed from; read again"))
    }
}

impl LoadSnapshotRequest {
    /// Creates the error for a log, whose last event is at `head`, that does not hold the `mark` of the snapshot. An
    /// empty log ends at 0.
    #[must_use]
    pub fn diverged(&self, mark: Mark, head: u64) -> Error {
        let what = format_args!("the snapshot of {} was computed from; save a new one, or delete it", self.key);
        diverged(head, mark, what)
    }
}

impl ReadAfterSnapshotRequest {
    /// Creates the error for a log, whose last event is at `head`, that does not hold the mark. An empty log ends at 0.
    #[must_use]
    pub fn diverged(&self, head: u64) -> Error {
        diverged(head, self.mark, format_args!("the read was to go on from; read from the beginning"))
    }
}

fn diverged(head: u64, mark: Mark, what: std::fmt::Arguments<'_>) -> Error {
    let message = format!(
        "the log, which ends at position {head}, does not hold the event {mark} that {what}: the log was restored, or \
         events were lost in a failover"
    );
    Error::new(ErrorKind::LogDiverged, message)
}
