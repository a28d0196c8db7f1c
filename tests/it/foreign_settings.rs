//! Settings of the server's that would change what a log answers.

use mainstem::{AppendCondition, EventStore, Filter, PostgresEventStore, Router};
use serde_json::json;

use crate::support::{event, store};

/// The server then leaves out of long results what it likes: a random part of what each key has.
#[tokio::test]
async fn a_limit_on_results_of_gin_indexes_hides_no_event() {
    const EACH: usize = 3000;
    let (database, admin, writer) = store().await;
    let limited = format!("ALTER DATABASE {} SET gin_fuzzy_search_limit = 50", database.name());
    admin.client().await.unwrap().batch_execute(&limited).await.unwrap();
    let tagged = |tag: &str| (0..EACH).map(|_| event("A", json!({})).with_tag(tag)).collect::<Vec<_>>();
    writer.append(tagged("t"), AppendCondition::none()).await.unwrap();
    writer.append([event("A", json!({})).with_tags(["t", "u"])], AppendCondition::none()).await.unwrap();
    writer.append(tagged("u"), AppendCondition::none()).await.unwrap();
    let by = |tags: &[&str]| Filter::matching().all_tags_of(tags.iter().copied()).finish().unwrap();

    let own = Router::builder().primary(database.primary_url()).connect().await.unwrap();
    let store = PostgresEventStore::new(&own);
    let conflicts = async |store: &PostgresEventStore| {
        for _ in 0..5 {
            let condition = AppendCondition::fail_if_events_match(by(&["t", "u"]));
            let outcome = store.append([event("B", json!({}))], condition).await;
            match outcome {
                Ok(appended) => panic!("no conflict, but {appended:?}"),
                Err(error) => assert!(error.is_conflict(), "{}", error.report()),
            }
        }
    };
    conflicts(&store).await;
    assert_eq!(store.query(&by(&["t"])).await.unwrap().len(), EACH + 1);
    store.check().await.unwrap();
    // The sessions of a pool that was handed in are as they are: what is judged in an append is right, and of reads nobody knows.
    #[cfg(feature = "bb8")]
    {
        use bb8_postgres::{PostgresConnectionManager, tokio_postgres::NoTls};
        let manager = PostgresConnectionManager::new_from_stringlike(database.primary_url(), NoTls).unwrap();
        let pool = bb8::Pool::builder().max_size(2).build(manager).await.unwrap();
        let router = Router::builder().primary_pool(pool).connect().await.unwrap();
        let store = PostgresEventStore::new(&router);
        conflicts(&store).await;
        let fault = store.check().await.unwrap_err();
        assert!(fault.to_string().contains("gin_fuzzy_search_limit"), "{fault}");
    }
}
