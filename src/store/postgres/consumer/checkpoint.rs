//! Saving a consumer's progress, if it still owns the partitions.

use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use crate::{
    Mark, PostgresEventStore,
    error::{Error, ErrorKind, Result},
    router::{Deadline, Effect},
    store::postgres::{failure, wire},
};

/// What is saved: one checkpoint for some partitions of a member.
#[derive(Clone, Debug)]
pub(crate) struct CheckpointRequest {
    pub(crate) consumer: String,
    pub(crate) member: Uuid,
    pub(crate) partitions: Vec<PartitionCheckpoint>,
    pub(crate) mark: Mark,
}

#[derive(Clone, Debug)]
pub(crate) struct PartitionCheckpoint {
    pub(crate) partition: i32,
    pub(crate) epoch: i64,
    /// Its earlier checkpoints, as text.
    pub(crate) past: String,
    /// The position up to which it must already be saved.
    pub(crate) needs: u64,
    /// The position after which its events begin.
    pub(crate) base: u64,
}

/// An event that is skipped.
#[derive(Clone, Debug)]
pub(crate) struct Skip {
    pub(crate) mark: Mark,
    pub(crate) reason: String,
    pub(crate) attempts: u64,
}

/// The values of a [`CheckpointRequest`], in the form of the statement.
#[derive(Debug)]
pub(crate) struct CheckpointParams<'a> {
    request: &'a CheckpointRequest,
    position: i64,
    id: Uuid,
    partitions: Vec<i32>,
    epochs: Vec<i64>,
    past: Vec<&'a str>,
    needs: Vec<i64>,
    bases: Vec<i64>,
}

impl CheckpointParams<'_> {
    pub(crate) fn bound(&self) -> [&(dyn ToSql + Sync); 9] {
        let Self {
            request: CheckpointRequest { consumer, member, .. }, partitions, epochs, past, needs, bases, ..
        } = self;
        [consumer, member, partitions, epochs, past, &self.position, &self.id, needs, bases]
    }
}

/// The values of a [`Skip`], in the form of the statement.
#[derive(Debug)]
pub(crate) struct SkipParams<'a> {
    consumer: &'a str,
    skip: &'a Skip,
    position: i64,
    id: Uuid,
    attempts: i64,
}

impl SkipParams<'_> {
    pub(crate) fn bound(&self) -> [&(dyn ToSql + Sync); 5] {
        [&self.consumer, &self.position, &self.id, &self.skip.reason, &self.attempts]
    }
}

impl CheckpointRequest {
    pub(crate) fn params(&self) -> CheckpointParams<'_> {
        let each = || self.partitions.iter();
        CheckpointParams {
            request: self,
            position: wire::position_param(self.mark.position()),
            id: self.mark.id().into(),
            partitions: each().map(|one| one.partition).collect(),
            epochs: each().map(|one| one.epoch).collect(),
            past: each().map(|one| &*one.past).collect(),
            needs: each().map(|one| wire::position_param(one.needs)).collect(),
            bases: each().map(|one| wire::position_param(one.base)).collect(),
        }
    }

    /// Interprets the statement's answer: saved, or the reason why not. Saving again changes nothing, unless it must
    /// happen `once`, since something else is saved with it. Then it is also refused if a part of it was saved before:
    /// an unnoticed commit may have come between, and a member that has read the same events again may have got more of
    /// them.
    pub(crate) fn judge(&self, row: &Row, once: bool) -> Result<()> {
        let read = |column| row.try_get(column).map_err(|error| wire::unreadable(error.into()));
        let (may_be_saved, gets_on, is_new) = (read(0)?, read(1)?, read(2)?);
        let why = match (may_be_saved, gets_on && is_new || !once) {
            (true, true) => return Ok(()),
            (true, false) if gets_on => "a part of the batch was committed before",
            (true, false) => "the batch was committed before",
            (false, _) => {
                "another member has taken its partitions over, or it was reset, or a batch before this one was not committed"
            }
        };
        let message = format!(
            "the checkpoint {} of the consumer {:?} was refused: {why}; nothing was saved",
            self.mark, self.consumer
        );
        Err(Error::new(ErrorKind::OwnershipLost, message))
    }
}

impl Skip {
    pub(crate) fn params<'a>(&'a self, consumer: &'a str) -> SkipParams<'a> {
        let position = wire::position_param(self.mark.position());
        let attempts = i64::try_from(self.attempts).unwrap_or(i64::MAX);
        SkipParams { consumer, skip: self, position, id: self.mark.id().into(), attempts }
    }
}

impl PostgresEventStore {
    /// The statement for a [`CheckpointRequest`], which interprets its only row.
    pub(crate) fn checkpoint_sql(&self) -> &str {
        &self.log.consumers.save
    }

    /// The statement for a [`Skip`].
    pub(crate) fn skip_sql(&self) -> &str {
        &self.log.consumers.skip
    }

    /// Saves a checkpoint by itself.
    pub(crate) async fn save_checkpoint(&self, request: &CheckpointRequest, deadline: Deadline) -> Result<()> {
        let lease = self.router.lease_primary(deadline).await?;
        let params = request.params();
        let rows = lease.query(Effect::Write, deadline, self.checkpoint_sql(), &params.bound()).await;
        let rows = rows.map_err(|error| failure::classify(error, self.name()))?;
        request.judge(rows.first().ok_or_else(wire::no_row)?, false)
    }
}
