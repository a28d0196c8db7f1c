//! Snapshots: the state of a projection at a place in the log, so that the next one reads only what has come since.
//!
//! | file | what it holds |
//! |---|---|
//! | `contract` | the trait that a store with snapshots implements, and what it gets |
//! | `key` | what a snapshot is found by |
//! | `found` | what is found |
//! | `calls` | save, load and delete, as their users make them |
//! | `project`, `projected` | load, read on, apply, save: the call, and what it gives |

mod calls;
mod contract;
mod found;
mod key;
mod project;
mod projected;

pub use self::{
    calls::{DeleteSnapshot, LoadSnapshot, SaveSnapshot},
    contract::{DeleteSnapshotRequest, LoadSnapshotRequest, ReadOnRequest, SaveSnapshotRequest, SnapshotStore},
    found::{Saved, Snapshot},
    key::SnapshotKey,
    project::Project,
    projected::{LoadOutcome, Projected, SaveOutcome},
};
