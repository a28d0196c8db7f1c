//! Ctrl-C: the first one asks the command to end, the second one ends the process.

use tokio::{signal::unix::SignalKind, sync::watch};

use crate::failure::{self, Failure, Result};

#[derive(Debug)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Handles SIGINT and SIGTERM.
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| {
            tokio::signal::unix::signal(kind)
                .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
        };
        let (mut interrupts, mut ends) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupts.recv() => {}
                    _ = ends.recv() => {}
                }
                if sender.send_replace(true) {
                    std::process::exit(failure::INTERRUPTED.into());
                }
            }
        });
        Ok(Self(receiver))
    }

    pub(crate) fn has_come(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the interrupt.
    pub(crate) async fn come(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|come| *come).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns the result of `work`. If the interrupt comes first, drops `work` and fails with `what`, which says what that means.
    pub(crate) async fn or<T>(&self, what: &str, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.come() => Err(Failure::interrupted(what)),
        }
    }
}
