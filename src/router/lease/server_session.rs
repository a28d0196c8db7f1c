//! What a server may have lost since one of its sessions was opened.

use tokio::time::Instant;

/// The server of a session, and since when it has existed.
///
/// What was committed on a server is there as long as any earlier session lives: a crash, a restart or a restore ends
/// all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerSession {
    /// The node's index in the router, and how often it had changed into something else.
    pub(crate) server: (usize, u32),
    /// The session existed at this time, and perhaps a little earlier.
    pub(crate) opened: Instant,
}
