//! What happens to a connection that its caller gives up.

use std::sync::atomic::Ordering;

use super::{
    Lease, exclusive,
    held::{Held, OwnConnection},
};

impl Drop for Lease {
    fn drop(&mut self) {
        with_metrics! {
            if self.is_for_user() {
                self.node.metrics().used(self.node.name(), self.stopwatch.elapsed());
            }
        }
        let _ = self.stopwatch;
        if flawed!(LeakPlaces) && self.held.as_ref().is_some_and(|held| held.pending().load(Ordering::Acquire) > 0) {
            std::mem::forget(self.held.take());
        }
        match self.held.take() {
            Some(Held::Own(OwnConnection::InTurn(in_turn))) => in_turn.give_back(),
            // Our own manager closes an abandoned connection. A borrowed pool would give it to the next caller, queued
            // after the abandoned statement: so a task keeps it until the server has answered, or is gone.
            Some(Held::Borrowed { connection, pending }) if pending.load(Ordering::Acquire) > 0 => {
                let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
                let exclusive = self.exclusive;
                runtime.spawn(async move {
                    let client = connection.client();
                    let _ = client.batch_execute("ROLLBACK").await;
                    if exclusive {
                        exclusive::give_back(client).await;
                    }
                });
            }
            _ => {}
        }
    }
}
