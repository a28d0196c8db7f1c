//! An abstraction over the types that run SQL.

use tokio_postgres::{Row, types::ToSql};

use crate::{
    ConsumerTransaction,
    error::Result,
    router::{Client, Role, Transaction},
};

/// Runs SQL on a [`Client`], a [`Transaction`] or a [`ConsumerTransaction`]: for functions of yours that accept any of
/// them. The driver has a trait of the same name for the same purpose.
///
/// Each method is the type's own method of the same name, with its errors and its cancel safety: an interrupted
/// statement may have been executed on a client, but not in a transaction. The trait is sealed, so methods may be
/// added.
///
/// ```no_run
/// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
/// use mainstem::{GenericClient, Result};
///
/// async fn rename(client: &impl GenericClient, id: i64, name: &str) -> Result<bool> {
///     let changed = client.execute("UPDATE readers SET name = $2 WHERE id = $1", &[&id, &name]).await?;
///     Ok(changed == 1)
/// }
///
/// rename(&router.client().await?, 1, "Ada").await?;
///
/// let transaction = router.transaction().await?;
/// rename(&transaction, 2, "Ben").await?;
/// rename(&transaction, 3, "Cem").await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
pub trait GenericClient: sealed::Sealed + Send + Sync {
    /// Runs a statement and returns its rows.
    fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> impl Future<Output = Result<Vec<Row>>> + Send;

    /// Runs a statement that returns exactly one row.
    fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> impl Future<Output = Result<Row>> + Send;

    /// Runs a statement that returns at most one row.
    fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> impl Future<Output = Result<Option<Row>>> + Send;

    /// Runs a statement and returns the number of rows affected.
    fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> impl Future<Output = Result<u64>> + Send;

    /// Runs several statements, separated by semicolons, without parameters. Never interpolate values into them.
    fn batch_execute(&self, sql: &str) -> impl Future<Output = Result<()>> + Send;

    /// Returns the name of the serving node, as in [`NodeStatus`](crate::NodeStatus).
    fn node(&self) -> &str;

    /// Returns the role of that node.
    fn role(&self) -> Role;
}

/// Each calls the type's own method of its name. If there were none, it would call itself forever.
macro_rules! by_its_own_methods {
    ($($of:ty: $client:ident),*) => {$(
        impl sealed::Sealed for $of {}

        impl GenericClient for $of {
            async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
                $client::query(self, sql, params).await
            }

            async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row> {
                $client::query_one(self, sql, params).await
            }

            async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>> {
                $client::query_opt(self, sql, params).await
            }

            async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
                $client::execute(self, sql, params).await
            }

            async fn batch_execute(&self, sql: &str) -> Result<()> {
                $client::batch_execute(self, sql).await
            }

            fn node(&self) -> &str {
                $client::node(self)
            }

            fn role(&self) -> Role {
                $client::role(self)
            }
        }
    )*};
}

// A consumer's transaction derefs to a `&Transaction`.
by_its_own_methods!(Client: Client, Transaction: Transaction, ConsumerTransaction: Transaction);

mod sealed {
    #[expect(unnameable_types, reason = "it is sealed")]
    pub trait Sealed {}
}
