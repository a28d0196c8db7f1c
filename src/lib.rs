//! Primary/replica-aware connection routing for PostgreSQL, and an event store built on it.

mod error;
mod event;
mod filter;
mod json;
mod router;
mod scope;
mod store;
#[cfg(all(feature = "testing", unix))]
pub mod testing;

pub use error::{Conflict, Error, ErrorKind, Result};
pub use event::{Event, EventId, Mark, NewEvent};
pub use filter::{
    Bounds, Filter, FilterBuilder, FilterDigest, FilterItem, Fragment, JsonPath, Matching, PositionBoundedFilter,
    Predicate, PredicateGroup, Selection, Side, TimeBoundedFilter,
};
pub use json::Json;
pub use router::{Client, Role, Router, RouterBuilder};
pub use scope::{
    Consistency, Extensions, InScope, Scope, Scoped, current_consistency, with_consistency, with_eventual_consistency,
    with_strong_consistency,
};
#[cfg(feature = "migrations")]
pub use store::Migrated;
pub use store::{Append, AppendCondition, Appended, History, LogName, PostgresEventStore, Query};
