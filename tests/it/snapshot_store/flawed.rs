//! A small store with snapshots that can be broken in many ways, one at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use mainstem::{
    AppendCondition, Appended, Error, ErrorKind, Event, EventStore, Filter, Json, Mark, MemoryEventStore, Result,
    Saved, Snapshot, SnapshotKey, SnapshotStore,
    backend::{
        Answer, AppendRequest, BoxFuture, DeleteSnapshotRequest, LoadSnapshotRequest, QueryRequest,
        ReadAfterSnapshotRequest, SaveSnapshotRequest,
    },
};

macro_rules! flaws {
    ($($flaw:ident => [$($case:ident),+];)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Flaw { $($flaw,)+ }

        /// Each flaw, with the cases that a store which has it must fail.
        pub(super) const FLAWS: &[(Flaw, &[&str])] = &[$((Flaw::$flaw, &[$(stringify!($case)),+]),)+];
    };
}

flaws! {
    // What is saved.
    LosesTheMark => [a_saved_snapshot_is_read_back_as_it_was];
    RoundsNumbers => [any_state_is_kept];
    TakesNoLargeStates => [any_state_is_kept];
    SavesNothing => [a_saved_snapshot_is_read_back_as_it_was, so_many_events_make_a_snapshot];
    SavesTheFirst => [
        a_snapshot_is_replaced_by_one_of_the_same_or_a_higher_position,
        a_snapshot_that_does_not_decode_is_passed_over_and_replaced
    ];
    SavesTheLast => [
        a_lower_position_never_replaces_a_higher_one, of_many_saves_at_once_the_highest_stays_with_its_state
    ];
    TakesTheHighestPositionAndTheLastState => [
        a_lower_position_never_replaces_a_higher_one, of_many_saves_at_once_the_highest_stays_with_its_state
    ];
    LooksThenSaves => [of_many_saves_at_once_the_highest_stays_with_its_state];
    SavesInTwoSteps => [an_abandoned_save_is_whole_or_not_there];
    SavesWhenCalled => [a_save_that_is_never_awaited_saves_nothing];
    SavesAnyMark => [a_state_of_events_that_the_log_does_not_hold_is_refused];
    ComparesPositionsOnly => [
        a_state_of_events_that_the_log_does_not_hold_is_refused, nothing_is_read_on_from_what_the_log_does_not_hold
    ];
    RefusesAfterSaving => [a_state_of_events_that_the_log_does_not_hold_is_refused];
    // The key.
    FindsAnything => [
        what_was_never_saved_is_not_found, names_versions_and_filters_have_snapshots_of_their_own,
        without_a_snapshot_all_events_are_applied, a_deletion_takes_no_other_snapshot
    ];
    IgnoresTheName => [names_versions_and_filters_have_snapshots_of_their_own, hostile_names_are_only_names];
    IgnoresTheVersion => [names_versions_and_filters_have_snapshots_of_their_own];
    IgnoresTheFilter => [names_versions_and_filters_have_snapshots_of_their_own];
    JoinsNameAndVersion => [names_versions_and_filters_have_snapshots_of_their_own];
    KnowsFiltersByAddress => [equal_filters_have_one_snapshot];
    FoldsNames => [hostile_names_are_only_names];
    CutsNames => [hostile_names_are_only_names];
    // What is deleted.
    KeepsTheDeleted => [a_deleted_snapshot_is_not_found];
    RemembersTheDeletedPosition => [a_deleted_snapshot_is_not_found];
    FailsToDeleteNothing => [deleting_what_is_not_there_is_no_error];
    DeletesAll => [a_deletion_takes_no_other_snapshot];
    // What is read on.
    ReadsTheMarkAgain => [a_projection_goes_on_from_its_snapshot];
    ReadsAllAgain => [a_projection_goes_on_from_its_snapshot];
    ReadsOnWhateverMatches => [a_projection_goes_on_from_its_snapshot];
    ReadsTheHeadLater => [a_state_is_that_of_its_whole_history_while_others_append];
    ReadsOnFromAnything => [nothing_is_read_on_from_what_the_log_does_not_hold];
    // What an event store does wrong shows here as well.
    IgnoresConditions => [the_state_vouches_for_its_boundary];
}

