//! Sessions combined with other features: transactions, statements that the user drops, snapshots, failovers.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use mainstem::{
    AppendCondition, Appended, Consistency, ErrorKind, EventStore, Filter, PostgresEventStore, Role, Router, Session,
    SnapshotStore, Token, with_eventual_consistency, with_session,
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{LogLock, cluster_with_log, database, event, router, store};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

async fn append(store: &PostgresEventStore) -> Appended {
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap()
}

fn at_least(token: &Token) -> Consistency {
    Consistency::AtLeast(token.clone())
}

#[tokio::test]
async fn a_lost_write_is_not_served_by_a_replica_of_the_history_that_has_ended() {
    let (cluster, router, store) = cluster_with_log(2, |builder| builder.replay_wait(Duration::from_millis(300))).await;
    append(&store).await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).stop().await.unwrap();
    let session = Session::new();
    with_session(&session, async {
        let client = router.client().await.unwrap();
        client.batch_execute("CREATE TABLE lost ()").await.unwrap();
    })
    .await;
    let lost = append(&store).await;
    let seen = async {
        while store.query(&Filter::any_event()).consistency(at_least(lost.token())).await.unwrap().role()
            != Role::Replica
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANG, seen).await.unwrap();
    cluster.primary().stop().await.unwrap();
    cluster.replica(0).start().await.unwrap();
    cluster.replica(0).promote().await.unwrap();
    let writes = async {
        while store.append([event("B", json!({}))], AppendCondition::none()).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANG, writes).await.expect("the new primary is found");
    let mut wrong = Vec::new();
    for _ in 0..20 {
        let read = store.query(&Filter::any_event()).consistency(at_least(lost.token())).await;
        match read {
            Ok(history) => wrong.push(format!(
                "served by {} as {:?}: {:?}",
                history.node(),
                history.role(),
                history.iter().map(|event| event.event_type().to_string()).collect::<Vec<_>>()
            )),
            Err(error) if error.kind() != ErrorKind::LogDiverged => wrong.push(error.report()),
            Err(_) => {}
        }
        append(&store).await;
    }
    // A strong read sees the newest state, and does not hide that what the session has written in other SQL is lost.
    let raw = with_session(&session, async {
        let client = router.client().await.unwrap();
        let row = client.query_one("SELECT to_regclass('lost') IS NULL", &[]).await.unwrap();
        (row.get::<_, bool>(0), with_eventual_consistency(async { router.client().await }).await.err())
    });
    let (is_lost, error) = raw.await;
    assert_eq!((is_lost, error.map(|error| error.kind())), (true, Some(ErrorKind::Unproven)));
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn a_session_does_not_change_what_a_transaction_is() {
    let (_cluster, router, _store) = cluster_with_log(0, |builder| builder).await;
    let mut outcomes = Vec::new();
    for session in [None, Some(Session::new())] {
        let run = async {
            let client = router.client().await.unwrap();
            client.batch_execute("BEGIN").await.unwrap();
            let set = client.batch_execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").await;
            let set = set.map_err(|error| error.report());
            client.batch_execute("ROLLBACK").await.unwrap();
            // Lock first, then read what the last holder has left.
            let other = router.client_at(Consistency::Strong).await.unwrap();
            other.batch_execute("DROP TABLE IF EXISTS account; CREATE TABLE account (n int)").await.unwrap();
            client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
            other.batch_execute("INSERT INTO account VALUES (1)").await.unwrap();
            client.batch_execute("LOCK TABLE account").await.unwrap();
            let seen: i64 = client.query_one("SELECT count(*) FROM account", &[]).await.unwrap().get(0);
            client.batch_execute("ROLLBACK").await.unwrap();
            (set, seen)
        };
        outcomes.push(match session {
            Some(session) => with_session(&session, run).await,
            None => run.await,
        });
    }
    assert_eq!(outcomes[0], outcomes[1]);
}

