//! Primary/replica-aware connection routing for PostgreSQL, and an event store built on it.

mod error;
mod scope;

pub use error::{Conflict, Error, ErrorKind, Result};
pub use scope::{
    Consistency, Extensions, InScope, Scope, Scoped, current_consistency, with_consistency, with_eventual_consistency,
    with_strong_consistency,
};
