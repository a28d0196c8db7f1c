//! The event store: one log, appended to under a condition, read by filter.
//!
//! | file | what it holds |
//! |---|---|
//! | `contract` | the trait that every store implements, and its requests and answers |
//! | `request` | a query as a store receives it, and helpers for answering it |
//! | `append`, `query`, `lookup` | the calls as seen by their users |
//! | `import` | appending more events than fit into one append |
//! | `expected`, `load` | fixed streams: appending to them, and loading them |
//! | `condition` | what must still be true when an append is written |
//! | `history` | the result of a query, and the condition that guards it |
//! | `event_list`, `served_by` | what results have in common: they are lists of events, and some node has served them |
//! | `read_after` | reading on after a position, and waiting for new events there |
//! | `page`, `stream` | partial reads, and reads event by event |
//! | `noted` | how calls update their session |
//! | `refusal` | why an append is refused, with the same wording in every store |
//! | `batch` | which appends go together, and which of them conflict |
//! | `snapshot` | states of projections: a trait of its own, next to the log |
//! | `memory` | a log in memory |
//! | `postgres` | the log in PostgreSQL, behind the router |

mod append;
mod batch;
mod condition;
mod contract;
mod event_list;
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
mod read_after;
mod refusal;
mod request;
mod served_by;
mod snapshot;
mod stream;

pub(crate) use self::postgres::{
    CheckpointRequest, Claimed, Definition, Member, Membership, PartitionCheckpoint, PartitionRow, Pulse, Skip,
    SkippedRow, no_consumer,
};
#[cfg(feature = "migrations")]
pub use self::postgres::{Migrate, Migrated, MigrationState, MigrationStatus};
pub use self::{
    append::{Append, Appended},
    condition::{After, AppendCondition, Guard},
    contract::{Answer, AppendRequest, BoxFuture, EventStore},
    expected::{ExpectedVersion, StreamAppend},
    history::History,
    import::{Import, Imported},
    load::{LoadStream, LoadStreamAnswer, LoadStreamRequest, LoadedStream},
    lookup::{Lookup, Served},
    memory::MemoryEventStore,
    page::Page,
    postgres::{
        Access, Check, ConditionPlan, CreateIndex, DropIndex, ExplainCondition, HotKey, IndexCreated, LogIndex,
        LogName, PostgresEventStore, PostgresEventStoreBuilder,
    },
    query::{PageQuery, Query},
    read_after::{Piece, ReadAfterRequest, WaitRequest},
    request::{Order, QueryRequest},
    snapshot::{
        DeleteSnapshot, DeleteSnapshotRequest, LoadOutcome, LoadSnapshot, LoadSnapshotRequest, Project, Projected,
        ReadAfterSnapshotRequest, SaveOutcome, SaveSnapshot, SaveSnapshotRequest, Saved, Snapshot, SnapshotKey,
        SnapshotStore,
    },
    stream::{BoxStream, PageStream, QueryEnd, QueryStream},
};
#[cfg(feature = "testing")]
pub use self::{
    batch::__guard,
    postgres::{__column, __row},
};
pub(crate) use self::{event_list::event_list, served_by::served_by};
