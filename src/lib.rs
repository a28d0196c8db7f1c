//! Primary/replica-aware connection routing for PostgreSQL, and an event store built on it.

mod error;

pub use error::{Conflict, Error, ErrorKind, Result};
