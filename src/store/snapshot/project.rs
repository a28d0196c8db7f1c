//! Load, read on, apply, save.

use std::{future::Future, future::IntoFuture, pin::Pin, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    LoadOutcome, LoadSnapshotRequest, Projected, ReadAfterSnapshotRequest, SaveOutcome, SaveSnapshotRequest,
    SnapshotKey, SnapshotStore,
};
use crate::{
    Consistency, Error, ErrorKind, Event, Json, Mark, Result, Token,
    router::Deadline,
    scope::current_consistency,
    store::{Answer, QueryRequest, noted::Noted},
    telemetry::{Done, Operation},
};

const SAVE_EVERY: u64 = 100;

const SAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The computation of a projection: await it, after changing its level, limits, and how often it saves if needed.
///
/// It loads the [snapshot](SnapshotKey), reads the events appended since, applies them, and saves a new snapshot when
/// there are [enough](Self::save_every): two reads instead of one that grows with the log. Without a snapshot it reads
/// all events. The result has the state and the [condition](Projected::unchanged) that guards it.
///
/// ```no_run
/// # use std::time::Duration;
/// # use mainstem::{Filter, PostgresEventStore, SaveOutcome, SnapshotKey, SnapshotStore, with_eventual_consistency};
/// # async fn run(store: PostgresEventStore, filter: Filter) -> mainstem::Result<()> {
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Shelf {
///     books: u64,
/// }
///
/// let key = SnapshotKey::new("shelf", 1, &filter);
/// let shelf = with_eventual_consistency(async {
///     let shelf = store.project(&key, Shelf::default(), |shelf, event| {
///         shelf.books += u64::from(event.event_type() == "BookAdded");
///         Ok(())
///     });
///     shelf.save_every(500).save_timeout(Duration::from_millis(200)).await
/// })
/// .await?;
/// println!("{} books, {} events read", shelf.state().books, shelf.applied());
/// # Ok(())
/// # }
/// ```
///
/// # What goes wrong with a snapshot
///
/// A snapshot is a cache, so a bad one costs time but never changes the result. A snapshot that does not decode as the
/// state's type, or whose event is no longer in the log, is skipped: all events are read, [`Projected::loaded`] says
/// why, a warning is logged, and the next snapshot replaces it. A save that fails is reported in [`Projected::saved`]
/// and in a warning, and nowhere else. But if the store cannot be asked for the snapshot (the table is missing, the
/// role may not read it, no node answers), the call fails: reading the whole log each time would only hide the problem.
///
/// # Saving
///
/// The primary stores the snapshot, wherever it was read. It is saved before the call returns, since a failure of a
/// task that continues after the answer would go unnoticed. So one call in many takes longer, by a write on the
/// primary, and at most by [a limit of its own](Self::save_timeout). Callers that cannot wait at all turn saving
/// [off](Self::without_saving), and compute the projection with saving elsewhere from time to time.
///
/// # Errors
///
/// As [`LoadSnapshot`](crate::LoadSnapshot) and [`Query`](crate::Query), except for `LogDiverged`; and whatever `apply`
/// returns: its error ends the call, the state is then of no use, and nothing is saved.
///
/// # Panics
///
/// If `apply` panics.
///
/// # Cancel safety
///
/// Dropping it has no effect on the log. The snapshot is saved completely or not at all.
#[must_use = "a projection does nothing until it is awaited"]
pub struct Project<'a, S, F> {
    call: Call<'a>,
    initial: S,
    apply: F,
    save_every: Option<u64>,
    save_timeout: Duration,
}

/// What the reads need.
struct Call<'a> {
    store: &'a dyn SnapshotStore,
    key: SnapshotKey,
    consistency: Consistency,
    noted: Noted,
    timeout: Option<Duration>,
}

/// The starting point of the computation.
enum Start<S> {
    Snapshot(S, Mark, Answer),
    Beginning(LoadOutcome, Answer),
}

