//! The settings of the choice of a node.

use std::{sync::Arc, time::Duration};

use super::{
    Fallback, Role, RouterBuilder,
    core::{Budget, Config, NodeConfig},
};
use crate::error::{Error, Result};

/// How nodes are chosen.
#[derive(Clone, Debug)]
pub(super) struct Routing {
    pub(super) zone: Option<String>,
    pub(super) fallback: Fallback,
    pub(super) fallback_concurrency: Option<u32>,
    pub(super) fallback_rate: Option<u32>,
    pub(super) replay_wait: Duration,
    pub(super) fallback_wait: Duration,
    pub(super) max_replica_lag: Duration,
    pub(super) slow_start: Duration,
    pub(super) max_ejected_percent: u8,
    pub(super) probe_interval: Option<Duration>,
}

/// What is special about one replica; see [`RouterBuilder::replica_with`].
///
/// ```
/// use mainstem::{ReplicaOptions, Router};
///
/// let builder = Router::builder()
///     .primary("postgres://app@10.0.0.1/shop")
///     .zone("eu-1a")
///     .replica_with("postgres://app@10.0.0.2/shop", ReplicaOptions::new().zone("eu-1a"))
///     .replica_with("postgres://app@10.0.1.2/shop", ReplicaOptions::new().zone("eu-1b").weight(2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct ReplicaOptions {
    pub(super) weight: u32,
    pub(super) zone: Option<String>,
}

impl ReplicaOptions {
    /// An ordinary replica.
    pub fn new() -> Self {
        Self { weight: 1, zone: None }
    }

    /// Its share of the reads against that of the others, from 1 to 1000. Defaults to 1.
    ///
    /// For machines that differ in size: one of weight 2 gets twice as much. Too large and it is overloaded while the
    /// others idle; too small and it idles. A node that is merely slower at times needs none: it gets less by itself.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Where it is; see [`RouterBuilder::zone`]. Defaults to nowhere, which is near for nobody that is somewhere.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }
}

impl Default for ReplicaOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            zone: None,
            fallback: Fallback::Protect,
            fallback_concurrency: None,
            fallback_rate: None,
            replay_wait: Duration::from_millis(500),
            fallback_wait: Duration::from_millis(500),
            max_replica_lag: Duration::from_secs(60),
            slow_start: Duration::from_secs(5),
            max_ejected_percent: 50,
            probe_interval: Some(Duration::from_millis(500)),
        }
    }
}

impl RouterBuilder {
    /// The zone that this application runs in. Defaults to none: all replicas are as near.
    ///
    /// Reads go to [replicas of the same zone](ReplicaOptions::zone) while any of them qualifies and has a free
    /// connection, and to the others else. Set it where traffic between zones costs time or money, and where each zone has
    /// replicas enough for its own reads: with too few, those are full before anybody else is asked.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.routing.zone = Some(zone.into());
        self
    }

    /// What the primary does for reads that no replica can serve. Defaults to [`Fallback::Protect`].
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.routing.fallback = fallback;
        self
    }

    /// The most reads at once that the primary takes over under [`Fallback::Protect`]. Defaults to a quarter of
    /// [`max_connections`](Self::max_connections), one at least.
    ///
    /// It is per router: the primary sees the sum over all instances of the application. Too few and reads fail while the
    /// primary idles; too many and an outage of the replicas becomes one of the primary.
    pub fn fallback_concurrency(mut self, reads: u32) -> Self {
        self.routing.fallback_concurrency = Some(reads);
        self
    }

    /// The most reads per second that the primary takes over under [`Fallback::Protect`], besides the limit on those at
    /// once. Defaults to no such limit.
    ///
    /// For reads that are short but many. A second's worth of them may come in one go. Too low and reads fail while the
    /// primary idles; too high and it limits nothing.
    pub fn fallback_rate(mut self, reads_per_second: u32) -> Self {
        self.routing.fallback_rate = Some(reads_per_second);
        self
    }

    /// How long a read waits for a replica that has got as far as it [must](crate::Consistency::AtLeast), before it falls back
    /// to the primary. Defaults to 500 ms; never more than the [acquire timeout](Self::acquire_timeout).
    ///
    /// Replicas are usually there within milliseconds. Too short and each hiccup of the replication goes to the primary; too
    /// long and, when replicas lag, each reader waits in vain so long. While it waits it holds no connection, and one question
    /// at a time to each replica serves all who wait: every 2 ms, and from PostgreSQL 19 on a `WAIT FOR LSN`.
    ///
    /// It also limits how long a read of a log waits on the primary for the append under way, when it must contain an
    /// event that is not there yet: beyond that it fails with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout).
    pub fn replay_wait(mut self, limit: Duration) -> Self {
        self.routing.replay_wait = limit;
        self
    }

    /// How long a read waits for its turn on the primary before it fails with
    /// [`ErrorKind::ReplicasUnavailable`](crate::ErrorKind::ReplicasUnavailable). Defaults to 500 ms; never more than the
    /// [acquire timeout](Self::acquire_timeout).
    ///
    /// Too short and bursts fail that would have been served; too long and, in an outage, callers queue up for an error.
    pub fn fallback_wait(mut self, limit: Duration) -> Self {
        self.routing.fallback_wait = limit;
        self
    }

    /// A replica that is known to be further behind the primary than this serves no eventual reads while anybody else can.
    /// Defaults to 60 s.
    ///
    /// Others are replicas that are not so far behind, and the primary, as far as its [fallback](Self::fallback) goes. When that is
    /// spent, or there is none, a replica that lags serves rather than nobody: an eventual read asks for no proof of its age.
    /// One that cannot live with that asks for a [bound](crate::Consistency::Bounded), which is never broken.
    ///
    /// Too short and a long transaction, whose replay holds a replica up, sends its readers to the primary; too long and
    /// users see a state that they take for an error. It is no promise: it is compared with what was last seen.
    pub fn max_replica_lag(mut self, limit: Duration) -> Self {
        self.routing.max_replica_lag = limit;
        self
    }

    /// How long the share of a node grows that has come back into service, from a tenth to the whole. Defaults to 5 s.
    ///
    /// Its caches are cold, and it has nothing to do, so it looks better than it is. Too short and its first reads are
    /// slow; too long and the others carry its load as long.
    pub fn slow_start(mut self, time: Duration) -> Self {
        self.routing.slow_start = time;
        self
    }

    /// The most replicas that may be out of service because most of their calls fail, in percent. Defaults to 50; the last
    /// one is never taken out, and 0 takes none out.
    ///
    /// When most of the nodes fail, it is not the nodes that are to blame. Too low and calls go on failing on a bad one;
    /// too high and the few that are left get everybody's load. A node that cannot be reached at all is out in any case.
    pub fn max_ejected_percent(mut self, percent: u8) -> Self {
        self.routing.max_ejected_percent = percent;
        self
    }
}

