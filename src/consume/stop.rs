//! Ending a subscription from elsewhere.

use tokio::sync::watch;

use crate::store::BoxFuture;

/// Ends a subscription or a consumer from any task. It is cheap to clone; dropping it ends nothing.
#[derive(Clone, Debug)]
pub struct StopHandle(watch::Sender<bool>);

impl StopHandle {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Ends it: events that have been read but not delivered yet are discarded, and the next call returns `None`.
    /// Further calls have no effect.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Returns whether [`stop`](Self::stop) was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Ready once it was called.
    pub(in crate::consume) fn stopped(&self) -> BoxFuture<()> {
        let mut stopped = self.0.subscribe();
        Box::pin(async move {
            if stopped.wait_for(|stopped| *stopped).await.is_err() {
                // Nobody is left to call it.
                std::future::pending::<()>().await;
            }
        })
    }
}
