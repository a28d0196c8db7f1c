//! What the database keeps of consumers: their members, who has which partition, and the checkpoints. What a consumer does with
//! it is the matter of `crate::consume`.
//!
//! | file | what it holds |
//! |---|---|
//! | `sql` | the statements |
//! | `member` | joining, living and leaving |
//! | `checkpoint` | saving, and passing events over |
//! | `control` | what is done to a consumer from outside, and what is known of it |

mod checkpoint;
mod control;
mod member;
mod sql;

pub(super) use self::sql::Statements;
pub(crate) use self::{
    checkpoint::{CheckpointRequest, Skip},
    control::{PartitionRow, SkippedRow},
    member::{Claimed, Member, Membership, Pulse, no_consumer},
};
#[cfg(any(test, feature = "testing"))]
pub(super) use self::{
    control::{partition, skipped},
    member::{claimed, pulse},
};
