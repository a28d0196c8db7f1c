//! The event store: one log, appended to under a condition, read by filter.
//!
//! | file | what it holds |
//! |---|---|
//! | `contract` | the trait that every store implements, and what it gets and answers |
//! | `request` | a query as a store gets it, and what helps to answer it |
//! | `append`, `query`, `lookup` | the calls, as their users make them |
//! | `import` | appending more than goes into one append |
//! | `expected`, `load` | fixed streams: appending to them, and loading them |
//! | `condition` | what must still be true when an append is written |
//! | `history` | what a query has read, and the condition that vouches for it |
//! | `behind` | reading on behind a place, and waiting for what comes there |
//! | `page`, `stream` | what is read in part, and event by event |
//! | `noted` | what calls have to do with their session |
//! | `refusal` | why an append is refused, in the same words in every store |
//! | `batch` | which appends go together, and which of them stand in each other's way |
//! | `snapshot` | states of projections: a trait of its own, beside the log |
//! | `memory` | a log in memory |
//! | `postgres` | the log in PostgreSQL, behind the router |

mod append;
mod batch;
mod behind;
mod condition;
mod contract;
mod expected;
mod history;
mod import;
mod load;
mod lookup;
mod memory;
mod noted;
mod page;
mod postgres;
mod query;
mod refusal;
mod request;
mod snapshot;
mod stream;

pub(crate) use self::postgres::{
    CheckpointRequest, Claimed, Member, Membership, PartitionRow, Pulse, Skip, SkippedRow, no_consumer,
};
#[cfg(feature = "migrations")]
pub use self::postgres::{Migrate, Migrated, MigrationState, MigrationStatus};
pub use self::{
    append::{Append, Appended},
    behind::{Piece, ReadBehindRequest, WaitRequest},
    condition::{After, AppendCondition, Guard},
    contract::{Answer, AppendRequest, BoxFuture, EventStore},
    expected::{ExpectedVersion, StreamAppend},
    history::History,
    import::{Import, Imported},
    load::{LoadAnswer, LoadRequest, LoadStream, LoadedStream},
    lookup::{Lookup, Served},
    memory::MemoryEventStore,
    page::Page,
    postgres::{
        Access, Check, ConditionPlan, CreateIndex, DropIndex, ExplainCondition, HotKey, IndexCreated, LogIndex,
        LogName, PostgresEventStore, PostgresEventStoreBuilder,
    },
    query::{PageQuery, Query},
    request::{Order, QueryRequest},
    snapshot::{
        DeleteSnapshot, DeleteSnapshotRequest, LoadOutcome, LoadSnapshot, LoadSnapshotRequest, Project, Projected,
        ReadOnRequest, SaveOutcome, SaveSnapshot, SaveSnapshotRequest, Saved, Snapshot, SnapshotKey, SnapshotStore,
    },
    stream::{BoxStream, PageStream, QueryStream, StreamEnd},
};
#[cfg(feature = "testing")]
pub use self::{
    batch::__guard,
    postgres::{__column, __row},
};
