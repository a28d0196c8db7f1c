//! What was done, who served it, and how long it took. Kept in memory, and only the most recent entries.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How many entries are kept.
const KEPT: usize = 50;

#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// The action that it belongs to. Two readers at once are one action.
    pub(crate) action: u64,
    pub(crate) what: String,
    pub(crate) end: End,
    /// The node's role and name.
    pub(crate) served_by: String,
    /// The position of the last event that was written.
    pub(crate) position: Option<u64>,
    pub(crate) decisions: u32,
    pub(crate) conflicts: u32,
    pub(crate) took: Duration,
    /// How long the read model on the primary took to include it.
    pub(crate) shown: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
pub(crate) enum End {
    #[default]
    Done,
    Nothing,
    Refused(String),
    Failed(String),
}

#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    actions: u64,
    conflicts: u64,
}

impl Journal {
    /// The number of the next action.
    pub(crate) fn next_action(&self) -> u64 {
        let mut kept = self.lock();
        kept.actions += 1;
        kept.actions
    }

    pub(crate) fn add(&self, entry: Entry) {
        let mut kept = self.lock();
        kept.conflicts += u64::from(entry.conflicts);
        kept.entries.push_front(entry);
        kept.entries.truncate(KEPT);
    }

    /// The entries, newest first, and the total number of conflicts.
    pub(crate) fn entries(&self) -> (Vec<Entry>, u64) {
        let kept = self.lock();
        (kept.entries.iter().cloned().collect(), kept.conflicts)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
