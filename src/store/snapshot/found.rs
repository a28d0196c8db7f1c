//! What a load finds, and the result of a save.

use std::{sync::Arc, time::SystemTime};

use serde::Deserialize;

use crate::{Json, Mark, Result, Role, Token, store::served_by};

/// The state of a projection at a place in the log.
#[derive(Clone, Debug)]
pub struct Snapshot {
    mark: Mark,
    state: Json,
    saved_at: SystemTime,
    node: Arc<str>,
    role: Role,
    token: Token,
}

served_by!(Snapshot);

impl Snapshot {
    /// Creates a snapshot from what was saved, and when; for implementors of stores.
    #[must_use]
    pub fn new(mark: Mark, state: Json, saved_at: SystemTime) -> Self {
        Self { mark, state, saved_at, node: "local".into(), role: Role::Primary, token: Token::new() }
    }

    /// Returns a token for reads that contain what this one has seen; empty if the store returns none.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Returns the last event of the log when the state was computed, whether it matched the filter or not: everything
    /// that the state lacks comes after it.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Returns the state.
    #[must_use]
    pub fn state(&self) -> &Json {
        &self.state
    }

    /// Deserialises the state.
    ///
    /// # Errors
    ///
    /// [`InvalidData`](crate::ErrorKind::InvalidData) if it does not have the shape of `T`.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        self.state.decode()
    }

    /// Returns when it was saved, by the clock of the store.
    #[must_use]
    pub fn saved_at(&self) -> SystemTime {
        self.saved_at
    }

    /// Returns the name of the node that served it.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns the role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }
}

/// The result of a save that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Saved {
    /// It is the current snapshot.
    Stored,
    /// There is already one of a higher position, which stays.
    Outdated,
}
