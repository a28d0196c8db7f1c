//! Up to where the log and somebody who has kept places in it agree.

use crate::{Mark, PostgresEventStore, Result};

impl PostgresEventStore {
    /// Returns the last of these places that the log still contains, as the primary knows it; `None` if it contains none
    /// of them.
    ///
    /// For results that are kept outside of the log's database, with the marks that they have reached. A failover or a
    /// restore may have lost events that they contain, and other events are at the same positions now: only the ids tell.
    /// Pass a few of your marks, at growing distances. If the last one is returned, nothing is lost; if an earlier one is,
    /// the two agree at least up to there.
    ///
    /// ```no_run
    /// # async fn run(store: mainstem::PostgresEventStore, kept: Vec<mainstem::Mark>) -> mainstem::Result<()> {
    /// let common = store.last_common(kept.iter().copied()).await?;
    /// if common != kept.last().copied() {
    ///     // Undo what was done for the events after `common`, and go on from there.
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for a strong [query](crate::EventStore::query).
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    pub async fn last_common(&self, marks: impl IntoIterator<Item = Mark>) -> Result<Option<Mark>> {
        let marks: Vec<Mark> = marks.into_iter().collect();
        self.last_held(&marks, self.deadline(None)).await
    }
}