impl<'a, S, F> Project<'a, S, F> {
    pub(crate) fn new(store: &'a dyn SnapshotStore, key: SnapshotKey, initial: S, apply: F) -> Self {
        let (consistency, noted) = (current_consistency(), Noted::current());
        let call = Call { store, key, consistency, noted, timeout: None };
        Self { call, initial, apply, save_every: Some(SAVE_EVERY), save_timeout: SAVE_TIMEOUT }
    }

    /// Replaces the scope's consistency level, for both reads.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.call.consistency = consistency;
        self
    }

    /// Sets one limit for all reads together. Defaults to the store's own limit for each of them, which in PostgreSQL is the
    /// router's [`call_timeout`](crate::RouterBuilder::call_timeout). The save has [another](Self::save_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.call.timeout = Some(limit);
        self
    }

    /// Saves if at least this many events were applied since the last snapshot. Defaults to 100; 0 counts as 1.
    ///
    /// A snapshot saves later calls from reading these events, and costs a commit on the primary, with the whole state
    /// in its WAL. If the number is too low, reads turn into writes, which all go to one node; if it is too high, every
    /// call reads and applies that many events again. A hundred events are one small answer, while a commit waits for a
    /// disk, and perhaps for a standby: with one commit in a hundred events, most calls are as fast as without saving.
    /// A large state, or few reads, call for a higher number; events that are slow to apply, for a lower one.
    ///
    /// An unusable snapshot is replaced at once, whatever the number. A state that does not decode from its own JSON, such
    /// as one with an infinite `f64`, is not saved at all.
    pub fn save_every(mut self, events: u64) -> Self {
        self.save_every = Some(events);
        self
    }

    /// Never saves: for roles that may only read, and where an answer must not wait for a write.
    pub fn without_saving(mut self) -> Self {
        self.save_every = None;
        self
    }

    /// Sets the time limit of the save. Defaults to one second.
    ///
    /// The answer waits at most this long if the primary does not respond. If the limit is too short, no snapshot is
    /// ever saved, and each call reads more than the one before and tries to save again.
    pub fn save_timeout(mut self, limit: Duration) -> Self {
        self.save_timeout = limit;
        self
    }
}

/// The future borrows the store; to spawn it, move that into the task.
impl<'a, S, F> IntoFuture for Project<'a, S, F>
where
    S: Serialize + DeserializeOwned + Send + 'a,
    F: FnMut(&mut S, &Event) -> Result<()> + Send + 'a,
{
    type Output = Result<Projected<S>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(Operation::Project.record(Box::pin(self.run()), |projected: &Projected<S>| {
            Done::read(&projected.node, projected.role, projected.applied)
        }))
    }
}

impl<S, F> Project<'_, S, F>
where
    S: Serialize + DeserializeOwned + Send,
    F: FnMut(&mut S, &Event) -> Result<()> + Send,
{
    async fn run(self) -> Result<Projected<S>> {
        let Self { mut call, initial, mut apply, save_every, save_timeout } = self;
        call.key.validate()?;
        let (floor, _) = call.noted.ask(&call.consistency);
        let (mut state, loaded, answer) = match call.start(&floor).await? {
            Start::Snapshot(state, mark, answer) => (state, LoadOutcome::Used(mark), answer),
            Start::Beginning(loaded, answer) => (initial, loaded, answer),
        };
        let Answer { events, mut head, node, role, token } = answer;
        call.noted.saw(&token);
        // The replica that serves the events may lag behind the one that had the snapshot.
        if let LoadOutcome::Used(mark) = loaded
            && head.is_none_or(|head| head.position() < mark.position())
        {
            head = Some(mark);
        }
        for event in &events {
            apply(&mut state, event)?;
        }
        let applied = events.len() as u64;
        drop(events);
        let unusable = matches!(loaded, LoadOutcome::Unusable(_));
        let saved = match (head, save_every) {
            (Some(head), Some(every)) if unusable || applied >= every.max(1) => {
                // Serialised before the wait, so the state need not be `Sync`. Nobody could use one that does not decode:
                // each call would read everything, and save the same again.
                let json = Json::from_serialize(&state).and_then(|json| match json.decode::<S>() {
                    Ok(_) => Ok(json),
                    Err(error) => Err(error.within("what it is serialised as")),
                });
                call.save(head, json, save_timeout).await
            }
            _ => SaveOutcome::NotDue,
        };
        with_metrics! { crate::telemetry::metrics::store::projected(loaded.as_str(), saved.as_str()); }
        Ok(Projected { key: call.key, state, head, applied, loaded, saved, node, role, token })
    }
}

