//! Reads of the log.
//!
//! | file | what it holds |
//! |---|---|
//! | `query`, `stream`, `load`, `read_after` | the ways to read |
//! | `read_sql` | their statements |
//! | `shared_reads` | identical reads, made once for all callers that wait for them |
//! | `floor` | what a read must contain because of tokens and sessions, and the token of what it has seen |

pub(in crate::store::postgres) mod floor;
pub(in crate::store::postgres) mod load;
pub(in crate::store::postgres) mod query;
pub(in crate::store::postgres) mod read_after;
pub(in crate::store::postgres) mod read_sql;
pub(in crate::store::postgres) mod shared_reads;
pub(in crate::store::postgres) mod stream;
