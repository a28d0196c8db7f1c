//! How many connections a pool keeps, and for how long.
//!
//! bb8 has settings of these names, but it closes all connections of one age at once, and closes idle ones even if they
//! should be kept. Instead, the node's task checks the idle connections of the pool, after a probe, from time to time
//! and when a connection has ended. It closes connections that are closed, too old or from before a promotion, and
//! opens missing ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::{own_pool::OwnPool, supply::Slot};
use crate::{
    error::{Error, Result},
    router::{RouterBuilder, core::random_below, nodes::node::Node, state::NodeHandle},
};

/// Most importantly, nothing hidden in a session (the memory of its caches, an old plan) outlives this.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The settings.
#[derive(Clone, Copy, Debug)]
pub(in crate::router) struct Upkeep {
    pub(in crate::router) min_connections: u32,
    pub(in crate::router) max_lifetime: Option<Duration>,
    pub(in crate::router) idle_timeout: Option<Duration>,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self { min_connections: 0, max_lifetime: Some(MAX_LIFETIME), idle_timeout: Some(IDLE_TIMEOUT) }
    }
}

impl RouterBuilder {
    /// Sets the number of connections to each node that are kept open even if they are not used. Defaults to 0: the
    /// [probes](Self::probe_interval) keep one open in any case.
    ///
    /// [`connect`](Self::connect) opens them before it returns, and when a node has come back they are opened after its
    /// first answer. The first calls then need not wait for a login each, which costs some milliseconds, with TLS some
    /// tens. Too few, and a burst of calls pays for logins; too many, and each idle instance of the application costs
    /// each server as many processes.
    ///
    /// A node that cannot be reached, or refuses the login, does not make the start fail because of this.
    pub fn min_connections(mut self, connections: u32) -> Self {
        self.upkeep.min_connections = connections;
        self
    }

    /// Limits the lifetime of a connection. Defaults to 30 minutes; `None` closes none because of its age. A connection
    /// in use is closed when it is returned, an idle one after the next answer to a probe.
    ///
    /// Each connection has its own random lifetime, between three quarters of this and all of it, so that connections
    /// opened together, at the start or after a failover, are not reopened together. The limit bounds what a session
    /// accumulates (the caches of the server process grow with each table it has seen), and moves connections to
    /// servers that were added behind a load balancer. Keep it below the limits of any proxy or firewall in between.
    /// Too short, and calls pay for logins; too long, and it bounds nothing.
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.upkeep.max_lifetime = lifetime.into();
        self
    }

    /// Sets how long an idle connection is kept; it is closed after an answer to a probe, up to a tenth of this later.
    /// Defaults to 10 minutes; `None` keeps it to the end of its [lifetime](Self::max_lifetime).
    /// [`min_connections`](Self::min_connections) are kept in any case.
    ///
    /// The next call gets the connection that was returned last, so a pool has only as many as the recent calls needed.
    /// Too short, and every lull is paid for with logins; too long, and the servers keep unnecessary processes.
    ///
    /// Meanwhile TCP keepalives are sent once a minute, so that no firewall forgets a connection, and a connection
    /// whose peer is gone is closed within a minute and a half (where the system supports these settings).
    /// `keepalives_idle`, `keepalives_interval` and `keepalives_retries` in a URL change this, in seconds. If something
    /// closes sessions that send no statement (`idle_session_timeout`, a proxy's limit for clients), set a shorter
    /// limit here. Note that the [`min_connections`](Self::min_connections) also send nothing while they are idle.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.upkeep.idle_timeout = timeout.into();
        self
    }
}

impl Upkeep {
    pub(in crate::router) fn check(&self, max_connections: u32) -> Result<()> {
        let min = self.min_connections;
        if min > max_connections {
            let message = format!("min_connections is {min}, which is more than max_connections, {max_connections}");
            return Err(Error::configuration(message));
        }
        for (name, limit) in [("max_lifetime", self.max_lifetime), ("idle_timeout", self.idle_timeout)] {
            if limit.is_some_and(|limit| limit.is_zero()) {
                return Err(Error::configuration(format!("{name} is 0: give None for no limit")));
            }
        }
        Ok(())
    }

    /// The pause between two checks of the idle connections, if nothing happens to them: during a check, calls have
    /// others opened.
    fn pause(&self) -> Duration {
        let limits = self.idle_timeout.into_iter().chain(self.max_lifetime.map(|lifetime| lifetime / 4));
        limits.min().map_or(LONGEST_PAUSE, |limit| LONGEST_PAUSE.min(limit / 10))
    }

    /// How long a new connection lives. `random` is any number.
    pub(in crate::router) fn lifetime(&self, random: u64) -> Option<Duration> {
        // An idle connection is only seen to be due at the next check.
        let (longest, pause) = (self.max_lifetime?, self.pause());
        let spread = u64::try_from((longest / 4 - pause).as_micros()).unwrap_or(u64::MAX);
        Some(longest - pause - Duration::from_micros(random_below(random, spread)))
    }
}

/// When the idle connections of a pool are checked next.
#[derive(Debug)]
pub(in crate::router) struct NextLook {
    epoch: Instant,
    /// In microseconds since then.
    at: AtomicU64,
}

