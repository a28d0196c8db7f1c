//! The trait that a read model implements.

use crate::{ConsumerTransaction, Event, Filter, Result};

/// A read model in the log's database: your own tables, updated by events. [`ReadModels`](super::ReadModels) runs it.
///
/// Everything that [`apply`](Self::apply) writes is in one transaction with the checkpoint, so each event takes effect
/// exactly once. State that is kept elsewhere, including in `self`, is not part of that.
///
/// ```
/// # use mainstem::{ConsumerTransaction, Event, Filter, ReadModel, Result};
/// struct Shelf;
///
/// impl ReadModel for Shelf {
///     fn name(&self) -> String {
///         "shelf".to_owned()
///     }
///
///     fn filter(&self) -> Result<Filter> {
///         Filter::matching().any_type_of(["BookAdded", "BookRemoved"]).finish()
///     }
///
///     async fn clear(&mut self, transaction: &ConsumerTransaction) -> Result<()> {
///         transaction.batch_execute("CREATE TABLE IF NOT EXISTS shelf (book text PRIMARY KEY); TRUNCATE shelf").await
///     }
///
///     async fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> Result<()> {
///         let book = event.decode::<String>()?;
///         let sql = match event.event_type() {
///             "BookAdded" => "INSERT INTO shelf VALUES ($1) ON CONFLICT DO NOTHING",
///             _ => "DELETE FROM shelf WHERE book = $1",
///         };
///         transaction.execute(sql, &[&book]).await.map(drop)
///     }
/// }
/// ```
pub trait ReadModel: Send + Sync + 'static {
    /// Returns the permanent name of its consumer. A new version of the model that is built beside the old one has a
    /// new name.
    fn name(&self) -> String;

    /// Returns the filter for the events that change it.
    ///
    /// # Errors
    ///
    /// Any error of the filter's builder. The read model then does not start.
    fn filter(&self) -> Result<Filter>;

    /// Returns the version of what it makes of the events. Defaults to 1. Raise it when the tables that another version
    /// has filled would not be right for this one: the model is then refused until it is
    /// [reset](crate::ConsumerControl::reset), as with another filter; see
    /// [`ConsumerBuilder::version`](crate::ConsumerBuilder::version).
    fn version(&self) -> u32 {
        1
    }

    /// Returns whether it goes on from the checkpoint although its filter has changed, or its version is higher. Defaults
    /// to `false`. **Events before the checkpoint that only the new filter matches are not applied**; see
    /// [`ConsumerBuilder::accept_change`](crate::ConsumerBuilder::accept_change).
    fn accepts_change(&self) -> bool {
        false
    }

    /// Empties the model and creates what it needs: in the transaction of the first batch, when the model is built for
    /// the first time, and whenever its consumer was [reset](crate::ConsumerControl::reset) to the beginning.
    ///
    /// # Errors
    ///
    /// The read model tries again.
    fn clear(&mut self, transaction: &ConsumerTransaction) -> impl Future<Output = Result<()>> + Send;

    /// Applies one event. Events come in log order.
    ///
    /// # Errors
    ///
    /// If the cause is the database, not the event, the batch is retried until it succeeds: errors that are
    /// [retryable](crate::Error::is_retryable) or of unknown outcome, a missing table or privilege (so also a mistake
    /// in your SQL that does not depend on its parameters), a full disk, a read-only database, a split brain. A store
    /// that is [closed](crate::ErrorKind::Closed) ends the read model. Return such errors unchanged: wrapped in another
    /// error of yours they are not recognised. Any other error is attributed to the event, and the
    /// [policy](crate::PoisonPolicy) decides what to do.
    ///
    /// A statement that fails takes its transaction with it. If you ignore its error, it is found and counts as that of
    /// this event, unless you have rolled back to a savepoint.
    fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> impl Future<Output = Result<()>> + Send;
}
