//! The members of a consumer: they join, share its partitions, send heartbeats, and leave.

use std::time::Duration;

use tokio_postgres::{
    Row,
    types::{FromSql, ToSql},
};
use uuid::Uuid;

use super::definition::{Change, Definition};
use crate::{
    Mark, PostgresEventStore,
    error::{Error, ErrorKind, Result},
    router::{Deadline, Effect},
    store::postgres::{
        failure,
        wire::{self, Columns, Unreadable},
    },
};

/// One process that works for a consumer.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) consumer: String,
    pub(crate) id: Uuid,
    pub(crate) partitions: u32,
    pub(crate) definition: Definition,
    /// Whether it may replace the definition that is there: other members are then fenced off.
    pub(crate) accepts_change: bool,
    /// How long it counts as alive after a heartbeat.
    pub(crate) lease: Duration,
}

/// A partition that a member owns.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) partition: i32,
    pub(crate) epoch: i64,
    pub(crate) checkpoint: Option<Mark>,
    pub(crate) past: Vec<Mark>,
}

/// What a member owns after it has claimed.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) is_paused: bool,
    pub(crate) claimed: Vec<Claimed>,
}

/// The answer to a member's heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    pub(crate) is_paused: bool,
    /// The number of partitions that it owns.
    pub(crate) owned: usize,
    /// Whether it has more than its share, or could have more.
    pub(crate) is_unfair: bool,
    /// All of them are saved up to this position.
    pub(crate) checkpoint: u64,
}

impl PostgresEventStore {
    /// Creates the consumer, if it does not exist: its partitions begin after this event.
    pub(crate) async fn create_consumer(&self, member: &Member, start: Option<Mark>, deadline: Deadline) -> Result<()> {
        let lease = self.router.lease_primary(deadline).await?;
        let (position, id) = columns(start);
        let partitions = i32::try_from(member.partitions).unwrap_or(i32::MAX);
        let sql = &self.log.consumers.create;
        let (filter, version) = member.definition.params();
        let params: [&(dyn ToSql + Sync); 6] = [&member.consumer, &partitions, &position, &id, &filter, &version];
        let created = lease.execute(Effect::Write, deadline, sql, &params).await;
        created.map(drop).map_err(|error| failure::classify(error, self.name()))
    }

    /// Joins, or stays, and takes a fair share of the partitions. It keeps what it has, in the same epochs. `None` if
    /// there is no such consumer.
    pub(crate) async fn claim(&self, member: &Member, deadline: Deadline) -> Result<Option<Membership>> {
        claim(self, member, deadline).await.map_err(|error| failure::classify(error, self.name()))
    }

    /// Sends a heartbeat for the member. `None` if it is no longer a member, or there is no such consumer.
    pub(crate) async fn renew(&self, member: &Member, deadline: Deadline) -> Result<Option<Pulse>> {
        let lease = self.router.lease_primary_at_once(deadline).await?;
        let seconds = member.lease.as_secs_f64();
        let sql = &self.log.consumers.renew;
        let rows = lease.query(Effect::Write, deadline, sql, &[&member.consumer, &member.id, &seconds]).await;
        let rows = rows.map_err(|error| failure::classify(error, self.name()))?;
        rows.first().map_or(Ok(None), |row| pulse(row).map_err(wire::unreadable))
    }

    /// Gives up all partitions.
    pub(crate) async fn leave(&self, member: &Member, deadline: Deadline) -> Result<()> {
        let lease = self.router.lease_primary(deadline).await?;
        let sql = &self.log.consumers.leave;
        let left = lease.execute(Effect::Write, deadline, sql, &[&member.consumer, &member.id]).await;
        left.map(drop).map_err(|error| failure::classify(error, self.name()))
    }
}