#[derive(Clone, Debug)]
pub(super) struct FlawedStore {
    flaw: Option<Flaw>,
    log: MemoryEventStore,
    snapshots: Arc<Mutex<HashMap<String, Snapshot>>>,
}

impl FlawedStore {
    pub(super) fn new(flaw: Option<Flaw>) -> Self {
        Self { flaw, log: MemoryEventStore::new(), snapshots: Arc::default() }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn snapshots(&self) -> MutexGuard<'_, HashMap<String, Snapshot>> {
        self.snapshots.lock().expect("no panic while it is held")
    }

    fn map_key(&self, key: &SnapshotKey) -> String {
        let (name, version, digest) = (key.projection(), key.version(), key.digest());
        match self.flaw {
            Some(Flaw::FindsAnything) => String::new(),
            Some(Flaw::IgnoresTheName) => format!("{version} {digest}"),
            Some(Flaw::IgnoresTheVersion) => format!("{digest} {name}"),
            Some(Flaw::IgnoresTheFilter) => format!("{version} {name}"),
            // Version 1 of the filters whose digest begins with a 1, and version 11.
            Some(Flaw::JoinsNameAndVersion) => format!("{}{name}", version % 10),
            Some(Flaw::KnowsFiltersByAddress) => {
                let item = key.filter().items().and_then(|mut items| items.next());
                format!("{version} {:?} {name}", item.map(std::ptr::from_ref))
            }
            Some(Flaw::FoldsNames) => format!("{version} {digest} {}", name.trim().to_lowercase()),
            Some(Flaw::CutsNames) => format!("{version} {digest} {}", name.chars().take(63).collect::<String>()),
            _ => format!("{version} {digest} {name}"),
        }
    }

    async fn event_at(&self, position: u64) -> Option<Event> {
        let history = self.log.query(&Filter::any_event()).await.expect("a log in memory");
        history.into_iter().find(|event| event.position() == position)
    }

    async fn holds(&self, mark: Mark) -> bool {
        let at = self.event_at(mark.position()).await;
        at.is_some_and(|event| event.id() == mark.id() || self.has(Flaw::ComparesPositionsOnly))
    }

    async fn head(&self) -> u64 {
        let head = self.log.query(&Filter::any_event()).await.expect("a log in memory").head();
        head.map_or(0, |head| head.position())
    }

