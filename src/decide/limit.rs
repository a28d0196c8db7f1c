//! Limits on how many operations may be in flight at the same time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Error, ErrorKind, Result};

/// A number of permits for operations of one kind. An operation that gets none fails at once.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    /// What they are, and the setting that limits them.
    what: [&'static str; 2],
    most: usize,
    permits: Arc<Semaphore>,
}

/// A permit, released when it is dropped: at the end, or by a return, cancellation or panic.
#[derive(Debug)]
pub(super) struct Permit(#[expect(dead_code, reason = "it is there for its drop")] OwnedSemaphorePermit);

impl Limit {
    pub(super) fn new(what: [&'static str; 2], most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self { what, most, permits: Arc::new(Semaphore::new(most)) }
    }

    pub(super) fn enter(&self) -> Result<Permit> {
        Arc::clone(&self.permits).try_acquire_owned().map(Permit).map_err(|_| {
            let Self { what: [what, setting], most, .. } = self;
            let message = format!("{most} {what} are in flight, as many as `{setting}` allows; try again later");
            Error::new(ErrorKind::Overloaded, message)
        })
    }
}
