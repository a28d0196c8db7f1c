//! Pools that the user created and lends to the router.

#[cfg(feature = "bb8")]
mod bb8;
#[cfg(feature = "deadpool")]
mod deadpool;

use std::fmt;

use futures_util::future::BoxFuture;
use tokio_postgres::Client;

use crate::error::Cause;

/// An existing pool that the router uses as it is: with the feature `bb8` a `bb8::Pool` of `bb8_postgres` connections,
/// with the feature `deadpool` a `deadpool_postgres::Pool`. Without either feature there is none. See
/// [`RouterBuilder::primary_pool`](crate::RouterBuilder::primary_pool).
///
/// Its size, TLS, timeouts and recycling of connections remain under your control. The differences:
///
/// | | connections of the router's own | bb8 | deadpool |
/// |---|---|---|---|
/// | a statement whose call is dropped or timed out | is cancelled, and its connection closed | runs on; its connection is kept from the pool until the server has answered | as bb8 |
/// | a stream or a `COPY` out of a table that is dropped before its end | is cancelled at once, and its connection closed | runs on; its connection is kept from the pool until the server has answered | as bb8 |
/// | a `COPY` into a table | works | is refused: a failed one breaks its connection | as bb8 |
/// | an open transaction after raw use | is rolled back before the next statement | as own | as own |
/// | `SET`, `LISTEN`, temporary tables, session-level advisory locks after raw use | are undone | stay | as the pool's recycling method decides |
/// | notification of waiting subscriptions about appends | by `LISTEN`, on a separate connection | by polling the primary every 20 ms, for all waiting subscriptions together | as bb8 |
/// | writes on a replica's connection | are refused, even after its promotion | are refused by the replica itself, so no longer after its promotion | as bb8 |
/// | a node becomes primary or replica | known with the next answer; old connections are closed | known with the next [probe](crate::RouterBuilder::probe_interval); connections stay | as bb8 |
/// | the reason why connecting fails | is reported at once | is not reported: bb8 waits, and does not pass it on | is reported at once |
/// | prepared statements | are cached per connection | are prepared for each call | are prepared for each call |
/// | a connection that the server has closed | is replaced before use | as own | as own |
/// | a commit that did not wait for its synchronous standby | is `OutcomeUnknown` | is not noticed | is not noticed |
/// | limits on time ([`call_timeout`](crate::RouterBuilder::call_timeout) and so on) | hold | hold | hold |
///
/// ```no_run
/// # #[cfg(feature = "bb8")]
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use bb8_postgres::PostgresConnectionManager;
/// use mainstem::{Router, tokio_postgres::NoTls};
///
/// let manager = PostgresConnectionManager::new_from_stringlike("postgres://app@10.0.0.1/shop", NoTls)?;
/// let pool = bb8::Pool::builder().max_size(20).build(manager).await?;
/// let router = Router::builder().primary_pool(pool).replica("postgres://app@10.0.0.2/shop").connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ExistingPool(pub(in crate::router) Box<dyn BorrowedPool>);

/// A pool with its type erased: otherwise its TLS parameter would be part of every signature of the user.
pub(in crate::router) trait BorrowedPool: fmt::Debug + Send + Sync {
    /// Returns a connection. An error of the driver among the causes means that connecting has failed.
    fn get(&self) -> BoxFuture<'_, Result<Box<dyn BorrowedConnection>, Cause>>;
}

/// A connection of such a pool; dropping it returns it.
pub(in crate::router) trait BorrowedConnection: Send + Sync {
    fn client(&self) -> &Client;

    fn client_mut(&mut self) -> &mut Client;
}
