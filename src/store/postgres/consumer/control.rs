//! Controlling a consumer from outside, and its status.

use std::{sync::Arc, time::SystemTime};

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::member::columns;
use crate::{
    Consistency, Mark, PostgresEventStore, Role,
    error::Result,
    router::{Deadline, Effect, Lease, asked},
    store::postgres::{
        failure,
        read::floor::ReadNeeds,
        wire::{self, Columns, Micros, Unreadable},
    },
};

/// One partition of a consumer, as some node shows it.
#[derive(Clone, Debug)]
pub(crate) struct PartitionRow {
    pub(crate) is_paused: bool,
    pub(crate) partition: i32,
    pub(crate) checkpoint: Option<Mark>,
    pub(crate) epoch: i64,
    pub(crate) member: Option<Uuid>,
    pub(crate) saved_at: SystemTime,
    pub(crate) events_behind: u64,
    pub(crate) now: SystemTime,
    /// When the first event after the checkpoint was recorded.
    pub(crate) waits_since: Option<SystemTime>,
    pub(crate) skipped: u64,
}

/// An event that was skipped.
#[derive(Clone, Debug)]
pub(crate) struct SkippedRow {
    pub(crate) mark: Mark,
    pub(crate) reason: String,
    pub(crate) attempts: u64,
    pub(crate) skipped_at: SystemTime,
}

/// A statement and its parameters.
type Statement<'a> = (&'a str, &'a [&'a (dyn ToSql + Sync)]);

impl PostgresEventStore {
    /// Returns all partitions, in order, and the node that served the read; none if there is no such consumer there.
    pub(crate) async fn consumer_rows(
        &self,
        consumer: &str,
        consistency: &Consistency,
        deadline: Deadline,
    ) -> Result<(Vec<PartitionRow>, Arc<str>, Role)> {
        let ask = |lease: Arc<Lease>| async move {
            let rows = lease.query(Effect::Read, deadline, &self.log.consumers.status, &[&consumer]).await?;
            let rows = rows.iter().map(partition).collect::<Result<Vec<_>, _>>().map_err(wire::unreadable)?;
            Ok((rows, Arc::clone(lease.node().name()), lease.role()))
        };
        let floor = asked(consistency, None);
        self.read(ReadNeeds { consistency, floor: &floor, wants_token: false }, deadline, ask).await
    }

    pub(crate) async fn skipped_rows(&self, consumer: &str, limit: u64, deadline: Deadline) -> Result<Vec<SkippedRow>> {
        let lease = self.router.lease_primary(deadline).await?;
        let params: [&(dyn ToSql + Sync); 2] = [&consumer, &wire::position_param(limit)];
        let rows = lease.query(Effect::Read, deadline, &self.log.consumers.skipped, &params).await;
        let rows = rows.map_err(|error| failure::classify(error, self.name()))?;
        rows.iter().map(skipped).collect::<Result<_, _>>().map_err(wire::unreadable)
    }

    /// Returns whether there was such a consumer.
    pub(crate) async fn pause_consumer(&self, consumer: &str, pause: bool, deadline: Deadline) -> Result<bool> {
        self.change(&self.log.consumers.pause, &[&consumer, &pause], deadline).await
    }

    /// Returns whether there was such a consumer.
    pub(crate) async fn reset_consumer(&self, consumer: &str, to: Option<Mark>, deadline: Deadline) -> Result<bool> {
        let (position, id) = columns(to);
        let sql = &self.log.consumers;
        let statements: [Statement<'_>; 2] =
            [(&sql.reset, &[&consumer, &position, &id]), (&sql.forget, &[&consumer, &position])];
        self.change_in_turn(consumer, &statements, deadline).await
    }

    /// Returns whether there was such a consumer.
    pub(crate) async fn delete_consumer(&self, consumer: &str, deadline: Deadline) -> Result<bool> {
        let sql = &self.log.consumers;
        let statements: [Statement<'_>; 2] = [(&sql.delete_progress, &[&consumer]), (&sql.delete, &[&consumer])];
        self.change_in_turn(consumer, &statements, deadline).await
    }

    /// Returns the last of these places that the log holds, as far as the primary knows.
    pub(crate) async fn last_held(&self, marks: &[Mark], deadline: Deadline) -> Result<Option<Mark>> {
        let lease = self.router.lease_primary(deadline).await?;
        let positions: Vec<i64> = marks.iter().map(|mark| wire::position_param(mark.position())).collect();
        let rows = lease.query(Effect::Read, deadline, &self.log.consumers.held, &[&positions]).await;
        let rows = rows.map_err(|error| failure::classify(error, self.name()))?;
        let held = rows.iter().map(|row| wire::mark(row, 0)).collect::<Result<Vec<_>, _>>();
        let held = held.map_err(wire::unreadable)?;
        Ok(held.into_iter().flatten().find(|held| marks.contains(held)))
    }

    /// Statements of one transaction, each of which sees what those before it have waited for. No member claims meanwhile.
    async fn change_in_turn(&self, consumer: &str, statements: &[Statement<'_>], deadline: Deadline) -> Result<bool> {
        let changed = async {
            let transaction = self.router.library_transaction(deadline).await?;
            if transaction.query_opt(&self.log.consumers.lock, &[&consumer]).await?.is_none() {
                return Ok(false);
            }
            for (sql, params) in statements {
                transaction.execute(sql, params).await?;
            }
            transaction.commit().await.map(|()| true)
        };
        changed.await.map_err(|error| failure::classify(error, self.name()))
    }

    async fn change(&self, sql: &str, params: &[&(dyn ToSql + Sync)], deadline: Deadline) -> Result<bool> {
        let lease = self.router.lease_primary(deadline).await?;
        let changed = lease.execute(Effect::Write, deadline, sql, params).await;
        Ok(changed.map_err(|error| failure::classify(error, self.name()))? > 0)
    }
}

pub(in crate::store::postgres) fn partition(row: &impl Columns) -> Result<PartitionRow, Unreadable> {
    Ok(PartitionRow {
        is_paused: row.get(0)?,
        partition: row.get(1)?,
        checkpoint: wire::checkpoint(row, 2)?,
        epoch: row.get(4)?,
        member: row.get(5)?,
        saved_at: row.get::<Micros>(6)?.time()?,
        // A replica may have the checkpoint ahead of the log as it was when the statement began.
        events_behind: wire::amount(row.get::<i64>(7)?.max(0))?,
        now: row.get::<Micros>(8)?.time()?,
        waits_since: row.get::<Option<Micros>>(9)?.map(Micros::time).transpose()?,
        skipped: wire::amount(row.get(10)?)?,
    })
}

pub(in crate::store::postgres) fn skipped(row: &impl Columns) -> Result<SkippedRow, Unreadable> {
    Ok(SkippedRow {
        mark: wire::mark(row, 0)?.ok_or(Unreadable::Null("the event that was skipped"))?,
        reason: row.get(2)?,
        attempts: wire::amount(row.get(3)?)?,
        skipped_at: row.get::<Micros>(4)?.time()?,
    })
}
