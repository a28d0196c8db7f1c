//! Pools of bb8 (feature `bb8`): of the bb8 version that bb8-postgres uses, which may differ from that of the router's
//! own pools.

use bb8_postgres::{PostgresConnectionManager, bb8};
use futures_util::future::BoxFuture;
use tokio_postgres::{
    Client, Socket,
    tls::{MakeTlsConnect, TlsConnect},
};

use super::{BorrowedConnection, BorrowedPool, ExistingPool};
use crate::error::Cause;

impl<Tls> From<bb8::Pool<PostgresConnectionManager<Tls>>> for ExistingPool
where
    Tls: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    Tls::Stream: Send + Sync,
    Tls::TlsConnect: Send,
    <Tls::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn from(pool: bb8::Pool<PostgresConnectionManager<Tls>>) -> Self {
        Self(Box::new(pool))
    }
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
