//! Reads on replicas that lag too far or are busy: another node serves them.

use std::{
    future::IntoFuture,
    time::{Duration, SystemTime},
};

use mainstem::{
    AppendCondition, Consistency, ErrorKind, EventStore, ExpectedVersion, Fallback, Filter, LogName,
    PostgresEventStore, Role, Router, SnapshotKey, SnapshotStore, Start, Subscribe, schema::Access,
    testing::LocalCluster,
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{event, started, store};

const HANG: Duration = Duration::from_secs(60);

/// Who serves each kind of read, or what they fail with.
async fn served(store: &PostgresEventStore) -> Vec<Result<Role, ErrorKind>> {
    let all = Filter::any_event();
    let level = Consistency::Eventual;
    let stream = async {
        let mut stream = store.query(&all).consistency(level.clone()).stream();
        while let Some(event) = stream.next().await {
            event?;
        }
        mainstem::Result::Ok(stream.role().unwrap())
    };
    let key = SnapshotKey::new("p", 1, &all);
    let project = store.project(&key, 0, |_, _| Ok(())).consistency(level.clone()).without_saving();
    let reads = vec![
        timeout(HANG, store.query(&all).consistency(level.clone()).into_future()).await.unwrap().map(|it| it.role()),
        store.query(&all).limit(1).consistency(level.clone()).await.map(|page| page.role()),
        store.count(&all).consistency(level.clone()).await.map(|count| count.role()),
        store.exists(&all).consistency(level.clone()).await.map(|exists| exists.role()),
        store.last(&all).consistency(level.clone()).await.map(|last| last.role()),
        store.load_stream("s").consistency(level.clone()).await.map(|loaded| loaded.role()),
        stream.await,
        project.await.map(|projected| projected.role()),
    ];
    reads.into_iter().map(|served| served.map_err(|error| error.kind())).collect()
}

#[tokio::test]
async fn right_after_the_first_migration_reads_do_not_fail_on_replicas_that_have_not_seen_it() {
    let cluster = started(LocalCluster::builder().replicas(1)).await;
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let store = PostgresEventStore::new(&builder.connect().await.unwrap());
    cluster.wait_until_caught_up().await.unwrap();
    // Before it there is no log anywhere, and that is said.
    assert_eq!(served(&store).await, [Err(ErrorKind::Schema); 8]);
    cluster.replica(0).pause_replay().await.unwrap();
    store.migrate().await.unwrap();
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    assert_eq!(served(&store).await, [Ok(Role::Primary); 8]);
    cluster.replica(0).resume_replay().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!(served(&store).await, [Ok(Role::Replica); 8]);
}

#[tokio::test]
async fn a_read_that_is_in_the_way_of_a_replicas_recovery_goes_elsewhere() {
    let (_database, router, store) = store().await;
    let append = store.append([event("A", json!({}))], AppendCondition::none());
    let appended = append.to_stream("s", ExpectedVersion::Any).await.unwrap();
    // As a replica cancels a read whose rows its recovery is about to remove. The real thing needs luck.
    let in_the_way = "CREATE FUNCTION mainstem.in_the_way() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
            IF pg_is_in_recovery() THEN
                RAISE 'canceling statement due to conflict with recovery' USING ERRCODE = 'serialization_failure';
            END IF;
            RETURN true;
        END $$;
        ALTER TABLE mainstem.events RENAME TO kept;
        CREATE VIEW mainstem.events AS SELECT * FROM mainstem.kept WHERE mainstem.in_the_way();";
    router.client().await.unwrap().batch_execute(in_the_way).await.unwrap();
    crate::support::cluster().await.wait_until_caught_up().await.unwrap();
    assert_eq!(served(&store).await, [Ok(Role::Primary); 8]);
    // A stream whose replicas are known to be far enough is asked for its proof when it begins.
    sleep(Duration::from_secs(1)).await;
    for _ in 0..4 {
        let level = Consistency::AtLeast(appended.token().clone());
        let mut stream = store.query(&Filter::any_event()).consistency(level).stream();
        let mut events = 0;
        while let Some(event) = timeout(HANG, stream.next()).await.expect("no hang") {
            event.unwrap_or_else(|error| panic!("{}", error.report()));
            events += 1;
        }
        assert_eq!((events, stream.role()), (1, Some(Role::Primary)));
    }
}

/// The same node as somebody else.
fn as_reader(url: &str) -> String {
    format!("postgres://reader:secret@{}", url.split_once('@').expect("a user").1)
}

/// Only the primary knows whether something is missing, or on its way.
#[tokio::test]
async fn a_replica_that_has_not_seen_the_log_or_a_grant_yet_ends_no_subscription() {
    let cluster = started(LocalCluster::builder().replicas(1)).await;
    let (primary, replica) = (cluster.primary().url(), cluster.replica(0).url());
    let connect = async |primary: String, replica: String| {
        let builder = Router::builder().primary(primary).replica(replica).fallback(Fallback::Never);
        builder.max_replica_lag(HANG * 10).connect().await.unwrap()
    };
    let router = connect(primary.clone(), replica.clone()).await;
    let store = PostgresEventStore::new(&router);
    let run = async |sql: &str| router.client().await.unwrap().batch_execute(sql).await.unwrap();
    run("CREATE ROLE reader LOGIN PASSWORD 'secret'").await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    store.migrate().await.unwrap();
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    let all = Filter::any_event();
    let waits = Duration::from_millis(1500);
    let starts = [Start::Beginning, Start::RecordedFrom(SystemTime::UNIX_EPOCH)];
    let mut subscriptions = starts.map(|start| store.subscribe(&all).start_at(start).build());
    for subscription in &mut subscriptions {
        let next = timeout(waits, subscription.next()).await;
        assert!(next.is_err(), "neither an end nor an error: {next:?}");
    }
    cluster.replica(0).resume_replay().await.unwrap();
    for subscription in &mut subscriptions {
        assert_eq!(timeout(HANG, subscription.next()).await.unwrap().unwrap().unwrap().position(), 1);
    }

    let reader = PostgresEventStore::new(&connect(as_reader(&primary), as_reader(&replica)).await);
    // On the primary neither.
    let mut subscription = reader.subscribe(&all).build();
    let error = timeout(HANG, subscription.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
    assert!(timeout(HANG, subscription.next()).await.unwrap().is_none());
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    run(&LogName::default().grants(Access::Reader, "reader").unwrap()).await;
    let mut subscription = reader.subscribe(&all).build();
    let next = timeout(waits, subscription.next()).await;
    assert!(next.is_err(), "neither an end nor an error: {next:?}");
    cluster.replica(0).resume_replay().await.unwrap();
    assert_eq!(timeout(HANG, subscription.next()).await.unwrap().unwrap().unwrap().position(), 1);
}
