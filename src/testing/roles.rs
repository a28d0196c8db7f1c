//! One node: replay and roles.

use std::time::Duration;

use crate::Result;

use super::{
    node::{Node, lock},
    replay, sql,
};

/// For a change of state that the server makes at once when it is well.
const LIMIT: Duration = Duration::from_secs(30);

/// How [`Node::rejoin`] brought a node back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejoined {
    /// Its data was replaced by a new base backup of the primary.
    BaseBackup,
    /// pg_rewind took back what it had and the primary had not, if there was anything.
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

    /// Stops applying the primary's log, so that this replica shows one state of the past until
    /// [`resume_replay`](Self::resume_replay). It still receives the log. A [delayed](Self::delay_replay) replica that
    /// waits for a commit's time pauses only after that commit.
    ///
    /// # Errors
    ///
    /// [`Database`](crate::ErrorKind::Database) on a primary, [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) if the server does not answer or does not pause.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the pause may have been asked for, and comes.
    pub async fn pause_replay(&self) -> Result<()> {
        let _change = self.change.lock().await;
        replay::pause(self).await
    }

    /// Goes on applying the primary's log.
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

    /// Applies each commit from now on this long after it was made (`recovery_min_apply_delay`), to the millisecond;
    /// zero ends that. It stays over restarts. A replica's delay is measured from the primary's clock.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) on a primary, [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) if the server does not answer.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the delay may be in force, or come with the next restart.
    pub async fn delay_replay(&self, delay: Duration) -> Result<()> {
        let _change = self.change.lock().await;
        if self.index == self.shared.members.primary() {
            return Err(replay::nothing_to_delay(self));
        }
        *lock(&self.delay) = delay;
        self.write_config(Some(&self.upstream()))?;
        replay::reload_delay(self, delay).await
    }

    /// Makes this replica a primary, and waits until it is one: it ends replay of what it has received, and begins a
    /// new timeline. From then on it is the cluster's [`primary`](super::LocalCluster::primary).
    ///
    /// The old primary is left as it is. If it runs, there are two: stop it first, unless that is what the test is
    /// about. Other replicas go on following the old one until they [`rejoin`](Self::rejoin).
    ///
    /// # Errors
    ///
    /// [`Database`](crate::ErrorKind::Database) if it is a primary already, [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) if the server does not answer.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the server may be promoted while the cluster still takes the old node for its
    /// primary.
    pub async fn promote(&self) -> Result<()> {
        let _change = self.change.lock().await;
        replay::promote(self).await?;
        *lock(&self.delay) = Duration::ZERO;
        self.write_config(None)?;
        self.shared.members.set_primary(self.index);
        Ok(())
    }

    /// Makes this node a replica of the current primary: an old primary after a failover, or a replica that followed
    /// the old one. Stops it, takes back what it has beyond the primary's history with pg_rewind, or replaces its data
    /// by a new base backup when pg_rewind cannot, starts it, and waits until it receives the primary's log. A
    /// [delay](Self::delay_replay) is over.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) if it is the current primary; otherwise as [`stop`](Self::stop)
    /// and [`start`](Self::start), and if the primary does not answer.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the node may be stopped, and its data incomplete: call this again.
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
        let rejoined = match self.rewind().await {
            Ok(()) => Rejoined::Rewound,
            Err(error) => {
                tracing::debug!(node = self.name(), %error, "pg_rewind failed: taking a base backup");
                self.base_backup().await?;
                Rejoined::BaseBackup
            }
        };
        self.follow()?;
        self.launch().await?;
        // Those of the time when this node was a primary would keep its log for nobody.
        let drop_slots = "SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE NOT active";
        sql::ask(&self.url(), self.name(), drop_slots).await?;
        replay::wait_until_streaming(&primary, self.name(), LIMIT).await?;
        Ok(rejoined)
    }
}