    async fn save(self, request: SaveSnapshotRequest) -> Result<Saved> {
        if self.has(Flaw::TakesNoLargeStates) && request.state.as_str().len() > 1024 * 1024 {
            return Err(Error::new(ErrorKind::InvalidInput, "too much"));
        }
        let key = self.map_key(&request.key);
        let held = self.holds(request.mark).await || self.has(Flaw::SavesAnyMark);
        if !held && !self.has(Flaw::RefusesAfterSaving) {
            return Err(request.diverged(self.head().await));
        }
        let there = self.snapshots().get(&key).map(Snapshot::mark);
        if self.has(Flaw::LooksThenSaves) {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        let state = match self.flaw {
            Some(Flaw::RoundsNumbers) => {
                let value: serde_json::Value = serde_json::from_str(request.state.as_str()).unwrap_or_default();
                Json::from_serialize(&value).expect("JSON")
            }
            _ => request.state.clone(),
        };
        let new = |mark, state| Snapshot::new(mark, state, SystemTime::now());
        let mut mark = request.mark;
        if self.has(Flaw::LosesTheMark) {
            mark = self.event_at(1).await.expect("an event").mark();
        }
        if self.has(Flaw::SavesInTwoSteps)
            && let Some(old) = self.snapshots().get_mut(&key)
        {
            *old = new(mark, old.state().clone());
        }
        if self.has(Flaw::SavesInTwoSteps) {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let mut snapshots = self.snapshots();
        let there = if self.has(Flaw::LooksThenSaves) { there } else { snapshots.get(&key).map(Snapshot::mark) };
        let lower = there.filter(|there| there.position() > mark.position());
        match (self.flaw, lower) {
            (Some(Flaw::SavesNothing), _) => return Ok(Saved::Stored),
            (Some(Flaw::SavesTheFirst), _) if there.is_some() => return Ok(Saved::Stored),
            (Some(Flaw::TakesTheHighestPositionAndTheLastState), Some(there)) => mark = there,
            (Some(Flaw::SavesTheLast), _) | (_, None) => {}
            (_, Some(_)) => return Ok(Saved::Outdated),
        }
        snapshots.insert(key, new(mark, state));
        if !held { Err(request.diverged(0)) } else { Ok(Saved::Stored) }
    }

    async fn read_on(self, request: ReadAfterSnapshotRequest) -> Result<Answer> {
        if !self.holds(request.mark).await && !self.has(Flaw::ReadsOnFromAnything) {
            return Err(request.diverged(self.head().await));
        }
        let history = self.log.query(&Filter::any_event()).await?;
        let mut head = history.head();
        let behind = |event: &Event| match self.flaw {
            Some(Flaw::ReadsTheMarkAgain) => event.position() + 1 >= request.mark.position(),
            Some(Flaw::ReadsAllAgain) => true,
            _ => event.position() > request.mark.position(),
        };
        let matches = |event: &Event| request.filter.matches(event) || self.has(Flaw::ReadsOnWhateverMatches);
        let events: Vec<Event> = history.into_iter().filter(|event| behind(event) && matches(event)).collect();
        if self.has(Flaw::ReadsTheHeadLater) {
            tokio::task::yield_now().await;
            head = self.log.query(&Filter::any_event()).await?.head();
        }
        Ok(Answer::new(events, head))
    }
}

impl EventStore for FlawedStore {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        let (log, ignores) = (self.log.clone(), self.has(Flaw::IgnoresConditions));
        Box::pin(async move {
            match ignores {
                true => log.append(request.events, AppendCondition::none()).await,
                false => log.run_append(request).await,
            }
        })
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        self.log.run_query(request)
    }
}

impl SnapshotStore for FlawedStore {
    fn run_save_snapshot(&self, request: SaveSnapshotRequest) -> BoxFuture<Result<Saved>> {
        if self.has(Flaw::SavesWhenCalled) {
            let snapshot = Snapshot::new(request.mark, request.state, SystemTime::now());
            self.snapshots().insert(self.map_key(&request.key), snapshot);
            return Box::pin(async { Ok(Saved::Stored) });
        }
        Box::pin(self.clone().save(request))
    }

    fn run_load_snapshot(&self, request: LoadSnapshotRequest) -> BoxFuture<Result<Option<Snapshot>>> {
        let snapshot = self.snapshots().get(&self.map_key(&request.key)).cloned();
        let is_deleted = |snapshot: &Snapshot| self.has(Flaw::RemembersTheDeletedPosition) && is_a_grave(snapshot);
        let snapshot = snapshot.filter(|snapshot| !is_deleted(snapshot));
        Box::pin(async { Ok(snapshot) })
    }

    fn run_delete_snapshot(&self, request: DeleteSnapshotRequest) -> BoxFuture<Result<bool>> {
        let store = self.clone();
        Box::pin(async move {
            let key = store.map_key(&request.key);
            let mut snapshots = store.snapshots();
            let mark = snapshots.get(&key).map(Snapshot::mark);
            match (store.flaw, mark) {
                (Some(Flaw::KeepsTheDeleted), mark) => return Ok(mark.is_some()),
                (Some(Flaw::RemembersTheDeletedPosition), Some(mark)) => {
                    snapshots.insert(key, Snapshot::new(mark, Json::default(), SystemTime::UNIX_EPOCH));
                    return Ok(true);
                }
                (Some(Flaw::FailsToDeleteNothing), None) => {
                    return Err(Error::new(ErrorKind::InvalidInput, "nothing there"));
                }
                (Some(Flaw::DeletesAll), _) => snapshots.clear(),
                _ => _ = snapshots.remove(&key),
            }
            Ok(mark.is_some())
        })
    }

    fn run_read_after_snapshot(&self, request: ReadAfterSnapshotRequest) -> BoxFuture<Result<Answer>> {
        Box::pin(self.clone().read_on(request))
    }
}

fn is_a_grave(snapshot: &Snapshot) -> bool {
    snapshot.saved_at() == SystemTime::UNIX_EPOCH
}
