//! Identical reads that share a statement, on PostgreSQL. The details of when they do so are tested beside the code, on a
//! clock of their own.

use std::{collections::HashSet, future::IntoFuture, time::Duration};

use futures_util::future::{join_all, try_join_all};
use mainstem::{
    AppendCondition, Client, Consistency, ErrorKind, EventStore, ExpectedVersion::NoStream, Filter, History,
    PostgresEventStore, Result, Role, Router, Session, testing::TestDatabase, with_session,
};
use serde_json::json;
use tokio::{task::JoinHandle, time::timeout};

use crate::support::{database, event, sessions, store};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);

/// Holds all reads of the log up until it is given back.
struct Held(Client);

impl Held {
    async fn take(router: &Router) -> Self {
        let client = router.client().await.unwrap();
        client.batch_execute("BEGIN; LOCK TABLE mainstem.events IN ACCESS EXCLUSIVE MODE").await.unwrap();
        Self(client)
    }

    async fn release(self) {
        self.0.batch_execute("ROLLBACK").await.unwrap();
    }
}

async fn reads_are_under_way(database: &TestDatabase<'_>, amount: i64) {
    sessions(database, "wait_event_type = 'Lock' AND query NOT LIKE 'LOCK%'", amount).await;
}

/// A store whose pool has room for all who ask.
async fn wide(database: &TestDatabase<'_>, share: bool) -> (Router, PostgresEventStore) {
    let router = Router::builder().primary(database.primary_url()).max_connections(40).connect().await.unwrap();
    let store = PostgresEventStore::builder(&router).share_reads(share).build();
    (router, store)
}

fn spawn_all<T: Send + 'static>(
    asked: impl IntoIterator<Item = impl IntoFuture<Output = Result<T>, IntoFuture: Send + 'static>>,
) -> Vec<JoinHandle<Result<T>>> {
    asked.into_iter().map(|asked| tokio::spawn(asked.into_future())).collect()
}

/// Of all events, in a session.
fn query_in(session: &Session, store: &PostgresEventStore) -> JoinHandle<Result<History>> {
    let store = store.clone();
    tokio::spawn(with_session(session, async move { store.query(&Filter::any_event()).await }))
}

async fn answers<T>(asked: Vec<JoinHandle<Result<T>>>) -> Vec<T> {
    let asked = timeout(HANG, try_join_all(asked)).await.expect("no hang").unwrap();
    asked.into_iter().map(|answer| answer.unwrap()).collect()
}

#[tokio::test]
async fn many_who_read_the_same_ask_the_server_twice() {
    let (database, admin, _) = store().await;
    let (_router, store) = wide(&database, true).await;
    store.append([event("A", json!({})), event("B", json!({}))], AppendCondition::none()).await.unwrap();
    store.append([event("C", json!({}))], AppendCondition::none()).to_stream("s", NoStream).await.unwrap();
    let all = Filter::any_event();

    let held = Held::take(&admin).await;
    // Whatever the limit of each.
    let limit = |n| HANG + Duration::from_millis(n);
    let queries = spawn_all((0..32).map(|n| store.query(&all).timeout(limit(n))));
    // The second one begins beside the first, which takes too long.
    reads_are_under_way(&database, 2).await;
    let counts = spawn_all((0..32).map(|_| store.count(&all)));
    reads_are_under_way(&database, 4).await;
    let exist = spawn_all((0..32).map(|_| store.exists(&all)));
    reads_are_under_way(&database, 6).await;
    let loads = spawn_all((0..32).map(|n| store.load_stream("s").timeout(limit(n))));
    reads_are_under_way(&database, 8).await;
    held.release().await;
    for history in answers(queries).await {
        assert_eq!((history.len(), history.role()), (3, Role::Primary));
    }
    assert!(answers(counts).await.iter().all(|count| **count == 3));
    assert!(answers(exist).await.iter().all(|exists| **exists));
    assert!(answers(loads).await.iter().all(|stream| stream.len() == 1 && stream.version() == 1));

    let (_router, alone) = wide(&database, false).await;
    let held = Held::take(&admin).await;
    let queries = spawn_all((0..32).map(|_| alone.query(&all)));
    reads_are_under_way(&database, 32).await;
    held.release().await;
    assert!(answers(queries).await.iter().all(|history| history.len() == 3));
}

/// Only what asks for the same answer: another filter, bound, order, limit or level is another read.
#[tokio::test]
async fn reads_of_other_things_do_not_wait_for_each_other() {
    let (database, admin, _) = store().await;
    let (_router, store) = wide(&database, true).await;
    let (all, a) = (Filter::any_event(), Filter::matching().any_type_of(["A"]).finish().unwrap());
    let held = Held::take(&admin).await;
    let behind = all.clone().after_position(1);
    let histories = spawn_all([store.query(&all), store.query(&a)]);
    let behind = spawn_all([store.query(&behind)]);
    let pages = spawn_all([store.query(&all).limit(1), store.query(&all).limit(2), store.query(&all).newest_first()]);
    let eventual = spawn_all([store.query(&all).consistency(Consistency::Eventual)]);
    // Strong reads are the same with a session and without.
    let in_session = [(); 2].map(|()| query_in(&Session::new(), &store));
    let loads = spawn_all([store.load_stream("s"), store.load_stream("s").newest_first(), store.load_stream("t")]);
    reads_are_under_way(&database, 2 + 1 + 3 + 1 + 1 + 3).await;
    held.release().await;
    answers(histories).await;
    answers(behind).await;
    answers(pages).await;
    answers(eventual).await;
    answers(in_session.into()).await;
    answers(loads).await;
}

