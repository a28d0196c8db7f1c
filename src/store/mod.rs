//! The event store: one log, appended to under a condition, read by filter.
//!
//! | file | what it holds |
//! |---|---|
//! | `condition` | what must still be true when an append is written |
//! | `history` | what a query has read, and the condition that vouches for it |
//! | `postgres` | the log in PostgreSQL, behind the router |

mod condition;
mod history;
mod postgres;

#[cfg(feature = "migrations")]
pub use self::postgres::Migrated;
pub use self::{
    condition::AppendCondition,
    history::History,
    postgres::{Append, Appended, LogName, PostgresEventStore, Query},
};
