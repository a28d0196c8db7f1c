//! The event store: one log, appended to under a condition, read by filter.
//!
//! | file | what it holds |
//! |---|---|
//! | `contract` | the trait that every store implements, and what it gets and answers |
//! | `append`, `query` | the two calls, as their users make them |
//! | `import` | appending more than goes into one append |
//! | `expected`, `load` | fixed streams: appending to them, and loading them |
//! | `condition` | what must still be true when an append is written |
//! | `history` | what a query has read, and the condition that vouches for it |
//! | `refusal` | why an append is refused, in the same words in every store |
//! | `batch` | which appends go together, and which of them stand in each other's way |
//! | `snapshot` | states of projections: a trait of its own, beside the log |
//! | `memory` | a log in memory |
//! | `postgres` | the log in PostgreSQL, behind the router |

mod append;
mod batch;
mod condition;
mod contract;
mod expected;
mod history;
mod import;
mod load;
mod memory;
mod postgres;
mod query;
mod refusal;
mod snapshot;

#[cfg(feature = "migrations")]
pub use self::postgres::Migrated;
pub use self::{
    append::{Append, Appended},
    condition::{After, AppendCondition, Guard},
    contract::{Answer, AppendRequest, BoxFuture, EventStore, QueryRequest},
    expected::{ExpectedVersion, StreamAppend},
    history::History,
    import::{Import, Imported},
    load::{LoadAnswer, LoadRequest, LoadStream, LoadedStream},
    memory::MemoryEventStore,
    postgres::{LogName, PostgresEventStore, PostgresEventStoreBuilder},
    query::Query,
    snapshot::{
        DeleteSnapshot, DeleteSnapshotRequest, LoadOutcome, LoadSnapshot, LoadSnapshotRequest, Project, Projected,
        ReadOnRequest, SaveOutcome, SaveSnapshot, SaveSnapshotRequest, Saved, Snapshot, SnapshotKey, SnapshotStore,
    },
};
