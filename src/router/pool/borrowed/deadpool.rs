//! Pools of deadpool (feature `deadpool`).

use deadpool_postgres::{Object, Pool, PoolError};
use futures_util::future::BoxFuture;
use tokio_postgres::Client;

use super::{BorrowedConnection, BorrowedPool, ExistingPool};
use crate::error::Cause;

impl From<Pool> for ExistingPool {
    fn from(pool: Pool) -> Self {
        Self(Box::new(pool))
    }
}

impl BorrowedPool for Pool {
    fn get(&self) -> BoxFuture<'_, Result<Box<dyn BorrowedConnection>, Cause>> {
        Box::pin(async {
            match Self::get(self).await {
                Ok(connection) => Ok(Box::new(connection) as Box<dyn BorrowedConnection>),
                Err(PoolError::Backend(error)) => Err(error.into()),
                Err(error) => Err(error.into()),
            }
        })
    }
}

impl BorrowedConnection for Object {
    fn client(&self) -> &Client {
        self
    }

    fn client_mut(&mut self) -> &mut Client {
        self
    }
}
