//! Ending a subscription from elsewhere.

use tokio::sync::watch;

use crate::store::BoxFuture;

/// Ends what it belongs to, from any task. It is cheap to clone, and nothing ends when it is dropped.
#[derive(Clone, Debug)]
pub struct StopHandle(watch::Sender<bool>);

impl StopHandle {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Ends it: events that have been read and were not handed out yet are not any more, and the next call returns `None`.
    /// More than once is as once.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Ready when it was called.
    pub(super) fn stopped(&self) -> BoxFuture<()> {
        let mut stopped = self.0.subscribe();
        Box::pin(async move {
            if stopped.wait_for(|stopped| *stopped).await.is_err() {
                // Nobody is left who could.
                std::future::pending::<()>().await;
            }
        })
    }
}
