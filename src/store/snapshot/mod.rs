//! Snapshots: the state of a projection at a place in the log, so the next read needs only the events appended since.
//!
//! | file | what it holds |
//! |---|---|
//! | `contract` | the trait that a store with snapshots implements, and its requests |
//! | `key` | the key of a snapshot |
//! | `found` | the results of loads and saves |
//! | `calls` | save, load and delete, as seen by their users |
//! | `project`, `projected` | load, read on, apply, save: the call, and its result |

mod calls;
mod contract;
mod found;
mod key;
mod project;
mod projected;

pub use self::{
    calls::{DeleteSnapshot, LoadSnapshot, SaveSnapshot},
    contract::{
        DeleteSnapshotRequest, LoadSnapshotRequest, ReadAfterSnapshotRequest, SaveSnapshotRequest, SnapshotStore,
    },
    found::{Saved, Snapshot},
    key::SnapshotKey,
    project::Project,
    projected::{LoadOutcome, Projected, SaveOutcome},
};
