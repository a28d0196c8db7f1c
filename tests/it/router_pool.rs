//! Which calls get a connection, how many connections there are, and how long they live.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use futures_util::future::{join_all, try_join_all};
use mainstem::{Consistency, ErrorKind, Role, Router, testing::LocalCluster};
use tokio::{
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};
use tokio_postgres::NoTls;

use crate::support::{database, router, started};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// A connection beside all routers, to see theirs.
struct Observer(tokio_postgres::Client);

impl Observer {
    async fn of(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        Self(client)
    }

    /// The sessions of routers in the observer's own database.
    async fn sessions(&self) -> BTreeSet<i32> {
        let sql =
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'mainstem' AND datname = current_database()";
        self.0.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    async fn until(&self, what: impl Fn(&BTreeSet<i32>) -> bool) -> BTreeSet<i32> {
        let seen = Mutex::new(BTreeSet::new());
        let look = async {
            loop {
                *seen.lock().unwrap() = self.sessions().await;
                if what(&seen.lock().unwrap()) {
                    return;
                }
                sleep(5 * MS).await;
            }
        };
        let outcome = timeout(HANG, look).await;
        outcome.unwrap_or_else(|_| panic!("these sessions are left: {:?}", seen.lock().unwrap()));
        seen.into_inner().unwrap()
    }
}

async fn pid(client: &mainstem::Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn callers_get_connections_in_the_order_of_asking() {
    let database = database().await;
    let builder = Router::builder().primary(database.primary_url()).max_connections(2).probe_interval(None);
    let router = builder.acquire_timeout(2 * HANG).connect().await.unwrap();
    let held = try_join_all([router.client(), router.client()]).await.unwrap();
    let order = std::sync::Arc::new(Mutex::new(Vec::new()));
    let mut calls = JoinSet::new();
    for caller in 0..16 {
        let (router, order) = (router.clone(), order.clone());
        calls.spawn(async move {
            let client = router.client().await.unwrap();
            order.lock().unwrap().push(caller);
            client.query_one("SELECT 1", &[]).await.unwrap();
        });
        // It has asked, and waits.
        yield_now().await;
    }
    let [mut first, second] = <[_; 2]>::try_from(held).unwrap();
    // One that gives its connection back and asks again, at once: it is the last in the line each time.
    drop(first);
    first = timeout(HANG, router.client()).await.expect("no hang").unwrap();
    assert!(order.lock().unwrap().len() >= 15, "{order:?}");
    drop((first, second));
    while timeout(HANG, calls.join_next()).await.expect("no hang").transpose().unwrap().is_some() {}
    assert_eq!(*order.lock().unwrap(), (0..16).collect::<Vec<_>>());
}

#[tokio::test]
async fn nobody_is_starved_where_the_server_lets_in_fewer_than_the_pool_may_have() {
    let database = database().await;
    let admin = router(&database).await;
    let role = format!("few_{}", database.name());
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'p' CONNECTION LIMIT 1");
    admin.client().await.unwrap().batch_execute(&create).await.unwrap();
    let url = database.primary_url();
    let (scheme, rest) = (url.split("://").next().unwrap(), url.split('@').nth(1).unwrap());
    let builder = Router::builder().primary(format!("{scheme}://{role}:p@{rest}")).max_connections(5);
    let router = builder.probe_interval(None).acquire_timeout(2 * HANG).build().unwrap();
    let mut held = router.client().await.unwrap();
    let waiting = tokio::spawn({
        let router = router.clone();
        async move { try_join_all((0..3).map(|_| async { router.client().await.map(drop) })).await }
    });
    // It gives its connection back and takes it again before anybody else can look.
    let busy = async {
        while !waiting.is_finished() {
            drop(held);
            held = router.client().await.unwrap();
            held.query_one("SELECT 1", &[]).await.unwrap();
        }
    };
    timeout(HANG, busy).await.expect("the others get their turn");
    waiting.await.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
}

#[tokio::test]
async fn a_timed_out_call_reports_how_many_other_calls_wait() {
    let database = database().await;
    let builder = Router::builder().primary(database.primary_url()).max_connections(1).probe_interval(None);
    let router = builder.acquire_timeout(200 * MS).connect().await.unwrap();
    let _held = router.client().await.unwrap();
    let calls = timeout(HANG, join_all((0..3).map(|_| router.client()))).await.expect("no hang");
    let errors: Vec<_> = calls.into_iter().map(Result::unwrap_err).collect();
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Timeout), "{errors:?}");
    let says = |part: &str| errors.iter().any(|error| error.to_string().contains(part));
    assert!(says("the pool's limit is 1; 2 other calls wait"), "{errors:?}");
}