impl Default for NextLook {
    fn default() -> Self {
        Self { epoch: Instant::now(), at: AtomicU64::new(0) }
    }
}

impl NextLook {
    pub(in crate::router) fn at_once(&self) {
        self.at.store(0, Ordering::Release);
    }

    /// Whether a check is due. The caller that gets `true` must make it, and the next is due after this pause.
    fn take(&self, now: Instant, pause: Duration) -> bool {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let now = micros(now.duration_since(self.epoch));
        let at = self.at.load(Ordering::Acquire);
        let next = now.saturating_add(micros(pause));
        // If another check has become due meanwhile, that one is made.
        at <= now && self.at.compare_exchange(at, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Whether missing connections are being opened.
#[derive(Debug, Default)]
pub(in crate::router) struct Filling(AtomicBool);

/// Until it is dropped, which also happens with its runtime.
struct FillingOf(Arc<Node>);

/// Closes the connections of a node's pool that should not be kept and opens missing ones, concurrently with the
/// caller.
pub(in crate::router) fn look_after(node: &Arc<Node>) {
    let Some(pool) = node.own_pool() else { return };
    pool.close_old(node.handle());
    if pool.missing() > 0 && !node.handle().is_ejected() && !pool.filling.0.swap(true, Ordering::AcqRel) {
        let filling = FillingOf(Arc::clone(node));
        tokio::spawn(async move {
            if let Some(pool) = filling.0.own_pool() {
                pool.fill().await;
            }
        });
    }
}

/// Opens the minimum number of connections to each node, for no longer than `limit`.
pub(in crate::router) async fn warm_up(nodes: &[Arc<Node>], limit: Duration) {
    let pools = nodes.iter().filter(|node| !node.handle().is_ejected()).filter_map(|node| node.own_pool());
    // The nodes' tasks continue with the rest.
    let _ = timeout(limit, join_all(pools.map(OwnPool::fill))).await;
}

impl Drop for FillingOf {
    fn drop(&mut self) {
        if let Some(pool) = self.0.own_pool() {
            pool.filling.0.store(false, Ordering::Release);
        }
    }
}

impl OwnPool {
    /// Checks each idle connection of the pool from time to time. All of them are taken out, since the pool always
    /// yields the one returned last, and put back in their order.
    fn close_old(&self, node: &NodeHandle) {
        let now = Instant::now();
        if !self.next_look.take(now, self.upkeep.pause()) {
            return;
        }
        let mut taken = Vec::new();
        loop {
            // Waiting calls come first.
            let Some(permit) = self.admission.try_enter() else {
                self.next_look.at_once();
                break;
            };
            let Some(connection) = self.supply.idle() else { break };
            taken.push((permit, connection));
        }
        while let Some((_permit, mut connection)) = taken.pop() {
            if connection.client().is_closed() {
                node.gone();
            }
            let is_spare = self.supply.connections() > self.upkeep.min_connections;
            let idle = connection.idle_for(now);
            let is_idle = is_spare && self.upkeep.idle_timeout.is_some_and(|limit| idle >= limit);
            connection.begin_check();
            if is_idle {
                connection.expire(now);
            }
        }
    }

    /// How many connections have to be opened.
    fn missing(&self) -> u32 {
        self.supply.missing(self.upkeep.min_connections)
    }

    /// Opens those connections, as far as there is room: callers may have them opened, too. A failure is reported to
    /// the core by the code that opens them, and retried after the next answer.
    async fn fill(&self) {
        join_all((0..self.missing()).map_while(|_| self.supply.slot()).map(Slot::open)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, Router};

    #[test]
    fn connections_that_were_opened_together_end_at_different_times_and_none_too_late() {
        let hour = Duration::from_secs(3600);
        let upkeep = Upkeep { max_lifetime: Some(hour), ..Upkeep::default() };
        let ends: Vec<_> = (0..100).map(|seed| upkeep.lifetime(crate::router::core::mix(seed)).unwrap()).collect();
        let last = hour - upkeep.pause();
        assert!(last < hour && ends.iter().all(|end| *end <= last && *end > hour * 3 / 4), "{ends:?}");
        // A hundredth of them in each hundredth of that quarter, but for randomness.
        let mut minutes: Vec<_> = ends.iter().map(|end| end.as_secs() / 60).collect();
        minutes.sort_unstable();
        minutes.dedup();
        assert!(minutes.len() >= 13, "{minutes:?}");
        assert_eq!(Upkeep { max_lifetime: None, ..upkeep }.lifetime(7), None);
    }

    #[tokio::test]
    async fn limits_that_keep_nothing_are_refused() {
        let builder = || Router::builder().primary("postgres://app@localhost:1/shop").max_connections(3);
        let cases = [
            (builder().min_connections(4), "min_connections is 4"),
            (builder().max_lifetime(Duration::ZERO), "max_lifetime is 0"),
            (builder().idle_timeout(Duration::ZERO), "idle_timeout is 0"),
        ];
        for (builder, part) in cases {
            let error = builder.build().unwrap_err();
            assert!(error.kind() == ErrorKind::Configuration && error.to_string().contains(part), "{error}");
        }
        builder().min_connections(3).max_lifetime(None).idle_timeout(None).build().unwrap();
    }
}
