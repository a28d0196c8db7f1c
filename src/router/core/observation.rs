//! The core's inputs, and what it requests in return.

use std::time::Duration;

use super::Role;
use crate::lsn::Lsn;

/// What happened on a node. `answers` is how often it has answered so far, calls and probes, and `served` how many
/// calls it has served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum Observation {
    /// A call was answered. Only worth reporting for a node that is out of service.
    Answered,
    /// A call failed through the node's fault: it was cancelled in favour of the replay.
    CallFailed { served: u32 },
    /// No connection could be opened.
    ConnectFailed(ConnectFailure),
    /// An operator says that what this node has reported no longer counts.
    Forgotten,
    /// An unused connection was closed. That is no failure: servers may close idle connections. But the node may have
    /// been restarted.
    Gone,
    /// A connection was lost.
    Lost { served: u32 },
    /// A probe was answered.
    Probed(Report),
    /// A probe failed, for whatever reason. If the failure says something about the node, it is reported separately.
    ProbeFailed,
    /// A replica that was asked at `sent_at` has replayed that timeline up to this LSN.
    Replayed { sent_at: Duration, timeline: u32, lsn: Lsn },
    /// A connection reported the node's role.
    Role(Role),
    /// A call or a probe timed out without an answer.
    Silent { answers: u32 },
}

/// Why no connection could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum ConnectFailure {
    /// Its machine reports that nobody listens there: the server is stopped.
    NobodyListens,
    /// No answer in time, or the connection was lost: the server may be running where we cannot reach it.
    NoAnswer,
    /// The server answered but refused the login: too many clients, a wrong password, a start-up that is not complete.
    Refused,
}

impl Observation {
    /// Whether this is an answer of the node.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Self::Answered
            | Self::CallFailed { .. }
            | Self::ConnectFailed(ConnectFailure::Refused)
            | Self::Probed(_)
            | Self::Replayed { .. }
            | Self::Role(_) => true,
            Self::ConnectFailed(_)
            | Self::Forgotten
            | Self::Gone
            | Self::Lost { .. }
            | Self::ProbeFailed
            | Self::Silent { .. } => false,
        }
    }
}

/// What a node reports about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) struct Report {
    /// When it was asked.
    pub(in crate::router) sent_at: Duration,
    /// The same on all nodes of a cluster.
    pub(in crate::router) system: Option<u64>,
    pub(in crate::router) timeline: Option<u32>,
    /// Whether it may be on a newer timeline: it does not reveal which one it receives.
    pub(in crate::router) may_be_newer: bool,
    /// When the server was started, by its own clock: two addresses of the same server report the same.
    pub(in crate::router) instance: Option<u64>,
    pub(in crate::router) standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum Standing {
    Primary { flush: Option<Lsn> },
    Replica { replay: Option<Lsn>, received: Option<Lsn>, is_receiving: Option<bool> },
}

impl Standing {
    pub(in crate::router) fn role(self) -> Role {
        match self {
            Self::Primary { .. } => Role::Primary,
            Self::Replica { .. } => Role::Replica,
        }
    }
}

/// What the surrounding code should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum Wish {
    /// Close the connections that were opened before the node had this generation: they lead to what it was before.
    Drain { node: usize, generation: u32 },
    /// Probe the node now, not at its next turn.
    Probe { node: usize },
}
