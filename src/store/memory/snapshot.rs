//! Snapshots in memory.

use std::{
    collections::hash_map::Entry,
    sync::{Arc, PoisonError},
    time::SystemTime,
};

use super::{Log, MemoryEventStore};
use crate::{
    Event, FilterDigest, Mark, Result,
    store::{
        Answer, BoxFuture, DeleteSnapshotRequest, LoadSnapshotRequest, ReadAfterSnapshotRequest, SaveSnapshotRequest,
        Saved, Snapshot, SnapshotKey, SnapshotStore,
    },
};

/// Projection, version and filter.
pub(super) type Key = (String, u32, FilterDigest);

fn map_key(key: &SnapshotKey) -> Key {
    (key.projection().to_owned(), key.version(), key.digest())
}

impl Log {
    pub(super) fn has(&self, mark: Mark) -> bool {
        self.at(mark.position()).is_some_and(|event| event.id() == mark.id())
    }
}

impl SnapshotStore for MemoryEventStore {
    fn run_save_snapshot(&self, request: SaveSnapshotRequest) -> BoxFuture<Result<Saved>> {
        let log = Arc::clone(&self.log);
        Box::pin(async move {
            let mut log = log.write().unwrap_or_else(PoisonError::into_inner);
            // Once is enough: this log never loses an event, so what it held once, it holds for good.
            if !log.has(request.mark) {
                return Err(request.diverged(log.head()));
            }
            let snapshot = Snapshot::new(request.mark, request.state, SystemTime::now());
            match log.snapshots.entry(map_key(&request.key)) {
                Entry::Occupied(entry) if entry.get().mark().position() > request.mark.position() => {
                    return Ok(Saved::Outdated);
                }
                Entry::Occupied(mut entry) => _ = entry.insert(snapshot),
                Entry::Vacant(entry) => _ = entry.insert(snapshot),
            }
            Ok(Saved::Stored)
        })
    }

    fn run_load_snapshot(&self, request: LoadSnapshotRequest) -> BoxFuture<Result<Option<Snapshot>>> {
        let (log, number) = (Arc::clone(&self.log), self.number);
        Box::pin(async move {
            let log = log.read().unwrap_or_else(PoisonError::into_inner);
            log.holds(request.floor.marks_of(number))?;
            let found = log.snapshots.get(&map_key(&request.key)).cloned();
            Ok(found.map(|found| found.with_token(log.token(number))))
        })
    }

    fn run_delete_snapshot(&self, request: DeleteSnapshotRequest) -> BoxFuture<Result<bool>> {
        let log = Arc::clone(&self.log);
        Box::pin(async move {
            let mut log = log.write().unwrap_or_else(PoisonError::into_inner);
            Ok(log.snapshots.remove(&map_key(&request.key)).is_some())
        })
    }

    fn run_read_after_snapshot(&self, request: ReadAfterSnapshotRequest) -> BoxFuture<Result<Answer>> {
        let (log, number) = (Arc::clone(&self.log), self.number);
        Box::pin(async move {
            let log = log.read().unwrap_or_else(PoisonError::into_inner);
            log.holds(request.floor.marks_of(number))?;
            if !log.has(request.mark) {
                return Err(request.diverged(log.head()));
            }
            let since = usize::try_from(request.mark.position()).unwrap_or(usize::MAX);
            let selected = log.events.iter().skip(since).filter(|event| request.filter.matches(event));
            let answer = Answer::new(selected.cloned().collect(), log.events.last().map(Event::mark));
            Ok(answer.with_token(log.token(number)))
        })
    }
}
