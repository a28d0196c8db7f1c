//! A router through a real PgBouncer in transaction mode. Skipped, with a message, if there is none.

mod process;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::{StreamExt, future::try_join_all};
use mainstem::{
    AppendCondition, Consistency, ErrorKind, EventStore, Filter, LogName, PostgresEventStore, Role, Router,
    RouterBuilder, Subscribe,
    testing::{TestDatabase, event_store::failures},
};
use serde_json::json;
use tokio::{sync::OnceCell, time::timeout};

use self::process::PgBouncer;
use crate::{
    sessions::own_writes_are_read,
    subscriptions::next,
    support::{self, cluster, database, event},
};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// A database with PgBouncer in front of the primary and of a replica.
pub(crate) struct Rig {
    pub(crate) database: TestDatabase<'static>,
    primary: PgBouncer,
    replica: PgBouncer,
}

pub(crate) async fn rig() -> Option<Rig> {
    let Some(program) = process::program() else {
        eprintln!("SKIPPED: no pgbouncer on this machine (scripts/setup-pgbouncer installs it)");
        return None;
    };
    let cluster = cluster().await;
    let primary = PgBouncer::start(&program, cluster, cluster.primary()).await;
    let replica = PgBouncer::start(&program, cluster, cluster.replica(0)).await;
    Some(Rig { database: database().await, primary, replica })
}

impl Rig {
    fn builder(&self) -> RouterBuilder {
        let name = self.database.name();
        let builder = Router::builder().primary(self.primary.url(name)).replica(self.replica.url(name));
        builder.transaction_pooling(true)
    }

    pub(crate) async fn router(&self) -> Router {
        self.builder().connect().await.unwrap_or_else(|error| panic!("no router: {}", error.report()))
    }
}

#[tokio::test]
async fn rows_come_one_by_one_and_a_copy_is_refused() {
    let Some(rig) = rig().await else { return };
    let router = rig.router().await;
    let client = router.client().await.unwrap();
    for count in [10_i32, 50_000] {
        let rows =
            client.query_stream("SELECT generate_series(1, $1::int4), repeat('x', 1000)", &[&count]).await.unwrap();
        assert_eq!(rows.count().await, usize::try_from(count).unwrap());
    }
    for error in [
        client.copy_in("COPY nobody FROM STDIN").await.unwrap_err(),
        client.copy_out("COPY (SELECT 1) TO STDOUT").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("pooler"), "{error}");
    }
    client.query("SELECT 1", &[]).await.unwrap();
    if process::ends_after_a_cancel() {
        eprintln!("SKIPPED: this PgBouncer may end after a cancel request, so no stream is given up");
        return;
    }
    let mut rows = client.query_stream("SELECT generate_series(1, 1000000000), repeat('x', 1000)", &[]).await.unwrap();
    rows.next().await.unwrap().unwrap();
    drop(rows);
    drop(client);
    for _ in 0..20 {
        let client = timeout(HANG, router.client()).await.expect("no hang").unwrap();
        client.query("SELECT $1::int4", &[&1_i32]).await.unwrap();
    }
    support::sessions(&rig.database, "query LIKE '%1000000000%' AND state = 'active'", 0).await;
}

