//! The spans of the store, of commands and of consumers: what they contain when they end, and which span encloses them.

use std::{future::IntoFuture, time::Duration};

use mainstem::{
    AppendCondition, Command, CommandExecutor, Consistency, ConsumerTransaction, Decision, Error, Event, EventStore,
    Filter, Projection, ReadModel, ReadModels, Result,
    telemetry::{
        COMMAND, CONFLICTS, CONSUME, CONSUMER, DECIDE, DECISIONS, ERROR_KIND, ERROR_TYPE, EVENTS, MODEL, NODE,
        OPERATION, OUTCOME, RETRIES, RETRY_DELAY, ROLE, STATUS, STORE,
    },
};
use serde_json::json;
use tokio::time::timeout;
use tracing::{Instrument, Level};

use crate::support::{Records, Told, event, store};

#[tokio::test]
async fn operations_have_spans_with_their_outcome_and_the_node_that_has_served() {
    let (_database, router, store) = store().await;
    let (records, _kept) = Records::keep(Level::DEBUG);
    let any = Filter::any_event();
    let outer = tracing::info_span!(target: "mainstem::test", "request");
    let appended = store.append([event("A", json!({"secret": "hunter2"}))], AppendCondition::none()).into_future();
    let appended = appended.instrument(outer.clone()).await.unwrap();
    let told = records.only(STORE);
    let fields = [OPERATION, OUTCOME, NODE, ROLE, EVENTS, ERROR_TYPE].map(|name| told.get(name));
    assert_eq!(fields, ["append", "succeeded", appended.node(), "primary", "1", ""]);
    assert_eq!(told.get("span"), "append");

    let query =
        outer.in_scope(|| store.query(&any).consistency(Consistency::AtLeast(appended.token().clone())).into_future());
    let found = query.await.unwrap();
    let told = records.only(STORE);
    assert_eq!(
        [NODE, ROLE, EVENTS, OUTCOME, "parent"].map(|name| told.get(name)),
        [found.node(), found.role().to_string().as_str(), "1", "succeeded", "request"]
    );

    store.append([event("A", json!({}))], AppendCondition::fail_if_events_match(any.clone())).await.unwrap_err();
    let told = records.only(STORE);
    assert_eq!([OUTCOME, ERROR_KIND, STATUS].map(|name| told.get(name)), ["conflicted", "conflict", ""], "{told:#?}");

    let client = router.client().await.unwrap();
    client.batch_execute("BEGIN; LOCK TABLE mainstem.events").await.unwrap();
    let query = store.query(&any).into_future();
    timeout(Duration::from_millis(50), query).await.expect_err("it waits");
    assert_eq!(records.only(STORE).get(OUTCOME), "cancelled");
    store.query(&any).timeout(Duration::from_secs(1)).await.unwrap_err();
    let told = records.only(STORE);
    assert_eq!([OUTCOME, ERROR_KIND, STATUS].map(|name| told.get(name)), ["timed_out", "timeout", "ERROR"]);
    assert!(records.take_all().iter().all(|told| told.fields.values().all(|value| !value.contains("hunter2"))));
}

struct Any(u64);

impl Projection for Any {
    fn filter(&self) -> Result<Filter> {
        Ok(Filter::any_event())
    }

    fn apply(&mut self, _: &Event) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
}

struct Add;

impl Command for Add {
    type Model = Any;
    type Refusal = Error;

    fn model(&self) -> Any {
        Any(0)
    }

    fn decide(&self, _: &Any) -> Result<Decision<Error>> {
        Ok(Decision::append([event("Added", json!({}))]))
    }
}

