//! Primary/replica-aware connection routing for PostgreSQL, and an event store built on it.

mod error;
mod event;
mod filter;
mod json;

pub use error::{Conflict, Error, ErrorKind, Result};
pub use event::{Event, EventId, Mark, NewEvent};
pub use filter::{
    Bounds, Filter, FilterBuilder, FilterDigest, FilterItem, Fragment, JsonPath, Matching,
    PositionBoundedFilter, Predicate, PredicateGroup, Selection, Side, TimeBoundedFilter,
};
pub use json::Json;
