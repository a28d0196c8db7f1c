//! Read models that are kept in tables: the trait for a single one, and the runner for many.
//!
//! | file | what it holds |
//! |---|---|
//! | `model` | the trait of a read model |
//! | `poison` | the policy for an event that cannot be handled |
//! | `progress` | how far a read model is |
//! | `runner` | starting, watching and stopping many |
//! | `catching_up` | waiting until they contain what was in the log |
//! | `work` | what the runner does for each, batch by batch |
//! | `blame` | whose fault a failure is, an event's or the database's |

mod blame;
mod catching_up;
mod model;
mod poison;
mod progress;
mod runner;
mod work;

pub use self::{
    model::ReadModel,
    poison::PoisonPolicy,
    progress::{ReadModelProgress, ReadModelState},
    runner::{ReadModels, ReadModelsBuilder},
};
