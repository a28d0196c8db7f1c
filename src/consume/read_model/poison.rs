//! What to do about an event that cannot be handled.

use std::time::Duration;

/// What is done about an event that a read model cannot apply. It is never passed over in silence.
///
/// ```
/// # use std::time::Duration;
/// # use mainstem::PoisonPolicy;
/// // Twice more, a second apart, and then it is recorded and passed over.
/// let policy = PoisonPolicy::skip().retries(2, Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoisonPolicy {
    pub(super) retries: u32,
    pub(super) pause: Duration,
    pub(super) then_skip: bool,
}

impl PoisonPolicy {
    /// It stops in front of the event: nothing behind it is handled until it can be, or the consumer is told
    /// otherwise. This is the default.
    #[must_use]
    pub fn stop() -> Self {
        Self { retries: 0, pause: Duration::from_millis(100), then_skip: false }
    }

    /// The event is passed over, and that is recorded together with the checkpoint: see
    /// [`ConsumerControl::skipped`](crate::ConsumerControl::skipped). It is also logged as an error.
    #[must_use]
    pub fn skip() -> Self {
        Self { then_skip: true, ..Self::stop() }
    }

    /// It is tried so many times more before, with this pause in between. Other events wait meanwhile.
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