#[tokio::test]
async fn a_session_reads_its_own_write_although_its_statements_were_thrown_away() {
    let (cluster, router, _store) =
        cluster_with_log(1, |builder| builder.replay_wait(Duration::from_millis(300))).await;
    let session = Session::new();
    let seen = with_session(&session, async {
        let client = router.client().await.unwrap();
        client.batch_execute("CREATE TABLE own ()").await.unwrap();
        cluster.wait_until_caught_up().await.unwrap();
        client.batch_execute("DEALLOCATE ALL").await.unwrap();
        cluster.replica(0).pause_replay().await.unwrap();
        client.execute("INSERT INTO own DEFAULT VALUES", &[]).await.unwrap();
        drop(client);
        with_eventual_consistency(async {
            let client = router.client().await.unwrap();
            let count: i64 = client.query_one("SELECT count(*) FROM own", &[]).await.unwrap().get(0);
            (client.role(), count)
        })
        .await
    })
    .await;
    assert_eq!(seen.1, 1);
}

#[tokio::test]
async fn a_read_of_the_log_is_noted_although_its_statements_were_thrown_away() {
    let (cluster, router, store) = cluster_with_log(1, |builder| builder.max_connections(2)).await;
    append(&store).await;
    cluster.wait_until_caught_up().await.unwrap();
    let all = Filter::any_event();
    let in_session = async |session: &Session| {
        with_session(session, async {
            let exists = store.exists(&all).consistency(Consistency::Eventual).await.unwrap();
            assert!(*exists);
        })
        .await;
    };
    let counting = async |session: &Session| {
        with_session(session, async { store.count(&all).consistency(Consistency::Eventual).await.unwrap() }).await;
    };
    let first = Session::new();
    for _ in 0..10 {
        counting(&first).await;
    }
    for _ in 0..10 {
        let clients = [
            router.client_at(Consistency::Eventual).await.unwrap(),
            router.client_at(Consistency::Eventual).await.unwrap(),
        ];
        for client in &clients {
            client.batch_execute("DEALLOCATE ALL").await.unwrap();
        }
    }
    let second = Session::new();
    in_session(&second).await;
    assert!(!second.token().is_empty(), "it has seen an event, and asks for nothing");
}

#[tokio::test]
async fn a_session_contains_the_snapshot_that_it_was_shown() {
    let (cluster, _router, store) =
        cluster_with_log(2, |builder| builder.replay_wait(Duration::from_millis(200))).await;
    let all = Filter::any_event();
    append(&store).await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(1).pause_replay().await.unwrap();
    for _ in 0..5 {
        append(&store).await;
    }
    let key = mainstem::SnapshotKey::new("count", 1, &all);
    let count = |sum: &mut u64, _: &mainstem::Event| {
        *sum += 1;
        Ok(())
    };
    store.project(&key, 0, count).save_every(1).consistency(Consistency::Strong).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    let mut back = Vec::new();
    for _ in 0..200 {
        let session = Session::new();
        let (state, seen) = with_session(&session, async {
            let projected =
                store.project(&key, 0, count).without_saving().consistency(Consistency::Eventual).await.unwrap();
            let state = *projected.state();
            (state, *store.count(&all).consistency(Consistency::Eventual).await.unwrap())
        })
        .await;
        if seen < state {
            back.push((state, seen));
        }
    }
    assert!(back.is_empty(), "{back:?}");
}

#[tokio::test]
async fn a_session_sees_what_its_transactions_have_committed() {
    let (_cluster, router, _store) =
        cluster_with_log(1, |builder| builder.acquire_timeout(HANG).replay_wait(HANG)).await;
    let session = Session::new();
    let write = async |sql: &str| {
        let transaction = router.transaction().await.unwrap();
        transaction.batch_execute(sql).await.unwrap();
        transaction.commit().await.unwrap();
    };
    with_session(&session, write("CREATE TABLE kept (n int)")).await;
    for written in 1..=30_i64 {
        with_session(&session, async { write("INSERT INTO kept VALUES (1)").await }).await;
        let count = with_session(&session, async {
            let client = with_eventual_consistency(async { router.client().await.unwrap() }).await;
            assert_eq!(client.role(), Role::Replica);
            client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get::<_, i64>(0)
        });
        assert_eq!(count.await, written);
    }
}