#[tokio::test]
async fn commands_have_spans_with_their_retries_around_what_they_do() {
    let (_database, _router, store) = store().await;
    let (records, _kept) = Records::keep(Level::DEBUG);
    let executor = CommandExecutor::new(store.clone());
    let all = (0..5).map(|_| async { executor.execute(&Add).await.unwrap().attempts });
    let attempts = futures_util::future::join_all(all).await;
    let told = records.take(DECIDE);
    let spans: Vec<_> = told.iter().filter(|told| told.get("span") == "execute").collect();
    assert_eq!(spans.len(), 5);
    let sum = |name: &str| spans.iter().map(|span| span.number(name)).sum::<f64>();
    let conflicts: u32 = attempts.iter().map(|it| it.conflicts).sum();
    let decisions: u32 = attempts.iter().map(|it| it.decisions).sum();
    assert_eq!((sum(CONFLICTS), sum(DECISIONS), sum(RETRIES)), (conflicts.into(), decisions.into(), conflicts.into()));
    assert!(conflicts > 0 && sum(RETRY_DELAY) > 0.0, "{attempts:?}");
    assert!(spans.iter().all(|span| span.get(COMMAND) == "Add" && span.get(OUTCOME) == "succeeded"));
    let models: Vec<_> = told.iter().filter(|told| told.get("span") == "load_model").collect();
    assert_eq!(models.len() as f64, sum(DECISIONS));
    assert!(
        models.iter().all(|it| it.get(MODEL) == "Any" && it.get("parent") == "execute" && it.get(ROLE) == "primary")
    );
    let operations = records.take(STORE);
    assert!(operations.iter().filter(|it| it.get("span") == "append").all(|it| it.get("parent") == "execute"));
    assert!(operations.iter().filter(|it| it.get("span") == "query").all(|it| it.get("parent") == "load_model"));
}

#[tokio::test]
async fn commits_of_consumers_have_spans() {
    let (_database, _router, store) = store().await;
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    let mut consumer = store.consumer("c", &Filter::any_event()).consistency(Consistency::Strong).build().unwrap();
    let (records, _kept) = Records::keep(Level::DEBUG);
    let batch = timeout(Duration::from_secs(30), consumer.next_batch()).await.unwrap().unwrap().unwrap();
    consumer.commit(&batch).await.unwrap();
    let told = records.only(CONSUME);
    assert_eq!(["span", CONSUMER, EVENTS, OUTCOME].map(|name| told.get(name)), ["commit", "c", "1", "succeeded"]);
    consumer.transaction(&batch).await.unwrap().commit().await.unwrap_err();
    let told = records.only(CONSUME);
    assert_eq!([OUTCOME, ERROR_KIND].map(|name| told.get(name)), ["conflicted", "ownership_lost"]);
}

/// Writes a value where none of its kind fits.
struct Misfit;

impl ReadModel for Misfit {
    fn name(&self) -> String {
        "misfit".to_owned()
    }

    fn filter(&self) -> Result<Filter> {
        Ok(Filter::any_event())
    }

    async fn clear(&mut self, _: &ConsumerTransaction) -> Result<()> {
        Ok(())
    }

    async fn apply(&mut self, _: &Event, transaction: &ConsumerTransaction) -> Result<()> {
        transaction.batch_execute("DO $$ BEGIN RAISE NOTICE 'hunter2'; END $$; SELECT 'hunter2'::int4").await
    }
}

#[tokio::test]
async fn values_in_server_errors_and_notices_are_in_no_log_line() {
    let (_database, _router, store) = store().await;
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    let (records, _kept) = Records::keep(Level::TRACE);
    let read_models = ReadModels::builder(&store).with(Misfit).unwrap().start().unwrap();
    let mut told = Vec::new();
    let of_it = async {
        while !told.iter().any(|told: &Told| told.get("read_model") == "misfit") {
            tokio::time::sleep(Duration::from_millis(10)).await;
            told.extend(records.take_all());
        }
    };
    timeout(Duration::from_secs(30), of_it).await.expect("a line");
    read_models.stop().await;
    let line = told.iter().find(|told| told.get("read_model") == "misfit").unwrap();
    assert!(line.get("error").contains("22P02"), "{line:#?}");
    let handled = told.iter().find(|told| told.get("span") == "handle").expect("the span of the batch");
    assert_eq!([CONSUMER, OUTCOME, ERROR_TYPE].map(|name| handled.get(name)), ["misfit", "failed", "22P02"]);
    assert!(told.iter().any(|told| told.get("message") == "a server has given notice"));
    assert!(told.iter().all(|told| told.fields.values().all(|value| !value.contains("hunter2"))), "{told:#?}");
}

#[tokio::test]
async fn nothing_is_told_of_operations_to_those_who_want_only_what_matters() {
    let (_database, _router, store) = store().await;
    let (records, _kept) = Records::keep(Level::INFO);
    CommandExecutor::new(store).execute(&Add).await.unwrap();
    assert!(records.take_all().is_empty());
}
