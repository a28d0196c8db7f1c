//! The connections to a node while no call uses them.
//!
//! | file | what it holds |
//! |---|---|
//! | `own_pool`, `borrowed` | a pool of our own, or one that was handed in |
//! | `admission` | the order in which calls get its connections |
//! | `supply`, `manager` | opening connections |
//! | `beside` | a few connections beside a pool's, while all of those are in use |
//! | `upkeep` | how long connections live |
//! | `connection`, `server_reports`, `statements` | a connection, what its server has reported, and the statements prepared on it |
//! | `names` | the names of nodes and applications |

pub(in crate::router) mod admission;
pub(in crate::router) mod beside;
pub(in crate::router) mod borrowed;
pub(in crate::router) mod connection;
pub(in crate::router) mod manager;
pub(in crate::router) mod names;
pub(in crate::router) mod own_pool;
pub(in crate::router) mod server_reports;
pub(in crate::router) mod statements;
pub(in crate::router) mod supply;
pub(in crate::router) mod upkeep;
