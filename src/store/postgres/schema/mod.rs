//! The log's tables and indexes.
//!
//! | file | what it holds |
//! |---|---|
//! | `migrate`, `migration_status`, `schema_lock` | the tables, their migration state, and the lock for changing them |
//! | `hot_key`, `index` | the optional indexes |
//! | `access` | the privileges of roles |
//! | `check`, `explain` | whether the tables are what this version needs, and how the server searches them |

pub(in crate::store::postgres) mod access;
pub(in crate::store::postgres) mod check;
pub(in crate::store::postgres) mod explain;
pub(in crate::store::postgres) mod hot_key;
pub(in crate::store::postgres) mod index;
#[cfg(feature = "migrations")]
pub(in crate::store::postgres) mod migrate;
#[cfg(feature = "migrations")]
pub(in crate::store::postgres) mod migration_status;
pub(in crate::store::postgres) mod schema_lock;
