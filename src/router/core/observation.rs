//! What the core is told, and what it wishes for in return.

use std::time::Duration;

use super::Role;
use crate::lsn::Lsn;

/// What happened on a node. `answers` is how often it has answered so far, calls and probes, and
/// `served` how many calls it has served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum Observation {
    /// A call was answered. Only worth telling of a node that is out of service.
    Answered,
    /// A call failed for which the node is to blame: it was cancelled in favour of the replay.
    CallFailed { served: u32 },
    /// No connection could be opened.
    ConnectFailed(ConnectFailure),
    /// An operator says that what this node has told is of no account any more.
    Forgotten,
    /// A connection was closed that nobody used. That is no failure: servers may close idle connections. But the node may
    /// have been restarted.
    Gone,
    /// A connection was lost.
    Lost { served: u32 },
    /// A probe was answered.
    Probed(Report),
    /// A probe has come to nothing, for whatever reason. If that says something of the node, it has been told besides.
    ProbeFailed,
    /// A replica has said, when it was asked at `sent_at`, that it has replayed so much of that timeline.
    Replayed { sent_at: Duration, timeline: u32, lsn: Lsn },
    /// A connection was told the node's role.
    Role(Role),
    /// A call or a probe got no answer in its time.
    Silent { answers: u32 },
}

/// Why no connection could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum ConnectFailure {
    /// Its machine says that nobody listens there: the server is stopped.
    NobodyListens,
    /// No answer in time, or the connection was lost: the server may be running, out of our reach.
    NoAnswer,
    /// The server has answered, and lets nobody in: too many clients, a wrong password, a start that is not through.
    Refused,
}

impl Observation {
    /// Whether the node has said anything by that.
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

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) struct Report {
    /// When it was asked.
    pub(in crate::router) sent_at: Duration,
    /// The same on all nodes of a cluster.
    pub(in crate::router) system: Option<u64>,
    pub(in crate::router) timeline: Option<u32>,
    /// Whether it may be on a newer one: it keeps to itself which one it receives.
    pub(in crate::router) may_be_newer: bool,
    /// When the server was started, by its own clock: two addresses that lead to one server say the same.
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

/// What the shell should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum Wish {
    /// Close the connections that were opened before the node was of this generation: they are to what it was.
    Drain { node: usize, generation: u32 },
    /// Ask the node now, and not when its time comes.
    Probe { node: usize },
}