#[tokio::test]
async fn a_node_has_its_connections_when_the_router_connects_and_when_it_has_come_back() {
    let cluster = started(LocalCluster::builder()).await;
    let replica = cluster.replica(0);
    let builder = Router::builder().primary(cluster.primary().url()).replica(replica.url());
    let builder = builder.min_connections(3).max_connections(4).probe_interval(20 * MS);
    let router = builder.connect().await.unwrap();
    for node in cluster.nodes() {
        assert!(Observer::of(&node.url()).await.sessions().await.len() >= 3, "{}", node.name());
    }
    replica.restart().await.unwrap();
    let at_replica = Observer::of(&replica.url()).await;
    let before = at_replica.until(|sessions| sessions.len() >= 3).await;
    // Nobody uses them, and they end all the same: they are to what the node was.
    replica.promote().await.unwrap();
    at_replica.until(|sessions| sessions.is_disjoint(&before) && sessions.len() >= 3).await;
    drop(router);
    at_replica.until(BTreeSet::is_empty).await;
}

#[tokio::test]
async fn connections_end_with_their_time_and_nobody_notices() {
    let database = database().await;
    let url = database.primary_url();
    let builder = Router::builder().primary(&url).min_connections(2).max_connections(4);
    let router = builder.max_lifetime(200 * MS).probe_interval(20 * MS).connect().await.unwrap();
    let observer = Observer::of(&url).await;
    let mut before = observer.sessions().await;
    // Also one that has something to do all the time.
    for _ in 0..3 {
        let sessions = async {
            let renewed = observer.until(|sessions| sessions.is_disjoint(&before) && sessions.len() >= 2);
            let mut renewed = std::pin::pin!(renewed);
            loop {
                tokio::select! {
                    sessions = &mut renewed => return sessions,
                    answer = async { router.client().await?.query_one("SELECT 1", &[]).await } => { answer.unwrap(); }
                }
            }
        };
        before = timeout(HANG, sessions).await.expect("other sessions");
    }
}

#[tokio::test]
async fn a_connection_in_use_is_closed_when_it_comes_back_and_not_before() {
    let database = database().await;
    let builder = Router::builder().primary(database.primary_url()).max_connections(1).probe_interval(None);
    let router = builder.max_lifetime(50 * MS).connect().await.unwrap();
    let client = router.client().await.unwrap();
    let first = pid(&client).await;
    sleep(60 * MS).await;
    assert_eq!(pid(&client).await, first);
    drop(client);
    assert_ne!(pid(&router.client().await.unwrap()).await, first);
}

#[tokio::test]
async fn connections_that_nobody_uses_are_closed_down_to_those_that_are_kept() {
    let database = database().await;
    let url = database.primary_url();
    let builder = Router::builder().primary(&url).replica(&database.replica_urls()[0]).min_connections(2);
    let router = builder.max_connections(20).idle_timeout(100 * MS).probe_interval(60 * MS).connect().await.unwrap();
    let observer = Observer::of(&url).await;
    let burst = try_join_all((0..20).map(|_| router.client_at(Consistency::Strong))).await.unwrap();
    assert!(burst.iter().all(|client| client.role() == Role::Primary));
    assert!(observer.sessions().await.len() >= 20);
    drop(burst);
    let kept = observer.until(|sessions| sessions.len() == 2).await;
    // Longer than they may lie idle, and the same sessions: none was closed and opened anew.
    for _ in 0..30 {
        sleep(10 * MS).await;
        assert_eq!(observer.sessions().await, kept);
    }
}

#[tokio::test]
async fn a_pool_gets_smaller_while_few_of_its_connections_have_work() {
    let database = database().await;
    let url = database.primary_url();
    let builder = Router::builder().primary(&url).max_connections(10).idle_timeout(300 * MS);
    let router = builder.probe_interval(50 * MS).connect().await.unwrap();
    let observer = Observer::of(&url).await;
    drop(try_join_all((0..10).map(|_| router.client())).await.unwrap());
    assert!(observer.sessions().await.len() >= 10);
    // So many calls that each connection would be used within its time, if they took turns.
    let work = async {
        loop {
            pid(&router.client().await.unwrap()).await;
            sleep(5 * MS).await;
        }
    };
    // A call and a probe may meet.
    tokio::select! {
        () = work => {}
        _ = observer.until(|sessions| sessions.len() <= 2) => {}
    }
}

#[tokio::test]
async fn a_call_gets_the_connection_that_came_back_last() {
    let database = database().await;
    let builder = Router::builder().primary(database.primary_url()).max_connections(4).probe_interval(None);
    let router = builder.connect().await.unwrap();
    // Nothing was done with them, so none has a session to be put in order.
    drop(try_join_all((0..4).map(|_| router.client())).await.unwrap());
    let last = pid(&router.client().await.unwrap()).await;
    let again = async {
        // Once its session is in order: else another one is taken.
        while pid(&router.client().await.unwrap()).await != last {}
    };
    timeout(HANG, again).await.expect("the same one again");
    let mut served = Vec::new();
    for _ in 0..10 {
        sleep(50 * MS).await;
        served.push(pid(&router.client().await.unwrap()).await);
    }
    let same = served.windows(2).filter(|two| two[0] == two[1]).count();
    assert!(same >= 6, "{same}: {served:?}");
}

