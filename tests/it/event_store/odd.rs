//! A store that counts and streams by itself, and streams oddly: how the crate deals with it.

use std::sync::Arc;

use futures_util::stream;
use mainstem::{
    Appended, Error, ErrorKind, Event, EventStore, Filter, Mark, MemoryEventStore, NewEvent, Result, Served,
    backend::{Answer, AppendRequest, BoxFuture, BoxStream, QueryRequest},
};

/// It streams these answers, whatever is asked for.
#[derive(Debug, Default)]
struct OddStore(Vec<Result<Answer>>);

impl EventStore for OddStore {
    fn run_append(&self, _: AppendRequest) -> BoxFuture<Result<Appended>> {
        panic!("nobody appends here");
    }

    fn run_query(&self, _: QueryRequest) -> BoxFuture<Result<Answer>> {
        Box::pin(async { Ok(Answer::new(Vec::new(), None)) })
    }

    fn run_count(&self, _: QueryRequest) -> BoxFuture<Result<Served<u64>>> {
        Box::pin(async { Ok(Served::new(42)) })
    }

    fn run_exists(&self, _: QueryRequest) -> BoxFuture<Result<Served<bool>>> {
        Box::pin(async { Ok(Served::new(true)) })
    }

    fn run_query_stream(&self, _: QueryRequest) -> BoxStream<Result<Answer>> {
        Box::pin(stream::iter(self.0.clone()))
    }
}

fn event(position: u64) -> Event {
    NewEvent::new("A", &()).unwrap().into_recorded(position, std::time::SystemTime::now())
}

fn answer(positions: &[u64], head: Option<Mark>) -> Result<Answer> {
    Ok(Answer::new(positions.iter().map(|position| event(*position)).collect(), head))
}

#[tokio::test]
async fn an_error_of_a_stream_is_its_last_item() {
    let head = Some(event(9).mark());
    let lost = Err(Error::new(ErrorKind::Unavailable, "lost"));
    let store = OddStore(vec![answer(&[1, 2], head), lost, answer(&[3], head)]);
    let all = Filter::any_event();
    let mut stream = store.query_stream(&all);
    for expected in [1, 2] {
        assert_eq!(stream.next().await.unwrap().unwrap().position(), expected);
    }
    assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(stream.next().await.is_none() && stream.next().await.is_none(), "it went on behind an error");
    assert!(stream.end().is_none());
    let mut page = store.query(&all).newest_first().stream();
    while let Some(Ok(_)) = page.next().await {}
    assert!(!page.is_complete() && page.last_read().unwrap().position() == 2);
}

#[tokio::test]
async fn a_stream_without_an_answer_is_an_error_and_the_first_head_counts() {
    let all = Filter::any_event();
    let silent = OddStore::default();
    let mut stream = silent.query_stream(&all);
    assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), ErrorKind::Database);
    assert!(stream.next().await.is_none() && stream.end().is_none());
    let (first, later) = (event(2).mark(), event(3).mark());
    let store = OddStore(vec![answer(&[1], Some(first)), answer(&[2], Some(later))]);
    let mut stream = store.query_stream(&all);
    while let Some(event) = stream.next().await {
        event.unwrap();
    }
    assert_eq!(stream.end().unwrap().head(), Some(first));
}

#[tokio::test]
async fn every_handle_passes_a_stores_own_methods_on() {
    async fn check(store: impl EventStore, what: &str) {
        let all = Filter::any_event();
        assert_eq!(store.count(&all).await.unwrap().into_inner(), 42, "{what}");
        assert!(store.exists(&all).await.unwrap().into_inner(), "{what}");
        assert_eq!(store.query_stream(&all).next().await.unwrap().unwrap().position(), 7, "{what}");
    }
    let store = || OddStore(vec![answer(&[7], Some(event(7).mark()))]);
    let borrowed: &dyn EventStore = &store();
    check(borrowed, "&dyn").await;
    check(&store(), "&").await;
    check(Arc::new(store()) as Arc<dyn EventStore>, "Arc").await;
    check(Box::new(store()) as Box<dyn EventStore>, "Box").await;
}

#[tokio::test]
async fn streams_are_streams_and_may_be_sent() {
    use futures_util::TryStreamExt;

    let store = MemoryEventStore::new();
    let events = (0..5).map(|_| NewEvent::new("A", &()).unwrap());
    store.append(events, mainstem::AppendCondition::none()).await.unwrap();
    let stream = store.query_stream(&Filter::any_event());
    drop(store);
    let events: Vec<Event> = tokio::spawn(stream.try_collect()).await.unwrap().unwrap();
    assert_eq!(events.len(), 5);
}
