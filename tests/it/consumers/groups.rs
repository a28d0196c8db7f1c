//! Members that share partitions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mainstem::{AppendCondition, Consumer, ErrorKind, EventStore, Filter, NewEvent, PostgresEventStore};
use tokio::time::{sleep, timeout};

use super::{HANG, append, failure, keyed, member, next, number, run};
use crate::support::{self, store};

#[tokio::test]
async fn members_share_and_take_over_and_nothing_is_lost_or_out_of_order() {
    let (database, router, store) = store().await;
    run(&router, "CREATE TABLE handled (n bigserial PRIMARY KEY, key text, position int8)").await;
    let total = 900_usize;
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            for first in (0..total).step_by(3) {
                let events: Vec<NewEvent> = (first..first + 3).map(|number| keyed(number * 7 % 20)).collect();
                store.append(events, AppendCondition::none()).await.unwrap();
                sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let work = async |mut consumer: Consumer| {
        loop {
            let Some(batch) = consumer.next_batch().await else { return };
            let Ok(batch) = batch else { continue };
            let handle = async {
                let transaction = consumer.transaction(&batch).await?;
                for event in &batch {
                    let (key, position) = (event.tags().next().unwrap_or("none"), event.position().cast_signed());
                    transaction
                        .execute("INSERT INTO handled (key, position) VALUES ($1, $2)", &[&key, &position])
                        .await?;
                }
                transaction.commit().await
            };
            let _ = handle.await;
        }
    };
    let mut members = Vec::new();
    for _ in 0..3 {
        let own = PostgresEventStore::new(&support::router(&database).await);
        let consumer = member(&own);
        members.push((consumer.stop_handle(), tokio::spawn(work(consumer))));
        sleep(Duration::from_millis(300)).await;
    }
    // All share before one dies in the middle of its work, and another one leaves.
    let owners = "SELECT count(DISTINCT member) FROM mainstem.events_progress WHERE member IS NOT NULL";
    let shared = async {
        while number(&router, owners).await < 3 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(HANG, shared).await.expect("each has a share");
    members[0].1.abort();
    members[1].0.stop();
    writing.await.unwrap();
    let done = async {
        while number(&router, "SELECT count(*) FROM handled").await < total as i64 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(HANG, done).await.expect("all is handled");
    let rows = router.client().await.unwrap().query("SELECT key, position FROM handled ORDER BY n", &[]).await.unwrap();
    let mut by_key: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    rows.iter().for_each(|row| by_key.entry(row.get(0)).or_default().push(row.get(1)));
    for (key, positions) in &by_key {
        assert!(positions.is_sorted(), "{key}: {positions:?}");
    }
    let all: BTreeSet<i64> = by_key.values().flatten().copied().collect();
    assert_eq!((rows.len(), all.len(), by_key.len()), (total, total, 20), "each once");
    members.into_iter().for_each(|(_, task)| task.abort());
}

#[tokio::test]
async fn a_group_has_its_number_of_partitions_for_good() {
    let (_database, _router, store) = store().await;
    append(&store, 3).await;
    let mut eight = member(&store);
    let _ = next(&mut eight).await;
    let mut other = store.consumer("group", &Filter::any_event()).partitions(4, |_| None).build().unwrap();
    let error = failure(&mut other).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
    assert!(error.to_string().contains("8 partitions, and not 4"), "{error}");
    assert!(other.next_batch().await.is_none());
}

#[tokio::test]
async fn a_key_may_be_made_from_what_the_event_holds() {
    let (_database, _router, store) = store().await;
    append(&store, 3).await;
    let consumer = store
        .consumer("made", &Filter::any_event())
        .partitions(8, |event| Some(format!("{}:{}", event.event_type(), event.position() % 2).into()));
    let mut consumer = consumer.build().unwrap();
    assert_eq!(next(&mut consumer).await.len(), 3);
}

#[tokio::test]
async fn each_key_is_one_members_and_each_member_has_some() {
    let (_database, _router, store) = store().await;
    let mut members = [member(&store), member(&store)];
    // With nothing to hand out, they only share.
    let shared = async {
        while members.iter().any(|member| member.partitions().len() != 4) {
            for member in &mut members {
                assert!(timeout(Duration::from_millis(100), member.next_batch()).await.is_err());
            }
        }
    };
    timeout(HANG, shared).await.expect("each has half of them");
    store.append((0..60).map(|number| keyed(number % 20)), AppendCondition::none()).await.unwrap();
    let mut keys: [BTreeSet<String>; 2] = Default::default();
    let mut handled = 0;
    let all = async {
        while handled < 60 {
            for (member, keys) in members.iter_mut().zip(&mut keys) {
                let Ok(Some(batch)) = timeout(Duration::from_millis(100), member.next_batch()).await else { continue };
                let batch = batch.unwrap();
                handled += batch.len();
                keys.extend(batch.iter().flat_map(mainstem::Event::tags).map(str::to_owned));
                member.commit(&batch).await.unwrap();
            }
        }
    };
    timeout(HANG, all).await.expect("all is handled");
    assert_eq!((handled, keys[0].len() + keys[1].len()), (60, 20), "{keys:?}");
    assert!(keys[0].is_disjoint(&keys[1]) && keys.iter().all(|keys| !keys.is_empty()), "{keys:?}");
}

/// Four partitions are two for the first member that comes, and one for each of the others: none has nothing to do.
#[tokio::test]
async fn no_member_is_idle_while_another_has_two_partitions_more() {
    let (_database, _router, store) = store().await;
    let build = || {
        let group = store.consumer("group", &Filter::any_event()).partitions(4, |_| None);
        group.takeover(Duration::from_secs(1)).build().unwrap()
    };
    let mut members = [build(), build(), build()];
    let shared = async {
        loop {
            let mut shares: Vec<usize> = members.iter().map(|member| member.partitions().len()).collect();
            shares.sort_unstable();
            if shares == [1, 1, 2] {
                return;
            }
            for member in &mut members {
                assert!(timeout(Duration::from_millis(100), member.next_batch()).await.is_err());
            }
        }
    };
    timeout(HANG, shared).await.expect("each has its share");
}

#[tokio::test]
async fn a_partition_ahead_has_its_events_once_and_the_group_is_as_far_as_the_others() {
    let (_database, router, store) = store().await;
    let mut group = member(&store);
    assert!(timeout(Duration::from_millis(500), group.next_batch()).await.is_err(), "there is nothing yet");
    group.close().await.unwrap();
    let appended = store.append((0..40).map(|number| keyed(number % 20)), AppendCondition::none()).await.unwrap();
    let ahead = format!(
        "UPDATE mainstem.events_progress SET position = {}, id = '{}' WHERE partition = 3",
        appended.last().position(),
        appended.last().id()
    );
    run(&router, &ahead).await;
    let status = store.consumer_control("group").status().await.unwrap();
    assert_eq!((status.checkpoint(), status.events_behind()), (None, 40));
    let mut group = member(&store);
    let mut handed_out: BTreeMap<String, usize> = BTreeMap::new();
    let all = async {
        while store.consumer_control("group").status().await.unwrap().events_behind() > 0 {
            let batch = group.next_batch().await.unwrap().unwrap();
            batch.iter().flat_map(mainstem::Event::tags).for_each(|key| {
                *handed_out.entry(key.to_owned()).or_default() += 1;
            });
            group.commit(&batch).await.unwrap();
        }
    };
    timeout(HANG, all).await.expect("all is handled");
    assert!((1..20).contains(&handed_out.len()), "without the keys of one partition: {handed_out:?}");
    assert!(handed_out.values().all(|events| *events == 2), "{handed_out:?}");
}