#[tokio::test]
async fn statements_with_parameters_go_through_shared_sessions() {
    let Some(rig) = rig().await else { return };
    let router = rig.router().await;
    let client = router.client().await.unwrap();
    client.batch_execute("CREATE TABLE numbers (n int8, name text)").await.unwrap();
    let many = (0..8_i64).map(|worker| {
        let router = router.clone();
        async move {
            for n in 0..20_i64 {
                let client = router.client().await?;
                let name = format!("{worker}");
                client.execute("INSERT INTO numbers VALUES ($1, $2)", &[&n, &name]).await?;
                let sql = "SELECT sum(n)::int8, $2::text FROM numbers WHERE name = $1";
                let row = client.query_one(sql, &[&name, &"x"]).await?;
                assert_eq!(row.get::<_, i64>(0), (0..=n).sum::<i64>());
            }
            Ok::<_, mainstem::Error>(())
        }
    });
    timeout(HANG, try_join_all(many)).await.expect("no hang").unwrap();
    // Nothing of ours is left in the sessions: not a statement, not a setting.
    for _ in 0..4 {
        let left = "SELECT (SELECT count(*) FROM pg_prepared_statements), current_setting('plan_cache_mode')";
        let row = client.query_one(left, &[]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (0, "auto"));
    }
    let error = client.query("SELECT $1::int8", &[&1_i64, &2_i64]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = client.query("SELECT $1::int8", &[&"one"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", error.report());
}

#[tokio::test]
async fn types_are_asked_for_anew_when_the_schema_has_changed() {
    let Some(rig) = rig().await else { return };
    let router = Router::builder().primary(rig.primary.url(rig.database.name())).transaction_pooling(true);
    let router = router.max_connections(1).probe_interval(None).connect().await.unwrap();
    let client = router.client().await.unwrap();
    client.batch_execute("CREATE TABLE t (v int8)").await.unwrap();
    let insert = "INSERT INTO t VALUES ($1)";
    client.execute(insert, &[&1_i64]).await.unwrap();
    client.batch_execute("DROP TABLE t; CREATE TABLE t (v text)").await.unwrap();
    let _ = client.execute(insert, &[&1_i64]).await;
    client.batch_execute("DROP TABLE t; CREATE TABLE t (v jsonb)").await.unwrap();
    let _ = client.execute(insert, &[&1_i64]).await.unwrap_err();
    client.batch_execute("DROP TABLE t; CREATE TABLE t (v text)").await.unwrap();
    client.execute(insert, &[&"x"]).await.unwrap();
}

#[tokio::test]
async fn transactions_keep_their_session_and_reads_go_to_the_replica() {
    let Some(rig) = rig().await else { return };
    let router = rig.router().await;
    router.client().await.unwrap().batch_execute("CREATE TABLE t (n int8)").await.unwrap();
    let begin = || async { router.transaction().await.unwrap() };
    let (one, other) = (begin().await, begin().await);
    for transaction in [&one, &other] {
        transaction.execute("INSERT INTO t VALUES ($1)", &[&1_i64]).await.unwrap();
        let seen = transaction.query_one("SELECT count(*) FROM t WHERE n = $1", &[&1_i64]).await.unwrap();
        assert_eq!(seen.get::<_, i64>(0), 1, "the other one's row");
    }
    one.commit().await.unwrap();
    drop(other);
    let client = router.client().await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    client.execute("INSERT INTO t VALUES ($1)", &[&2_i64]).await.unwrap();
    drop(client);
    let client = router.client().await.unwrap();
    let rows = client.query("SELECT n FROM t WHERE n < $1", &[&10_i64]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1]);
    cluster().await.wait_until_caught_up().await.unwrap();
    let replica = router.client_at(Consistency::Eventual).await.unwrap();
    assert_eq!(replica.role(), Role::Replica);
    assert_eq!(replica.query("SELECT FROM t WHERE n = $1", &[&1_i64]).await.unwrap().len(), 1);
    assert_eq!(replica.execute("DELETE FROM t", &[]).await.unwrap_err().kind(), ErrorKind::ReadOnly);
}

#[tokio::test]
async fn migrations_are_refused_with_transaction_pooling() {
    let Some(rig) = rig().await else { return };
    let store = PostgresEventStore::new(&rig.router().await);
    let error = store.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
    assert!(error.report().contains("pooler"), "{}", error.report());
}

#[test]
fn a_store_keeps_all_its_promises() {
    static RIG: OnceCell<Option<Rig>> = OnceCell::const_new();
    static LOGS: AtomicUsize = AtomicUsize::new(0);
    // The pooler outlives the runtime of each case: this thread has started it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Some(rig) = runtime.block_on(RIG.get_or_init(rig)) else { return };
    let failed = failures(|| async {
        let name = LogName::new(format!("log_{}", LOGS.fetch_add(1, Ordering::Relaxed)), "events").unwrap();
        let direct = support::router(&rig.database).await;
        PostgresEventStore::with_name(&direct, name.clone()).migrate().await.unwrap();
        PostgresEventStore::with_name(&rig.router().await, name)
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

/// PgBouncer takes a session back at the answer to the last message that it has seen the end of, also while half of the next one
/// is on its way there: so nothing long may be sent while an answer is to come. Of a new connection, that is what has asked for the
/// types; of one whose user has left a transaction open, what ends it.
#[tokio::test]
async fn a_long_message_is_never_sent_behind_an_answer_that_is_to_come() {
    let Some(rig) = rig().await else { return };
    let direct = support::router(&rig.database).await;
    direct.client().await.unwrap().batch_execute("CREATE TABLE long (text text)").await.unwrap();
    let text = "x".repeat(8 * 1024 * 1024);
    let work = async |number: usize| {
        let router = Router::builder().primary(rig.primary.url(rig.database.name())).transaction_pooling(true);
        let router = router.max_connections(1).probe_interval(None).connect().await?;
        for _ in 0..3 {
            let client = router.client().await?;
            client.execute("INSERT INTO long VALUES ($1)", &[&text]).await?;
            client.batch_execute(&format!("BEGIN; SELECT {number}")).await?;
        }
        Ok::<_, mainstem::Error>(())
    };
    let many = (0..6).map(|number| {
        let work = &work;
        async move {
            for _ in 0..4 {
                work(number).await?;
            }
            Ok::<_, mainstem::Error>(())
        }
    });
    let done = timeout(4 * HANG, try_join_all(many)).await.expect("no hang");
    done.unwrap_or_else(|error| panic!("{}", error.report()));
}

#[tokio::test]
async fn without_the_switch_it_fails_at_once() {
    let Some(rig) = rig().await else { return };
    let error = rig.builder().transaction_pooling(false).connect().await.unwrap_err();
    assert!(error.report().contains("unsupported startup parameter"), "{}", error.report());
    // With it, a read on the replica after an append.
    let direct = support::router(&rig.database).await;
    PostgresEventStore::new(&direct).migrate().await.unwrap();
    let store = PostgresEventStore::new(&rig.router().await);
    let history = store.query(&Filter::any_event()).await.unwrap();
    store.append([event("A", json!({"n": 1}))], history.unchanged()).await.unwrap();
    cluster().await.wait_until_caught_up().await.unwrap();
    let read = store.query(&Filter::any_event()).consistency(Consistency::Eventual).await.unwrap();
    assert_eq!((read.len(), read.role()), (1, Role::Replica));
}

/// Who listens through the pooler leaves a session that listens to those who come after him, and hears nothing himself.
#[tokio::test]
async fn a_subscription_through_it_looks_and_does_not_listen() {
    let Some(rig) = rig().await else { return };
    let direct = support::router(&rig.database).await;
    let logged = format!("ALTER DATABASE {} SET log_statement = 'all'", rig.database.name());
    direct.client().await.unwrap().batch_execute(&logged).await.unwrap();
    let name = LogName::new("listens_to_nobody", "events").unwrap();
    let beside = PostgresEventStore::with_name(&support::router(&rig.database).await, name.clone());
    beside.migrate().await.unwrap();
    let listening = async || {
        let listen = format!("LISTEN {}", name.channel());
        cluster().await.primary().log().unwrap().matches(&listen).count()
    };
    let everything = Filter::any_event();
    let mut subscriptions = Vec::new();
    // The second one, beside the pooler, shows that listening would be seen.
    for store in [PostgresEventStore::with_name(&rig.router().await, name.clone()), beside] {
        let mut subscription = store.subscribe(&everything).consistency(Consistency::Strong).build();
        let before = store.query(&everything).await.unwrap().len();
        // It waits for the last ones.
        for position in 1..=before + 2 {
            if position > before {
                store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
            }
            assert_eq!(next(&mut subscription).await.position(), position as u64);
        }
        subscriptions.push(subscription);
    }
    let seen = async {
        while listening().await == 0 {
            let _ = timeout(Duration::from_millis(20), next(&mut subscriptions[1])).await;
        }
    };
    timeout(HANG, seen).await.expect("the one beside the pooler listens");
    assert_eq!(listening().await, 1);
}

#[tokio::test]
async fn consumers_work_through_it() {
    let Some(rig) = rig().await else { return };
    let direct = PostgresEventStore::new(&support::router(&rig.database).await);
    direct.migrate().await.unwrap();
    let store = PostgresEventStore::new(&rig.router().await);
    let events = (0..20).map(|n| event("A", json!({"n": n})));
    store.append(events, AppendCondition::none()).await.unwrap();
    let build = || {
        let builder = store.consumer("c", &Filter::any_event()).consistency(Consistency::Strong);
        builder.batch_events(8).partitions(4, |event| Some(event.id().to_string().into())).build().unwrap()
    };
    let mut seen = Vec::new();
    // One member, and another one that goes on where it has left.
    for until in [10, 20] {
        let mut consumer = build();
        while seen.len() < until {
            let batch = timeout(HANG, consumer.next_batch()).await.expect("a batch in time").unwrap().unwrap();
            let transaction = consumer.transaction(&batch).await.unwrap();
            transaction.commit().await.unwrap();
            seen.extend(batch.iter().map(mainstem::Event::position));
        }
        consumer.close().await.unwrap();
    }
    assert_eq!(seen, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_session_reads_its_own_writes_through_it() {
    let Some(rig) = rig().await else { return };
    let builder = rig.builder().acquire_timeout(HANG).connect_timeout(HANG).replay_wait(HANG);
    let router = builder.connect().await.unwrap();
    own_writes_are_read(&support::router(&rig.database).await, &router).await;
}

/// The pooler gives a connection another session of the server each time: what is cancelled there is found by the answer that
/// does not come, so the connection stays until then.
#[tokio::test]
async fn an_abandoned_query_is_cancelled_with_transaction_pooling() {
    let database = database().await;
    // A cancel through PgBouncer 1.18 is dropped by it, so this is the server itself.
    let builder = Router::builder().primary(database.primary_url()).transaction_pooling(true);
    let router = builder.max_connections(1).connect().await.unwrap();
    let client = router.client().await.unwrap();
    let endless = client.query("SELECT pg_sleep(3600)", &[]);
    assert!(timeout(Duration::from_millis(500), endless).await.is_err());
    drop(client);
    support::sessions(&database, "query LIKE '%pg_sleep(3600)%'", 0).await;
    assert_eq!(router.client().await.unwrap().query("SELECT 1", &[]).await.unwrap().len(), 1);
}
