//! A transaction that is done again when it has lost against another one.

use std::{future::Future, time::Duration};

use tokio::time::sleep;

use super::{BeginTransaction, Transaction};
use crate::{error::Error, router::Deadline};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl BeginTransaction {
    /// Runs `work` in the transaction and commits it; if it fails, it is rolled back. If another transaction was in the way
    /// (a serialization failure 40001 or a deadlock 40P01, in a statement or at the commit), all of it is done again
    /// from the beginning after a pause that grows, up to [`max_attempts`](Self::max_attempts) and within
    /// [`timeout`](Self::timeout). Nothing else is done again.
    ///
    /// So `work` may run several times: what it does outside of the database should wait until this has returned. It may end the
    /// transaction itself; what it was given is of no use any more once it has returned. A call that is under way then, such as of a
    /// task that it has started, is an error, and the transaction is rolled back.
    ///
    /// ```no_run
    /// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
    /// use mainstem::Isolation;
    ///
    /// let left = router
    ///     .transaction()
    ///     .isolation(Isolation::Serializable)
    ///     .run(async |transaction| {
    ///         let row = transaction.query_one("SELECT sum(free) FROM shelves", &[]).await?;
    ///         let free: i64 = row.get(0);
    ///         transaction.execute("UPDATE shelves SET free = free - 1 WHERE id = $1", &[&1_i64]).await?;
    ///         Ok::<_, mainstem::Error>(free - 1)
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `work` returns; as [`BeginTransaction`], and as [`Transaction::commit`]: above all,
    /// [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) when the answer to the commit was lost. That is never done again.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the commit is sent, nothing is written; dropped behind that, it may be.
    pub fn run<T, E, F, Fut>(self, work: F) -> impl Future<Output = Result<T, E>> + Send
    where
        F: Fn(Transaction) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
        T: Send,
        E: From<Error> + Send,
    {
        let deadline = Deadline::after(self.timeout);
        async move {
            let mut attempt = 1;
            loop {
                let transaction = self.begin(deadline).await?;
                let error = match work(transaction.share()).await {
                    Ok(value) => match transaction.finish().await {
                        Ok(()) => return Ok(value),
                        Err(error) => error.into(),
                    },
                    Err(error) => {
                        // Whatever still holds a share of it.
                        transaction.takes_no_more();
                        error
                    }
                };
                if !transaction.has_lost() {
                    return Err(error);
                }
                // The place in the pool, and what it has locked, are not kept while it waits.
                drop(transaction);
                let pause = pause(attempt, self.router.inner.state.random());
                if attempt == self.attempts || deadline.remaining() <= pause {
                    tracing::debug!(attempt, "a transaction was given up: others were in the way each time");
                    return Err(error);
                }
                tracing::debug!(attempt, ?pause, "another transaction was in the way; beginning again");
                sleep(pause).await;
                attempt += 1;
            }
        }
    }
}

/// Twice as long each time, less up to the half of it: who met once should not meet again.
fn pause(attempt: u32, random: u64) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << attempt.min(16)).min(LONGEST_PAUSE);
    longest.mul_f64(1.0 - 0.5 * (random as f64 / u64::MAX as f64))
}
