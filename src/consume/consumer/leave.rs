//! How a member leaves, so that others need not wait for the end of its lease.

use std::time::Duration;

use tokio::runtime::Handle;

use super::Consumer;
use crate::{Result, router::Deadline};

/// The limit for releasing the partitions of a dropped consumer. Others take them over in any case, a little later.
const LEAVE: Duration = Duration::from_secs(1);

impl Consumer {
    /// Releases its partitions, so that others need not wait until it counts as dead.
    ///
    /// # Errors
    ///
    /// If the primary cannot be reached. Others then take over as if it had died.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, others take over as if it had died.
    pub async fn close(mut self) -> Result<()> {
        self.heartbeat = None;
        if std::mem::take(&mut self.may_be_member) {
            self.store.leave(&self.member, self.deadline()).await?;
        }
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.may_be_member
            && let Ok(runtime) = Handle::try_current()
        {
            let (store, member) = (self.store.clone(), self.member.clone());
            runtime.spawn(async move { store.leave(&member, Deadline::after(LEAVE)).await });
        }
    }
}
