//! Conditions on something other than what was read.

use mainstem::{AppendCondition, Filter, MemoryEventStore, NewEvent, PostgresEventStore, SnapshotKey, SnapshotStore};
use serde_json::json;

use crate::support::{self, event};

/// What a read says about the filter that was read, and about another.
struct Conditions {
    same: AppendCondition,
    narrower: AppendCondition,
    wider: AppendCondition,
}

fn lent(event_type: &str) -> NewEvent {
    event(event_type, json!({})).with_tag("copy:7")
}

/// By each way to read all that matches.
async fn read<S: SnapshotStore>(store: &S, copy: &Filter) -> Vec<Conditions> {
    let narrower = || copy.without_types(["Rated"]).unwrap();
    let wider = || Filter::matching().all_tags_of(["copy:7"]).finish().unwrap();
    let history = store.query(copy).await.unwrap();
    let mut stream = store.query_stream(copy);
    while let Some(event) = stream.next().await {
        event.unwrap();
    }
    let end = stream.end().unwrap();
    let key = SnapshotKey::new("p", 1, copy);
    let projected = store.project(&key, 0, |_, _| Ok(())).without_saving().await.unwrap();
    vec![
        Conditions {
            same: history.unchanged(),
            narrower: history.unchanged_for(narrower()),
            wider: history.unchanged_for(wider()),
        },
        Conditions {
            same: end.unchanged(),
            narrower: end.unchanged_for(narrower()),
            wider: end.unchanged_for(wider()),
        },
        Conditions {
            same: projected.unchanged(),
            narrower: projected.unchanged_for(narrower()),
            wider: projected.unchanged_for(wider()),
        },
    ]
}

async fn a_guard_is_as_wide_as_the_user_says<S: SnapshotStore>(store: &S) {
    let copy = Filter::matching().any_type_of(["Lent", "Rated"]).and_all_tags_of(["copy:7"]).finish().unwrap();
    let attempt = async |condition: &AppendCondition| {
        let appended = store.append([event("Elsewhere", json!({}))], condition.clone()).await;
        appended.map(drop).map_err(|error| error.conflict().expect("a conflict").event_type.clone())
    };
    // Also of an empty log. What was there before the read breaks none of them.
    for before in [vec![], vec![lent("Lent"), lent("Rated"), lent("Cleaned")]] {
        if !before.is_empty() {
            store.append(before, AppendCondition::none()).await.unwrap();
        }
        let read_before = read(store, &copy).await;
        let [of_history, of_stream, of_projection] = &read_before[..] else { panic!("three ways to read") };
        for (come, same, narrower, wider) in
            [("Cleaned", true, true, false), ("Rated", false, true, false), ("Lent", false, false, false)]
        {
            store.append([lent(come)], AppendCondition::none()).await.unwrap();
            for conditions in [of_history, of_stream, of_projection] {
                assert_eq!(attempt(&conditions.same).await.is_ok(), same, "{come}, {:?}", conditions.same);
                assert_eq!(attempt(&conditions.narrower).await.is_ok(), narrower, "{come}, {:?}", conditions.narrower);
                assert_eq!(attempt(&conditions.wider).await.is_ok(), wider, "{come}, {:?}", conditions.wider);
            }
        }
        assert_eq!(attempt(&of_history.narrower).await, Err("Lent".to_owned()));
    }
}

#[tokio::test]
async fn a_guard_in_memory_is_as_wide_as_the_user_says() {
    a_guard_is_as_wide_as_the_user_says(&MemoryEventStore::new()).await;
}

#[tokio::test]
async fn a_guard_in_postgres_is_as_wide_as_the_user_says() {
    let (_database, _router, store): (_, _, PostgresEventStore) = support::store().await;
    a_guard_is_as_wide_as_the_user_says(&store).await;
}
