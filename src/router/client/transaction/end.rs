//! Commit and rollback, and what they report.

use std::sync::atomic::Ordering;

use super::{FAILED_TRANSACTION, NO_TRANSACTION, Stage, Transaction};
use crate::{
    error::{Error, ErrorKind, Result},
    router::{
        Effect,
        freshness::guard::{Guard, Unsettled},
    },
    token::Token,
};

/// The savepoint fails where there is nothing to commit: in a failed transaction, whose COMMIT would roll it back
/// without reporting an error, and outside of any transaction. The COMMIT after it is then not executed.
const COMMIT: &str = "SAVEPOINT mainstem_commit; COMMIT";

impl Transaction {
    /// Commits the transaction; success means that it has committed.
    ///
    /// # Errors
    ///
    /// The server's error, such as a deferred constraint or a serialization failure: nothing was written. The same if
    /// an earlier statement failed, where a plain COMMIT would roll back and report success.
    /// [`ErrorKind::InvalidInput`] while another call of the transaction is in progress; nothing is written.
    /// [`ErrorKind::OutcomeUnknown`] if the answer was lost, or the wait for a synchronous standby was cut short.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the transaction may have committed.
    pub async fn commit(self) -> Result<()> {
        self.finish().await
    }

    /// [Commits](Self::commit), and returns a token for reads that must contain what was written and read here: in
    /// another request, or in another process. In a [`Session`](crate::Session) the plain commit is enough for the
    /// calls that follow.
    ///
    /// ```no_run
    /// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
    /// use mainstem::Consistency;
    ///
    /// let transaction = router.transaction().await?;
    /// transaction.execute("UPDATE accounts SET balance = balance - 10 WHERE name = $1", &[&"ada"]).await?;
    /// let token = transaction.commit_with_token().await?;
    ///
    /// // A replica may serve, and shows the balance of now.
    /// let client = router.client_at(Consistency::AtLeast(token)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The node's LSN is requested in the same message as the commit, so it costs no extra round trip (behind a pooler
    /// in transaction mode it costs one). A missing LSN never turns a commit into an error: if the node does not reveal
    /// it, the token requires the primary. Within [`BeginTransaction::run`](crate::BeginTransaction::run) the work may
    /// end its transaction this way.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the transaction may have committed.
    pub async fn commit_with_token(self) -> Result<Token> {
        let lease = &self.open.lease;
        let own = Guard::new(None, None, true);
        let guard = lease.guard().map_or(&own, |guard| if guard.notes_place() { guard } else { &own });
        let unsettled = self.unsettled();
        let ended = self.end(Some(guard)).await;
        unsettled.settled();
        let token = lease.token_of(guard.seen().filter(|_| !self.is_asynchronous()));
        self.advance(&ended);
        ended.map(|()| token)
    }

    /// Rolls the transaction back. Dropping the transaction does the same without waiting, but only this call records
    /// in the [`Session`](crate::Session) what was read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] if the answer did not arrive. The server has rolled the
    /// transaction back, or will. (After a stream or a `COPY` that did not complete, and after a call that was given up,
    /// no answer is awaited: the server is asked to cancel. On a connection of a borrowed pool, and behind a pooler, the
    /// server first runs the statement to its end, and keeps its locks until then.)
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the transaction is rolled back all the same.
    pub async fn rollback(self) -> Result<()> {
        self.takes_no_more();
        let lease = &self.open.lease;
        if lease.was_broken_off() || lease.is_abandoned() && lease.is_own() && !lease.is_pooled() {
            // The server is asked to cancel, and the connection is closed, which rolls it back.
            self.see_unknown();
            self.open.stage.store(Stage::RolledBack);
            return Ok(());
        }
        let _alone = self.open.lease.occupy_for_the_end()?;
        if let Some(guard) = self.open.lease.guard() {
            guard.quiet(false);
        }
        let undone = self.send(Effect::Read, "ROLLBACK").await;
        self.advance(&undone);
        undone?;
        self.open.stage.store(Stage::RolledBack);
        Ok(())
    }

