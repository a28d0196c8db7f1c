//! The tables of a log: migrations, checks, indexes, and the rights of roles.
//!
//! The methods are those of [`PostgresEventStore`](crate::PostgresEventStore), such as
//! [`check`](crate::PostgresEventStore::check) and [`create_index`](crate::PostgresEventStore::create_index); here is what
//! they take and return. The chapter `schema` of the manual describes the tables.

pub use crate::store::{
    Access, Check, ConditionPlan, CreateIndex, DropIndex, ExplainCondition, HotKey, IndexCreated, LogIndex,
};
#[cfg(feature = "migrations")]
pub use crate::store::{Migrate, Migrated, MigrationState, MigrationStatus};
