//! The decisions, without I/O, clock, task or lock: `now` and observations come in, a node goes out.
//!
//! It has two halves. The control plane, [`Cluster`], takes in one observation after the other (a call failed, a probe
//! was answered, a connection was told that its server was promoted) and makes an immutable [`Table`] of what it knows.
//! The data plane, [`Table::choose`], is a function of that table, the [live counters](Live), the time and a random number.
//! So each call decides without waiting for anybody, and a test can decide a million times.
//!
//! | file | what it holds |
//! |---|---|
//! | `cluster`, `node`, `observation` | the control plane, what it knows of a node, what it is told and wishes for |
//! | `election` | which node takes writes: timelines, fencing, split brain |
//! | `health` | ejection and the way back |
//! | `history` | how old a replica is |
//! | `membership` | nodes that come and go |
//! | `tabulate`, `table`, `choose` | what of it there is to choose from, and the data plane |
//! | `live`, `budget` | what calls count while they run |
//! | `status`, `readiness`, `outline` | all of it for people, for readiness probes, and what of it is told when it changes |
//! | `set`, `random` | sets of nodes, randomness from a seed |
//! | `simulator`, `flaw` | a cluster that fails in every way, and the rules broken on purpose (tests) |

mod budget;
mod choose;
mod cluster;
mod election;
#[cfg(any(test, feature = "__faults"))]
pub(super) mod flaw;
mod health;
mod history;
mod live;
mod membership;
mod node;
mod observation;
mod outline;
mod random;
mod readiness;
mod set;
#[cfg(test)]
mod simulator;
mod status;
mod table;
mod tabulate;
#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use self::table::Reason;
pub(super) use self::{
    budget::Budget,
    cluster::{Cluster, Config},
    election::Writer,
    live::{Live, NodeLive},
    node::NodeConfig,
    observation::{ConnectFailure, Observation, Report, Standing, Wish},
    outline::Outline,
    random::{STEP, below as random_below, mix},
    set::{MOST_NODES, NodeSet},
    table::{Asked, Decision, Exclusion, Refusal, Route, Table, Want},
};
pub use self::{
    health::EjectionCause,
    readiness::{Availability, Readiness},
    status::{FallbackStatus, NodeCondition, NodeStatus, PrimaryState, RouterStatus},
};

/// The role of a node in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The one writable node.
    Primary,
    /// A streaming replica: it only reads, and it lags.
    Replica,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the primary does for reads that no replica can serve.
///
/// The replicas are there because the primary could not do their work besides its own. When they all are gone, lag or
/// cancel, their load arrives at the primary at once, and takes the writes down with it: so by default a limited part of
/// it is let through. It is your choice, since only you know what the primary can bear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fallback {
    /// It serves as many of them as its budget allows. The others are served by replicas that
    /// [lag](crate::RouterBuilder::max_replica_lag), if they can live with that; without any they wait a while for a place in the
    /// budget, and then fail with [`ErrorKind::ReplicasUnavailable`](crate::ErrorKind::ReplicasUnavailable).
    #[default]
    Protect,
    /// It serves them all: for a primary that can bear the load of everybody, or where an error is worse than a slow
    /// write.
    Unlimited,
    /// It serves none of them: a read without a replica fails at once.
    Never,
}
