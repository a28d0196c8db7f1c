//! Following a log that is too slow for the requested batch size.

use std::{future::ready, time::Duration};

use mainstem::{
    AppendCondition, Appended, Error, ErrorKind, EventStore, Filter, MemoryEventStore, Result, Subscribe,
    backend::{Answer, AppendRequest, BoxFuture, Piece, QueryRequest, ReadAfterRequest},
};
use serde_json::json;
use tokio::time::timeout;

use crate::support::event;

/// A log that does not find more than so many events in time, nor look at more than so many positions.
#[derive(Clone, Debug)]
struct Slow {
    log: MemoryEventStore,
    events: u64,
    positions: u64,
}

impl EventStore for Slow {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        self.log.run_append(request)
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        self.log.run_query(request)
    }

    fn run_read_after(&self, request: ReadAfterRequest) -> BoxFuture<Result<Piece>> {
        let span = request.until.map_or(0, |until| until - request.after.position());
        if request.limit > self.events || span > self.positions {
            return Box::pin(ready(Err(Error::new(ErrorKind::Timeout, "it is too much"))));
        }
        self.log.run_read_after(request)
    }
}

/// Asking for the same again would fail again, and nobody would ever get on.
#[tokio::test(start_paused = true)]
async fn a_subscription_asks_for_less_after_a_timeout() {
    let log = MemoryEventStore::new();
    for n in 0..600 {
        let event_type = if n % 100 == 0 { "Rare" } else { "A" };
        log.append([event(event_type, json!({"n": n}))], AppendCondition::none()).await.unwrap();
    }
    let rare = Filter::matching().any_type_of(["Rare"]).finish().unwrap();
    for (filter, amount) in [(Filter::any_event(), 600), (rare, 6)] {
        for (events, positions) in [(20, u64::MAX), (u64::MAX, 30), (1, 1)] {
            let mut subscription = Slow { log: log.clone(), events, positions }.subscribe(&filter).build();
            let (mut seen, mut errors) = (0, 0);
            while seen < amount {
                match timeout(Duration::from_secs(3600), subscription.next_batch()).await.expect("it gets on").unwrap()
                {
                    Ok(batch) => seen += batch.len(),
                    Err(error) => {
                        assert!(error.is_timeout(), "{error}");
                        errors += 1;
                        assert!(errors < 5000, "it does not get on: {seen} events of {amount}");
                    }
                }
            }
            assert_eq!(seen, amount);
            let bounded = events < 1000 || filter.items().is_some();
            assert_eq!(errors > 0, bounded, "{events} events, {positions} positions: {errors} errors");
        }
    }
}
