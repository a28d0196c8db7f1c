//! Following the log: subscriptions, consumers with a checkpoint, and read models kept in tables.
//!
//! It is built on the store, and the store does not depend on it.
//!
//! | file | what it holds |
//! |---|---|
//! | `subscribe` | the trait with the calls, for every store |
//! | `start` | where following begins |
//! | `subscription`, `batch` | the existing and future events of a filter |
//! | `reading`, `portion` | the next piece of the log: how to handle errors and lagging replicas, and how much to read at a time |
//! | `exclusive` | lets futures be held by types that tasks borrow |
//! | `stop` | ending a subscription from elsewhere |
//! | `consumer` | following under a name, from a checkpoint, alone or in a group |
//! | `read_model` | read models, and a runner for many of them |
//! | `last_common` | up to where the log and places that somebody has kept agree |
//! | `cursor`, `fetch` | following by polling, with a place that can be stored as text |

mod batch;
mod consumer;
mod cursor;
mod exclusive;
mod fetch;
mod last_common;
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
