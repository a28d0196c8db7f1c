//! What a lease holds: a connection of our own pool or of a borrowed one.

use std::sync::atomic::AtomicUsize;

use tokio_postgres::Client;

use super::{borrowed::BorrowedConnection, manager::Manager};

pub(super) enum Held {
    Own(bb8::PooledConnection<'static, Manager>),
    Borrowed { connection: Box<dyn BorrowedConnection>, pending: AtomicUsize },
}

impl Held {
    pub(super) fn borrowed(connection: Box<dyn BorrowedConnection>) -> Self {
        Self::Borrowed { connection, pending: AtomicUsize::new(0) }
    }

    pub(super) fn client(&self) -> &Client {
        match self {
            Self::Own(connection) => connection.client(),
            Self::Borrowed { connection, .. } => connection.client(),
        }
    }

    pub(super) fn client_mut(&mut self) -> &mut Client {
        match self {
            Self::Own(connection) => connection.client_mut(),
            Self::Borrowed { connection, .. } => connection.client_mut(),
        }
    }

    pub(super) fn pending(&self) -> &AtomicUsize {
        match self {
            Self::Own(connection) => connection.pending(),
            Self::Borrowed { pending, .. } => pending,
        }
    }
}
