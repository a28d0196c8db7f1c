//! Watches the end of the log on the primary, by listening.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{Side, Watch};
use crate::{
    Mark, Role,
    error::{Error, Result},
    router::{Deadline, Effect, Listener},
    store::postgres::{PostgresEventStore, wire},
};

/// The limit for connecting, and for a look.
const LIMIT: Duration = Duration::from_secs(2);

/// The pause before the next attempt after listening has failed, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often a listening watcher looks for itself, if anything was written at all.
pub(in crate::store::postgres) const LOOK: Duration = Duration::from_secs(1);

/// How often a watcher that cannot listen looks.
pub(in crate::store::postgres) const POLL: Duration = Duration::from_millis(20);

pub(in crate::store::postgres) async fn run(store: PostgresEventStore, mut watch: Watch) {
    let mut pause = FIRST_PAUSE;
    while !watch.is_over() {
        let deadline = Deadline::after(LIMIT);
        let outcome = match store.router.listen(&store.log.name.channel(), deadline).await {
            Ok(Some(listener)) => {
                pause = FIRST_PAUSE;
                listen(&store, listener, &mut watch).await
            }
            Ok(None) => poll(&store, &mut watch).await,
            Err(error) => Err(error),
        };
        store.news.listening(false);
        if let Err(error) = outcome {
            tracing::debug!(error = %error.for_log(), log = %store.name(), "nobody tells of what is appended");
            store.news.failed(Side::Primary, error);
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Listens until nobody waits any more, or the connection has ended.
async fn listen(store: &PostgresEventStore, mut listener: Listener, watch: &mut Watch) -> Result<()> {
    let mut written = None;
    // Nothing announces what was appended before.
    let mut is_due = true;
    while !watch.is_over() {
        let place = store.router.written(Role::Primary);
        if is_due || place.is_none() || place != written || store.news.known().announced > seen(store) {
            let announced = store.news.known().announced;
            let rows = listener.query(Deadline::after(LIMIT), &store.log.floor.head, &[]).await?;
            store.news.seen(Side::Primary, mark(&rows)?, announced);
            (written, is_due) = (place, false);
        }
        store.news.listening(true);
        let until = Instant::now() + LOOK;
        while let Ok(payload) = timeout_at(until, listener.notified()).await {
            let Some(payload) = payload else { return Err(ended()) };
            // A payload that is not a number was sent by another program.
            store.news.announced(payload.parse().unwrap_or_default());
        }
        if listener.is_over() {
            return Err(ended());
        }
    }
    Ok(())
}

fn seen(store: &PostgresEventStore) -> u64 {
    store.news.known().primary.position()
}

fn ended() -> Error {
    Error::new(crate::ErrorKind::Unavailable, "the connection that listened has ended; another one is opened")
}

/// Looks often, over the pool that cannot provide a connection to listen on.
async fn poll(store: &PostgresEventStore, watch: &mut Watch) -> Result<()> {
    while !watch.is_over() {
        let (deadline, announced) = (Deadline::after(LIMIT), store.news.known().announced);
        let lease = store.router.lease_primary(deadline).await?;
        let rows = lease.query(Effect::Read, deadline, &store.log.floor.head, &[]).await?;
        drop(lease);
        store.news.seen(Side::Primary, mark(&rows)?, announced);
        sleep(POLL).await;
    }
    Ok(())
}

/// Returns the log's last event, from a look.
pub(in crate::store::postgres) fn mark(rows: &[tokio_postgres::Row]) -> Result<Option<Mark>> {
    rows.first().map_or(Ok(None), |row| wire::mark(row, 0).map_err(wire::unreadable))
}
