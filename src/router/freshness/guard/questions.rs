//! A guard's queries before and after a read, and their preparation.

use std::sync::{Arc, atomic::Ordering};

use futures_util::future::{OptionFuture, join};
use tokio_postgres::{Client, Row, types::ToSql};

use super::Guard;
use crate::{
    error::{Error, ErrorKind, Result},
    router::{
        Deadline, Effect, Lease,
        client::transaction::FAILED_TRANSACTION,
        freshness::floor::Whereabouts,
        lease::{pooled::Question, prepared::UNKNOWN_STATEMENT},
    },
};

/// The statements, prepared.
pub(super) struct Prepared {
    pub(super) place: Option<Question>,
    pub(super) check: Option<Question>,
    pub(super) after: Option<(Question, Option<Question>)>,
}

impl Lease {
    /// One read-only statement, with nothing around it.
    pub(crate) async fn unguarded(
        &self,
        deadline: Deadline,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let question = self.question(deadline, sql, params.len()).await?;
        let error = match self.call(Effect::Read, deadline, question.ask(self.client(), params)).await {
            Err(error) if error.sqlstate() == Some(UNKNOWN_STATEMENT) => error,
            outcome => return outcome,
        };
        // The user has deallocated it.
        let Some(connection) = self.own() else { return Err(error) };
        connection.forget_all();
        // Nothing can be prepared in a failed transaction: the first error is the informative one.
        let Ok(question) = self.question(deadline, sql, params.len()).await else { return Err(error) };
        self.call(Effect::Read, deadline, question.ask(self.client(), params)).await
    }

    /// Queries the node's place.
    pub(in crate::router) async fn whereabouts(&self, deadline: Deadline) -> Result<Whereabouts> {
        let rows = self.unguarded(deadline, Whereabouts::SQL, &[]).await?;
        Whereabouts::read(&rows).map_err(|error| error.with_node(Arc::clone(self.node().name())))
    }

    pub(super) async fn prepare_guard(&self, guard: &Guard, deadline: Deadline) -> Result<Prepared> {
        let proves = guard.must_prove();
        let place = match guard.place.filter(|_| proves) {
            Some(_) => {
                self.identify(deadline).await?;
                Some(self.question(deadline, Whereabouts::SQL, 0).await?)
            }
            None => None,
        };
        let check = match guard.check.as_ref().and_then(|check| check.sql_before()).filter(|_| proves) {
            Some(sql) => {
                let params = guard.check.as_ref().map_or(0, |check| check.params().len());
                Some(self.question(deadline, sql, params).await?)
            }
            None => None,
        };
        let after = match self.prepare_after(guard, deadline).await {
            // Nothing can be prepared in a failed transaction, and the call may well be the one that ends it.
            Err(error) if error.sqlstate() == Some(FAILED_TRANSACTION) => None,
            after => after?,
        };
        Ok(Prepared { place, check, after })
    }

    async fn prepare_after(&self, guard: &Guard, deadline: Deadline) -> Result<Option<(Question, Option<Question>)>> {
        if !guard.sends_after() {
            return Ok(None);
        }
        let place = self.question(deadline, Whereabouts::SQL, 0).await?;
        Ok(Some(match &guard.check {
            Some(check) => (place, Some(self.question(deadline, check.sql_after(), 0).await?)),
            None => (place, None),
        }))
    }

    /// Checks that the server belongs to this cluster: a place of another cluster means nothing. A connection leads to
    /// one server, so our own ones are asked once; a borrowed one may lead elsewhere each time.
    async fn identify(&self, deadline: Deadline) -> Result<()> {
        let known = self.own().and_then(|connection| connection.system().get().copied());
        let told = match known {
            Some(told) => told,
            None => {
                let told = self.ask_system(deadline).await?;
                if let Some(connection) = self.own() {
                    let _ = connection.system().set(told);
                }
                told
            }
        };
        if told.is_some() && self.system().is_some() && told != self.system() {
            let message = "the server belongs to another cluster";
            return Err(Error::new(ErrorKind::Unavailable, message).with_node(Arc::clone(self.node().name())));
        }
        Ok(())
    }

    async fn ask_system(&self, deadline: Deadline) -> Result<Option<u64>> {
        if self.node().hides_control_data().load(Ordering::Relaxed) {
            return Ok(None);
        }
        let sql = "SELECT system_identifier FROM pg_control_system()";
        match self.unguarded(deadline, sql, &[]).await {
            Ok(rows) => {
                let told: Option<i64> = rows.first().and_then(|row| row.try_get(0).ok());
                Ok(told.map(i64::cast_unsigned))
            }
            Err(error) if error.sqlstate() == Some("42501") => {
                self.node().hides_control_data().store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Queries the node's place, and what the floor checks, before the read.
pub(super) async fn prove(
    client: &Client,
    guard: &Guard,
    statements: &Prepared,
) -> Result<(Option<Vec<Row>>, Option<Vec<Row>>), tokio_postgres::Error> {
    let params = guard.check.as_ref().map(|check| check.params()).unwrap_or_default();
    let check = async {
        match &statements.check {
            Some(check) => Some(check.ask(client, &params).await),
            None => None,
        }
    };
    // Both are queued before either is awaited.
    let (place, check) = join(ask(client, statements.place.as_ref()), check).await;
    Ok((place.transpose()?, check.transpose()?))
}

pub(super) async fn ask(
    client: &Client,
    question: Option<&Question>,
) -> Option<Result<Vec<Row>, tokio_postgres::Error>> {
    OptionFuture::from(question.map(|question| question.ask(client, &[]))).await
}