async fn claim(store: &PostgresEventStore, member: &Member, deadline: Deadline) -> Result<Option<Membership>> {
    let sql = &store.log.consumers;
    let Member { consumer, id, partitions, lease, definition, .. } = member;
    let transaction = store.router.library_transaction(deadline).await?;
    let Some(row) = transaction.query_opt(&sql.lock, &[consumer]).await? else { return Ok(None) };
    let (existing, is_paused): (i32, bool) = (get(&row, 0)?, get(&row, 1)?);
    if i64::from(existing) != i64::from(*partitions) {
        let message = format!(
            "the consumer {consumer:?} has {existing} partitions, and not {partitions}: with another number, keys would be in \
             other partitions; give it another name, or delete it first"
        );
        return Err(Error::configuration(message));
    }
    let change = Change::by(member, get(&row, 2)?, get(&row, 3)?)?;
    if change != Change::None {
        let (filter, version) = definition.params();
        transaction.execute(&sql.define, &[consumer, &filter, &version]).await?;
    }
    if change == Change::Replaces {
        transaction.execute(&sql.fence, &[consumer]).await?;
    }
    transaction.execute(&sql.live, &[consumer, id, &lease.as_secs_f64()]).await?;
    let members = transaction.query_one(&sql.count, &[consumer, id]).await?;
    let share = share(existing.into(), get(&members, 0)?, get(&members, 1)?);
    transaction.execute(&sql.release, &[consumer, id, &share]).await?;
    let has = transaction.query(&sql.of_member, &[consumer, id]).await?.len();
    let wanted = share.saturating_sub_unsigned(has as u64);
    if wanted > 0 {
        transaction.execute(&sql.take, &[consumer, id, &wanted]).await?;
    }
    let rows = transaction.query(&sql.of_member, &[consumer, id]).await?;
    let claimed = rows.iter().map(claimed).collect::<Result<_, _>>().map_err(wire::unreadable)?;
    transaction.commit().await?;
    Ok(Some(Membership { is_paused, claimed }))
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T> {
    row.try_get(column).map_err(|error| wire::unreadable(error.into()))
}

pub(in crate::store::postgres) fn claimed(row: &impl Columns) -> Result<Claimed, Unreadable> {
    let past: &str = row.get(4)?;
    Ok(Claimed {
        partition: row.get(0)?,
        epoch: row.get(1)?,
        checkpoint: wire::checkpoint(row, 2)?,
        past: serde_json::from_str(past).map_err(|error| Unreadable::Column(error.into()))?,
    })
}

pub(in crate::store::postgres) fn pulse(row: &impl Columns) -> Result<Option<Pulse>, Unreadable> {
    let (is_member, is_paused): (bool, bool) = (row.get(0)?, row.get(1)?);
    let partitions: i32 = row.get(2)?;
    let (living, owned, free): (i64, i64, i64) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let before: i64 = row.get(7)?;
    for amount in [partitions.into(), living, free, before] {
        wire::amount(amount)?;
    }
    let share = share(partitions.into(), living, before);
    let is_unfair = owned > share || owned < share && free > 0;
    let owned = usize::try_from(owned).map_err(|_| Unreadable::Amount(owned))?;
    let checkpoint = wire::position(row.get(6)?)?;
    Ok(is_member.then_some(Pulse { is_paused, owned, is_unfair, checkpoint }))
}

/// The number of partitions that a member may have, if so many members come `before` it. The first ones have those that
/// are left over when all have equally many: were every share rounded up, the last members would have nothing. Who has
/// more comes first, so it keeps it. Of fewer partitions than members each may have one: whoever has none stands by.
fn share(partitions: i64, members: i64, before: i64) -> i64 {
    let members = members.max(1);
    if partitions < members {
        return partitions.min(1);
    }
    partitions / members + i64::from(before < partitions % members)
}

/// A place in the form of the table.
pub(super) fn columns(mark: Option<Mark>) -> (i64, Option<Uuid>) {
    mark.map_or((0, None), |mark| (wire::position_param(mark.position()), Some(mark.id().into())))
}

/// The error for a consumer that has been deleted.
pub(crate) fn no_consumer(consumer: &str) -> Error {
    Error::new(ErrorKind::Configuration, format!("there is no consumer {consumer:?}: it was deleted, or never ran"))
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn all_partitions_are_shared_and_nobody_has_two_more_than_another() {
        for (partitions, members) in [(16, 15), (16, 3), (4, 3), (8, 8), (1, 1)] {
            let shares: Vec<i64> = (0..members).map(|before| share(partitions, members, before)).collect();
            assert_eq!(shares.iter().sum::<i64>(), partitions, "{shares:?}");
            assert!(shares[0] - shares[shares.len() - 1] <= 1 && shares.is_sorted_by(|a, b| a >= b), "{shares:?}");
        }
    }

    #[test]
    fn a_member_may_keep_one_partition_however_many_members_join() {
        for (partitions, members) in [(1, 2), (1, 3), (2, 5)] {
            assert!((0..members).all(|before| share(partitions, members, before) == 1));
        }
    }
}
