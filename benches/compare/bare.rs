//! Hand-written reads on a bare connection: the best of a few possible statements.

use std::time::{Instant, SystemTime};

use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use crate::{
    Outcome,
    json_text::JsonText,
    library::{Boundary, DECISIVE},
    server,
};

/// The candidates: a statement, and whether it is planned once or by PostgreSQL's own rule.
const WAYS: [(&str, &str, &str); 4] = [
    ("head in each row", include_str!("sql/bare_each_row.sql"), "auto"),
    ("head in each row, planned once", include_str!("sql/bare_each_row.sql"), "force_generic_plan"),
    ("head in a row of its own", include_str!("sql/bare_own_row.sql"), "auto"),
    ("head in a row of its own, planned once", include_str!("sql/bare_own_row.sql"), "force_generic_plan"),
];

/// An event with all fields that the store's has.
#[derive(Debug)]
#[expect(dead_code, reason = "what is decoded is what is measured")]
pub(crate) struct Event {
    pub(crate) position: i64,
    pub(crate) id: Uuid,
    pub(crate) event_type: String,
    pub(crate) tags: Vec<String>,
    pub(crate) payload: String,
    pub(crate) metadata: String,
    pub(crate) occurred_at: SystemTime,
    pub(crate) recorded_at: SystemTime,
}

/// All events of a read, and the log's head.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) events: Vec<Event>,
    pub(crate) head: Option<(i64, Uuid)>,
}

/// A connection with one of the statements.
pub(crate) struct Bare {
    pub(crate) way: &'static str,
    client: Client,
    statement: Statement,
    head_in_each_row: bool,
}

impl Bare {
    async fn connect(url: &str, (way, sql, plan): (&'static str, &str, &str)) -> Outcome<Self> {
        let client = server::connect(url).await?;
        client.batch_execute(&format!("SET jit = off; SET plan_cache_mode = {plan}")).await?;
        let statement = client.prepare(sql).await?;
        Ok(Self { way, client, statement, head_in_each_row: sql.contains("LEFT JOIN") })
    }

    pub(crate) async fn read(&self, boundary: &Boundary) -> Outcome<Read> {
        let (book, reader) = (contains("BookID", boundary.book), contains("ReaderID", boundary.reader));
        let types: &[&str] = &DECISIVE;
        let rows = self.client.query(&self.statement, &[&types, &JsonText(&book), &JsonText(&reader)]).await?;
        let head = |row: &Row, at: usize| Some((row.get::<_, Option<i64>>(at)?, row.get::<_, Option<Uuid>>(at + 1)?));
        if self.head_in_each_row {
            let events = rows.iter().filter(|row| row.get::<_, Option<i64>>(2).is_some()).map(|row| event(row, 2));
            let events = events.collect::<Outcome<_>>()?;
            return Ok(Read { events, head: rows.first().and_then(|row| head(row, 0)) });
        }
        let Some((last, rest)) = rows.split_last() else { return Ok(Read { events: Vec::new(), head: None }) };
        Ok(Read { events: rest.iter().map(|row| event(row, 1)).collect::<Outcome<_>>()?, head: head(last, 1) })
    }

    /// The fastest way on this server, by the median of some reads with each in turn.
    pub(crate) async fn best(url: &str, boundaries: &[Boundary]) -> Outcome<Self> {
        let mut ways = Vec::new();
        for way in WAYS {
            ways.push((Self::connect(url, way).await?, Vec::new()));
        }
        for boundary in boundaries {
            for (bare, micros) in &mut ways {
                let start = Instant::now();
                bare.read(boundary).await?;
                micros.push(start.elapsed().as_micros());
            }
        }
        for (bare, micros) in &mut ways {
            // The first reads fill caches, and PostgreSQL decides on a generic plan after five.
            micros.drain(..micros.len() / 4);
            micros.sort_unstable();
            println!(
                "bare SQL    {:<40} p50 {:>6} µs",
                bare.way,
                micros.get(micros.len() / 2).copied().unwrap_or_default()
            );
        }
        let best = ways.into_iter().min_by_key(|(_, micros)| micros.get(micros.len() / 2).copied());
        Ok(best.ok_or("no way to read")?.0)
    }
}

/// A predicate, as JSON.
fn contains(key: &str, id: Uuid) -> String {
    format!("{{\"{key}\": \"{id}\"}}")
}

fn event(row: &Row, first: usize) -> Outcome<Event> {
    Ok(Event {
        position: row.try_get(first)?,
        id: row.try_get(first + 1)?,
        event_type: row.try_get(first + 2)?,
        tags: row.try_get(first + 3)?,
        payload: row.try_get::<_, JsonText<'_>>(first + 4)?.0.to_owned(),
        metadata: row.try_get::<_, JsonText<'_>>(first + 5)?.0.to_owned(),
        occurred_at: row.try_get(first + 6)?,
        recorded_at: row.try_get(first + 7)?,
    })
}