    /// Commits, unless the transaction was ended already.
    pub(crate) async fn finish(&self) -> Result<()> {
        let unsettled = self.unsettled();
        let ended = self.end(self.open.lease.guard().map(|guard| &**guard)).await;
        unsettled.settled();
        self.advance(&ended);
        ended
    }

    /// Commits with this guard's statements after the commit. What they have noted is not passed on.
    async fn end(&self, guard: Option<&Guard>) -> Result<()> {
        match self.takes_no_more() {
            Stage::Committed | Stage::RolledBack => return Ok(()),
            Stage::CommitRefused => {
                let message = "the server has refused the commit of this transaction, so nothing of it was committed";
                return Err(Error::new(ErrorKind::Database, message).with_node(self.node()));
            }
            // By work that gave its own commit up, or took its error for none.
            Stage::CommitSent => {
                self.open.lost.store(false, Ordering::Relaxed);
                let message = "the answer to the commit of this transaction did not come, so it may have committed";
                return Err(Error::new(ErrorKind::OutcomeUnknown, message).with_node(self.node()));
            }
            Stage::Open | Stage::Ending => {}
        }
        let lease = &self.open.lease;
        if lease.was_broken_off() {
            self.see_unknown();
            let message =
                "a stream or a COPY of this transaction did not come to its end, so nothing of it was committed";
            return Err(Error::new(ErrorKind::Database, message).with_node(self.node()));
        }
        let _alone = lease.occupy_for_the_end()?;
        if lease.is_abandoned() {
            let message = "a call of this transaction was given up, so it is rolled back";
            return Err(Error::new(ErrorKind::Timeout, message).with_node(self.node()));
        }
        let effect = if self.open.read_only { Effect::Read } else { Effect::Write };
        if let Some(guard) = guard {
            guard.quiet(false);
        }
        let commit = lease.client().batch_execute(COMMIT);
        self.open.stage.store(Stage::CommitSent);
        let Err(error) = self.note(lease.guarded_with(guard, effect, self.next(), commit).await) else {
            self.open.stage.store(Stage::Committed);
            return Ok(());
        };
        let error = match error.sqlstate() {
            Some(FAILED_TRANSACTION) => {
                let message = "a statement of this transaction had failed, so nothing of it was committed";
                error.reworded(ErrorKind::Database, message)
            }
            Some(NO_TRANSACTION) => {
                let message = "the transaction was ended by its own SQL; whether it was committed is not known here";
                error.reworded(ErrorKind::OutcomeUnknown, message)
            }
            _ => error,
        };
        if error.is_outcome_unknown() {
            // Whatever conflicted before: this may have committed, so it must not be retried.
            self.open.lost.store(false, Ordering::Relaxed);
        } else {
            let is_refused = error.sqlstate().is_some();
            self.open.stage.store(if is_refused { Stage::CommitRefused } else { Stage::Ending });
        }
        Err(error)
    }

    /// From here on every call is refused, except those that have begun and the end itself. Returns the stage it had
    /// reached.
    pub(super) fn takes_no_more(&self) -> Stage {
        let stage = &self.open.stage;
        stage.compare_exchange(Stage::Open, Stage::Ending).unwrap_or_else(|reached| reached)
    }

    /// From the moment the commit is sent.
    fn unsettled(&self) -> Unsettled<'_> {
        let writes_in = self.open.session.as_ref().filter(|_| !self.open.read_only);
        Unsettled::new(&self.open.lease, writes_in.map(|(session, _)| session))
    }

    /// Records in the session what was written or read, as far as the end reported it.
    fn advance(&self, ended: &Result<()>) {
        if let Some((session, asked)) = &self.open.session {
            self.open.lease.advance(session, asked, ended);
            if ended.is_ok() && self.is_asynchronous() {
                session.see(&self.open.lease.token_of(None));
            }
        }
    }

    fn see_unknown(&self) {
        if let Some((session, _)) = &self.open.session {
            session.see(&self.open.lease.token_of(None));
        }
    }

    fn is_asynchronous(&self) -> bool {
        self.open.is_asynchronous.load(Ordering::Relaxed)
    }
}
