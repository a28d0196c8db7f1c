//! Whose fault a failed statement is: that of the event, of another one, or of the database.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mainstem::{
    ConsumerTransaction, Event, Filter, PoisonPolicy, PostgresEventStore, ReadModel, ReadModelState, ReadModels, Result,
};

use super::{HANG, append, becomes, rows, told};
use crate::support::store;

/// Keeps positions, and for poison it runs a statement that fails.
#[derive(Clone)]
struct Fails {
    name: &'static str,
    /// What poison runs, and how often: later it is like any other event.
    sql: &'static str,
    times: Arc<AtomicU64>,
    /// Whether the row is written after the statement, and its error is passed on.
    writes_after: bool,
    passes_on: bool,
}

impl Fails {
    fn always(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql, times: Arc::new(AtomicU64::new(u64::MAX)), writes_after: false, passes_on: true }
    }

    fn once(name: &'static str, sql: &'static str) -> Self {
        Self { times: Arc::new(AtomicU64::new(1)), ..Self::always(name, sql) }
    }

    fn in_silence(self) -> Self {
        Self { passes_on: false, ..self }
    }

    async fn write(&self, event: &Event, transaction: &ConsumerTransaction) -> Result<()> {
        let sql = format!("INSERT INTO {} VALUES ($1)", self.name);
        transaction.execute(&sql, &[&event.position().cast_signed()]).await.map(drop)
    }
}

impl ReadModel for Fails {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn filter(&self) -> Result<Filter> {
        Ok(Filter::any_event())
    }

    async fn clear(&mut self, transaction: &ConsumerTransaction) -> Result<()> {
        let sql = format!("CREATE TABLE IF NOT EXISTS {0} (position int8 PRIMARY KEY); TRUNCATE {0}", self.name);
        transaction.batch_execute(&sql).await
    }

    async fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> Result<()> {
        if !self.writes_after {
            self.write(event, transaction).await?;
        }
        let left = self.times.load(Ordering::SeqCst);
        if event.event_type() == "Poison" && left > 0 {
            self.times.store(left - 1, Ordering::SeqCst);
            let failed = transaction.execute(self.sql, &[]).await;
            assert!(failed.is_err(), "it was to fail");
            if self.passes_on {
                failed?;
            }
        }
        if self.writes_after {
            self.write(event, transaction).await?;
        }
        Ok(())
    }
}

fn start(store: &PostgresEventStore, policy: PoisonPolicy, model: &Fails) -> ReadModels {
    ReadModels::builder(store).poison_policy(policy).with(model.clone()).unwrap().start().unwrap()
}

/// Applies A, poison, A, and passes over what it cannot apply: the positions applied, and those skipped with the reason.
async fn passing_over(model: Fails, types: &[&str]) -> (Vec<i64>, Vec<(u64, String)>) {
    let (_database, router, store) = store().await;
    append(&store, types).await;
    let read_models = start(&store, PoisonPolicy::skip(), &model);
    read_models
        .wait_until_caught_up(HANG, |_| ())
        .await
        .unwrap_or_else(|error| panic!("{}: {}", model.name, error.report()));
    read_models.stop().await;
    let skipped = store.consumer_control(model.name).skipped(9).await.unwrap();
    let skipped = skipped.into_iter().map(|one| (one.mark.position(), one.reason)).collect();
    (rows(&router, model.name).await, skipped)
}

const DUPLICATE: &str = "INSERT INTO twice SELECT 1 FROM generate_series(1, 2)";
const BUSY: &str = "DO $$ BEGIN RAISE 'busy' USING ERRCODE = 'lock_not_available'; END $$";

fn twice() -> Fails {
    Fails::always("twice", DUPLICATE).in_silence()
}

#[tokio::test]
async fn an_event_whose_failed_statement_is_ignored_is_the_one_that_is_passed_over() {
    for model in [twice(), Fails { writes_after: true, ..twice() }] {
        for (types, applied) in [(&["A", "Poison", "A"][..], &[1, 3][..]), (&["A", "Poison"], &[1])] {
            let (rows, skipped) = passing_over(model.clone(), types).await;
            assert_eq!(rows, applied);
            let [(2, reason)] = &skipped[..] else { panic!("{skipped:?}") };
            assert!(reason.contains("duplicate key"), "not the cause: {reason}");
        }
    }
}

#[tokio::test]
async fn an_event_after_a_statement_that_failed_in_passing_is_not_passed_over() {
    for types in [&["A", "Poison", "A"][..], &["A", "A", "Poison"]] {
        let (rows, skipped) = passing_over(Fails::once("busy", BUSY).in_silence(), types).await;
        assert_eq!((rows, skipped), (vec![1, 2, 3], vec![]));
    }
}