impl Call<'_> {
    async fn start<S: DeserializeOwned>(&self, floor: &Token) -> Result<Start<S>> {
        let deadline = self.timeout.map(Deadline::after);
        let remaining = || deadline.map(|deadline| deadline.remaining());
        let found = match self.resume(floor, remaining).await? {
            Ok(Some(start)) => return Ok(start),
            Ok(None) => LoadOutcome::NotFound,
            Err(error) => {
                tracing::warn!(key = %self.key, error = %error.for_log(), "a snapshot is of no use; reading all events");
                LoadOutcome::Unusable(error)
            }
        };
        let request = QueryRequest {
            consistency: self.consistency.clone(),
            floor: floor.clone(),
            wants_token: self.noted.is_on(),
            timeout: remaining(),
            ..QueryRequest::new(self.key.filter())
        };
        Ok(Start::Beginning(found, self.store.run_query(request).await?))
    }

    /// Computes from the snapshot's state and the events appended since; the inner error says why it cannot be used.
    async fn resume<S: DeserializeOwned>(
        &self,
        floor: &Token,
        remaining: impl Fn() -> Option<Duration>,
    ) -> Result<Result<Option<Start<S>>, Error>> {
        // The load has no floor: reading on proves that the log is recent enough. In a session, that includes what the
        // snapshot has seen.
        let load = LoadSnapshotRequest {
            wants_token: self.noted.is_on(),
            timeout: remaining(),
            ..LoadSnapshotRequest::new(self.key.clone(), self.consistency.clone())
        };
        let snapshot = match self.store.run_load_snapshot(load).await {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => return Ok(Ok(None)),
            Err(error) if error.kind() == ErrorKind::LogDiverged => return Ok(Err(error)),
            Err(error) => return Err(error),
        };
        let state = match snapshot.decode() {
            Ok(state) => state,
            Err(error) => return Ok(Err(error.within(&format!("the snapshot of {}", self.key)))),
        };
        let (mark, floor) = (snapshot.mark(), floor.merge(snapshot.token()));
        drop(snapshot);
        let read_on = ReadAfterSnapshotRequest {
            filter: self.key.filter().clone(),
            mark,
            consistency: self.consistency.clone(),
            floor,
            wants_token: self.noted.is_on(),
            timeout: remaining(),
        };
        match self.store.run_read_after_snapshot(read_on).await {
            Ok(answer) => Ok(Ok(Some(Start::Snapshot(state, mark, answer)))),
            Err(error) if error.kind() == ErrorKind::LogDiverged => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }

    async fn save(&self, mark: Mark, state: Result<Json>, limit: Duration) -> SaveOutcome {
        let saved = match state {
            Ok(state) => {
                let request = SaveSnapshotRequest { key: self.key.clone(), mark, state, timeout: Some(limit) };
                self.store.run_save_snapshot(request).await
            }
            Err(error) => Err(error.within(&format!("the state of {}", self.key))),
        };
        match saved {
            Ok(saved) => SaveOutcome::Saved(saved),
            Err(error) => {
                tracing::warn!(key = %self.key, error = %error.for_log(), "a snapshot was not saved");
                SaveOutcome::Failed(error)
            }
        }
    }
}

impl<S: std::fmt::Debug, F> std::fmt::Debug for Project<'_, S, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Project")
            .field("key", &self.call.key)
            .field("initial", &self.initial)
            .field("save_every", &self.save_every)
            .field("save_timeout", &self.save_timeout)
            .finish_non_exhaustive()
    }
}
