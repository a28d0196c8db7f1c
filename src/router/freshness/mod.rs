//! Reads that must contain something: on a replica they are proven, not hoped for.
//!
//! | file | what it holds |
//! |---|---|
//! | `floor` | what a read must contain |
//! | `guard` | how its connection proves it, in the same message |
//! | `replay` | waiting until a replica can |

pub(in crate::router) mod floor;
pub(in crate::router) mod guard;
pub(in crate::router) mod replay;
