//! Reads of recent events: few events after a position are found in another way than many, with the same result.

use mainstem::{AppendCondition, EventStore, Filter, PostgresEventStore, Predicate};
use serde_json::json;

use crate::support::{event, store};

/// Every third event is of the boundary.
async fn append(store: &PostgresEventStore, amount: usize) {
    let events: Vec<_> = (0..amount).map(|n| event("A", json!({"k": n % 3, "n": n}))).collect();
    store.append(events, AppendCondition::none()).await.unwrap();
}

fn boundary() -> Filter {
    let third = Predicate::payload_contains(&json!({"k": 0}));
    Filter::matching().any_type_of(["A"]).and_any_predicate_of([third]).finish().unwrap()
}

#[tokio::test]
async fn a_read_of_what_is_new_is_whole_however_much_that_is() {
    let (_database, router, store) = store().await;
    let positions = async |after: u64| -> Vec<u64> {
        let history = store.query(&boundary().after_position(after)).await.unwrap();
        history.iter().map(mainstem::Event::position).collect()
    };
    append(&store, 300).await;
    let mut head = store.query(&boundary()).await.unwrap().head().unwrap().position();
    // Another store of the same log appends: this one has not seen it, and takes the end for near.
    let other = PostgresEventStore::new(&router);
    for amount in [1, 3, 255, 256, 257, 600, 0] {
        if amount > 0 {
            append(&other, amount).await;
        }
        let everything: Vec<u64> = positions(0).await;
        for after in [head, head - 1, head.saturating_sub(255), head.saturating_sub(256), head.saturating_sub(257), 1] {
            let expected: Vec<u64> = everything.iter().copied().filter(|position| *position > after).collect();
            assert_eq!(positions(after).await, expected, "behind {after}, of {head} and {amount} more");
        }
        head += amount as u64;
        assert_eq!(positions(head).await, [0_u64; 0]);
        assert_eq!(positions(head + 1000).await, [0_u64; 0]);
    }
}

/// The store that appends much does not read; the first read after it has the wrong idea of what is near.
#[tokio::test]
async fn a_read_that_takes_the_end_for_near_and_errs_is_whole() {
    let (_database, router, reader) = store().await;
    append(&reader, 10).await;
    assert_eq!(reader.query(&Filter::any_event()).await.unwrap().len(), 10);
    append(&PostgresEventStore::new(&router), 900).await;
    let news = reader.query(&boundary().after_position(10)).await.unwrap();
    assert_eq!(news.len(), 300);
    assert_eq!(news.head().map(|head| head.position()), Some(910));
    let until = reader.query(&boundary().after_position(900).until_position(905)).await.unwrap();
    assert!(until.iter().all(|event| (901..=905).contains(&event.position())) && !until.is_empty());
}
