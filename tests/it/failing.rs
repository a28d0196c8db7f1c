//! The store that fails on demand.

use futures_util::TryStreamExt;
use mainstem::{
    AppendCondition, Error, ErrorKind, EventStore, ExpectedVersion, Filter, MemoryEventStore,
    testing::{AppendFault, FailingEventStore},
};
use serde_json::json;

use crate::support::event;

mod without_faults {
    mainstem::event_store_tests!(async {
        mainstem::testing::FailingEventStore::new(mainstem::MemoryEventStore::new())
    });
}

fn lost() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "as told")
}

#[tokio::test]
async fn an_append_fails_before_or_after_the_write() {
    let store = FailingEventStore::new(MemoryEventStore::new());
    store.fail_next_append(AppendFault::BeforeCommit(lost()));
    store.pass_next_append();
    store.fail_next_append(AppendFault::AfterCommit(lost()));
    store.fail_next_append(AppendFault::AfterCommit(lost()));
    let any = Filter::any_event();
    let append = async |condition| store.append([event("A", json!({}))], condition).await;
    assert!(append(AppendCondition::none()).await.unwrap_err().is_outcome_unknown());
    assert!(store.query(&any).await.unwrap().is_empty());
    append(AppendCondition::none()).await.unwrap();
    assert!(append(AppendCondition::none()).await.unwrap_err().is_outcome_unknown());
    assert_eq!(store.query(&any).await.unwrap().len(), 2);
    // What the store itself refuses was not written, and says so.
    assert!(append(AppendCondition::fail_if_events_match(any.clone())).await.unwrap_err().is_conflict());
    assert_eq!((store.query(&any).await.unwrap().len(), store.planned()), (2, 0));
}

#[tokio::test]
async fn every_kind_of_read_fails_once() {
    let store = FailingEventStore::new(MemoryEventStore::new());
    let append = store.append([event("A", json!({}))], AppendCondition::none());
    append.to_stream("s", ExpectedVersion::NoStream).await.unwrap();
    let any = Filter::any_event();
    for (number, passes) in (0..10).map(|n| (n / 2, n % 2 == 1)) {
        match passes {
            true => store.pass_next_read(),
            false => store.fail_next_read(lost()),
        }
        let read = match number {
            0 => store.query(&any).await.map(|history| history.len() as u64),
            1 => store.count(&any).await.map(|count| *count),
            2 => store.exists(&any).await.map(|exists| u64::from(*exists)),
            3 => store.load_stream("s").await.map(|stream| stream.version()),
            _ => store.query_stream(&any).try_collect::<Vec<_>>().await.map(|events| events.len() as u64),
        };
        match read {
            Ok(found) => assert!(passes && found == 1, "{number}"),
            Err(error) => assert!(!passes && error.is_outcome_unknown(), "{number}: {error}"),
        }
        assert_eq!(store.planned(), 0);
    }
}
