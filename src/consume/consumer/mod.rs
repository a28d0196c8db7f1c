//! Consumers: following a log under a name, from a checkpoint.
//!
//! | file | what it holds |
//! |---|---|
//! | `builder` | the settings |
//! | `consumer` | the next batch |
//! | `commit` | saving that it was handled |
//! | `claim` | which partitions are this member's |
//! | `heartbeat` | the task that keeps this member alive |
//! | `leave` | how this member leaves |
//! | `partitions` | which partition an event belongs to |
//! | `trail` | earlier checkpoints, at growing distances |
//! | `batch` | what is delivered, and what it takes to save it |
//! | `transaction` | saving it together with its effects |
//! | `control`, `status` | pausing, resetting, deleting from outside, and the status of a consumer |
//! | `telemetry` | the telemetry of batches |
//! | `handled` | waiting until a consumer has handled an event |

mod batch;
mod builder;
mod claim;
mod commit;
#[expect(clippy::module_inception, reason = "the file of the type that the folder is about")]
mod consumer;
mod control;
mod handled;
mod heartbeat;
mod leave;
mod partitions;
mod status;
mod telemetry;
mod trail;
mod transaction;

pub use self::{
    batch::ConsumerBatch,
    builder::ConsumerBuilder,
    consumer::Consumer,
    control::ConsumerControl,
    handled::{Awaited, Handled, WaitUntilHandled},
    status::{ConsumerStatus, PartitionStatus, SkippedEvent},
    transaction::ConsumerTransaction,
};
pub(super) use self::{
    claim::{Claim, News},
    telemetry::handle,
};
