//! What a server may have lost since a session of it was opened.

use tokio::time::Instant;

/// On which server a session is, and since when.
///
/// What was committed on a server is there as long as any session from before lives: a crash, a restart or a restore ends
/// them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerSession {
    /// The node, by its place among the router's, and how often it had become something else.
    pub(crate) server: (usize, u32),
    /// It was there then, and perhaps a little earlier.
    pub(crate) opened: Instant,
}
