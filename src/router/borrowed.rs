//! Pools that the user made and lends to the router.

use std::fmt;

use bb8_postgres::PostgresConnectionManager;
use futures_util::future::BoxFuture;
use tokio_postgres::{
    Client, Socket,
    tls::{MakeTlsConnect, TlsConnect},
};

use crate::error::Cause;

/// A pool whose type the router has forgotten: its TLS parameter would otherwise be in every signature of the user.
pub(super) trait BorrowedPool: fmt::Debug + Send + Sync {
    fn get(&self) -> BoxFuture<'_, Result<Box<dyn BorrowedConnection>, Cause>>;
}

/// A connection of such a pool; dropping it gives it back.
pub(super) trait BorrowedConnection: Send + Sync {
    fn client(&self) -> &Client;

    fn client_mut(&mut self) -> &mut Client;
}

impl<Tls> BorrowedPool for bb8::Pool<PostgresConnectionManager<Tls>>
where
    Tls: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    Tls::Stream: Send + Sync,
    Tls::TlsConnect: Send,
    <Tls::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn get(&self) -> BoxFuture<'_, Result<Box<dyn BorrowedConnection>, Cause>> {
        Box::pin(async {
            let connection = self.get_owned().await?;
            Ok(Box::new(connection) as Box<dyn BorrowedConnection>)
        })
    }
}

impl<Tls> BorrowedConnection for bb8::PooledConnection<'static, PostgresConnectionManager<Tls>>
where
    Tls: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    Tls::Stream: Send + Sync,
    Tls::TlsConnect: Send,
    <Tls::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn client(&self) -> &Client {
        self
    }

    fn client_mut(&mut self) -> &mut Client {
        self
    }
}
