//! Waiting for what comes, and reading at least what was written.

use std::{pin::pin, time::Duration};

use futures_util::future::join;
use tokio::time::{sleep, timeout};

use super::fixture::{Store, append_one, expect, plain, read};
use crate::{
    AppendCondition, Consistency, EventId, EventStore, Filter, Mark,
    backend::{After, WaitRequest},
};

/// How long a wait that is over may still take. A store that polls does so more often.
const PATIENCE: Duration = Duration::from_secs(10);

const ROUNDS: u64 = 50;

fn wait(after: After) -> WaitRequest {
    WaitRequest { after, consistency: Consistency::Strong }
}

async fn ends(store: Store<'_>, after: After, what: &str) {
    match timeout(PATIENCE, store.run_wait(wait(after))).await {
        Ok(waited) => expect(waited, what),
        Err(_) => panic!("{what}: a wait after {after:?} is still going on {PATIENCE:?} later"),
    }
}

pub(super) async fn a_wait_for_what_is_there_ends(store: Store<'_>) {
    let first = append_one(store, "A").await.last();
    append_one(store, "B").await;
    for after in [After::Beginning, After::Position(first.position()), After::Mark(first)] {
        ends(store, after, "there is an event").await;
    }
}

pub(super) async fn a_wait_ends_with_the_next_append(store: Store<'_>) {
    let mut after = After::Beginning;
    for pause in [0, 30, 300].map(Duration::from_millis) {
        let appends = async {
            sleep(pause).await;
            append_one(store, "A").await.last()
        };
        let ((), last) = join(ends(store, after, "there is another event"), appends).await;
        after = After::Mark(last);
    }
}

/// The moment between a look at the head and the wait for news of it is where they are missed.
pub(super) async fn no_append_is_slept_through(store: Store<'_>) {
    let mut last = append_one(store, "A").await.last();
    for round in 0..ROUNDS {
        let append = store.append([plain("A")], AppendCondition::none()).into_future();
        let appends = async {
            // Sooner and later, up to after the wait has begun to sleep.
            sleep(Duration::from_micros(round * 100)).await;
            expect(append.await, "an append").last()
        };
        let (appended, ()) = join(appends, ends(store, After::Mark(last), "there is another event")).await;
        last = appended;
    }
}

pub(super) async fn a_wait_after_a_lost_event_ends(store: Store<'_>) {
    let last = append_one(store, "A").await.last();
    let other = Mark::new(last.position(), EventId::new());
    ends(store, After::Mark(other), "another event is there").await;
}

pub(super) async fn a_wait_without_news_goes_on(store: Store<'_>) {
    append_one(store, "A").await;
    let last = append_one(store, "B").await.last();
    // It is a hint, and may end early; but whoever is always woken at once never rests.
    let mut woken = 0;
    let resting = async {
        loop {
            expect(store.run_wait(wait(After::Mark(last))).await, "a wait");
            woken += 1;
            tokio::task::yield_now().await;
        }
    };
    let _ = timeout(Duration::from_millis(500), pin!(resting)).await;
    assert!(woken <= 100, "a wait for what does not come has ended {woken} times in half a second");
}

pub(super) async fn a_read_at_least_as_new_as_an_append_contains_it(store: Store<'_>) {
    for round in 1..=20 {
        let appended = append_one(store, "A").await;
        let level = Consistency::AtLeast(appended.token().clone());
        let found = expect(store.query(&Filter::any_event()).consistency(level.clone()).await, "a read");
        assert_eq!(found.len(), round, "a read by the token of the last append has other events");
        let last = expect(store.last(&Filter::any_event()).consistency(level).await, "the last event");
        assert_eq!(last.as_ref().map(|event| event.mark()), Some(appended.last()));
    }
    assert_eq!(read(store, &Filter::any_event()).await.len(), 20);
}
