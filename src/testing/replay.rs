//! Replay and promotion in the way common to all nodes: by SQL.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_postgres::types::PgLsn;

use crate::{Error, ErrorKind, Result};

use super::{
    sealed::NodeParts,
    sql,
    test_cluster::{TestCluster, TestNode},
};

pub(super) const CATCH_UP_LIMIT: Duration = Duration::from_secs(30);

/// For the answers that say what was not reached in time.
const GRACE: Duration = Duration::from_secs(2);

/// For a change of state that a healthy server makes at once.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn is_in_recovery(node: &(impl TestNode + ?Sized)) -> Result<bool> {
    ask_bool(node, "SELECT pg_is_in_recovery()").await
}

pub(super) async fn pause(node: &impl TestNode) -> Result<()> {
    ask(node, "SELECT pg_wal_replay_pause()").await?;
    // Until then, the current record is still being applied.
    let paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'";
    sql::wait_until("the pause of replay", node.name(), LIMIT, async || ask_bool(node, paused).await).await
}

pub(super) async fn resume(node: &impl TestNode) -> Result<()> {
    ask(node, "SELECT pg_wal_replay_resume()").await.map(drop)
}

/// The error if a primary is asked to delay its replay.
pub(super) fn nothing_to_delay(node: &impl TestNode) -> Error {
    Error::configuration("a primary replays nothing that could be delayed").with_node(node.name())
}

/// Makes the server reload its settings, and waits until it delays replay accordingly.
pub(super) async fn reload_delay(node: &impl TestNode, delay: Duration) -> Result<()> {
    ask(node, "SELECT pg_reload_conf()").await?;
    // A new session has read the file at the same moment as the replaying process.
    let applied =
        format!("SELECT setting = '{}' FROM pg_settings WHERE name = 'recovery_min_apply_delay'", delay.as_millis());
    sql::wait_until("the new delay", node.name(), LIMIT, async || ask_bool(node, &applied).await).await
}

/// Ends recovery, and waits until it is over.
pub(super) async fn promote(node: &impl TestNode) -> Result<()> {
    ask(node, "SELECT pg_promote(false)").await?;
    let what = "the end of recovery";
    sql::wait_until(what, node.name(), LIMIT, async || Ok(!is_in_recovery(node).await?)).await
}

/// The error if the current primary is asked to follow itself.
pub(super) fn cannot_follow_itself(node: &impl TestNode) -> Error {
    Error::configuration("the current primary cannot rejoin itself; promote() another node first")
        .with_node(node.name())
}

/// Makes sure that this primary keeps the log that a replica needs.
pub(super) async fn create_slot(primary_url: &str, replica: &str) -> Result<()> {
    // A slot that has lost its log keeps none from now on either.
    let drop_lost = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
         WHERE slot_name = '{replica}' AND wal_status = 'lost' AND NOT active"
    );
    sql::ask(primary_url, replica, &drop_lost).await?;
    let statement = format!(
        "SELECT pg_create_physical_replication_slot('{replica}', true) \
         WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{replica}')"
    );
    sql::ask(primary_url, replica, &statement).await.map(drop)
}

/// Waits until this primary streams to a replica.
pub(super) async fn wait_until_streaming(primary_url: &str, replica: &str, limit: Duration) -> Result<()> {
    let streaming = format!(
        "SELECT count(*) > 0 FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '{replica}'"
    );
    let check = async || sql::ask_bool(primary_url, replica, &streaming).await;
    sql::wait_until("the stream from the primary", replica, limit, check).await
}

/// [`TestCluster::wait_until_caught_up_within`].
pub(super) async fn catch_up<C: TestCluster>(cluster: &C, limit: Duration) -> Result<()> {
    // Without waiting for a synchronous replica, which may be the one that is paused.
    let mark = "BEGIN; SET LOCAL synchronous_commit = local; \
                SELECT pg_logical_emit_message(true, 'mainstem', ''), \
                left(pg_walfile_name(pg_current_wal_insert_lsn()), 8); COMMIT";
    let start = Instant::now();
    let primary = cluster.primary();
    let what = "the replay of the primary's log on every replica";
    let row = sql::within(what, primary.name(), limit, ask(primary, mark)).await?;
    let missing = || Error::new(ErrorKind::Database, "the primary returned no position").with_node(primary.name());
    let target = lsn(&row, 0).ok_or_else(missing)?;
    let timeline = row.get(1).cloned().flatten().ok_or_else(missing)?;
    let what = format!("the replay of {target} on every replica");
    let reached = async || Ok(behind(cluster, target, &timeline).await?.is_empty());
    let left = limit.saturating_sub(start.elapsed());
    let waiting = sql::wait_until(&what, primary.name(), left, reached);
    match sql::within(&what, primary.name(), left.saturating_add(GRACE), waiting).await {
        Err(error) if error.is_timeout() => {
            let behind = timeout(GRACE, behind(cluster, target, &timeline)).await;
            let behind = behind.unwrap_or_else(|_| Ok(vec!["a replica does not answer".to_owned()]))?;
            Err(Error::new(ErrorKind::Timeout, format!("{error}: {}", behind.join(", "))))
        }
        result => result,
    }
}

/// The replicas that have not got this far on this timeline, each with its position.
async fn behind<C: TestCluster>(cluster: &C, target: PgLsn, timeline: &str) -> Result<Vec<String>> {
    // One whose receiver is gone has what it had received, on the timeline of that time. Where control data is behind that, it
    // counts as behind until it streams again.
    const POSITIONS: &str = "SELECT pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn(), \
                             pg_get_wal_replay_pause_state(), \
                             upper(lpad(to_hex(coalesce( \
                                 (SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming'), \
                                 (SELECT greatest(timeline_id, min_recovery_end_timeline) \
                                  FROM pg_control_checkpoint(), pg_control_recovery()))), 8, '0')) \
                             WHERE pg_is_in_recovery()";
    let mut behind = Vec::new();
    for node in cluster.replicas() {
        if !node.is_at_work().await {
            continue;
        }
        let row = ask(node, POSITIONS).await?;
        if row.is_empty() {
            continue;
        }
        let text = |index: usize| row[index].as_deref().unwrap_or("nothing");
        let (replayed, received, state) = (text(0), text(1), text(2));
        match row[3].as_deref() {
            // Positions of two timelines say nothing of each other.
            Some(own) if own != timeline => {
                behind.push(format!("{} follows timeline {own}, and the primary is on {timeline}", node.name()));
            }
            _ if lsn(&row, 0).is_none_or(|replayed| replayed < target) => {
                behind.push(format!("{} has received {received} and replayed {replayed} ({state})", node.name()));
            }
            _ => {}
        }
    }
    Ok(behind)
}

async fn ask(node: &(impl TestNode + ?Sized), statement: &str) -> Result<Vec<Option<String>>> {
    sql::ask(&node.url(), node.name(), statement).await
}

async fn ask_bool(node: &(impl TestNode + ?Sized), statement: &str) -> Result<bool> {
    sql::ask_bool(&node.url(), node.name(), statement).await
}

fn lsn(row: &[Option<String>], column: usize) -> Option<PgLsn> {
    row.get(column)?.as_deref()?.parse().ok()
}
