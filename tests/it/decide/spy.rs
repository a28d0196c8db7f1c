//! A store that records the requests it gets, and lets somebody else be faster.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use mainstem::{
    AppendCondition, Appended, Consistency, EventStore, MemoryEventStore, NewEvent, Result,
    backend::{Answer, AppendRequest, BoxFuture, BoxStream, QueryRequest},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Spy {
    store: MemoryEventStore,
    calls: Arc<Mutex<Vec<Call>>>,
    faster: Arc<Mutex<VecDeque<Vec<NewEvent>>>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Query(Consistency),
    Stream(Consistency),
    Append(AppendCondition, Vec<NewEvent>),
}

impl Spy {
    /// What it was asked since it was asked this.
    pub(crate) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// Before the next append, or before the one behind those for which that was said, these events are appended.
    pub(crate) fn be_faster(&self, events: impl IntoIterator<Item = NewEvent>) {
        self.faster.lock().unwrap().push_back(events.into_iter().collect());
    }

    fn told(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }
}

impl EventStore for Spy {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        self.told(Call::Append(request.condition.clone(), request.events.clone()));
        let (store, faster) = (self.store.clone(), self.faster.lock().unwrap().pop_front());
        Box::pin(async move {
            if let Some(events) = faster {
                store.append(events, AppendCondition::none()).await?;
            }
            store.run_append(request).await
        })
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        self.told(Call::Query(request.consistency.clone()));
        self.store.run_query(request)
    }

    fn run_query_stream(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
        self.told(Call::Stream(request.consistency.clone()));
        self.store.run_query_stream(request)
    }
}
