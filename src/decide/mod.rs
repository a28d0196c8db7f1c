//! From the log to decisions: what a decision is based on, how it is made, and how it is executed.
//!
//! This module uses only the trait `EventStore`, so it works on any store.
//!
//! | file | what it holds |
//! |---|---|
//! | `projection` | projections, and decision models composed of several |
//! | `boundary` | the filters of a model, and which event goes to which part |
//! | `query` | reading a model, and the condition that guards it |
//! | `command` | commands, and the decisions about them |
//! | `executor`, `execute` | executing commands |
//! | `record` | the log of commands |
//! | `executed` | the outcome of a command |
//! | `telemetry` | telemetry of commands and of reads of models |
//! | `retry_state`, `limit` | how often and how long an execution is attempted, and how many run at the same time |

mod boundary;
mod command;
mod execute;
mod executed;
mod executor;
mod limit;
mod projection;
mod query;
mod record;
mod retry_state;
mod telemetry;

pub use self::{
    command::{Command, Decision},
    execute::Execute,
    executed::{Attempts, CommandError, CommandOutcome, Executed},
    executor::CommandExecutor,
    projection::{DecisionModel, Parts, Projection, ResumeModel},
    query::{ModelQuery, ModelState},
    record::{CommandRecord, RecordedCommand},
};
