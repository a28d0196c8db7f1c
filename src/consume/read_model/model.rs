//! What a user writes for a read model.

use crate::{ConsumerTransaction, Event, Filter, Result};

/// A read model that is kept in the log's database: tables of your own, changed by events. [`ReadModels`](super::ReadModels) keep it.
///
/// Whatever [`apply`](Self::apply) writes is in one transaction with the checkpoint, so each event has its effect exactly
/// once. State that is kept elsewhere, in `self` too, is not part of that.
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
    /// The name of its consumer, for good. A new version of the model that is built beside the old one has a new name.
    fn name(&self) -> String;

    /// The events that change it.
    ///
    /// # Errors
    ///
    /// Whatever the filter's builder says. The read model does not start then.
    fn filter(&self) -> Result<Filter>;

    /// Makes it empty, and what it needs to be there: in the transaction of the first batch, when it is built for the first
    /// time, and whenever its consumer was [reset](crate::ConsumerControl::reset) to the beginning.
    ///
    /// # Errors
    ///
    /// The read model tries again.
    fn clear(&mut self, transaction: &ConsumerTransaction) -> impl Future<Output = Result<()>> + Send;

    /// Changes it by one event. Events come in the order of the log.
    ///
    /// # Errors
    ///
    /// What the database says for reasons of its own is its matter, and the batch is tried again until it goes: what is
    /// [retryable](crate::Error::is_retryable) or of unknown outcome, a table or a right that is missing (so also a mistake in your SQL), a
    /// full disk, a database that only reads. Pass such errors on as they are: in another error of yours they are not known again.
    /// Any other error is the event's, and the [policy](crate::PoisonPolicy) says what to do.
    fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> impl Future<Output = Result<()>> + Send;
}
