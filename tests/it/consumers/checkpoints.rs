//! Where a consumer resumes.

use std::{future::IntoFuture, time::Duration};

use mainstem::{AppendCondition, Consistency, ErrorKind, EventStore, Filter, Start, Token};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{HANG, append, append_of, consumer, failure, lose_events_after, next, positions};
use crate::support::{cluster, event, store};

#[tokio::test]
async fn a_consumer_goes_on_from_its_checkpoint_and_only_from_there() {
    let (_database, _router, store) = store().await;
    append(&store, 25).await;
    let mut first = consumer(&store);
    let one = next(&mut first).await;
    assert_eq!((positions(&one), one.is_first(), one.events_behind()), ((1..=10).collect(), true, 15));
    first.commit(&one).await.unwrap();
    let two = next(&mut first).await;
    assert_eq!((positions(&two), two.is_first()), ((11..=20).collect(), false));
    first.close().await.unwrap();

    let mut second = consumer(&store);
    let again = next(&mut second).await;
    assert_eq!(positions(&again), (11..=20).collect::<Vec<_>>(), "it was not committed");
    second.commit(&again).await.unwrap();
    second.commit(&again).await.unwrap();
    let rest = next(&mut second).await;
    assert_eq!(positions(&rest), (21..=25).collect::<Vec<_>>());
    second.commit(&rest).await.unwrap();
    append(&store, 1).await;
    assert_eq!(positions(&next(&mut second).await), [26], "what comes is handed out, too");

    // Nobody else of this name has anything to do meanwhile; one of another name begins anew, where it is told to.
    let mut standby = consumer(&store);
    assert!(timeout(Duration::from_millis(300), standby.next_batch()).await.is_err());
    assert_eq!(standby.partitions().len(), 0);
    let begin = async |start: Start| {
        let name = format!("{start:?}");
        let mut other = store.consumer(name, &Filter::any_event()).start_at(start).build().unwrap();
        positions(&next(&mut other).await)[0]
    };
    cluster().await.wait_until_caught_up().await.unwrap();
    assert_eq!(begin(Start::Beginning).await, 1);
    assert_eq!(begin(Start::AfterPosition(4)).await, 5);
    assert_eq!(begin(Start::After(again.mark())).await, 21);
    let mut beyond = store.consumer("x", &Filter::any_event()).start_at(Start::AfterPosition(99)).build().unwrap();
    assert_eq!(failure(&mut beyond).await.kind(), ErrorKind::InvalidInput);
    for name in ["", "a\0", &"x".repeat(256)] {
        let error = store.consumer(name, &Filter::any_event()).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[tokio::test]
async fn batches_are_committed_in_their_order() {
    let (_database, _router, store) = store().await;
    append(&store, 30).await;
    let mut consumer = consumer(&store);
    let (one, two) = (next(&mut consumer).await, next(&mut consumer).await);
    let error = consumer.commit(&two).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OwnershipLost, "the first would be lost: {}", error.report());
    let again = next(&mut consumer).await;
    assert_eq!(positions(&again), positions(&one));
    consumer.commit(&again).await.unwrap();
    let two = next(&mut consumer).await;
    consumer.commit(&two).await.unwrap();
    assert_eq!(positions(&next(&mut consumer).await), (21..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_that_a_consumer_filters_out_advance_its_checkpoint_too() {
    let (_database, _router, store) = store().await;
    append_of(&store, ["A", "B", "B", "B"]).await;
    let of_a = Filter::matching().any_type_of(["A"]).finish().unwrap();
    let mut consumer = store.consumer("a", &of_a).consistency(Consistency::Strong).build().unwrap();
    let batch = next(&mut consumer).await;
    consumer.commit(&batch).await.unwrap();
    append_of(&store, ["B", "B"]).await;
    let quiet = timeout(HANG, consumer.next_batch()).await.unwrap().unwrap().unwrap();
    assert_eq!((quiet.len(), quiet.mark().position()), (0, 6));
    let mark = quiet.mark();
    let control = store.consumer_control("a");
    let early = control.wait_until_handled(mark).timeout(Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Timeout, "{early}");
    let waiting = tokio::spawn(IntoFuture::into_future(control.wait_until_handled(mark).timeout(HANG)));
    sleep(Duration::from_millis(50)).await;
    consumer.commit(&quiet).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().checkpoint(), Some(mark));
    // On a replica, when it has arrived there.
    let handled = control.wait_until_handled(mark).consistency(Consistency::Eventual).timeout(HANG).await.unwrap();
    assert_eq!(handled.role(), mainstem::Role::Replica);
}

#[tokio::test]
async fn a_checkpoint_never_goes_back() {
    let (_database, _router, store) = store().await;
    append(&store, 20).await;
    let mut consumer = consumer(&store);
    let (one, two) = (next(&mut consumer).await, next(&mut consumer).await);
    consumer.commit(&one).await.unwrap();
    consumer.commit(&two).await.unwrap();
    consumer.commit(&one).await.unwrap();
    assert_eq!(store.consumer_control("c").status().await.unwrap().checkpoint(), Some(two.mark()));
}

/// As an endpoint waits that shows a user what he has written, in a request that has brought his token along.
#[tokio::test]
async fn waiting_with_a_token_lasts_until_its_events_are_handled() {
    let (_database, router, store) = store().await;
    append(&store, 1).await;
    let mut consumer = consumer(&store);
    let control = store.consumer_control("c");
    let batch = next(&mut consumer).await;
    assert_eq!(control.wait_until_handled(Token::new()).await.unwrap().checkpoint(), None, "it asks for nothing");
    consumer.commit(&batch).await.unwrap();
    let appended = store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    let short = Duration::from_millis(100);
    let of_append: Token = appended.token().to_string().parse().unwrap();
    // SQL of one's own has a place only: all that is there by then must be handled.
    let client = router.client().await.unwrap();
    client.batch_execute("SELECT 1").await.unwrap();
    let of_place = client.token().await.unwrap();
    for token in [&of_append, &of_place] {
        let early = control.wait_until_handled(token).timeout(short).await.unwrap_err();
        // Or, on a busy machine, while another connection is opened.
        assert!(matches!(early.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{early}");
    }
    let batch = next(&mut consumer).await;
    consumer.commit(&batch).await.unwrap();
    for token in [&of_append, &of_place] {
        let handled = control.wait_until_handled(token).timeout(HANG).await.unwrap();
        assert_eq!(handled.checkpoint(), Some(appended.last()));
    }
    // What was lost is not taken for handled, however far the consumer is.
    lose_events_after(&router, 1).await;
    append(&store, 5).await;
    let lost = control.wait_until_handled(&of_append).timeout(HANG).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::LogDiverged, "{}", lost.report());
}
