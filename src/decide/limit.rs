//! Limits on how many operations may be in flight at the same time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Error, ErrorKind, Result};

/// A number of places for operations of one kind. An operation that finds no place fails at once.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    what: &'static str,
    most: usize,
    places: Arc<Semaphore>,
}

/// A place, released when it is dropped: at the end, or by a return, cancellation or panic.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "it is there for its drop")] OwnedSemaphorePermit);

impl Limit {
    pub(super) fn new(what: &'static str, most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self { what, most, places: Arc::new(Semaphore::new(most)) }
    }

    pub(super) fn enter(&self) -> Result<Place> {
        Arc::clone(&self.places).try_acquire_owned().map(Place).map_err(|_| {
            let Self { what, most, .. } = self;
            Error::new(
                ErrorKind::Overloaded,
                format!("{most} {what} are under way, which is the limit; try again later"),
            )
        })
    }
}
