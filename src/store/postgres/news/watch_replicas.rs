//! Watches the end of the log on the replicas. They cannot be listened to, but what the primary has announced is there
//! in a moment.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    Side, Watch,
    watch_primary::{LOOK, POLL, mark},
};
use crate::{
    Consistency, Mark, Role,
    error::Result,
    router::{Deadline, Effect},
    store::postgres::PostgresEventStore,
};

/// The limit of a look.
const LIMIT: Duration = Duration::from_secs(2);

/// The pause between two looks for what the primary has announced, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The pause after a failed look.
const PAUSE: Duration = Duration::from_millis(200);

pub(in crate::store::postgres) async fn run(store: PostgresEventStore, mut watch: Watch) {
    let mut changes = store.news.subscribe();
    let (mut written, mut pause, mut is_due) = (None, FIRST_PAUSE, true);
    while !watch.is_over() {
        let place = store.router.written(Role::Replica);
        let known = changes.borrow_and_update().clone();
        let is_behind = known.replicas.position() < known.end();
        if is_due || is_behind || !known.is_listening || place.is_none() || place != written {
            match look(&store).await {
                Ok(head) => store.news.seen(Side::Replicas, head, 0),
                Err(error) => {
                    store.news.failed(Side::Replicas, error);
                    sleep(PAUSE).await;
                    continue;
                }
            }
            (written, is_due) = (place, false);
        }
        let known = store.news.known();
        if known.replicas.position() < known.end() {
            sleep(pause).await;
            pause = pause.mul_f64(1.3).min(LONGEST_PAUSE);
            continue;
        }
        pause = FIRST_PAUSE;
        if known.is_listening {
            // Until the primary announces more, or stops announcing.
            let until = Instant::now() + LOOK;
            let is_news = |known: &super::HeadSightings| !known.is_listening || known.replicas.position() < known.end();
            let _ = timeout_at(until, changes.wait_for(is_news)).await;
        } else {
            let _ = timeout(POLL, changes.wait_for(|known| known.replicas.position() < known.end())).await;
        }
    }
}

async fn look(store: &PostgresEventStore) -> Result<Option<Mark>> {
    let deadline = Deadline::after(LIMIT);
    let look = |lease: crate::router::Lease| async move {
        let rows = lease.query(Effect::Read, deadline, &store.log.floor.head, &[]).await?;
        mark(&rows)
    };
    store.router.read((&Consistency::Eventual).into(), deadline, look).await
}
