//! One node: replay and roles.

use std::time::Duration;

use crate::Result;

use super::{
    node::{Node, lock},
    replay, sql,
};

/// For a change of state that a healthy server makes at once.
const LIMIT: Duration = Duration::from_secs(30);

/// How [`Node::rejoin`] brought a node back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejoined {
    /// Its data was replaced by a new base backup of the primary.
    BaseBackup,
    /// pg_rewind removed what the node had and the primary had not, if anything.
    Rewound,
}

impl Node {
    /// Asks the server whether it is a replica.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) or [`Timeout`](crate::ErrorKind::Timeout) if it does not answer.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn is_in_recovery(&self) -> Result<bool> {
        replay::is_in_recovery(self).await
    }

    /// Pauses replay: the replica shows the same past state until [`resume_replay`](Self::resume_replay). It still
    /// receives the log. A [delayed](Self::delay_replay) replica that waits for a commit's time pauses only after that
    /// commit.
    ///
    /// # Errors
    ///
    /// [`Database`](crate::ErrorKind::Database) on a primary, [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) if the server does not answer or does not pause.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the pause may have been requested, and takes effect.
    pub async fn pause_replay(&self) -> Result<()> {
        let _change = self.change.lock().await;
        replay::pause(self).await
    }

    /// Resumes replay of the primary's log.
    ///
    /// # Errors
    ///
    /// As [`pause_replay`](Self::pause_replay).
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, replay may have been resumed.
    pub async fn resume_replay(&self) -> Result<()> {
        let _change = self.change.lock().await;
        replay::resume(self).await
    }

    /// Delays replay: from now on, each commit is applied this long after it was made (`recovery_min_apply_delay`), to
    /// the millisecond; zero ends the delay. It persists over restarts. The delay is measured from the primary's clock.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) on a primary, [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) if the server does not answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the delay may be in force, or take effect with the next restart.
    pub async fn delay_replay(&self, delay: Duration) -> Result<()> {
        let _change = self.change.lock().await;
        if self.index == self.shared.members.primary() {
            return Err(replay::nothing_to_delay(self));
        }
        *lock(&self.delay) = delay;
        self.write_config(Some(&self.upstream()))?;
        replay::reload_delay(self, delay).await
    }

    /// Promotes this replica, and waits until it is a primary: it finishes the replay of what it has received, and
    /// begins a new timeline. From then on it is the cluster's [`primary`](super::LocalCluster::primary).
    ///
    /// The old primary is left as it is. If it runs, there are two: stop it first, unless that is what the test is
    /// about. Other replicas continue to follow the old one until they [`rejoin`](Self::rejoin).
    ///
    /// # Errors
    ///
    /// [`Database`](crate::ErrorKind::Database) if it is a primary already, [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) if the server does not answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server may be promoted while the cluster still considers the old node its primary.
    pub async fn promote(&self) -> Result<()> {
        let _change = self.change.lock().await;
        replay::promote(self).await?;
        *lock(&self.delay) = Duration::ZERO;
        self.write_config(None)?;
        self.shared.members.set_primary(self.index);
        Ok(())
    }

    /// Makes this node a replica of the current primary: an old primary after a failover, or a replica that followed
    /// the old one. It stops the node, removes what it has beyond the primary's history with pg_rewind, or replaces its
    /// data with a new base backup if pg_rewind cannot, starts it, and waits until it receives the primary's log. It
    /// ends a [delay](Self::delay_replay).
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) if it is the current primary; otherwise as [`stop`](Self::stop)
    /// and [`start`](Self::start), and if the primary does not answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the node may be stopped, and its data incomplete: call this again.
    pub async fn rejoin(&self) -> Result<Rejoined> {
        let _change = self.change.lock().await;
        if self.index == self.shared.members.primary() {
            return Err(replay::cannot_follow_itself(self));
        }
        *lock(&self.delay) = Duration::ZERO;
        let primary = self.shared.primary_url();
        // Before version 16, pg_rewind takes the primary's timeline from its last checkpoint.
        sql::ask(&primary, self.name(), "CHECKPOINT").await?;
        self.create_slot().await?;
        self.shut_down().await?;
        let mut rejoined = match self.rewind().await {
            Ok(()) => Rejoined::Rewound,
            Err(error) => {
                tracing::debug!(node = self.name(), %error, "pg_rewind failed: taking a base backup");
                self.base_backup().await?;
                Rejoined::BaseBackup
            }
        };
        if let Err(error) = self.stream_from(&primary).await {
            if matches!(rejoined, Rejoined::BaseBackup) {
                return Err(error);
            }
            // The primary no longer has the log that the rewound data needs.
            tracing::debug!(node = self.name(), %error, "no stream after pg_rewind: taking a base backup");
            self.shut_down().await?;
            // The slot may have lost its log meanwhile, too.
            self.create_slot().await?;
            self.base_backup().await?;
            self.stream_from(&primary).await?;
            rejoined = Rejoined::BaseBackup;
        }
        Ok(rejoined)
    }

    /// Starts this node as a replica of the primary, and waits until it receives the primary's log.
    async fn stream_from(&self, primary: &str) -> Result<()> {
        self.follow()?;
        self.launch().await?;
        // Slots from when this node was a primary would keep its log for nobody.
        let drop_slots = "SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE NOT active";
        sql::ask(&self.url(), self.name(), drop_slots).await?;
        replay::wait_until_streaming(primary, self.name(), LIMIT).await
    }
}
