//! The status of a consumer.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    Mark, Role,
    store::{PartitionRow, SkippedRow},
};

/// The status of a consumer, as seen on a node.
#[derive(Clone, Debug)]
pub struct ConsumerStatus {
    partitions: Vec<PartitionStatus>,
    is_paused: bool,
    skipped: u64,
    node: Arc<str>,
    role: Role,
}

/// The status of one partition of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// Its number, from 0.
    pub partition: u32,
    /// The place up to which everything was handled; `None` at the beginning.
    pub checkpoint: Option<Mark>,
    /// The number of events in the log after it, whether for this consumer or not.
    pub events_behind: u64,
    /// How long the first of these events has been waiting; zero if there are none. By the database's clock.
    pub time_behind: Duration,
    /// When the checkpoint was saved, by the database's clock.
    pub saved_at: SystemTime,
    /// How often it has changed owners.
    pub epoch: u64,
    /// Whether a member owns it. That member may have just died.
    pub is_owned: bool,
}

/// An event that a consumer has skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedEvent {
    /// The event.
    pub mark: Mark,
    /// The reason for skipping it.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u64,
    /// When it was skipped, by the database's clock.
    pub skipped_at: SystemTime,
}

impl ConsumerStatus {
    pub(super) fn new(rows: Vec<PartitionRow>, node: Arc<str>, role: Role) -> Option<Self> {
        let first = rows.first()?;
        let (is_paused, skipped) = (first.is_paused, first.skipped);
        let partitions = rows.into_iter().map(PartitionStatus::new).collect();
        Some(Self { partitions, is_paused, skipped, node, role })
    }

    /// Returns its partitions, in order.
    #[must_use]
    pub fn partitions(&self) -> &[PartitionStatus] {
        &self.partitions
    }

    /// Returns the place up to which everything was handled in all partitions; `None` at the beginning.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Mark> {
        let checkpoints = self.partitions.iter().map(|partition| partition.checkpoint);
        checkpoints.min_by_key(|mark| Mark::position_or_zero(*mark)).flatten()
    }

    /// Returns the number of events in the log after the checkpoint of the partition that is furthest behind.
    #[must_use]
    pub fn events_behind(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.events_behind).max().unwrap_or_default()
    }

    /// Returns how long the longest-waiting event has been waiting; zero if none waits.
    #[must_use]
    pub fn time_behind(&self) -> Duration {
        self.partitions.iter().map(|partition| partition.time_behind).max().unwrap_or_default()
    }

    /// Returns whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Returns how many events it has skipped.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Returns the name of the node that reported this.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns the role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }
}

impl PartitionStatus {
    fn new(row: PartitionRow) -> Self {
        let waits = row.waits_since.map(|since| row.now.duration_since(since).unwrap_or_default());
        Self {
            partition: row.partition.unsigned_abs(),
            checkpoint: row.checkpoint,
            events_behind: row.events_behind,
            time_behind: waits.unwrap_or_default(),
            saved_at: row.saved_at,
            epoch: row.epoch.unsigned_abs(),
            is_owned: row.member.is_some(),
        }
    }
}

impl SkippedEvent {
    pub(super) fn new(row: SkippedRow) -> Self {
        let SkippedRow { mark, reason, attempts, skipped_at } = row;
        Self { mark, reason, attempts, skipped_at }
    }
}
