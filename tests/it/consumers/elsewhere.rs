//! Results in another database: with what they say of themselves, a batch tells whether it continues them.

use mainstem::{EventStore, Filter, Mark};

use super::{append, consumer, lose_events_after, next, positions};
use crate::support::store;

#[tokio::test]
async fn results_elsewhere_can_tell_whether_a_batch_continues_them_and_what_the_log_has_lost() {
    let (_database, router, store) = store().await;
    append(&store, 10).await;
    let mut first = consumer(&store);
    let batch = next(&mut first).await;
    assert!(batch.after().is_none() && batch.is_first());
    let mut kept: Vec<Mark> = vec![batch.mark()];
    first.commit(&batch).await.unwrap();

    append(&store, 10).await;
    let batch = next(&mut first).await;
    assert_eq!(batch.after(), kept.last().copied(), "it continues what is there");
    // The results contain it, and the checkpoint does not: the process ends in between.
    kept.push(batch.mark());
    first.close().await.unwrap();

    let mut second = consumer(&store);
    let again = next(&mut second).await;
    assert_eq!((again.after(), again.mark()), (Some(kept[0]), kept[1]));
    assert_eq!(store.last_common(kept.iter().copied()).await.unwrap(), Some(kept[1]), "nothing is lost");
    second.close().await.unwrap();

    lose_events_after(&router, 17).await;
    append(&store, 10).await;
    let mut third = consumer(&store);
    let other = next(&mut third).await;
    assert_eq!(positions(&other), (11..=20).collect::<Vec<_>>(), "by the positions it would be the same");
    assert_eq!(other.after(), Some(kept[0]));
    assert_eq!(store.last_common(kept.iter().copied()).await.unwrap(), Some(kept[0]));
    assert_eq!(store.last_common(kept[1..].iter().copied()).await.unwrap(), None);
    assert_eq!(store.last_common([]).await.unwrap(), None);
    let held = store.last(&Filter::any_event()).await.unwrap().into_inner().unwrap().mark();
    assert_eq!(store.last_common([held, kept[1]]).await.unwrap(), Some(held));
}