impl RouterBuilder {
    /// The time between two questions to a node how it is: its role, its timeline, how far it is. Defaults to 500 ms;
    /// `None` asks nobody. A node that is out of service is asked more often, and one that has just changed at once.
    ///
    /// A question takes a connection of the node's pool for a fraction of a millisecond, and writes nothing; while all of
    /// them are in use for longer than that, it opens one more, and closes it. Too short
    /// and many instances of an application are a load; too long and failovers are noticed late, and reads with a
    /// [bound](crate::Consistency::Bounded) below some of these intervals find no replica that is known to be that fresh.
    /// Without it there are none, a new primary is not found, and calls find out whether a node is back.
    ///
    /// What is asked any role may read, but one thing: which timeline a replica receives is told only to roles with
    /// `pg_read_all_stats`, which `GRANT pg_monitor TO app` gives. Without it a replica serves eventual reads after a failover
    /// without being known to have followed it, and reads with a [bound](crate::Consistency::Bounded) only from its next restart
    /// point on, some minutes later.
    pub fn probe_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.routing.probe_interval = interval.into();
        self
    }
}

impl Routing {
    pub(super) fn is_probing(&self) -> bool {
        self.probe_interval.is_some()
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.fallback_concurrency == Some(0) || self.fallback_rate == Some(0) {
            let message = "a fallback of 0 reads is no fallback: say so by Fallback::Never";
            return Err(Error::configuration(message));
        }
        if self.probe_interval == Some(Duration::ZERO) {
            return Err(Error::configuration("probe_interval is 0: give None to ask nobody"));
        }
        if self.max_ejected_percent > 100 {
            let percent = self.max_ejected_percent;
            return Err(Error::configuration(format!("max_ejected_percent is {percent}, which is more than all")));
        }
        Ok(())
    }

    /// A node as these settings see it.
    pub(super) fn node(&self, name: Arc<str>, role: Role, options: &ReplicaOptions) -> Result<NodeConfig> {
        let ReplicaOptions { weight, zone } = options;
        if !(1..=1000).contains(weight) {
            let message = format!("the weight {weight} of a replica is not between 1 and 1000");
            return Err(Error::configuration(message).with_node(name));
        }
        let is_near = self.zone.is_none() || self.zone == *zone;
        Ok(NodeConfig { name, role, weight: *weight, is_near })
    }

    pub(super) fn cluster(&self, nodes: Vec<NodeConfig>) -> Config {
        Config {
            nodes,
            fallback: self.fallback,
            max_lag: self.max_replica_lag,
            slow_start: self.slow_start,
            probe_interval: self.probe_interval,
            max_ejected_percent: self.max_ejected_percent,
        }
    }

    pub(super) fn budget(&self, max_connections: u32) -> Budget {
        match self.fallback {
            Fallback::Protect => {
                let at_once = self.fallback_concurrency.unwrap_or_else(|| (max_connections / 4).max(1));
                Budget::new(at_once, self.fallback_rate)
            }
            Fallback::Never | Fallback::Unlimited => Budget::unlimited(),
        }
    }
}
