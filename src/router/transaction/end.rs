//! The end of a transaction: what it says has happened.

use std::sync::atomic::Ordering;

use super::{ENDING, FAILED_TRANSACTION, NO_TRANSACTION, OVER, Transaction};
use crate::{
    error::{Error, ErrorKind, Result},
    router::{
        Effect,
        guard::{Guard, Unsettled},
    },
    token::Token,
};

/// The savepoint is refused where there is nothing to commit: in a transaction that has failed, whose COMMIT would roll it
/// back and report no error, and outside of any. Then the COMMIT behind it is not executed.
const COMMIT: &str = "SAVEPOINT mainstem_commit; COMMIT";

impl Transaction {
    /// Commits, and says so only if that is what has happened.
    ///
    /// # Errors
    ///
    /// What the server said, such as a deferred constraint or a serialization failure: then nothing was written. Also when a
    /// statement had failed before, where a bare COMMIT would roll back and report success.
    /// [`ErrorKind::InvalidInput`] while another call of the transaction is under way, and nothing is written.
    /// [`ErrorKind::OutcomeUnknown`] when the answer was lost, or the wait for a synchronous standby was cut short.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have committed.
    pub async fn commit(self) -> Result<()> {
        self.finish().await
    }

    /// [Commits](Self::commit), and gives a token for reads that contain what was written and seen: for another request, or another
    /// process. In a [`Session`](crate::Session) the plain commit does for those that follow.
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
    /// The node's place is asked for in the same message as the commit, so it is no further round trip (behind a pooler in
    /// transaction mode it is one). What is committed is never an error for want of a token: of a node that keeps its place to
    /// itself, the token asks for the primary. Within [`BeginTransaction::run`](crate::BeginTransaction::run) the work may end its transaction by this.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have committed.
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

    /// Undoes all of it. Dropping the transaction does the same without waiting; only this has the [`Session`](crate::Session) take in what was read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] when the answer did not come. The server has rolled it back, or will. (Behind a
    /// stream or a `COPY` that did not come to its end, none is waited for; on a connection of a pool that was handed in, and behind a
    /// pooler, the server goes on to the end of it first, and keeps its locks so long.)
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is rolled back all the same.
    pub async fn rollback(self) -> Result<()> {
        self.takes_no_more();
        if self.open.lease.was_broken_off() {
            // The server was told to cancel, and the connection is closed, which does it.
            self.see_unknown();
            self.open.end.store(OVER, Ordering::Release);
            return Ok(());
        }
        let _alone = self.open.lease.occupy_for_the_end()?;
        if let Some(guard) = self.open.lease.guard() {
            guard.quiet(false);
        }
        let undone = self.send(Effect::Read, "ROLLBACK").await;
        self.advance(&undone);
        undone?;
        self.open.end.store(OVER, Ordering::Release);
        Ok(())
    }

    /// Commits, unless it was ended already.
    pub(crate) async fn finish(&self) -> Result<()> {
        let unsettled = self.unsettled();
        let ended = self.end(self.open.lease.guard().map(|guard| &**guard)).await;
        unsettled.settled();
        self.advance(&ended);
        ended
    }

    /// The same with this guard's statements behind the commit. Nobody is told of what they have noted.
    async fn end(&self, guard: Option<&Guard>) -> Result<()> {
        if self.takes_no_more() == OVER {
            return Ok(());
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
        let Err(error) = self.note(lease.guarded_with(guard, effect, self.next(), commit).await) else {
            self.open.end.store(OVER, Ordering::Release);
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
            // Whatever was in the way before: this may be committed, so nobody may do it again.
            self.open.lost.store(false, Ordering::Relaxed);
        }
        Err(error)
    }

    /// From here on every call is refused but those that have begun, and the end itself. Gives how far it was.
    pub(super) fn takes_no_more(&self) -> u8 {
        self.open.end.fetch_max(ENDING, Ordering::AcqRel)
    }

    /// From when the commit is sent.
    fn unsettled(&self) -> Unsettled<'_> {
        let writes_in = self.open.session.as_ref().filter(|_| !self.open.read_only);
        Unsettled::new(&self.open.lease, writes_in.map(|(session, _)| session))
    }

    /// Has the session take in what was written or seen, as far as it was told behind the end.
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
