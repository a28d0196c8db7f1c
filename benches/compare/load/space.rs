//! Bytes for each event: of a table, of its indexes, and of the write-ahead log.

use serde::Serialize;

/// What was there at a moment, in bytes. Of the write-ahead log, all that was ever written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) table: u64,
    pub(crate) indexes: u64,
    pub(crate) wal: u64,
}

/// What some events have brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    bytes: Bytes,
    events: u64,
}

/// The same for each event.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct PerEvent {
    pub(crate) table: f64,
    pub(crate) indexes: f64,
    pub(crate) wal: f64,
}

impl Growth {
    /// Of this many events that have come between two looks.
    pub(crate) fn add(&mut self, before: Bytes, after: Bytes, events: u64) {
        self.bytes.table += after.table.saturating_sub(before.table);
        self.bytes.indexes += after.indexes.saturating_sub(before.indexes);
        self.bytes.wal += after.wal.saturating_sub(before.wal);
        self.events += events;
    }

    /// None of no events.
    pub(crate) fn per_event(self) -> Option<PerEvent> {
        let each = |bytes: u64| bytes as f64 / self.events as f64;
        let Bytes { table, indexes, wal } = self.bytes;
        (self.events > 0).then(|| PerEvent { table: each(table), indexes: each(indexes), wal: each(wal) })
    }
}

impl PerEvent {
    /// All that stays on the disk.
    pub(crate) fn disk(self) -> f64 {
        self.table + self.indexes
    }
}
