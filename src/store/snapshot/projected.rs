//! What a projection has come to.

use std::sync::Arc;

use super::{Saved, SnapshotKey};
use crate::{AppendCondition, Error, Filter, Mark, Role, Token};

/// The state of a projection, and how it was come by.
#[derive(Clone, Debug)]
pub struct Projected<S> {
    pub(super) key: SnapshotKey,
    pub(super) state: S,
    pub(super) head: Option<Mark>,
    pub(super) applied: usize,
    pub(super) loaded: LoadOutcome,
    pub(super) saved: SaveOutcome,
    pub(super) node: Arc<str>,
    pub(super) role: Role,
    pub(super) token: Token,
}

impl<S> Projected<S> {
    /// The state.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The state itself.
    #[must_use]
    pub fn into_state(self) -> S {
        self.state
    }

    /// The last event of the log that the state takes into account, whether it matched or not. `None` when the log was
    /// empty.
    #[must_use]
    pub fn head(&self) -> Option<Mark> {
        self.head
    }

    /// The condition that vouches for this state: no event that matches the filter has been appended since.
    ///
    /// It goes for a state from a replica, too, as [`History::unchanged`](crate::History::unchanged) does: snapshot and
    /// events together are all that matched.
    pub fn unchanged(&self) -> AppendCondition {
        AppendCondition::since(self.head, self.key.filter().clone())
    }

    /// The same for another filter than the projection's: see [`History::unchanged_for`](crate::History::unchanged_for).
    pub fn unchanged_for(&self, filter: Filter) -> AppendCondition {
        AppendCondition::since(self.head, filter)
    }

    /// How many events were read and applied now, the snapshot's not counted.
    #[must_use]
    pub fn applied(&self) -> usize {
        self.applied
    }

    /// What the state began with.
    #[must_use]
    pub fn loaded(&self) -> &LoadOutcome {
        &self.loaded
    }

    /// What became of the new snapshot.
    #[must_use]
    pub fn saved(&self) -> &SaveOutcome {
        &self.saved
    }

    /// The projection and its filter.
    #[must_use]
    pub fn key(&self) -> &SnapshotKey {
        &self.key
    }

    /// The name of the node that served the events.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// A token for reads that contain what the state takes into account; see [`History::token`](crate::History::token). It is empty
    /// when the log was, and when the store gives none.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }
}

/// What a projection began with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LoadOutcome {
    /// There was no snapshot: all events were read.
    NotFound,
    /// The snapshot of this place in the log.
    Used(Mark),
    /// There was a snapshot, but it does not decode as the state's type
    /// ([`InvalidInput`](crate::ErrorKind::InvalidInput)), or its event is not in this log
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

/// What became of a projection's new snapshot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SaveOutcome {
    /// None was to be saved: too few events had come, or saving is off.
    NotDue,
    /// It is saved, or somebody else had saved a later one.
    Saved(Saved),
    /// It is not saved, or nobody knows.
    Failed(Error),
}