/// The cancel reaches the server when the last one gives up.
#[tokio::test]
async fn a_read_is_cancelled_when_nobody_waits_for_it_any_more() {
    let (database, admin, _) = store().await;
    let (_router, store) = wide(&database, true).await;
    let all = Filter::any_event();
    let held = Held::take(&admin).await;
    let mut asked = spawn_all((0..8).map(|_| store.query(&all)));
    reads_are_under_way(&database, 2).await;
    let last = asked.pop().unwrap();
    asked.iter().for_each(JoinHandle::abort);
    // The first read was of one of them alone.
    reads_are_under_way(&database, 1).await;
    last.abort();
    reads_are_under_way(&database, 0).await;
    held.release().await;
    assert!(store.query(&all).await.unwrap().is_empty());
}

#[tokio::test]
async fn callers_that_share_a_read_keep_their_own_timeout() {
    let (database, admin, _) = store().await;
    let (_router, store) = wide(&database, true).await;
    let all = Filter::any_event();
    let held = Held::take(&admin).await;
    let patient = spawn_all((0..3).map(|_| store.query(&all).timeout(HANG)));
    reads_are_under_way(&database, 2).await;
    let hurried = store.query(&all).timeout(Duration::from_millis(900)).await.unwrap_err();
    assert_eq!(hurried.kind(), ErrorKind::Timeout, "{}", hurried.report());
    held.release().await;
    answers(patient).await;
}

/// It would have been the connection of one of them.
#[tokio::test]
async fn a_connection_that_is_lost_does_not_fail_all_who_share_the_read() {
    let (database, admin, _) = store().await;
    let (_router, store) = wide(&database, true).await;
    let all = Filter::any_event();
    let held = Held::take(&admin).await;
    let asked = spawn_all((0..8).map(|_| store.query(&all)));
    reads_are_under_way(&database, 2).await;
    let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let mut ended = 0;
    for row in admin.client().await.unwrap().query(end, &[]).await.unwrap() {
        ended += usize::from(row.get::<_, bool>(0));
    }
    assert_eq!(ended, 2);
    reads_are_under_way(&database, 1).await;
    held.release().await;
    let asked = timeout(HANG, try_join_all(asked)).await.expect("no hang").unwrap();
    let lost: Vec<_> = asked.into_iter().filter_map(Result::err).collect();
    assert_eq!(lost.len(), 1, "that of the first, who was alone: {lost:?}");
    assert_eq!(lost[0].kind(), ErrorKind::Unavailable);
}

/// What one of them has seen may be lost, and what another one has seen be there: so each is asked for by itself.
#[tokio::test]
async fn sessions_share_strong_reads_if_they_have_seen_the_same() {
    let (database, admin, _) = store().await;
    let (_router, store) = wide(&database, true).await;
    let sessions: Vec<_> = (0..8).map(|_| Session::new()).collect();
    for (n, session) in sessions.iter().enumerate() {
        let append = async { store.append([event("A", json!({"n": n}))], AppendCondition::none()).await };
        with_session(session, append).await.unwrap();
    }
    let known: HashSet<_> = sessions.iter().map(Session::token).collect();
    assert_eq!(known.len(), 8, "each knows its own event");
    let held = Held::take(&admin).await;
    // Each asks thrice: the first by itself, and the others together.
    let asked = sessions.iter().flat_map(|session| [(); 3].map(|()| query_in(session, &store))).collect();
    reads_are_under_way(&database, 2 * 8).await;
    held.release().await;
    assert!(answers(asked).await.iter().all(|history| history.len() == 8));
}

/// The tables are not there, and the error is the same for all.
#[tokio::test]
async fn an_error_reaches_all_who_share_the_read() {
    let database = database().await;
    let (_router, store) = wide(&database, true).await;
    let all = Filter::any_event();
    let errors = join_all((0..16).map(|_| store.query(&all).into_future())).await;
    for error in errors {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Schema);
    }
}

/// Everybody asks for the same all the time, and still nobody misses what they have just written, or what they know
/// somebody else to have written.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shared_read_contains_everything_written_before_the_call() {
    let (database, _, _) = store().await;
    let (_router, store) = wide(&database, true).await;
    let all = Filter::any_event();
    let readers = (0..8).map(|_| {
        let (store, all) = (store.clone(), all.clone());
        tokio::spawn(async move {
            loop {
                store.query(&all).limit(2_000).newest_first().await.unwrap();
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let writers = (0..4).map(|_| {
        let (store, all) = (store.clone(), all.clone());
        tokio::spawn(async move {
            for _ in 0..60 {
                let appended = store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
                let page = store.query(&all).limit(2_000).newest_first().await.unwrap();
                let seen = page.first().map_or(0, |event| event.position());
                assert!(seen >= appended.last().position(), "{seen} is older than what was written before");
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    assert!(readers.iter().all(|reader| !reader.is_finished()));
    readers.iter().for_each(JoinHandle::abort);
}
