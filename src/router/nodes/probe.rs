//! Probes the nodes: a task for each, as long as the router lives.
//!
//! Calls report what they see, but a node that is out of service, or idle, gets no calls; and no replica reports its
//! position without being asked. A probe takes a connection of the node's pool like a call, so it needs no extra slot
//! at the server, and a pool that cannot serve calls is noticed. Only if all connections are in use, and stay so, it
//! opens one more, and closes it. After each answer the pool is checked.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_postgres::{Row, types::PgLsn};

use super::node::Node;
use crate::{
    error::{Error, ErrorKind, Result},
    lsn::Lsn,
    router::{
        Deadline, Effect, Lease,
        config::check,
        core::{Report, Standing},
        pool::upkeep,
    },
};

const PROBE: &str = include_str!("probe.sql");
const PROBE_HIDDEN: &str = include_str!("probe_hidden.sql");

const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// The minimum time between two probes of a node, however much there is to ask.
const LEAST_PAUSE: Duration = Duration::from_millis(20);

/// After each consecutive failed probe the pause doubles, up to this, but never beyond the time of the next regular
/// probe.
const LONGEST_REST: Duration = Duration::from_millis(320);

/// The time between two checks of the pool of a node that is not probed.
const UPKEEP_PAUSE: Duration = Duration::from_secs(1);

/// A node's answer to a probe.
#[derive(Debug)]
pub(in crate::router) struct Answer {
    pub(in crate::router) report: Report,
    /// Its major version.
    pub(in crate::router) version: i32,
}

/// The probing tasks, one for each node.
#[derive(Debug)]
pub(in crate::router) struct Probes {
    is_asking: bool,
    limit: Duration,
    tasks: ArcSwap<Vec<(Arc<Node>, AbortHandle)>>,
    starting: Mutex<()>,
}

impl Probes {
    /// Each node is probed, if at all, for at most `limit` at a time.
    pub(in crate::router) fn new(is_asking: bool, limit: Duration) -> Self {
        Self { is_asking, limit, tasks: ArcSwap::default(), starting: Mutex::new(()) }
    }

    /// Starts probing this node.
    pub(in crate::router) fn start(&self, node: &Arc<Node>) {
        let _one_at_a_time = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tasks = Vec::clone(&self.tasks.load());
        if tasks.iter().any(|(asked, _)| Arc::ptr_eq(asked, node)) {
            return;
        }
        tasks.push((Arc::clone(node), self.spawn(node)));
        self.tasks.store(Arc::new(tasks));
    }

    /// Stops probing this node.
    pub(in crate::router) fn stop(&self, node: &Arc<Node>) {
        let _one_at_a_time = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tasks = Vec::clone(&self.tasks.load());
        tasks.extract_if(.., |(asked, _)| Arc::ptr_eq(asked, node)).for_each(|(_, task)| task.abort());
        self.tasks.store(Arc::new(tasks));
    }

    /// Whether nodes are probed at all.
    pub(in crate::router) fn are_asking(&self) -> bool {
        self.is_asking
    }

    fn spawn(&self, node: &Arc<Node>) -> AbortHandle {
        tokio::spawn(run(Arc::clone(node), self.is_asking, self.limit)).abort_handle()
    }

    /// Restarts the tasks that have ended with their runtime, on the current runtime.
    pub(in crate::router) fn keep_asking(&self) {
        if self.tasks.load().iter().any(|(_, task)| task.is_finished()) && Handle::try_current().is_ok() {
            let _one_at_a_time = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
            let tasks = self.tasks.load_full();
            let restarted = tasks.iter().map(|(node, task)| match task.is_finished() {
                true => (Arc::clone(node), self.spawn(node)),
                false => (Arc::clone(node), task.clone()),
            });
            self.tasks.store(Arc::new(restarted.collect()));
        }
    }
}

/// The tasks end with the router.
impl Drop for Probes {
    fn drop(&mut self) {
        self.tasks.load().iter().for_each(|(_, task)| task.abort());
    }
}

/// The gauges of a node that is looked at. They are reset where they are set: after the last time, whoever ends the task.
#[cfg(feature = "metrics")]
struct Gauges(Arc<Node>);

#[cfg(feature = "metrics")]
impl Drop for Gauges {
    fn drop(&mut self) {
        self.0.reset_gauges();
    }
}