#[tokio::test]
async fn a_read_model_stops_at_the_event_whose_failed_statement_is_ignored() {
    let (_database, router, store) = store().await;
    append(&store, &["A", "Poison", "A"]).await;
    let read_models = start(&store, PoisonPolicy::stop(), &twice());
    becomes(&read_models, ReadModelState::Failed).await;
    let error = told(&read_models).await;
    assert_eq!(error.sqlstate(), Some("23505"), "{}", error.report());
    assert_eq!(rows(&router, "twice").await, [1]);
}

/// Rolls back to a savepoint where the server refuses a statement.
struct GoesBack;

impl ReadModel for GoesBack {
    fn name(&self) -> String {
        "back".to_owned()
    }

    fn filter(&self) -> Result<Filter> {
        Ok(Filter::any_event())
    }

    async fn clear(&mut self, transaction: &ConsumerTransaction) -> Result<()> {
        transaction.batch_execute("CREATE TABLE IF NOT EXISTS back (position int8); TRUNCATE back").await
    }

    async fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> Result<()> {
        transaction.batch_execute("SAVEPOINT here").await?;
        assert!(transaction.execute("SELECT 1 / 0", &[]).await.is_err());
        transaction.batch_execute("ROLLBACK TO SAVEPOINT here").await?;
        transaction.execute("INSERT INTO back VALUES ($1)", &[&event.position().cast_signed()]).await.map(drop)
    }
}

#[tokio::test]
async fn a_failed_statement_that_was_rolled_back_is_nobodys_fault() {
    let (_database, router, store) = store().await;
    append(&store, &["A", "A"]).await;
    let read_models = ReadModels::builder(&store).with(GoesBack).unwrap().start().unwrap();
    read_models.wait_until_caught_up(HANG, |_| ()).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(rows(&router, "back").await, [1, 2]);
}

/// The server has one SQLSTATE for a malformed value, where a type reads it, and for a malformed statement, and another one
/// for whatever goes wrong in an extension.
#[tokio::test]
async fn an_event_with_a_value_that_the_server_cannot_read_is_passed_over() {
    for (name, sql, state) in [
        ("text", "SELECT to_tsquery(left('a b', 3))", "42601"),
        ("language", "SELECT left('klingon', 9)::regconfig", "42704"),
        ("extension", "DO $$ BEGIN RAISE 'parse error - invalid geometry' USING ERRCODE = 'XX000'; END $$", "XX000"),
    ] {
        let (rows, skipped) = passing_over(Fails::always(name, sql), &["A", "Poison", "A"]).await;
        assert_eq!(rows, [1, 3], "{name}");
        let [(2, reason)] = &skipped[..] else { panic!("{name}: {skipped:?}") };
        assert!(reason.contains(state), "{name}: {reason}");
    }
}

#[tokio::test]
async fn no_event_is_passed_over_for_a_wrong_statement_or_a_damaged_or_changing_database() {
    for (name, sql) in [
        ("syntax", "SELECTS 1"),
        ("types", "INSERT INTO types VALUES (true)"),
        ("literal", "SELECT 'x'::int"),
        (
            "partition",
            "DO $$ BEGIN CREATE TEMP TABLE parts (n int) PARTITION BY LIST (n); INSERT INTO parts VALUES (1); END $$",
        ),
        (
            "exhausted",
            "DO $$ BEGIN CREATE TEMP SEQUENCE two MAXVALUE 2; PERFORM nextval('two') FROM generate_series(1, 3); END $$",
        ),
        ("missing", "SELECT * FROM nowhere"),
        ("conflict", "INSERT INTO conflict VALUES (1) ON CONFLICT ((position + 1)) DO NOTHING"),
        ("damaged", "DO $$ BEGIN RAISE 'invalid page' USING ERRCODE = 'data_corrupted'; END $$"),
        ("changing", "DO $$ BEGIN RAISE 'cache lookup failed for relation 1' USING ERRCODE = 'XX000'; END $$"),
        (
            "elsewhere",
            "DO $$ BEGIN RAISE 'could not connect' USING ERRCODE = 'sqlclient_unable_to_establish_sqlconnection'; END $$",
        ),
    ] {
        let (rows, skipped) = passing_over(Fails::once(name, sql), &["A", "Poison", "A"]).await;
        assert_eq!((rows, skipped), (vec![1, 2, 3], vec![]), "{name}");
    }
}
