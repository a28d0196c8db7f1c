//! Answers that lack required parts. (The library's own tests cover the answers of the append procedure, of checks and of
//! consumers.)

use mainstem::{
    AppendCondition, Consistency, Error, ErrorKind, EventStore, ExpectedVersion, Filter, PostgresEventStore, Role,
    Router, Session, Start, Subscribe, testing::TestDatabase, with_session,
};
use serde_json::json;

use super::{liar::Liar, soon, until};
use crate::support::{cluster, database, event};

const TYPE: (&str, &str) = ("e.position, e.id, e.type,", "e.position, e.id, NULL::text,");
const STREAM: (&str, &str) = ("e.stream, e.version", "NULL::text, 1::bigint");
const FIRST_ROW: (&str, &str) = ("FROM head\nUNION ALL", "FROM head WHERE false\nUNION ALL");
const FIRST_OF_STREAM: (&str, &str) = ("FROM last\nUNION ALL", "FROM last WHERE false\nUNION ALL");
const FIRST_ID: (&str, &str) = ("SELECT e.position, e.id FROM", "SELECT e.position, NULL::uuid FROM");
const BOUND: (&str, &str) = ("e.position <= $", "0::bigint <= $");
const PLACE: (&str, &str) = ("ELSE pg_current_wal_flush_lsn()\n       END,", "ELSE NULL END,");

async fn events(store: &PostgresEventStore) -> Vec<Result<usize, Error>> {
    let all = Filter::any_event();
    let stream = async {
        let (mut events, mut read) = (store.query_stream(&all), 0);
        while let Some(event) = events.next().await {
            event?;
            read += 1;
        }
        Ok(read)
    };
    let page = async { Ok(store.fetch(&all, Start::Beginning).await?.events().len()) };
    let loaded = async { Ok(store.load_stream("s").await?.len()) };
    vec![store.query(&all).await.map(|history| history.len()), stream.await, page.await, loaded.await]
}

/// Anew, since new lies end all connections.
async fn through(liar: &Liar, database: &TestDatabase<'_>) -> Router {
    Router::builder().primary(liar.url(&database.primary_url())).connect().await.unwrap()
}

#[tokio::test]
async fn answers_that_lack_required_parts_are_not_believed() {
    let database = database().await;
    let liar = Liar::before(cluster().await.primary().port()).await;
    let store = PostgresEventStore::new(&through(&liar, &database).await);
    store.migrate().await.unwrap();
    let append = store.append([event("A", json!({}))], AppendCondition::none());
    append.to_stream("s", ExpectedVersion::NoStream).await.unwrap();
    for outcome in events(&store).await {
        assert_eq!(outcome.unwrap(), 1);
    }
    for lie in [&[TYPE][..], &[STREAM], &[FIRST_ROW, FIRST_OF_STREAM]] {
        liar.tells(lie, None);
        let store = PostgresEventStore::new(&through(&liar, &database).await);
        for outcome in events(&store).await {
            let error = outcome.expect_err(lie[0].1);
            assert_eq!(error.kind(), ErrorKind::Schema, "{lie:?}: {}", error.report());
        }
    }

    // Who asks where the log ends, and is told no event, has seen something all the same.
    for lies in [&[][..], &[FIRST_ID]] {
        liar.tells(lies, None);
        let store = PostgresEventStore::new(&through(&liar, &database).await);
        let session = Session::new();
        let exists = async { store.exists(&Filter::any_event()).await.unwrap() };
        let served = with_session(&session, exists).await;
        assert!(!served.token().is_empty() && !session.token().is_empty(), "{lies:?}");
    }
}

#[tokio::test]
async fn answers_beyond_the_requested_range_cause_no_endless_read() {
    let database = database().await;
    let liar = Liar::before(cluster().await.primary().port()).await;
    let store = PostgresEventStore::new(&through(&liar, &database).await);
    store.migrate().await.unwrap();
    for n in 0..5 {
        store.append([event("A", json!({"n": n}))], AppendCondition::none()).await.unwrap();
    }
    let third = store.query(&Filter::any_event()).await.unwrap()[2].recorded_at();
    for (lies, fetched) in [(&[][..], 3), (&[BOUND], 5)] {
        liar.tells(lies, None);
        let store = PostgresEventStore::new(&through(&liar, &database).await);
        let start = Start::RecordedFrom(third);
        let page = soon(store.fetch(&Filter::any_event(), start).consistency(Consistency::Strong)).await.unwrap();
        assert_eq!(page.events().len(), fetched, "{lies:?}");
    }
}

#[tokio::test]
async fn a_node_that_hides_its_position_makes_sessions_read_the_primary() {
    let database = database().await;
    let liar = Liar::before(cluster().await.primary().port()).await;
    for (lies, expected) in [(&[][..], Role::Replica), (&[PLACE], Role::Primary)] {
        liar.tells(lies, None);
        let (primary, replica) = (liar.url(&database.primary_url()), database.replica_urls()[0].clone());
        let router = Router::builder().primary(primary).replica(replica).connect().await.unwrap();
        let role = async || router.client_at(Consistency::Eventual).await.map(|client| client.role()).ok();
        until(async || role().await == Some(Role::Replica)).await;
        let session = Session::new();
        with_session(&session, async {
            router.client().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
            assert!(!session.token().is_empty());
            // Where nobody knows what was seen, only the primary has it for sure.
            until(async || role().await == Some(expected)).await;
        })
        .await;
    }
}
