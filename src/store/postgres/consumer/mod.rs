//! What the database stores about consumers: their members, the owners of partitions, and the checkpoints.
//! `crate::consume` decides what a consumer does with it.
//!
//! | file | what it holds |
//! |---|---|
//! | `sql` | the statements |
//! | `definition` | which events a consumer handles, in which version, and what becomes of a member with others |
//! | `member` | joining, heartbeats and leaving |
//! | `checkpoint` | saving, and skipping events |
//! | `control` | controlling a consumer from outside, and its status |

mod checkpoint;
mod control;
mod definition;
mod member;
mod sql;

pub(super) use self::sql::Statements;
pub(crate) use self::{
    checkpoint::{CheckpointRequest, PartitionCheckpoint, Skip},
    control::{PartitionRow, SkippedRow},
    definition::Definition,
    member::{Claimed, Member, Membership, Pulse, no_consumer},
};
#[cfg(any(test, feature = "testing"))]
pub(super) use self::{
    control::{partition, skipped},
    member::{claimed, pulse},
};
