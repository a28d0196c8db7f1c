//! What is counted.

use std::{hint::black_box, pin::pin, time::Duration};

use futures_util::TryStreamExt;
use mainstem::{
    AppendCondition, Consistency, EventStore, Filter, NewEvent, PostgresEventStore, Router, testing::LocalCluster,
    with_eventual_consistency, with_strong_consistency,
};
use serde_json::json;

use crate::Outcome;

/// The number of events that are read at once.
const ROWS: u64 = 500;

/// Long enough that no probe of the router happens during a case.
const NEVER: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Case {
    /// The decision about a strong call, including reading the scope.
    DecideStrong,
    /// The same for an eventual one between two replicas.
    DecideEventual,
    /// A client for an eventual read, and its return to the pool.
    CheckOut,
    /// The same with bb8 alone, without its test: what our pool builds on.
    CheckOutBb8,
    /// A statement with one row in a strong scope.
    Call,
    /// The same with the driver alone.
    CallBare,
    /// An append of one event, on condition that a boundary has not changed.
    Append,
    /// One event of a query for many.
    ReadRow,
    /// One event of a stream.
    StreamRow,
}

impl Case {
    pub(crate) const ALL: [Self; 9] = [
        Self::DecideStrong,
        Self::DecideEventual,
        Self::CheckOut,
        Self::CheckOutBb8,
        Self::Call,
        Self::CallBare,
        Self::Append,
        Self::ReadRow,
        Self::StreamRow,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DecideStrong => "decide_strong",
            Self::DecideEventual => "decide_eventual",
            Self::CheckOut => "check_out",
            Self::CheckOutBb8 => "check_out_bb8",
            Self::Call => "call",
            Self::CallBare => "call_bare",
            Self::Append => "append",
            Self::ReadRow => "read_row",
            Self::StreamRow => "stream_row",
        }
    }

    pub(crate) fn named(name: &str) -> Outcome<Self> {
        let found = Self::ALL.into_iter().find(|case| case.name() == name);
        found.ok_or_else(|| format!("no case {name:?}; there are {}", Self::ALL.map(Self::name).join(", ")).into())
    }

    /// How many more times the longer run does it: as few as give a steady count, since everything is fifty times slower than
    /// usual.
    pub(crate) fn times(self) -> u64 {
        match self {
            Self::DecideStrong | Self::DecideEventual => 20_000,
            Self::CheckOut | Self::CheckOutBb8 => 2_000,
            Self::Call | Self::CallBare => 400,
            Self::Append => 300,
            Self::ReadRow | Self::StreamRow => 20 * ROWS,
        }
    }

    /// Runs it this many times.
    pub(crate) async fn run(self, times: u64, nodes: &[&str]) -> Outcome {
        let [primary, replicas @ ..] = nodes else { return Err("no nodes".into()) };
        match self {
            Self::CheckOutBb8 => return check_out_bb8(times, primary).await,
            Self::CallBare => return call_bare(times, primary).await,
            _ => {}
        }
        let builder = Router::builder().primary(*primary).replicas(replicas.iter().copied());
        let router = builder.max_connections(2).probe_interval(NEVER).connect().await?;
        let store = PostgresEventStore::new(&router);
        match self {
            Self::DecideStrong => with_strong_consistency(async { decide(&router, times) }).await,
            Self::DecideEventual => with_eventual_consistency(async { decide(&router, times) }).await,
            Self::CheckOut => {
                for _ in 0..times {
                    black_box(router.client_at(Consistency::Eventual).await?);
                }
                Ok(())
            }
            Self::Call => {
                for _ in 0..times {
                    let client = router.client_at(Consistency::Strong).await?;
                    black_box(client.query("SELECT 1", &[]).await?);
                }
                Ok(())
            }
            Self::Append => append(&store, times).await,
            Self::ReadRow => {
                for _ in 0..times / ROWS {
                    black_box(store.query(&Filter::any_event()).limit(ROWS).consistency(Consistency::Strong).await?);
                }
                Ok(())
            }
            Self::StreamRow => {
                let filter = Filter::any_event().until_position(ROWS);
                for _ in 0..times / ROWS {
                    let events = with_strong_consistency(async { store.query_stream(&filter) });
                    let mut stream = pin!(events.await);
                    while let Some(event) = stream.try_next().await? {
                        black_box(event);
                    }
                }
                Ok(())
            }
            Self::CheckOutBb8 | Self::CallBare => Ok(()),
        }
    }
}

/// The log, with some events to read.
pub(crate) async fn prepare(cluster: &LocalCluster) -> Outcome {
    let router = Router::builder().primary(cluster.primary().url()).connect().await?;
    let store = PostgresEventStore::new(&router);
    store.migrate().await?;
    let events = (0..ROWS).map(event).collect::<mainstem::Result<Vec<_>>>()?;
    store.append(events, AppendCondition::none()).await?;
    Ok(cluster.wait_until_caught_up().await?)
}

fn event(number: u64) -> mainstem::Result<NewEvent> {
    let event =
        NewEvent::new("BookLent", &json!({"book": number, "reader": "ada", "days": 14, "note": "x".repeat(100)}))?;
    Ok(event.with_tag(format!("book:{number}")).with_tag("reader:ada"))
}

fn decide(router: &Router, times: u64) -> Outcome {
    let decided = (0..times).all(|_| black_box(router).__decides());
    if decided { Ok(()) } else { Err("there was no node to decide for".into()) }
}

async fn append(store: &PostgresEventStore, times: u64) -> Outcome {
    let filter = Filter::matching().all_tags_of([format!("run:{}", std::process::id())]).finish()?;
    let mut known = store.query(&filter).await?.unchanged();
    for number in 0..times {
        let appended = store.append([event(number)?], known).await?;
        known = AppendCondition::fail_if_events_match(filter.clone()).after(appended.last());
    }
    Ok(())
}

async fn check_out_bb8(times: u64, url: &str) -> Outcome {
    let manager = bb8_postgres::PostgresConnectionManager::new_from_stringlike(url, tokio_postgres::NoTls)?;
    let pool = bb8::Pool::builder().max_size(2).test_on_check_out(false).build(manager).await?;
    for _ in 0..times {
        black_box(pool.get().await?);
    }
    Ok(())
}

async fn call_bare(times: u64, url: &str) -> Outcome {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let statement = client.prepare("SELECT 1").await?;
    for _ in 0..times {
        black_box(client.query(&statement, &[]).await?);
    }
    Ok(())
}
