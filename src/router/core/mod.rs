//! The decisions, without I/O, clock, task or lock: `now` and observations come in, a node goes out.
//!
//! It has two halves. The control plane, [`Cluster`], takes in one observation after the other (a call failed, a probe
//! was answered, a connection reported that its server was promoted) and builds an immutable [`Table`] of what it
//! knows. The data plane, [`Table::choose`], is a function of that table, the [live counters](Live), the time and a
//! random number. Each call therefore decides without waiting for anything, and a test can make a million decisions.
//!
//! | file | what it holds |
//! |---|---|
//! | `cluster`, `node`, `observation` | the control plane, what it knows of a node, its inputs and its requests |
//! | `election` | which node takes writes: timelines, fencing, split brain |
//! | `health` | ejection and the way back |
//! | `history` | how old a replica's data are |
//! | `membership` | nodes that come and go |
//! | `tabulate`, `table`, `choose` | the table of candidates, and the data plane |
//! | `live`, `budget` | what calls count while they run |
//! | `status`, `readiness`, `outline` | the state for people, for readiness probes, and the part whose changes are reported |
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

/// The role of a node in the cluster: primary or replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The one node that takes writes.
    Primary,
    /// A streaming replica: it is read-only and may lag.
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

/// What the primary does with reads that no replica can serve.
///
/// Replicas usually exist because the primary cannot do their work besides its own. When all of them are gone, lag or
/// cancel queries, their load arrives at the primary at once and takes the writes down with it. By default, therefore,
/// only a limited part of it is let through. Choose according to what your primary can bear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fallback {
    /// The primary serves as many of these reads as its budget allows. The others go to replicas that
    /// [lag](crate::RouterBuilder::max_replica_lag), if they accept that. If there is no such replica, they wait for a
    /// while for a place in the budget, and then fail with
    /// [`ErrorKind::ReplicasUnavailable`](crate::ErrorKind::ReplicasUnavailable).
    #[default]
    Protect,
    /// The primary serves all of these reads: for a primary that can bear the whole load, or where an error is worse
    /// than a slow write.
    Unlimited,
    /// The primary serves none of these reads: a read without a replica fails at once.
    Never,
}
