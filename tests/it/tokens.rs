//! Tokens and sessions: reads that contain what was written and seen, from replicas that lag, and across failovers.

mod hidden_timeline;

use std::time::Duration;

use mainstem::{
    AppendCondition, Appended, Consistency, Error, ErrorKind, EventStore, Fallback, Filter, PostgresEventStore, Role,
    Router, Session, SnapshotKey, SnapshotStore, Token,
    testing::{LocalCluster, TestDatabase},
    with_consistency, with_eventual_consistency, with_session, with_strong_consistency,
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{cluster_with_log, commits_wait_for_both, database, event, started, store};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

async fn append(store: &PostgresEventStore) -> Appended {
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap()
}

/// Every kind of read: who has served it, and how many events it has seen, where that can be told.
pub(crate) async fn reads(store: &PostgresEventStore, level: &Consistency) -> Vec<Result<(Role, u64), Error>> {
    let all = Filter::any_event();
    let level = || level.clone();
    let stream = async {
        let (mut stream, mut seen) = (store.query(&all).consistency(level()).stream(), 0);
        while let Some(event) = stream.next().await {
            event?;
            seen += 1;
        }
        Ok((stream.role().unwrap(), seen))
    };
    let key = SnapshotKey::new("count", 1, &all);
    let count = |sum: &mut u64, _: &mainstem::Event| {
        *sum += 1;
        Ok(())
    };
    let project = store.project(&key, 0, count).consistency(level()).without_saving();
    vec![
        store.query(&all).consistency(level()).await.map(|it| (it.role(), it.len() as u64)),
        store.query(&all).limit(u64::MAX).consistency(level()).await.map(|it| (it.role(), it.len() as u64)),
        store.count(&all).consistency(level()).await.map(|it| (it.role(), *it)),
        store.exists(&all).consistency(level()).await.map(|it| (it.role(), u64::from(*it))),
        store.last(&all).consistency(level()).await.map(|it| (it.role(), it.as_ref().map_or(0, |it| it.position()))),
        store.load_stream("s").consistency(level()).await.map(|it| (it.role(), it.version())),
        project.await.map(|it| (it.role(), *it.state())),
        stream.await,
    ]
}

/// A log on a database of the shared cluster, over a router that waits as long as the replicas take on a busy machine.
async fn patient_store() -> (TestDatabase<'static>, Router, PostgresEventStore) {
    let database = database().await;
    let builder = Router::builder().primary(database.primary_url()).replicas(database.replica_urls());
    let router = builder.acquire_timeout(HANG).replay_wait(HANG).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    (database, router, store)
}

#[tokio::test]
async fn every_read_at_least_as_new_as_a_write_sees_it_on_a_replica() {
    let (_database, router, store) = patient_store().await;
    for round in 1..=30 {
        let stream = mainstem::ExpectedVersion::Any;
        let written = store.append([event("A", json!({}))], AppendCondition::none()).to_stream("s", stream).await;
        let level = Consistency::AtLeast(written.unwrap().token().clone());
        let mut seen: Vec<_> = reads(&store, &level).await.into_iter().map(|read| read.unwrap()).collect();
        assert_eq!(seen.remove(3), (Role::Replica, 1));
        assert_eq!(seen, [(Role::Replica, round); 7]);
        // And so does any other SQL.
        let client = router.client_at(level).await.unwrap();
        let count: i64 = client.query_one("SELECT count(*) FROM mainstem.events", &[]).await.unwrap().get(0);
        assert_eq!((client.role(), count), (Role::Replica, i64::try_from(round).unwrap()));
    }
}

#[tokio::test]
async fn a_replica_that_is_behind_is_passed_over_waited_for_and_at_last_replaced_by_the_primary() {
    let (cluster, router, store) = cluster_with_log(2, |builder| builder.replay_wait(Duration::from_millis(300))).await;
    let all = Filter::any_event();
    cluster.replica(0).pause_replay().await.unwrap();
    for _ in 0..20 {
        let level = Consistency::AtLeast(append(&store).await.token().clone());
        let history = store.query(&all).consistency(level.clone()).await.unwrap();
        assert_eq!(history.node(), router.status().nodes[2].name.to_string(), "the other one has it");
        let client = router.client_at(level).await.unwrap();
        assert_eq!(client.node(), history.node());
    }
    cluster.replica(1).pause_replay().await.unwrap();
    let level = Consistency::AtLeast(append(&store).await.token().clone());
    for (role, seen) in reads(&store, &level).await.into_iter().map(|read| read.unwrap()) {
        assert_eq!(role, Role::Primary, "{seen}");
    }
    assert_eq!(router.client_at(level).await.unwrap().role(), Role::Primary);
}

#[tokio::test]
async fn a_read_that_waits_for_a_replica_is_served_by_it_as_soon_as_it_has_got_there() {
    let settings = |builder: mainstem::RouterBuilder| builder.replay_wait(HANG).fallback(Fallback::Never);
    let (cluster, router, store) = cluster_with_log(1, settings).await;
    for round in 1..4_u64 {
        cluster.replica(0).pause_replay().await.unwrap();
        let level = Consistency::AtLeast(append(&store).await.token().clone());
        let waiting: Vec<_> = (0..20)
            .map(|reader| {
                let (router, store, level) = (router.clone(), store.clone(), level.clone());
                tokio::spawn(async move {
                    if reader % 2 == 0 {
                        let served = store.query(&Filter::any_event()).consistency(level).await.unwrap();
                        (served.role(), served.len() as u64)
                    } else {
                        let client = router.client_at(level).await.unwrap();
                        let sql = "SELECT count(*) FROM mainstem.events";
                        let count: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
                        (client.role(), count.try_into().unwrap())
                    }
                })
            })
            .collect();
        sleep(Duration::from_millis(300)).await;
        assert!(waiting.iter().all(|reader| !reader.is_finished()), "nobody has it yet");
        if cluster.programs().version() >= 19 {
            is_waited_for_by_the_server(&router).await;
        }
        cluster.replica(0).resume_replay().await.unwrap();
        for reader in waiting {
            let seen = timeout(HANG / 2, reader).await.expect("it is there").unwrap();
            assert_eq!(seen, (Role::Replica, round));
        }
    }
}

/// From 19 on the replica itself says when it has replayed that far: one statement for all who wait.
async fn is_waited_for_by_the_server(router: &Router) {
    let replica = router.client_at(Consistency::Eventual).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'WAIT FOR LSN%'";
    let mut most = 0;
    let seen = async {
        for _ in 0..100 {
            let waiting: i64 = replica.query_one(sql, &[]).await.unwrap().get(0);
            most = most.max(waiting);
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(HANG, seen).await.expect("the replica answers");
    assert_eq!(most, 1);
}

#[tokio::test]
async fn without_fallback_who_waited_in_vain_is_told_why() {
    let settings =
        |builder: mainstem::RouterBuilder| builder.replay_wait(Duration::from_millis(200)).fallback(Fallback::Never);
    let (cluster, router, store) = cluster_with_log(1, settings).await;
    cluster.replica(0).pause_replay().await.unwrap();
    let level = Consistency::AtLeast(append(&store).await.token().clone());
    for read in reads(&store, &level).await {
        let error = read.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReplicasUnavailable, "{}", error.report());
        assert!(error.to_string().contains(&*router.status().nodes[1].name), "{error}");
    }
    let error = router.client_at(level).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReplicasUnavailable, "{}", error.report());
}

#[tokio::test]
async fn a_session_reads_its_own_writes_and_never_goes_back() {
    let (cluster, router, store) = cluster_with_log(2, |builder| builder.replay_wait(Duration::from_millis(100))).await;
    let session = Session::new();
    let read = async || -> Vec<(Role, u64)> {
        let reads = with_session(&session, async { reads(&store, &Consistency::Eventual).await }).await;
        reads.into_iter().map(|read| read.unwrap()).collect()
    };
    // What others have written on one replica, and it has seen, it sees on the other one as well, which has not got there.
    append(&store).await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    append(&store).await;
    let seen = with_consistency(Consistency::AtLeast(append(&store).await.token().clone()), async {
        with_session(&session, async { store.query(&Filter::any_event()).await.unwrap() }).await
    });
    assert_eq!((seen.await.len(), session.token().is_empty()), (3, false));
    for _ in 0..20 {
        for (kind, (role, seen)) in read().await.into_iter().enumerate() {
            assert!(role == Role::Replica && (seen == 3 || kind == 3 || kind == 5), "{kind}: {seen}");
        }
    }
    // Other SQL goes on from there, and the log from other SQL.
    for other in 0..5_i64 {
        let counted = with_session(&session, async {
            let writer = router.client().await.unwrap();
            writer
                .batch_execute("CREATE TABLE IF NOT EXISTS other (); INSERT INTO other DEFAULT VALUES")
                .await
                .unwrap();
            drop(writer);
            let reader = with_eventual_consistency(async { router.client().await.unwrap() }).await;
            assert_eq!(reader.role(), Role::Replica);
            reader.query_one("SELECT count(*) FROM other", &[]).await.unwrap().get::<_, i64>(0)
        });
        assert_eq!(counted.await, other + 1);
    }
    assert_eq!(read().await[0], (Role::Replica, 3));
    // Without the session, a read may see less.
    let (mut least, mut reads) = (u64::MAX, 0);
    while least == u64::MAX || least == 3 {
        least = store.query(&Filter::any_event()).consistency(Consistency::Eventual).await.unwrap().len() as u64;
        reads += 1;
        assert!(reads < 10_000, "the paused replica is not read from");
    }
    assert_eq!(least, 1);
}

#[tokio::test]
async fn a_session_sees_in_an_eventual_scope_what_it_wrote_in_a_strong_one() {
    let (_database, _router, store) = patient_store().await;
    for written in 1..=50_u64 {
        let session = Session::new();
        let history = with_session(&session, async {
            with_strong_consistency(async { append(&store).await }).await;
            with_eventual_consistency(async { store.query(&Filter::any_event()).await.unwrap() }).await
        });
        let history = history.await;
        assert_eq!((history.role(), history.len() as u64), (Role::Replica, written));
        // To another process it goes as text.
        let token: Token = session.token().to_string().parse().unwrap();
        let count = store.count(&Filter::any_event()).consistency(Consistency::AtLeast(token)).await.unwrap();
        assert_eq!((count.role(), *count), (Role::Replica, written));
    }
}

#[tokio::test]
async fn a_primary_that_has_not_shown_yet_what_a_replica_shows_is_waited_for() {
    let (cluster, router, store) = cluster_with_log(2, |builder| builder.replay_wait(HANG)).await;
    append(&store).await;
    cluster.wait_until_caught_up().await.unwrap();
    // A commit waits for both, and one does not go on: the other one shows it, the primary does not.
    commits_wait_for_both(&router).await;
    cluster.replica(0).pause_replay().await.unwrap();
    let appending = tokio::spawn({
        let store = store.clone();
        async move { append(&store).await }
    });
    let session = Session::new();
    let seen_ahead = async {
        loop {
            let read = async { store.query(&Filter::any_event()).consistency(Consistency::Eventual).await.unwrap() };
            if with_session(&session, read).await.len() == 2 {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HANG, seen_ahead).await.expect("one replica shows it");
    let strong = |session: Option<Session>| {
        let store = store.clone();
        tokio::spawn(async move {
            let read = async { store.query(&Filter::any_event()).await.unwrap().len() };
            match session {
                Some(session) => with_session(&session, read).await,
                None => read.await,
            }
        })
    };
    assert_eq!(strong(None).await.unwrap(), 1, "the primary does not show it");
    let waiting = strong(Some(session));
    sleep(Duration::from_millis(300)).await;
    assert!(!appending.is_finished() && !waiting.is_finished());
    cluster.replica(0).resume_replay().await.unwrap();
    assert_eq!(timeout(HANG, waiting).await.expect("it was committed").unwrap(), 2);
    assert_eq!(appending.await.unwrap().first_position(), 2);
}

#[tokio::test]
async fn tokens_of_writes_lost_in_a_failover_are_never_satisfied() {
    let (cluster, router, store) = cluster_with_log(2, |builder| builder.replay_wait(Duration::from_millis(300))).await;
    let kept = append(&store).await;
    let kept_place = router.client().await.unwrap().token().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    sleep(Duration::from_millis(300)).await;
    // Both replicas are away while these are acknowledged, and then the primary is gone.
    for replica in [0, 1] {
        cluster.replica(replica).stop().await.unwrap();
    }
    let session = Session::new();
    let lost = with_session(&session, async {
        append(&store).await;
        append(&store).await
    })
    .await;
    let lost_place = router.client().await.unwrap().token().await.unwrap();
    cluster.primary().stop().await.unwrap();
    cluster.replica(0).start().await.unwrap();
    cluster.replica(0).promote().await.unwrap();
    let writes = async {
        while store.append([event("B", json!({}))], AppendCondition::none()).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANG, writes).await.expect("the new primary is found");
    let at_least = |token: &Token| Consistency::AtLeast(token.clone());
    for more in 0..3 {
        // Its position is empty at first, and then it has another event.
        for read in reads(&store, &at_least(lost.token())).await {
            let error = read.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LogDiverged, "{more} more: {}", error.report());
        }
        let strong = with_session(&session, async { store.query(&Filter::any_event()).await });
        assert_eq!(strong.await.unwrap_err().kind(), ErrorKind::LogDiverged);
        // What was not lost is proven, although its place in the write-ahead log is of the old timeline.
        for read in reads(&store, &at_least(kept.token())).await {
            read.unwrap();
        }
        // A place alone proves nothing: the new primary was started again, and may have been rewound.
        for place in [&lost_place, &kept_place, lost.token()] {
            let error = router.client_at(at_least(place)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unproven, "{}", error.report());
        }
        append(&store).await;
    }
    session.forget();
    with_session(&session, async { store.query(&Filter::any_event()).await.unwrap() }).await;
}

#[tokio::test]
async fn a_place_that_the_promoted_node_was_seen_to_have_is_honoured() {
    let (cluster, router, store) = cluster_with_log(2, |builder| builder).await;
    append(&store).await;
    let place = router.client().await.unwrap().token().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let before = router.status();
    let asked_again = async {
        while router.status().nodes[1].lsn <= before.nodes[1].lsn {
            append(&store).await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANG, asked_again).await.expect("the replica is asked");
    cluster.primary().stop().await.unwrap();
    cluster.replica(0).promote().await.unwrap();
    let promoted = async {
        while router.status().timeline != Some(2) || router.client_at(Consistency::Strong).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(HANG, promoted).await.expect("the new primary is found");
    let client = router.client_at(Consistency::AtLeast(place)).await.unwrap();
    let count: i64 = client.query_one("SELECT count(*) FROM mainstem.events", &[]).await.unwrap().get(0);
    assert!(count >= 1);
}

#[tokio::test]
async fn a_token_is_not_believed_beyond_what_the_cluster_knows() {
    let (_database, router, store) = store().await;
    let written = append(&store).await;
    let other = started(LocalCluster::builder().replicas(0)).await;
    let elsewhere = Router::builder().primary(other.primary().url()).connect().await.unwrap();
    let foreign = elsewhere.client().await.unwrap().token().await.unwrap();
    let error = router.client_at(Consistency::AtLeast(foreign.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unproven, "{}", error.report());
    // Beside what is of this cluster, it says nothing.
    let both = foreign.merge(written.token());
    assert_eq!(store.query(&Filter::any_event()).consistency(Consistency::AtLeast(both)).await.unwrap().len(), 1);
}
