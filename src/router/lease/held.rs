//! What a lease holds: a connection of ours or of a borrowed pool.

use std::{ops::Deref, sync::atomic::AtomicUsize};

use tokio_postgres::Client;

use crate::router::pool::{beside::InTurn, borrowed::BorrowedConnection, connection::Connection, own_pool::Pooled};

pub(in crate::router) enum Held {
    Own(OwnConnection),
    Borrowed { connection: Box<dyn BorrowedConnection>, pending: AtomicUsize },
}

/// A connection of ours, which returns to its pool, is kept for the next one who has a turn with it, or belongs to none
/// and is closed.
pub(in crate::router) enum OwnConnection {
    Pooled(Pooled),
    InTurn(InTurn),
    Single(Box<Connection>),
}

impl Held {
    pub(in crate::router) fn borrowed(connection: Box<dyn BorrowedConnection>) -> Self {
        Self::Borrowed { connection, pending: AtomicUsize::new(0) }
    }

    pub(in crate::router) fn client(&self) -> &Client {
        match self {
            Self::Own(connection) => connection.client(),
            Self::Borrowed { connection, .. } => connection.client(),
        }
    }

    pub(in crate::router) fn client_mut(&mut self) -> &mut Client {
        match self {
            Self::Own(OwnConnection::Pooled(pooled)) => pooled.connection.client_mut(),
            Self::Own(OwnConnection::InTurn(in_turn)) => in_turn.connection.client_mut(),
            Self::Own(OwnConnection::Single(connection)) => connection.client_mut(),
            Self::Borrowed { connection, .. } => connection.client_mut(),
        }
    }

    pub(in crate::router) fn pending(&self) -> &AtomicUsize {
        match self {
            Self::Own(connection) => connection.pending(),
            Self::Borrowed { pending, .. } => pending,
        }
    }
}

impl Deref for OwnConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Self::Pooled(pooled) => &pooled.connection,
            Self::InTurn(in_turn) => &in_turn.connection,
            Self::Single(connection) => connection,
        }
    }
}

impl From<Pooled> for OwnConnection {
    fn from(pooled: Pooled) -> Self {
        Self::Pooled(pooled)
    }
}

impl From<InTurn> for OwnConnection {
    fn from(in_turn: InTurn) -> Self {
        Self::InTurn(in_turn)
    }
}

impl From<Box<Connection>> for OwnConnection {
    fn from(connection: Box<Connection>) -> Self {
        Self::Single(connection)
    }
}
