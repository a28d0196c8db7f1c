//! Primary/replica-aware connection routing for PostgreSQL, and an event store built on it.

mod error;
#[cfg(all(feature = "testing", unix))]
pub mod testing;

pub use error::{Conflict, Error, ErrorKind, Result};
