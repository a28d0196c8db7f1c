//! Calls through a pooler in transaction mode (PgBouncer): each transaction may use a different server session.
//!
//! Nothing may therefore be left in a session. A statement is parsed, bound and executed unnamed, in one message. The
//! driver needs the types of its parameters for that. They are queried once, in a separate transaction, so that the
//! named statement needed for the query is created and closed in one session.

use std::{ops::ControlFlow, sync::Arc};

use futures_util::FutureExt;
use tokio::time::timeout_at;
use tokio_postgres::{
    Client, Row, Statement,
    types::{ToSql, Type},
};

use super::{failure, held::Held, rows::Part};
use crate::{
    error::{Error, Result},
    router::{Deadline, Effect, Lease, Rows, client::transaction_control::TransactionState},
};

/// A statement around a read: prepared, or unnamed through a pooler.
pub(in crate::router) enum Question {
    Prepared(Statement),
    Unnamed(Box<str>, Arc<[Type]>),
}

impl Question {
    pub(in crate::router) async fn ask(
        &self,
        client: &Client,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        match self {
            Self::Prepared(statement) => client.query(statement, params).await,
            Self::Unnamed(sql, types) => client.query_typed(sql, &typed(params, types)).await,
        }
    }
}

impl Lease {
    pub(in crate::router) async fn question(&self, deadline: Deadline, sql: &str, params: usize) -> Result<Question> {
        Ok(if self.is_pooled() {
            Question::Unnamed(sql.into(), self.types(deadline, sql, params).await?)
        } else {
            Question::Prepared(self.prepare(deadline, sql).await?)
        })
    }

    /// Whether a pooler is between us and the server.
    pub(crate) fn is_pooled(&self) -> bool {
        matches!(self.held(), Held::Own(connection) if connection.is_pooled())
    }

    pub(in crate::router) async fn query_unnamed(
        &self,
        effect: Effect,
        deadline: Deadline,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        self.settled(deadline).await?;
        let types = self.types(deadline, sql, params.len()).await?;
        let outcome = self.guarded(effect, deadline, self.client().query_typed(sql, &typed(params, &types))).await;
        self.forget_outdated(sql, outcome)
    }

    pub(in crate::router) async fn query_unnamed_until<T: Send>(
        &self,
        deadline: Deadline,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        reader: impl FnMut(Row) -> ControlFlow<T, T> + Send,
    ) -> Result<Vec<T>> {
        self.settled(deadline).await?;
        let types = self.types(deadline, sql, params.len()).await?;
        let run = async {
            let rows = self.client().query_typed_raw(sql, typed(params, &types)).await?;
            Ok(self.kept(Part::read(rows, reader).await?))
        };
        let outcome = self.guarded(Effect::Read, deadline, run).await;
        self.forget_outdated(sql, outcome)
    }

    pub(in crate::router) async fn execute_unnamed(
        &self,
        effect: Effect,
        deadline: Deadline,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64> {
        self.settled(deadline).await?;
        let types = self.types(deadline, sql, params.len()).await?;
        let outcome = self.guarded(effect, deadline, self.client().execute_typed(sql, &typed(params, &types))).await;
        self.forget_outdated(sql, outcome)
    }

    pub(in crate::router) async fn start_unnamed(
        &self,
        effect: Effect,
        deadline: Deadline,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Rows> {
        self.settled(deadline).await?;
        let types = self.types(deadline, sql, params.len()).await?;
        let rows = async {
            let rows = self.client().query_typed_raw(sql, typed(params, &types)).await?;
            Ok(self.in_progress(Rows::new(rows)))
        };
        // Nothing is sent after it: that answer would come after rows that have not been read yet.
        let outcome = self.around(None, effect, deadline, rows).await;
        self.forget_outdated(sql, outcome)
    }

    /// If a pooler is between us and the server, waits until every earlier answer has arrived: at an answer the pooler
    /// takes the session back, even in the middle of a long message.
    pub(in crate::router) async fn settled(&self, deadline: Deadline) -> Result<()> {
        let Held::Own(connection) = self.held() else { return Ok(()) };
        if !connection.is_pooled() {
            return Ok(());
        }
        let answers = self.node().handle().answers();
        let answered = Box::pin(timeout_at(deadline.at(), connection.reset().answered())).await;
        let named = |error: Error| error.with_node(Arc::clone(self.node().name()));
        // Nothing of the call itself was sent.
        match answered {
            Err(_) => {
                self.node().handle().was_silent(answers);
                Err(named(failure::on_deadline(deadline, Effect::Read)))
            }
            // If the connection is lost, the call itself gives the better error.
            Ok(()) if connection.reset().has_failed() && !connection.client().is_closed() => {
                Err(named(failure::not_reset(Effect::Read)))
            }
            Ok(()) => Ok(()),
        }
    }

    /// The types of a statement's parameters.
    async fn types(&self, deadline: Deadline, sql: &str, count: usize) -> Result<Arc<[Type]>> {
        let Held::Own(connection) = self.held() else { return Ok(Arc::default()) };
        if count == 0 {
            return Ok(Arc::default());
        }
        let types = match connection.types(sql) {
            Some(types) => types,
            None => {
                let types: Arc<[Type]> = self.step(Effect::Read, deadline, self.ask_for_types(sql)).await?.into();
                self.settled(deadline).await?;
                connection.keep_types(sql, Arc::clone(&types));
                types
            }
        };
        if types.len() != count {
            let message = format!("the statement takes {} parameters, and not {count}", types.len());
            return Err(Error::invalid_input(message).with_node(Arc::clone(self.node().name())));
        }
        Ok(types)
    }

    async fn ask_for_types(&self, sql: &str) -> Result<Vec<Type>, tokio_postgres::Error> {
        let client = self.client();
        // In the user's transaction the session is already the user's, and we must not end it.
        let is_pinned = self.transaction_state().get() != TransactionState::Outside;
        if !is_pinned {
            // The driver queues a message at the first poll, and this answer is not needed.
            drop(client.simple_query_raw("BEGIN").now_or_never());
        }
        let prepared = client.prepare(sql).await;
        // Dropped here, so it is closed before the end of the transaction.
        let types = prepared.map(|statement| statement.params().to_vec());
        if !is_pinned && let Held::Own(connection) = self.held() {
            // Nothing else is sent before its answer has arrived.
            connection.send_reset("ROLLBACK");
        }
        types
    }

    /// If the server rejects a statement, it may have been sent with outdated types.
    fn forget_outdated<T>(&self, sql: &str, outcome: Result<T>) -> Result<T> {
        if let (Held::Own(connection), Err(error)) = (self.held(), &outcome)
            && error.sqlstate().is_some()
        {
            connection.forget_types(sql);
        }
        outcome
    }
}

fn typed<'a>(params: &[&'a (dyn ToSql + Sync)], types: &[Type]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    params.iter().copied().zip(types.iter().cloned()).collect()
}
