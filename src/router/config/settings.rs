//! The settings for the choice of a node.

use std::{sync::Arc, time::Duration};

use crate::{
    error::{Error, Result},
    router::{
        Fallback, Role, RouterBuilder,
        core::{Budget, Config, NodeConfig},
    },
};

/// How nodes are chosen.
#[derive(Clone, Debug)]
pub(in crate::router) struct Routing {
    pub(in crate::router) zone: Option<String>,
    pub(in crate::router) fallback: Fallback,
    pub(in crate::router) fallback_concurrency: Option<u32>,
    pub(in crate::router) fallback_rate: Option<u32>,
    pub(in crate::router) replay_wait: Duration,
    pub(in crate::router) fallback_wait: Duration,
    pub(in crate::router) max_replica_lag: Duration,
    pub(in crate::router) slow_start: Duration,
    pub(in crate::router) max_ejected_percent: u8,
    pub(in crate::router) probe_interval: Option<Duration>,
}

/// The options of one replica; see [`RouterBuilder::replica_with`].
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
    pub(in crate::router) weight: u32,
    pub(in crate::router) zone: Option<String>,
}

impl ReplicaOptions {
    /// Returns the options of an ordinary replica.
    pub fn new() -> Self {
        Self { weight: 1, zone: None }
    }

    /// Sets its share of the reads relative to the other replicas, from 1 to 1000. Defaults to 1.
    ///
    /// For machines of different size: a replica of weight 2 gets twice as many reads. Too large, and it is overloaded
    /// while the others idle; too small, and it idles. A replica that is only slow at times needs no weight: it gets
    /// fewer reads automatically.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets the replica's zone; see [`RouterBuilder::zone`]. Defaults to none, which is not near to any application in
    /// a zone.
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
    /// Sets the zone that this application runs in. Defaults to none: all replicas are equally near.
    ///
    /// Reads go to [replicas of the same zone](ReplicaOptions::zone) while any of them qualifies and has a free
    /// connection, and to the others otherwise. Set it where traffic between zones costs time or money, and where each
    /// zone has enough replicas for its own reads: if it has too few, they fill up before any other replica is tried.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.routing.zone = Some(zone.into());
        self
    }

    /// Sets what the primary does with reads that no replica can serve. Defaults to [`Fallback::Protect`].
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.routing.fallback = fallback;
        self
    }

    /// Limits how many reads at once the primary takes over under [`Fallback::Protect`]. Defaults to a quarter of
    /// [`max_connections`](Self::max_connections), at least one.
    ///
    /// The limit is per router: the primary sees the sum over all instances of the application. Too few, and reads fail
    /// while the primary idles; too many, and an outage of the replicas becomes an outage of the primary.
    pub fn fallback_concurrency(mut self, reads: u32) -> Self {
        self.routing.fallback_concurrency = Some(reads);
        self
    }

    /// Limits how many reads per second the primary takes over under [`Fallback::Protect`], in addition to the limit on
    /// concurrent ones. Defaults to no such limit.
    ///
    /// For reads that are short but numerous. A second's worth of them may arrive in one burst. Too low, and reads fail
    /// while the primary idles; too high, and it limits nothing.
    pub fn fallback_rate(mut self, reads_per_second: u32) -> Self {
        self.routing.fallback_rate = Some(reads_per_second);
        self
    }

    /// Limits how long a read waits for a replica to replay as far as it [must](crate::Consistency::AtLeast), before it
    /// falls back to the primary. Defaults to 500 ms; never more than the [acquire timeout](Self::acquire_timeout).
    ///
    /// Replicas usually get there within milliseconds. Too short, and each hiccup of the replication sends reads to the
    /// primary; too long, and when replicas lag, each read waits that long in vain. A waiting read holds no connection.
    /// One query at a time to each replica serves all waiting reads: every 2 ms, and from PostgreSQL 19 on a
    /// `WAIT FOR LSN`.
    ///
    /// It also limits how long a read of a log that must contain an event not yet there waits on the primary for the
    /// append in flight: after that it fails with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout).
    pub fn replay_wait(mut self, limit: Duration) -> Self {
        self.routing.replay_wait = limit;
        self
    }

    /// Limits how long a read waits for its turn on the primary before it fails with
    /// [`ErrorKind::ReplicasUnavailable`](crate::ErrorKind::ReplicasUnavailable). Defaults to 500 ms; never more than
    /// the [acquire timeout](Self::acquire_timeout).
    ///
    /// Too short, and bursts fail that could have been served; too long, and in an outage callers queue up for an
    /// error.
    pub fn fallback_wait(mut self, limit: Duration) -> Self {
        self.routing.fallback_wait = limit;
        self
    }

    /// Sets the replication lag above which a replica serves no eventual reads while another node can. Defaults to 60
    /// s.
    ///
    /// Other nodes are replicas with less lag, and the primary, as far as its [fallback](Self::fallback) allows. If
    /// that is exhausted or switched off, a lagging replica serves the read rather than no node: an eventual read
    /// requires no proof of its age. A read that needs one uses a [bound](crate::Consistency::Bounded), which is never
    /// broken.
    ///
    /// Too short, and a long transaction that delays a replica's replay sends its readers to the primary; too long, and
    /// users see a state that they take for an error. The limit is not a guarantee: it is compared with the last
    /// observed lag.
    pub fn max_replica_lag(mut self, limit: Duration) -> Self {
        self.routing.max_replica_lag = limit;
        self
    }

    /// Sets how long a node that has returned to service takes to grow from a tenth of its share to all of it.
    /// Defaults to 5 s.
    ///
    /// Its caches are cold, and since it is idle it looks better than it is. Too short, and its first reads are slow;
    /// too long, and the other nodes carry its load for that long.
    pub fn slow_start(mut self, time: Duration) -> Self {
        self.routing.slow_start = time;
        self
    }

    /// Limits the share of replicas that may be out of service because most of their calls fail, in percent.
    /// Defaults to 50; the last replica is never taken out, and 0 takes none out.
    ///
    /// When most nodes fail, the nodes are not the cause. Too low, and calls keep failing on a bad node; too high, and
    /// the few nodes that are left get the whole load. A node that cannot be reached at all is out of service in any
    /// case.
    pub fn max_ejected_percent(mut self, percent: u8) -> Self {
        self.routing.max_ejected_percent = percent;
        self
    }
}

