//! Primary/replica-aware connection routing for PostgreSQL, and an event store built on it.
//!
//! A command handler reads, checks and writes: it must see the newest state, so it goes to the primary. A query endpoint
//! only reads: it can go to a streaming replica. With Mainstem the handler says which of the two it is, once, and
//! everything that it calls is routed accordingly:
//!
//! ```no_run
//! # async fn run() -> mainstem::Result<()> {
//! use mainstem::{
//!     EventStore, Filter, NewEvent, PostgresEventStore, Router, with_eventual_consistency, with_strong_consistency,
//! };
//! use serde_json::json;
//!
//! let router = Router::builder()
//!     .primary("postgres://app:secret@10.0.0.1/shop")
//!     .replica("postgres://app:secret@10.0.0.2/shop")
//!     .connect()
//!     .await?;
//! let store = PostgresEventStore::new(&router);
//! let name = Filter::matching().any_type_of(["NameTaken"]).and_all_tags_of(["name:ada"]).finish()?;
//!
//! // A command handler reads, decides and writes on the primary. If somebody else takes the name in between, the
//! // append fails with a conflict, and nothing is written.
//! with_strong_consistency(async {
//!     let history = store.query(&name).await?;
//!     if history.is_empty() {
//!         let taken = NewEvent::new("NameTaken", &json!({"by": "user-1"}))?.with_tag("name:ada");
//!         store.append([taken], history.unchanged()).await?;
//!     }
//!     mainstem::Result::Ok(())
//! })
//! .await?;
//!
//! // A query endpoint reads from a replica.
//! let history = with_eventual_consistency(async { store.query(&name).await }).await?;
//! println!("{} events, served by {}", history.len(), history.node());
//! # Ok(())
//! # }
//! ```
//!
//! Nodes on other machines, as here, need the feature `rustls`, or `?sslmode=disable` appended to their URLs if
//! plaintext is acceptable.
//!
//! # The parts
//!
//! Each part builds on the ones before it and does not depend on those after it.
//!
//! - **Scopes**: [`with_strong_consistency`], [`with_eventual_consistency`], [`with_consistency`] and [`Scope`] carry
//!   the consistency level through a task. Outside any scope, every call is strong.
//! - **Router**: [`Router`] holds a pool for the primary and one for each replica. It also serves any other SQL, through
//!   [`Router::client`] and [`Router::transaction`].
//! - **Event store**: [`PostgresEventStore`] is one log in one total order. Reads select events with a [`Filter`].
//!   Appends take an [`AppendCondition`]: what was read is unchanged. This is a dynamic consistency boundary: what must
//!   not have changed is the result of the decision's filter, not the stream of an entity.
//! - **Snapshots**: [`SnapshotStore`] stores the states of projections, so [`project`](SnapshotStore::project) reads
//!   only the events appended since.
//! - **Decisions**: a [`DecisionModel`] combines typed [`Projection`]s, reads their events in one query, and yields the
//!   append condition that guards the decision. A [`CommandExecutor`] executes a [`Command`] on a model: it reads,
//!   decides, appends, retries, and keeps a record if asked to. [`EventCodec`] decodes events of every version into
//!   your own enum.
//! - **Following the log**: a [`Subscription`] delivers the existing events and then new ones. A [`Consumer`] stores
//!   its checkpoint in the database, alone or in a group. [`ReadModels`] keep read models up to date.
//!
#![cfg_attr(
    feature = "testing",
    doc = "- **Testing**: [`testing::LocalCluster`] is a real primary with streaming replicas, for your tests too, and \
           [`testing::event_store`] holds the rules of [`EventStore`] as tests, for your stores too."
)]
#![cfg_attr(
    not(feature = "testing"),
    doc = "- **Testing** (feature `testing`): `testing::LocalCluster` is a real primary with streaming replicas, for your \
           tests too, and `testing::event_store` holds the rules of [`EventStore`] as tests, for your stores too."
)]
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `migrations` | `PostgresEventStore::migrate`, through refinery; without it, run the files in `migrations/` with any tool |
//! | `bb8`, `deadpool` | existing `bb8-postgres` or `deadpool-postgres` pools as the router's nodes: [`ExistingPool`] |
//! | `rustls` | encrypted connections, verified by default, and client certificates: `TlsMode`, `TlsOptions` |
//! | `tower` | the module `http`: layers that open a scope for each request, and let a browser read its own writes through any instance |
//! | `metrics` | metrics through the `metrics` facade: [`telemetry`] |
//! | `log` | `tracing` output goes to the crate `log` when there is no subscriber |
//! | `testing` | the module `testing`: the rules of event stores as tests, and (Unix only) a PostgreSQL cluster |
//! | `testing` + `testcontainers` | `testing::DockerCluster`: the same cluster from containers |
//!
//! All errors have one type, [`Error`]: a [kind](ErrorKind), predicates, the node, and the cause.
//!
#![cfg_attr(
    all(doc, not(doctest)),
    doc = "# The manual\n\n[`_documentation`] is the manual, from [getting started](_documentation::getting_started) to \
           [operations](_documentation::operations). Its chapters are the files in `docs`."
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

