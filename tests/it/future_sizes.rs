//! The sizes of the calls' futures. In a debug build each layer that holds one moves it through the stack, of which a test
//! has 2 MiB; in a release build each move is a copy.

use std::{
    future::{Future, IntoFuture},
    mem::size_of_val,
    pin::Pin,
    sync::{Arc, Mutex},
};

use mainstem::{
    AppendCondition, Appended, Command, CommandExecutor, Consistency, Decision, Event, EventStore, Filter,
    PostgresEventStore, Projection, Result,
    backend::{Answer, AppendRequest, BoxFuture, BoxStream, QueryRequest},
};
use serde_json::json;

use crate::support::{event, store};

/// A store that notes how large the futures of another one are.
#[derive(Clone, Debug)]
struct Measured {
    store: PostgresEventStore,
    sizes: Arc<Mutex<Vec<(&'static str, usize)>>>,
}

impl Measured {
    fn note<F: ?Sized>(&self, what: &'static str, boxed: Pin<Box<F>>) -> Pin<Box<F>> {
        self.sizes.lock().unwrap().push((what, size_of_val(&*boxed)));
        boxed
    }

    /// The largest one of this name.
    fn largest(&self, what: &str) -> usize {
        let sizes = self.sizes.lock().unwrap();
        sizes.iter().filter(|(name, _)| *name == what).map(|(_, size)| *size).max().expect("a call of this name")
    }
}

impl EventStore for Measured {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        self.note("append", self.store.run_append(request))
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        self.note("query", self.store.run_query(request))
    }

    fn run_query_stream(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
        self.note("stream", self.store.run_query_stream(request))
    }
}

struct Register;
struct Registered(u64);

impl Projection for Registered {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of(["Registered"]).finish()
    }

    fn apply(&mut self, _: &Event) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
}

impl Command for Register {
    type Model = Registered;
    type Refusal = String;

    fn model(&self) -> Registered {
        Registered(0)
    }

    fn decide(&self, _: &Registered) -> Result<Decision<String>> {
        Ok(Decision::append([event("Registered", json!({}))]))
    }
}

fn boxed_size<F: Future + ?Sized>(future: &Pin<Box<F>>) -> usize {
    size_of_val(&**future)
}

#[tokio::test]
async fn no_call_has_a_future_that_a_stack_would_notice() {
    let (_database, _router, store) = store().await;
    let measured = Measured { store: store.clone(), sizes: Arc::default() };
    let any = Filter::any_event();

    let append = measured.append([event("A", json!({}))], AppendCondition::none()).into_future();
    let query = measured.query(&any).into_future();
    let mut sizes = vec![("the caller's append", boxed_size(&append)), ("the caller's query", boxed_size(&query))];
    append.await.unwrap();
    query.await.unwrap();
    let stream = measured.query(&any).stream();
    sizes.push(("the caller's stream", size_of_val(&stream)));
    drop(stream);
    let executor = CommandExecutor::new(measured.clone());
    let execute = executor.execute(&Register).into_future();
    sizes.push(("the caller's decision", boxed_size(&execute)));
    execute.await.unwrap();
    for what in ["append", "query", "stream"] {
        sizes.push((what, measured.largest(what)));
    }

    let builder = store.consumer("c", &any).consistency(Consistency::Strong);
    let mut consumer = builder.build().unwrap();
    let next = consumer.next_batch();
    sizes.push(("next_batch", size_of_val(&next)));
    let batch = next.await.unwrap().unwrap();
    let commit = consumer.commit(&batch);
    sizes.push(("commit", size_of_val(&commit)));
    commit.await.unwrap();
    for (what, size) in &sizes {
        // A caller's is a handle to what works for it, and a commit's is one, too.
        let limit = if what.starts_with("the caller's") || *what == "commit" { 512 } else { 8 * 1024 };
        assert!(*size <= limit, "{what} takes {size} bytes, and may take {limit}: {sizes:?}");
    }
}
