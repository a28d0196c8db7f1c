//! How a member leaves, so that others need not wait for the end of its lease.

use std::time::Duration;

use tokio::runtime::Handle;

use super::Consumer;
use crate::{Result, router::Deadline};

/// The limit for releasing the partitions of a consumer that was dropped or has ended. Others take them over in any case,
/// a little later.
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
        self.leave(self.deadline()).await
    }

    /// The same for a consumer that ends with its task. Its limit is short: others need not wait for that, but an end
    /// should be quick.
    pub(in crate::consume) async fn leave_soon(&mut self) {
        // Others take over in any case.
        let _ = self.leave(Deadline::after(LEAVE)).await;
    }

    async fn leave(&mut self, deadline: Deadline) -> Result<()> {
        self.heartbeat = None;
        match std::mem::take(&mut self.may_be_member) {
            true => self.store.leave(&self.member, deadline).await,
            false => Ok(()),
        }
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
