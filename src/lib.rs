//! Primary/replica-aware connection routing for PostgreSQL, and an event store built on it.

mod error;
mod router;
mod scope;
#[cfg(all(feature = "testing", unix))]
pub mod testing;

pub use error::{Conflict, Error, ErrorKind, Result};
pub use router::{Client, Role, Router, RouterBuilder};
pub use scope::{
    Consistency, Extensions, InScope, Scope, Scoped, current_consistency, with_consistency, with_eventual_consistency,
    with_strong_consistency,
};
