//! The statements of a connection in use: prepared once per connection, and again when the server requires it.

use std::{
    future::Future,
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use tokio::time::timeout_at;
use tokio_postgres::{CopyInSink, Row, Statement, types::ToSql};

use super::{
    Lease,
    failure::{self, Effect},
    held::Held,
    rows::{CopyData, Incoming, Part, Rows, Source},
};
use crate::{
    error::Error,
    router::{
        Deadline,
        client::transaction_control,
        freshness::guard::Guard,
        pool::connection::Planning,
        record::{CallRecord, Failed},
    },
    runtime,
};

/// The server has no prepared statement of this name.
pub(in crate::router) const UNKNOWN_STATEMENT: &str = "26000";

impl Lease {
    /// One statement with parameters, prepared once per connection.
    pub(crate) async fn query(
        &self,
        effect: Effect,
        deadline: Deadline,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        if self.is_pooled() {
            return self.query_unnamed(effect, deadline, sql, params).await;
        }
        // An append brings its own settings.
        if effect != Effect::Append {
            self.plan(Planning::ByTheServer);
        }
        let run = |statement| async move { self.client().query(&statement, params).await };
        self.prepared(effect, deadline, sql, run).await
    }

    /// One read, prepared, and planned in this way if the connection is ours. Each row is decoded while the next ones
    /// are in transit: for many rows, the server produces more meanwhile. If a reader stops at a row, that row is the
    /// last one, and nothing after it is kept; each attempt has its own reader.
    pub(crate) async fn query_planned<T: Send, R>(
        &self,
        planning: Planning,
        deadline: Deadline,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        reader: impl Fn() -> R + Send + Sync,
    ) -> Result<Vec<T>, Error>
    where
        R: FnMut(Row) -> ControlFlow<T, T> + Send,
    {
        if self.is_pooled() {
            return self.query_unnamed_until(deadline, sql, params, reader()).await;
        }
        self.plan(planning);
        let reader = &reader;
        let run = |statement: Statement| async move {
            let rows = self.client().query_raw(&statement, params.iter().copied()).await?;
            Ok(self.kept(Part::read(rows, reader()).await?))
        };
        self.prepared(Effect::Read, deadline, sql, run).await
    }

    /// The part of an answer that was read. If the answer continues, nobody needs the rest, and the connection must not
    /// be reused. This is recorded before anything else of the call can fail, such as the proof of what its node
    /// contains.
    pub(in crate::router) fn kept<T>(&self, part: Part<T>) -> Vec<T> {
        if !part.is_whole {
            self.held().pending().fetch_add(1, Ordering::AcqRel);
        }
        part.rows
    }

    /// Runs one statement with parameters, prepared once per connection, and returns the number of rows affected.
    pub(crate) async fn execute(
        &self,
        effect: Effect,
        deadline: Deadline,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Error> {
        if self.is_pooled() {
            return self.execute_unnamed(effect, deadline, sql, params).await;
        }
        self.plan(Planning::ByTheServer);
        let run = |statement| async move { self.client().execute(&statement, params).await };
        self.prepared(effect, deadline, sql, run).await
    }

    /// Starts a statement whose rows are [read](Self::take) piece by piece.
    pub(crate) async fn start(
        &self,
        effect: Effect,
        planning: Planning,
        deadline: Deadline,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Rows, Error> {
        if self.is_pooled() {
            return self.start_unnamed(effect, deadline, sql, params).await;
        }
        self.plan(planning);
        let run = |statement| async move {
            let rows = self.client().query_raw(&statement, params.iter().copied()).await?;
            Ok(self.in_progress(Incoming::new(rows)))
        };
        self.start_with(effect, deadline, sql, run).await
    }

    /// Starts a `COPY … TO STDOUT`, whose data are [read](Self::take) piece by piece.
    pub(in crate::router) async fn start_copy_out(
        &self,
        effect: Effect,
        deadline: Deadline,
        sql: &str,
    ) -> Result<Incoming<CopyData>, Error> {
        self.check_copies()?;
        let run = |statement| async move {
            let data = self.client().copy_out(&statement).await?;
            Ok(self.in_progress(Incoming::new(CopyData::new(data))))
        };
        self.start_with(effect, deadline, sql, run).await
    }

    /// Prepares a `COPY … FROM STDIN`, each time anew: an outdated one could not be resent.
    pub(in crate::router) async fn prepare_copy_in(&self, deadline: Deadline, sql: &str) -> Result<Statement, Error> {
        self.check_copies()?;
        let refuse = |message| Err(self.refuse(Effect::Write, Error::invalid_input(message)));
        if !transaction_control::copies_in(sql) {
            return refuse("copy_in takes a COPY … FROM STDIN, and nothing else; nothing was sent");
        }
        if !self.is_own() {
            return refuse(
                "a COPY that fails spoils its connection, and this one belongs to the pool that was handed in: get one from that pool for \
                 it, or have the router make its own; nothing was sent",
            );
        }
        self.step(Effect::Read, deadline, self.client().prepare(sql)).await
    }

    /// Starts a `COPY … FROM STDIN`. It writes nothing before it is told that the data are complete.
    pub(in crate::router) async fn start_copy_in(
        &self,
        deadline: Deadline,
        statement: Statement,
    ) -> Result<CopyInSink<Bytes>, Error> {
        let start = async { Ok(self.in_progress(self.client().copy_in(&statement).await?)) };
        self.step(Effect::Read, deadline, start).await
    }

    fn check_copies(&self) -> Result<(), Error> {
        if !self.is_pooled() {
            return Ok(());
        }
        let message = "a pooler in transaction mode may take the session back in the middle of a COPY: connect a router of its own to the \
                       node itself";
        Err(self.refuse(Effect::Read, Error::invalid_input(message)))
    }

    /// Nothing is sent after it: that answer would come after data that have not been read yet.
    async fn start_with<T, F, Fut>(&self, effect: Effect, deadline: Deadline, sql: &str, run: F) -> Result<T, Error>
    where
        F: Fn(Statement) -> Fut,
        Fut: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        self.prepare_and_run(effect, deadline, sql, None, run).await
    }

    /// The rest of its answer is still to come. This is recorded before anything else of the call can fail.
    pub(in crate::router) fn in_progress<T>(&self, started: T) -> T {
        self.held().pending().fetch_add(1, Ordering::AcqRel);
        started
    }

    /// The answer to what was [in progress](Self::in_progress) is complete.
    pub(in crate::router) fn came_to_its_end(&self) {
        self.held().pending().fetch_sub(1, Ordering::AcqRel);
    }

    /// The next pieces of what was [started](Self::start) here: those that have arrived, at most `most` and a few
    /// megabytes unless a single one is larger, or else the first ones to arrive before the deadline. None at the end.
    pub(crate) async fn take<S: Source>(
        &self,
        effect: Effect,
        incoming: &mut Incoming<S>,
        deadline: Deadline,
        most: usize,
    ) -> Result<Vec<S::Piece>, Error> {
        let was_over = incoming.is_over();
        let named = |error: Error| error.with_node(Arc::clone(self.node().name()));
        runtime::current().map_err(named)?;
        let record = CallRecord::begin(self, effect);
        if deadline.is_over() {
            let failed = Failed::timed_out(named(failure::on_deadline(deadline, effect)));
            record.end(Some(&failed));
            return Err(failed.error);
        }
        let answers = self.node().handle().answers();
        let Ok(outcome) = timeout_at(deadline.at(), incoming.next(most)).await else {
            self.node().handle().was_silent(answers);
            let failed = Failed::timed_out(named(failure::on_deadline(deadline, effect)));
            record.end(Some(&failed));
            return Err(failed.error);
        };
        if incoming.is_over() && !was_over && !outcome.as_ref().is_err_and(failure::is_out_of_step) {
            self.came_to_its_end();
        }
        // The caller may never ask for more.
        incoming.error().inspect(|error| self.note_end(error));
        if incoming.is_over() && !was_over && outcome.is_ok() {
            self.served();
        }
        let outcome = outcome.map_err(|error| {
            self.note_failure(&error, None);
            let is_conflict = failure::is_conflict(&error, self.role());
            let failed = Failed::from(named(failure::on_call(error, effect, self.role())));
            if is_conflict { failed.conflicted() } else { failed }
        });
        record.end(outcome.as_ref().err());
        outcome.map_err(|failed| failed.error)
    }

    async fn prepared<T, F, Fut>(&self, effect: Effect, deadline: Deadline, sql: &str, run: F) -> Result<T, Error>
    where
        F: Fn(Statement) -> Fut,
        Fut: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let outcome = self.prepare_and_run(effect, deadline, sql, self.guard.as_deref(), run).await;
        if outcome.is_ok() {
            self.served();
        }
        outcome
    }

    async fn prepare_and_run<T, F, Fut>(
        &self,
        effect: Effect,
        deadline: Deadline,
        sql: &str,
        guard: Option<&Guard>,
        run: F,
    ) -> Result<T, Error>
    where
        F: Fn(Statement) -> Fut,
        Fut: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let statement = self.prepare(deadline, sql).await?;
        let error = match self.around(guard, effect, deadline, run(statement)).await {
            Err(error) if self.was_outdated(sql, &error) => error,
            outcome => return outcome,
        };
        match self.prepare(deadline, sql).await {
            Ok(statement) => self.around(guard, effect, deadline, run(statement)).await,
            // Nothing can be prepared in a failed transaction: the first error is the informative one.
            Err(_) => Err(error),
        }
    }

    /// Whether `error` says that our prepared statement is outdated; if so, it is forgotten. The server rejects it
    /// before it executes anything, so even a write may be resent.
    fn was_outdated(&self, sql: &str, error: &Error) -> bool {
        let Held::Own(connection) = self.held() else { return false };
        // What is raised inside a procedure has a context, and the procedure may have committed before. (So has what the
        // server says about the parameters, if it is set to log them.)
        let has_context = error.driver_error().and_then(|error| error.as_db_error()?.where_()).is_some();
        if has_context && ["call", "do"].iter().any(|word| transaction_control::mentions(sql, word)) {
            return false;
        }
        match error.sqlstate() {
            // The schema has changed, and with it the columns of the result. This SQLSTATE has other causes, too.
            Some("0A000") if error.routine() == Some("RevalidateCachedQuery") => connection.forget(sql),
            // All statements of the session were deallocated.
            Some(UNKNOWN_STATEMENT) => {
                connection.forget_all();
                true
            }
            _ => false,
        }
    }

    /// The statement for `sql`: from the connection's cache if the connection is ours, newly prepared if it is
    /// borrowed.
    pub(in crate::router) async fn prepare(&self, deadline: Deadline, sql: &str) -> Result<Statement, Error> {
        let own = match self.held() {
            Held::Own(connection) => Some(connection),
            Held::Borrowed { .. } => None,
        };
        if let Some(statement) = own.and_then(|connection| connection.cached(sql)) {
            return Ok(statement);
        }
        // Nothing has been executed yet, whatever the statement will do.
        let statement = self.step(Effect::Read, deadline, self.client().prepare(sql)).await?;
        if let Some(connection) = own {
            connection.cache(sql, statement.clone());
        }
        Ok(statement)
    }
}