impl RouterBuilder {
    /// Sets the time between two probes of a node, which ask for its role, timeline and LSN. Defaults to 500 ms; `None`
    /// turns probing off. A node that is out of service is probed more often, and one that has just changed is probed
    /// at once.
    ///
    /// A probe takes a connection of the node's pool for a fraction of a millisecond, and writes nothing. If all
    /// connections are in use for longer than that, it opens one more, and closes it afterwards. Too short, and many
    /// instances of an application are a noticeable load. Too long, and failovers are noticed late, and reads with a
    /// [bound](crate::Consistency::Bounded) below a few of these intervals find no replica known to be that fresh.
    /// Without probes there are no such replicas, a new primary is not found, and calls have to find out whether a node
    /// is back.
    ///
    /// Any role may read what a probe asks for, with one exception: the timeline that a replica receives is visible
    /// only to roles with `pg_read_all_stats`, which `GRANT pg_monitor TO app` grants. Without it, after a failover a
    /// replica serves eventual reads without being known to have followed it, and reads with a
    /// [bound](crate::Consistency::Bounded) only from its next restart point on, some minutes later.
    pub fn probe_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.routing.probe_interval = interval.into();
        self
    }
}

impl Routing {
    pub(in crate::router) fn is_probing(&self) -> bool {
        self.probe_interval.is_some()
    }

    pub(in crate::router) fn check(&self) -> Result<()> {
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

    /// A node according to these settings.
    pub(in crate::router) fn node(&self, name: Arc<str>, role: Role, options: &ReplicaOptions) -> Result<NodeConfig> {
        let ReplicaOptions { weight, zone } = options;
        if !(1..=1000).contains(weight) {
            let message = format!("the weight {weight} of a replica is not between 1 and 1000");
            return Err(Error::configuration(message).with_node(name));
        }
        let is_near = self.zone.is_none() || self.zone == *zone;
        Ok(NodeConfig { name, role, weight: *weight, is_near })
    }

    pub(in crate::router) fn cluster(&self, nodes: Vec<NodeConfig>) -> Config {
        Config {
            nodes,
            fallback: self.fallback,
            max_lag: self.max_replica_lag,
            slow_start: self.slow_start,
            probe_interval: self.probe_interval,
            max_ejected_percent: self.max_ejected_percent,
        }
    }

    pub(in crate::router) fn budget(&self, max_connections: u32) -> Budget {
        match self.fallback {
            Fallback::Protect => {
                let at_once = self.fallback_concurrency.unwrap_or_else(|| (max_connections / 4).max(1));
                Budget::new(at_once, self.fallback_rate)
            }
            Fallback::Never | Fallback::Unlimited => Budget::unlimited(),
        }
    }
}
