//! From the log to decisions: what a decision is made on, how it is made, and how it is carried out.
//!
//! It stands on the trait `EventStore` alone, so on any store.
//!
//! | file | what it holds |
//! |---|---|
//! | `projection` | projections, and decision models that are made of several |
//! | `boundary` | the filters of a model, and which event goes to which part |
//! | `query` | reading a model, and the condition that vouches for it |
//! | `command` | commands, and what is decided about them |
//! | `executor`, `execute` | carrying commands out |
//! | `record` | the log of commands |
//! | `executed` | what has become of a command |
//! | `telling` | what is told of commands and of reads of models |
//! | `pace`, `limit` | how often and how long it is tried, and how many at the same time |

mod boundary;
mod command;
mod execute;
mod executed;
mod executor;
mod limit;
mod pace;
mod projection;
mod query;
mod record;
mod telling;

pub use self::{
    command::{Command, Decision},
    execute::Execute,
    executed::{Attempts, CommandError, CommandOutcome, Executed},
    executor::CommandExecutor,
    projection::{DecisionModel, Parts, Projection},
    query::{ModelQuery, ModelState},
    record::{CommandRecord, RecordedCommand},
};