#[tokio::test]
async fn connections_lie_in_their_order_when_one_of_them_was_closed_for_its_idleness() {
    let database = database().await;
    let url = database.primary_url();
    let builder = Router::builder().primary(&url).max_connections(3).idle_timeout(2000 * MS);
    // They are looked at once a second then: three seconds from here, when the first one's time is over and the others' is not.
    let router = builder.probe_interval(None).connect().await.unwrap();
    let observer = Observer::of(&url).await;
    let used = try_join_all((0..3).map(|_| router.client())).await.unwrap();
    let mut pids = Vec::new();
    for (client, pause) in used.into_iter().zip([1000, 1000, 0]) {
        pids.push(pid(&client).await);
        drop(client);
        sleep(pause * MS).await;
    }
    let left = observer.until(|sessions| !sessions.contains(&pids[0])).await;
    assert!(left.is_superset(&pids[1..].iter().copied().collect()), "{left:?} of {pids:?}");
    assert_eq!(pid(&router.client().await.unwrap()).await, pids[2], "{pids:?}");
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_replaced_also_at_the_bottom_of_the_pool() {
    let database = database().await;
    let url = database.primary_url();
    let builder = Router::builder().primary(&url).min_connections(3).max_connections(3);
    let router = builder.probe_interval(20 * MS).connect().await.unwrap();
    let observer = Observer::of(&url).await;
    let top = pid(&router.client().await.unwrap()).await;
    let before = observer.until(|sessions| sessions.len() == 3).await;
    // The next look would be in a minute.
    sleep(100 * MS).await;
    for closed in before.iter().filter(|session| **session != top) {
        observer.0.query("SELECT pg_terminate_backend($1)", &[closed]).await.unwrap();
    }
    observer.until(|sessions| sessions.intersection(&before).count() == 1 && sessions.len() == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_after_a_pool_makes_it_no_larger() {
    let database = database().await;
    let url = database.primary_url();
    let builder = Router::builder().primary(&url).max_connections(10).probe_interval(MS);
    let router = builder.connect().await.unwrap();
    let observer = Observer::of(&url).await;
    let calls = async {
        loop {
            drop(router.client().await.unwrap());
            yield_now().await;
        }
    };
    let _ = timeout(Duration::from_secs(1), calls).await;
    // A call and a probe may meet.
    let sessions = observer.sessions().await;
    assert!(sessions.len() <= 2, "{sessions:?}");
}

#[tokio::test]
async fn nobody_gets_in_line_behind_a_session_that_is_put_in_order() {
    let database = database().await;
    let url = database.primary_url();
    let builder = Router::builder().primary(&url).max_connections(2).probe_interval(None);
    let router = builder.connect().await.unwrap();
    let [untidy, unused] = <[_; 2]>::try_from(try_join_all([router.client(), router.client()]).await.unwrap()).unwrap();
    untidy.batch_execute("CREATE TEMP TABLE left_behind (i int)").await.unwrap();
    let takes_long = pid(&untidy).await;
    let sql = "SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()";
    let schema: String = untidy.query_one(sql, &[]).await.unwrap().get(0);
    let other = Observer::of(&url).await;
    // It keeps the table from being dropped.
    let lock = format!("BEGIN; LOCK TABLE {schema}.left_behind IN ACCESS SHARE MODE");
    other.0.batch_execute(&lock).await.unwrap();
    drop(unused);
    drop(untidy);
    let first = router.client().await.unwrap();
    assert_ne!(timeout(HANG, pid(&first)).await.expect("no hang"), takes_long);
    // Where there is no other one, it is waited for.
    let second = router.client().await.unwrap();
    let mut answer = Box::pin(pid(&second));
    assert!(timeout(100 * MS, &mut answer).await.is_err());
    other.0.batch_execute("COMMIT").await.unwrap();
    assert_eq!(timeout(HANG, answer).await.expect("no hang"), takes_long);
    let sql = "SELECT to_regclass('left_behind') IS NULL";
    assert!(second.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_the_server_has_ended_is_nobodys_next_one() {
    let database = database().await;
    let builder = Router::builder().primary(database.primary_url()).max_connections(3).probe_interval(None);
    let router = builder.connect().await.unwrap();
    for _ in 0..100 {
        let client = router.client().await.unwrap();
        let error = client.query("SELECT pg_terminate_backend(pg_backend_pid())", &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        drop(client);
        // The end of the connection may not have come yet.
        pid(&router.client().await.unwrap()).await;
    }
}
