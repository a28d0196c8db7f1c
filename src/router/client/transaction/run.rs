//! Retries a transaction that conflicted with another one.

use std::{future::Future, time::Duration};

use tokio::time::sleep;

use super::{BeginTransaction, Stage, Transaction};
use crate::{error::Error, router::Deadline};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl BeginTransaction {
    /// Runs `work` in the transaction and commits it, retrying on conflicts; if `work` fails, the transaction is rolled
    /// back.
    ///
    /// On a conflict (a serialization failure 40001 or a deadlock 40P01, in a statement or at the commit), everything
    /// is repeated from the beginning after a growing pause, up to [`max_attempts`](Self::max_attempts) and within
    /// [`timeout`](Self::timeout). Nothing else is retried.
    ///
    /// `work` may therefore run several times: effects outside of the database should wait until `run` has returned.
    /// `work` may end the transaction itself. The transaction it received is no longer usable once `work` has returned:
    /// a call still in progress then, for example in a task that it started, is an error, and the transaction is rolled
    /// back.
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
    /// The error of `work`; as [`BeginTransaction`], and as [`Transaction::commit`]. Most importantly,
    /// [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) if the answer to the commit was lost; that is
    /// never retried.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before the commit is sent, nothing is written; if later, it may have been.
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
                        // For any share of it that is still held.
                        if matches!(transaction.takes_no_more(), Stage::CommitSent | Stage::Committed) {
                            // It has committed, or may have: nothing is repeated.
                            return Err(error);
                        }
                        error
                    }
                };
                if !transaction.has_lost() {
                    return Err(error);
                }
                // The connection and its locks are not kept during the pause.
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

/// Doubles each time, less up to half of it at random: transactions that collided should not collide again.
fn pause(attempt: u32, random: u64) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << attempt.min(16)).min(LONGEST_PAUSE);
    longest.mul_f64(1.0 - 0.5 * (random as f64 / u64::MAX as f64))
}