/// In a session on this router, whatever is written is read behind it, by replicas: by SQL, by a transaction, and in the log.
/// The log is made by another router, which may do that.
pub(crate) async fn own_writes_are_read(migrator: &Router, router: &Router) {
    PostgresEventStore::new(migrator).migrate().await.unwrap();
    migrator.client().await.unwrap().batch_execute("CREATE TABLE kept (n int8)").await.unwrap();
    let store = PostgresEventStore::new(router);
    let session = Session::new();
    let (mut rows, mut events, mut by_replicas) = (0_i64, 0, 0);
    for round in 0..30_i64 {
        match round % 3 {
            0 => {
                with_session(&session, async {
                    let client = router.client().await.unwrap();
                    client.execute("INSERT INTO kept VALUES ($1)", &[&round]).await.unwrap();
                })
                .await;
                rows += 1;
            }
            1 => {
                with_session(&session, async {
                    let transaction = router.transaction().await.unwrap();
                    transaction.execute("INSERT INTO kept VALUES ($1)", &[&round]).await.unwrap();
                    transaction.commit().await.unwrap();
                })
                .await;
                rows += 1;
            }
            _ => {
                with_session(&session, async { append(&store).await }).await;
                events += 1;
            }
        }
        let seen = with_session(&session, async {
            let client = router.client_at(Consistency::Eventual).await.unwrap();
            let count: i64 = client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get(0);
            let log = store.query(&Filter::any_event()).consistency(Consistency::Eventual).await.unwrap();
            // On a machine that is too busy for the replica to answer in time, the primary is right, too.
            by_replicas += [client.role(), log.role()].into_iter().filter(|role| *role == Role::Replica).count();
            (count, log.len())
        });
        assert_eq!(seen.await, (rows, events), "round {round}");
    }
    assert!(by_replicas > 0, "no replica has served");
}

#[tokio::test]
async fn a_session_asks_the_primary_when_nobody_knows_what_became_of_its_write() {
    let database = database().await;
    let patient = router(&database).await;
    let builder = Router::builder().primary(database.primary_url()).replicas(database.replica_urls());
    let hasty = builder.call_timeout(Duration::from_secs(2)).connect().await.unwrap();
    let session = Session::new();
    let interrupted = with_session(&session, async {
        hasty.client().await.unwrap().batch_execute("SELECT pg_sleep(3600)").await.unwrap_err()
    });
    let error = interrupted.await;
    assert!(error.is_outcome_unknown(), "{}", error.report());
    let level = || Consistency::Eventual;
    assert_eq!(patient.client_at(level()).await.unwrap().role(), Role::Replica);
    let role = with_session(&session, async { patient.client_at(level()).await.unwrap().role() }).await;
    assert_eq!(role, Role::Primary, "no replica is known to have what was written");
}

/// Who makes up a mark of an event that never was has only his own read wait for the log's lock, and not for long.
#[tokio::test]
async fn a_mark_that_is_made_up_waits_for_an_append_no_longer_than_for_a_replica() {
    let (_database, router, store) = store().await;
    let text = append(&store).await.token().to_string();
    let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(text.strip_prefix("1.").unwrap()).unwrap();
    // Behind the system, two numbers and the log: the position.
    assert_eq!(std::mem::replace(&mut bytes[18], 100), 1);
    let forged: Token = format!("1.{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)).parse().unwrap();
    let lock = LogLock::take(&router).await;
    let reading = tokio::spawn({
        let (store, session) = (store.clone(), Session::from(forged));
        async move { with_session(&session, async { store.query(&Filter::any_event()).await }).await }
    });
    // The call's own limit is 30 s.
    let error = timeout(Duration::from_secs(20), reading).await.expect("it is limited").unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    assert!(error.to_string().contains("replay_wait"), "{error}");
    lock.release().await;
}
