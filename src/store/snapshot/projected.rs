//! The result of a projection.

use std::sync::Arc;

use super::{Saved, SnapshotKey};
use crate::{AppendCondition, Error, Filter, Mark, Role, Token};

/// The state of a projection, and how it was computed.
#[derive(Clone, Debug)]
pub struct Projected<S> {
    pub(super) key: SnapshotKey,
    pub(super) state: S,
    pub(super) head: Option<Mark>,
    pub(super) applied: u64,
    pub(super) loaded: LoadOutcome,
    pub(super) saved: SaveOutcome,
    pub(super) node: Arc<str>,
    pub(super) role: Role,
    pub(super) token: Token,
}

impl<S> Projected<S> {
    /// Returns the state.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Consumes this and returns the state.
    #[must_use]
    pub fn into_state(self) -> S {
        self.state
    }

    /// Returns the last event of the log that the state takes into account, whether it matched or not. `None` if the
    /// log was empty.
    #[must_use]
    pub fn head(&self) -> Option<Mark> {
        self.head
    }

    /// Returns the condition that guards this state: no event that matches the filter has been appended since.
    ///
    /// As with [`History::unchanged`](crate::History::unchanged), it also holds for a state from a replica: snapshot
    /// and events together are everything that matched.
    pub fn unchanged(&self) -> AppendCondition {
        AppendCondition::since(self.head, self.key.filter().clone())
    }

    /// Returns the same condition for another filter than the projection's: see
    /// [`History::unchanged_for`](crate::History::unchanged_for).
    pub fn unchanged_for(&self, filter: Filter) -> AppendCondition {
        AppendCondition::since(self.head, filter)
    }

    /// Returns how many events were read and applied now, not counting those in the snapshot.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Returns what the state was computed from.
    #[must_use]
    pub fn loaded(&self) -> &LoadOutcome {
        &self.loaded
    }

    /// Returns what happened to the new snapshot.
    #[must_use]
    pub fn saved(&self) -> &SaveOutcome {
        &self.saved
    }

    /// Returns the projection and its filter.
    #[must_use]
    pub fn key(&self) -> &SnapshotKey {
        &self.key
    }

    /// Returns the name of the node that served the events.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns the role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns a token for reads that contain what the state takes into account; see
    /// [`History::token`](crate::History::token). It is empty if the log was empty, or if the store returns none.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }
}

/// The starting point of a projection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LoadOutcome {
    /// There was no snapshot: all events were read.
    NotFound,
    /// The snapshot of this place in the log was used.
    Used(Mark),
    /// There was a snapshot, but it does not decode as the state's type
    /// ([`InvalidData`](crate::ErrorKind::InvalidData)), or its event is not in this log
    /// ([`LogDiverged`](crate::ErrorKind::LogDiverged)): all events were read.
    Unusable(Error),
}

#[cfg(feature = "metrics")]
impl LoadOutcome {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Used(_) => "used",
            Self::Unusable(_) => "unusable",
        }
    }
}

#[cfg(feature = "metrics")]
impl SaveOutcome {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::NotDue => "not_due",
            Self::Saved(Saved::Stored) => "stored",
            Self::Saved(Saved::Outdated) => "outdated",
            Self::Failed(_) => "failed",
        }
    }
}

/// What happened to a projection's new snapshot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SaveOutcome {
    /// No snapshot was due: too few events had come, or saving is off.
    NotDue,
    /// The snapshot was saved, or another caller had saved a later one.
    Saved(Saved),
    /// The snapshot was not saved, or that is unknown.
    Failed(Error),
}
