//! What is found, and what a save has come to.

use std::{sync::Arc, time::SystemTime};

use serde::Deserialize;

use crate::{Json, Mark, Result, Role, Token};

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

impl Snapshot {
    /// For the makers of stores: what was saved, and when.
    #[must_use]
    pub fn new(mark: Mark, state: Json, saved_at: SystemTime) -> Self {
        Self { mark, state, saved_at, node: "local".into(), role: Role::Primary, token: Token::new() }
    }

    /// For the makers of stores: which node has served. Without it, it is a primary named `local`.
    #[must_use]
    pub fn served_by(mut self, node: impl Into<Arc<str>>, role: Role) -> Self {
        (self.node, self.role) = (node.into(), role);
        self
    }

    /// Adds the token for reads that contain what this one has seen.
    #[must_use]
    pub fn with_token(mut self, token: Token) -> Self {
        self.token = token;
        self
    }

    /// A token for reads that contain what this one has seen; empty when the store gives none.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// The last event of the log when the state was computed, whether it matched the filter or not: all that is missing in
    /// the state is behind it.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &Json {
        &self.state
    }

    /// Deserialises the state.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when it does not have the shape of `T`.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        self.state.decode()
    }

    /// When it was saved, by the clock of the store.
    #[must_use]
    pub fn saved_at(&self) -> SystemTime {
        self.saved_at
    }

    /// The name of the node that served it.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }
}

/// What a save that was not refused has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Saved {
    /// It is the snapshot now.
    Stored,
    /// There is one of a higher position already, which stays.
    Outdated,
}
