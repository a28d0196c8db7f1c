//! The public suite for stores with snapshots, on the stores of this crate.

mod broken;
mod flawed;

mod memory {
    mainstem::snapshot_store_tests!(async { mainstem::MemoryEventStore::new() });
}

mod postgres {
    mainstem::snapshot_store_tests!(crate::event_store::fresh_log());
}

/// A trait object is a store, too.
mod behind_handles {
    use std::sync::Arc;

    use mainstem::{MemoryEventStore, SnapshotStore};

    mainstem::snapshot_store_tests!(async { Arc::new(Box::new(MemoryEventStore::new()) as Box<dyn SnapshotStore>) });
}
