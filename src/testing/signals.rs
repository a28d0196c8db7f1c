//! One node: signals to its processes.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use crate::{Error, ErrorKind, Result};

use super::{
    node::Node,
    processes::{self, Snapshot},
    sql,
};

/// For signals to take effect.
const LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(3);

impl Node {
    /// Kills the server and all its children at once with SIGKILL, as a crash would. Its port is free afterwards. Does
    /// nothing if it does not run; a frozen server is killed too.
    ///
    /// This loses nothing even without [`durable`](super::ClusterBuilder::durable): the operating system has what a
    /// process has written.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) if a process still exists after 10 seconds.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server may be dead or half stopped: call it again.
    pub async fn kill(&self) -> Result<()> {
        let _change = self.change.lock().await;
        let Some(pid) = self.pid() else { return Ok(()) };
        // Stopped first: a child forked while the others are killed would be missed.
        let tree = self.stop_tree(pid).await?;
        self.signal("KILL", &tree)?;
        self.until("the end of its processes", |snapshot| {
            tree.iter().all(|pid| snapshot.is_gone(*pid)) && !self.is_running()
        })
        .await?;
        self.frozen.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Freezes the server and all its children with SIGSTOP, as when a machine hangs: connections stay open and are
    /// accepted, but nothing is ever answered. Children forked meanwhile are frozen too.
    ///
    /// This differs from a network that drops packets: the kernel still answers for the sockets, so a connect succeeds
    /// until the queue of the listening socket is full, and a dead peer shows only in the lack of an answer.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if the server does not run, [`Timeout`](ErrorKind::Timeout) if a
    /// process cannot be stopped within 10 seconds.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some processes may be stopped: call [`thaw`](Self::thaw) or this again.
    pub async fn freeze(&self) -> Result<()> {
        let _change = self.change.lock().await;
        let pid = self.running_pid()?;
        self.frozen.store(true, Ordering::SeqCst);
        self.stop_tree(pid).await.map(drop)
    }

    /// Resumes a [frozen](Self::freeze) server.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if the server does not run.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it has begun, nothing has happened; once begun, it does not pause.
    pub async fn thaw(&self) -> Result<()> {
        let _change = self.change.lock().await;
        let pid = self.running_pid()?;
        self.resume_tree(pid)
    }

    fn running_pid(&self) -> Result<u32> {
        self.pid().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the server does not run; start() it first").with_node(self.name())
        })
    }

    pub(super) fn resume_tree(&self, pid: u32) -> Result<()> {
        let tree = self.snapshot()?.tree(pid);
        self.signal("CONT", &tree)?;
        self.frozen.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Stops a process and all its descendants, and returns them.
    async fn stop_tree(&self, pid: u32) -> Result<Vec<u32>> {
        let mut known = Vec::new();
        let deadline = Instant::now() + LIMIT;
        loop {
            let snapshot = self.snapshot()?;
            let tree = snapshot.tree(pid);
            // Twice the same, all stopped: the list is not atomic, and may have missed a new child.
            if tree == known && tree.iter().all(|pid| snapshot.is_stopped(*pid)) {
                return Ok(tree);
            }
            if Instant::now() > deadline {
                let message = format!("not all processes could be stopped within {LIMIT:?}");
                return Err(Error::new(ErrorKind::Timeout, message).with_node(self.name()));
            }
            self.signal("STOP", &tree)?;
            known = tree;
            tokio::time::sleep(POLL).await;
        }
    }

    async fn until(&self, what: &str, check: impl Fn(&Snapshot) -> bool) -> Result<()> {
        sql::wait_until(what, self.name(), LIMIT, async || Ok(check(&self.snapshot()?))).await
    }

    fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take()
            .map_err(|error| Error::configuration("cannot list the processes of this machine").with_source(error))
    }

    pub(super) fn signal(&self, signal: &str, pids: &[u32]) -> Result<()> {
        processes::send(signal, pids).map_err(|error| {
            Error::configuration(format!("cannot send {signal} through sh; is it in PATH?"))
                .with_node(self.name())
                .with_source(error)
        })
    }
}
