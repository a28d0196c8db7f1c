//! The policy for an event that cannot be handled.

use std::time::Duration;

/// Decides what happens to an event that a read model cannot apply. It is never skipped silently.
///
/// A constraint that is deferred to the commit does not say which event broke it. The batch is then handled again, and
/// such constraints are checked after each event: they must hold there, since a batch may end after any event.
///
/// ```
/// # use std::time::Duration;
/// # use mainstem::PoisonPolicy;
/// // Twice more, a second apart, and then it is recorded and passed over.
/// let policy = PoisonPolicy::skip().retries(2, Duration::from_secs(1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoisonPolicy {
    pub(super) retries: u32,
    pub(super) pause: Duration,
    pub(super) then_skip: bool,
}

impl PoisonPolicy {
    /// Stops at the event: everything before it is handled, and nothing after it until it can be applied, or you
    /// intervene. This is the default.
    #[must_use]
    pub fn stop() -> Self {
        Self { retries: 0, pause: Duration::from_millis(100), then_skip: false }
    }

    /// Skips the event and records that together with the checkpoint: see
    /// [`ConsumerControl::skipped`](crate::ConsumerControl::skipped). It is also logged as an error.
    #[must_use]
    pub fn skip() -> Self {
        Self { then_skip: true, ..Self::stop() }
    }

    /// Retries the event this many times first, with this pause in between. Other events wait meanwhile.
    #[must_use]
    pub fn retries(self, retries: u32, pause: Duration) -> Self {
        Self { retries, pause, ..self }
    }
}

impl Default for PoisonPolicy {
    fn default() -> Self {
        Self::stop()
    }
}
