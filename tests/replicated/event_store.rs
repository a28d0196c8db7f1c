//! The public suite for event stores. Each case has its own log on the shared cluster.

use std::sync::Arc;

use mainstem::{
    LogName, PostgresEventStore,
    testing::{TestCluster, TestDatabase, event_store::Case},
};

use super::{Clusters, router};

/// An empty log, connected on the caller's runtime.
async fn fresh_log<C: TestCluster>(database: &TestDatabase<'_, C>, name: &str) -> PostgresEventStore {
    let router = router(database, |builder| builder).await;
    let store = PostgresEventStore::with_name(&router, LogName::new(name, "events").expect("a name"));
    store.migrate().await.unwrap_or_else(|error| panic!("no log: {}", error.report()));
    store
}

async fn every_case_of<C: Clusters>(topic: &'static str) {
    let cases: Vec<Case> = Case::all().iter().filter(|case| case.topic() == topic).copied().collect();
    assert!(!cases.is_empty(), "there is no topic {topic}");
    let database = Arc::new(C::shared().await.database().await.unwrap());
    let failures = tokio::task::spawn_blocking(move || {
        let outcomes = cases.iter().enumerate().map(|(number, case)| {
            let database = Arc::clone(&database);
            case.outcome(async move { fresh_log(&database, &format!("log_{number}")).await })
        });
        outcomes.filter_map(Result::err).map(|failure| failure.to_string()).collect::<Vec<_>>()
    });
    let failures = failures.await.unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
}

macro_rules! topics {
    ($($topic:ident)+) => {
        $(pub(crate) async fn $topic<C: Clusters>() {
            every_case_of::<C>(stringify!($topic)).await;
        })+

        #[test]
        fn no_topic_is_missing() {
            let here = [$(stringify!($topic)),+];
            let missing: Vec<_> = Case::all().iter().filter(|case| !here.contains(&case.topic())).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

topics! { append query page stream following waits condition repeat divergence limits fixed_streams concurrency dcb }