/// Not for users: fault injection for the drills (`examples/drill`).
#[cfg(feature = "__faults")]
#[doc(hidden)]
pub mod __faults {
    pub use crate::router::turn_on;
}
// The examples in it need both features.
#[cfg(any(all(doc, not(doctest)), all(doctest, feature = "migrations", feature = "testing")))]
pub mod _documentation;
// First, because the modules after it use its macro.
#[macro_use]
pub mod telemetry;

pub mod backend;
mod codec;
mod consume;
mod decide;
mod error;
mod event;
mod filter;
#[cfg(feature = "tower")]
pub mod http;
mod json;
mod lsn;
mod router;
mod runtime;
pub mod schema;
mod scope;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod token;

pub use codec::{EventCodec, UnknownEvents};
pub use consume::{
    Awaited, Batch, Consumer, ConsumerBatch, ConsumerBuilder, ConsumerControl, ConsumerStatus, ConsumerTransaction,
    Cursor, Fetch, Fetched, Handled, PartitionStatus, PoisonPolicy, ReadModel, ReadModelProgress, ReadModelState,
    ReadModels, ReadModelsBuilder, SkippedEvent, Start, StopHandle, Subscribe, Subscription, SubscriptionBuilder,
    WaitUntilHandled,
};
pub use decide::{
    Attempts, Command, CommandError, CommandExecutor, CommandOutcome, CommandRecord, Decision, DecisionModel, Execute,
    Executed, ModelQuery, ModelState, Parts, Projection, RecordedCommand, ResumeModel,
};
pub use error::{Conflict, Error, ErrorKind, Result, VersionMismatch};
pub use event::{Event, EventContext, EventId, Mark, NewEvent, Payload, StreamPlace};
pub use filter::{
    Criteria, Filter, FilterBuilder, FilterDigest, JsonPath, Matching, PositionBoundedFilter, Predicate, Selection,
    TimeBoundedFilter,
};
pub use json::Json;
pub use lsn::Lsn;
pub use router::{
    Availability, BeginTransaction, Client, CopyIn, CopyOut, EjectionCause, ExistingPool, Fallback, FallbackStatus,
    GenericClient, HostResolver, Isolation, NodeCondition, NodeStatus, PrimaryState, Readiness, ReplicaOptions, Role,
    Router, RouterBuilder, RouterStatus, RouterWatch, RowStream, SourceStatus, Transaction,
};
#[cfg(feature = "rustls")]
pub use router::{TlsMode, TlsOptions};
pub use scope::{
    Consistency, Extensions, InScope, Scope, Scoped, Session, current_consistency, current_session, with_consistency,
    with_eventual_consistency, with_session, with_strong_consistency,
};
pub use store::{
    Append, AppendCondition, Appended, EventStore, ExpectedVersion, History, Import, Imported, LoadStream,
    LoadedStream, LogName, Lookup, MemoryEventStore, Page, PageQuery, PageStream, PostgresEventStore,
    PostgresEventStoreBuilder, Query, QueryEnd, QueryStream, Served,
};
pub use store::{
    DeleteSnapshot, LoadOutcome, LoadSnapshot, Project, Projected, SaveOutcome, SaveSnapshot, Saved, Snapshot,
    SnapshotKey, SnapshotStore,
};
pub use token::{Token, TokenKey};
/// The driver, for the types that [`Client`] takes and returns.
pub use tokio_postgres;

#[cfg(all(doctest, feature = "migrations"))]
#[doc = include_str!("../README.md")]
struct Readme;
