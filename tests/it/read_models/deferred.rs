//! Constraints that the server checks at the commit only.

use mainstem::{ConsumerTransaction, Event, Filter, PoisonPolicy, ReadModel, ReadModelState, ReadModels, Result};

use super::{HANG, append, becomes, rows, told};
use crate::support::store;

/// Writes a row that refers to one which it writes after that, but for poison. And it counts, by a constraint that is
/// checked at once as long as nobody defers it.
struct Lines;

impl ReadModel for Lines {
    fn name(&self) -> String {
        "lines".to_owned()
    }

    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of(["A", "Poison"]).finish()
    }

    async fn clear(&mut self, transaction: &ConsumerTransaction) -> Result<()> {
        let sql = "CREATE TABLE IF NOT EXISTS heads (position int8 PRIMARY KEY);
                   CREATE TABLE IF NOT EXISTS lines (position int8 REFERENCES heads DEFERRABLE INITIALLY DEFERRED);
                   CREATE TABLE IF NOT EXISTS kinds (kind text UNIQUE DEFERRABLE INITIALLY IMMEDIATE, n int8);
                   TRUNCATE heads, lines, kinds";
        transaction.batch_execute(sql).await
    }

    async fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> Result<()> {
        let position = event.position().cast_signed();
        transaction.batch_execute("SAVEPOINT kind").await?;
        let kind = event.event_type();
        if transaction.execute("INSERT INTO kinds VALUES ($1, 1)", &[&kind]).await.is_err() {
            transaction.batch_execute("ROLLBACK TO SAVEPOINT kind").await?;
            transaction.execute("UPDATE kinds SET n = n + 1 WHERE kind = $1", &[&kind]).await?;
        }
        transaction.execute("INSERT INTO lines VALUES ($1)", &[&position]).await?;
        if event.event_type() == "A" {
            transaction.execute("INSERT INTO heads VALUES ($1)", &[&position]).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn an_event_that_breaks_a_deferred_constraint_is_found_and_passed_over() {
    let (_database, router, store) = store().await;
    append(&store, &["A", "Poison", "A", "Poison", "A"]).await;
    let read_models =
        ReadModels::builder(&store).poison_policy(PoisonPolicy::skip()).with(Lines).unwrap().start().unwrap();
    read_models.wait_until_caught_up(HANG, |_| ()).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(rows(&router, "lines").await, [1, 3, 5]);
    let counted = router.client().await.unwrap().query("SELECT kind, n FROM kinds", &[]).await.unwrap();
    let counted: Vec<(String, i64)> = counted.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(counted, [("A".to_owned(), 3)]);
    let skipped = store.consumer_control("lines").skipped(9).await.unwrap();
    assert_eq!(skipped.iter().map(|one| (one.mark.position(), one.attempts)).collect::<Vec<_>>(), [(2, 1), (4, 1)]);
    assert!(skipped.iter().all(|one| one.reason.contains("foreign key")), "{skipped:?}");
    // The next batch is handled as usual.
    let mark = append(&store, &["A"]).await;
    read_models.wait_until_handled("lines", mark).timeout(HANG).await.unwrap();
    assert_eq!((rows(&router, "lines").await, read_models.progress()[0].skipped), (vec![1, 3, 5, 6], 2));
}

#[tokio::test]
async fn an_event_that_breaks_a_deferred_constraint_stops_the_read_model() {
    let (_database, _router, store) = store().await;
    append(&store, &["A", "Poison", "A"]).await;
    let read_models = ReadModels::builder(&store).with(Lines).unwrap().start().unwrap();
    becomes(&read_models, ReadModelState::Failed).await;
    let error = told(&read_models).await;
    assert_eq!(error.sqlstate(), Some("23503"), "{}", error.report());
}
