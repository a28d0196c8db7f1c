//! From the log to whoever follows it: subscriptions, consumers with a checkpoint, and read models that are kept in tables.
//!
//! It stands on the store, and the store knows nothing of it.
//!
//! | file | what it holds |
//! |---|---|
//! | `subscribe` | the trait with the calls, for every store |
//! | `start` | where following begins |
//! | `subscription`, `batch` | the events of a filter, those that are there and those that come |
//! | `reading`, `portion` | the next piece of the log: what to do about errors and replicas that are behind, and how much at a time |
//! | `exclusive` | what lets them be borrowed by tasks |
//! | `stop` | ending a subscription from elsewhere |
//! | `consumer` | following under a name, from a checkpoint, alone or in a group |
//! | `read_model` | read models, and a runner for many |
//! | `cursor`, `fetch` | the same by polling, with a place that can be kept as text |

mod batch;
mod consumer;
mod cursor;
mod exclusive;
mod fetch;
mod portion;
mod read_model;
mod reading;
mod start;
mod stop;
mod subscribe;
mod subscription;

pub use self::{
    batch::Batch,
    consumer::{
        Awaited, Consumer, ConsumerBatch, ConsumerBuilder, ConsumerControl, ConsumerStatus, ConsumerTransaction,
        Handled, PartitionStatus, SkippedEvent, WaitUntilHandled,
    },
    cursor::Cursor,
    fetch::{Fetch, Fetched},
    read_model::{PoisonPolicy, ReadModel, ReadModelProgress, ReadModelState, ReadModels, ReadModelsBuilder},
    start::Start,
    stop::StopHandle,
    subscribe::{Subscribe, SubscriptionBuilder},
    subscription::Subscription,
};