/// Probes this node repeatedly, if at all, each time for at most `limit`, and checks its pool.
async fn run(node: Arc<Node>, is_asking: bool, limit: Duration) {
    let mut rest = LEAST_PAUSE;
    #[cfg(feature = "metrics")]
    let _gauges = Gauges(Arc::clone(&node));
    loop {
        if !is_asking {
            upkeep::look_after(&node);
            with_metrics! { node.set_gauges(); }
            sleep(UPKEEP_PAUSE).await;
            continue;
        }
        let pause = node.handle().until_next_probe();
        // It ends early if the node should be probed at once.
        let _ = timeout(pause, node.handle().probe_wished()).await;
        match ask(&node, Deadline::after(limit)).await {
            Ok(_) => {
                rest = LEAST_PAUSE;
                upkeep::look_after(&node);
            }
            Err(error) => {
                tracing::debug!(node = %node.name(), error = %error.for_log(), "a probe got no answer");
                // A lost connection is a reason to probe at once. But the probe may be why a node ends it.
                rest = (2 * rest).min(LONGEST_REST);
            }
        }
        with_metrics! { node.set_gauges(); }
        sleep(rest.min(node.handle().until_next_probe()).max(LEAST_PAUSE)).await;
    }
}

/// Probes this node once, and reports its answer to the core.
pub(in crate::router) async fn ask(node: &Arc<Node>, deadline: Deadline) -> Result<Answer> {
    let answer = question(node, deadline).await;
    if answer.is_err() {
        node.handle().probe_failed();
    }
    node.handle().was_asked();
    answer
}

async fn question(node: &Arc<Node>, deadline: Deadline) -> Result<Answer> {
    let lease = node.lease_for_probe(deadline).await?;
    question_on(node, &lease, deadline).await
}

/// Makes this connection's server report its identity to the core.
pub(in crate::router) async fn introduce(node: &Arc<Node>, lease: &Lease, deadline: Deadline) -> Result<()> {
    question_on(node, lease, deadline).await.map(drop)
}

async fn question_on(node: &Arc<Node>, lease: &Lease, deadline: Deadline) -> Result<Answer> {
    // Before the query: what is acknowledged while it is answered may be missing in the answer.
    let sent_at = node.handle().now();
    let hides = node.hides_control_data();
    let sql = if hides.load(Ordering::Relaxed) { PROBE_HIDDEN } else { PROBE };
    let rows = match lease.query(Effect::Read, deadline, sql, &[]).await {
        Err(error) if error.sqlstate() == Some(INSUFFICIENT_PRIVILEGE) => {
            hides.store(true, Ordering::Relaxed);
            lease.query(Effect::Read, deadline, PROBE_HIDDEN, &[]).await?
        }
        answer => answer?,
    };
    let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Database, "the server did not say who it is"))?;
    let answer = read(row, sent_at).map_err(|error| error.with_node(Arc::clone(node.name())))?;
    if node.handle().is_joining() {
        // `connect` judges those in the settings.
        check::version(node, answer.version)?;
    }
    node.handle().probed(answer.report);
    Ok(answer)
}

fn read(row: &Row, sent_at: Duration) -> Result<Answer> {
    let unreadable = |error| Error::new(ErrorKind::Database, "a probe's answer cannot be read").with_source(error);
    let lsn = |column: usize| {
        let place: Option<PgLsn> = row.try_get(column).map_err(unreadable)?;
        Ok::<_, Error>(place.map(|place| Lsn::new(place.into())))
    };
    let number = |column: usize| row.try_get::<_, Option<i64>>(column).map_err(unreadable);
    let standing = match row.try_get(0).map_err(unreadable)? {
        false => Standing::Primary { flush: lsn(3)? },
        true => {
            let is_receiving = row.try_get(5).map_err(unreadable)?;
            Standing::Replica { replay: lsn(3)?, received: lsn(4)?, is_receiving: Some(is_receiving) }
        }
    };
    let report = Report {
        sent_at,
        // An unsigned number that SQL shows as a signed one.
        system: number(1)?.map(i64::cast_unsigned),
        timeline: number(2)?.and_then(|timeline| timeline.try_into().ok()),
        may_be_newer: row.try_get(8).map_err(unreadable)?,
        instance: number(6)?.map(i64::cast_unsigned),
        standing,
    };
    Ok(Answer { report, version: row.try_get(7).map_err(unreadable)? })
}
