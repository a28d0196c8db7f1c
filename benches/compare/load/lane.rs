//! A server, and one load on it, round by round.

use std::{sync::Arc, time::Duration};

use mainstem::testing::LocalCluster;
use serde_json::{Value, json};

use super::{
    latencies::Latencies,
    options::Shape,
    space::{Bytes, Growth, PerEvent, Point, Rows},
    workers::{Round, Workers},
};
use crate::{
    Outcome,
    args::Args,
    fill::LOG,
    fixture::Database,
    origin::ORIGIN,
    report::digits,
    rounds::{Control, median},
    side::Table,
};

/// A server with a log.
pub(crate) struct Site {
    pub(crate) cluster: Arc<LocalCluster>,
    pub(crate) control: Control,
    url: String,
    of: (u64, u64),
    /// Whether the origin's table exists, with the same events.
    has_origin: bool,
}

impl Site {
    pub(crate) async fn open(args: &Args, cluster: impl Into<Arc<LocalCluster>>, database: &Database) -> Outcome<Self> {
        let cluster = cluster.into();
        let url = cluster.primary().url_for(database.name);
        let control = Control::connect(&url).await?;
        Ok(Self { cluster, control, url, of: (args.seed, database.events), has_origin: database.peers })
    }

    /// The size of the log compared with the server's own cache.
    pub(crate) async fn cache(&self) -> Outcome<String> {
        let sql = "SELECT pg_total_relation_size($1::text::regclass) / 1048576, pg_size_bytes(current_setting('shared_buffers')) / 1048576";
        let row = self.control.query_one(sql, &[&LOG.name]).await?;
        let (log, buffers): (i64, i64) = (row.get(0), row.get(1));
        let verdict = if log > buffers { "beyond the cache" } else { "within the cache" };
        Ok(format!("a log of {log} MiB with its indexes, and {buffers} MiB of shared_buffers: {verdict} of the server"))
    }

    /// The size of a table, after its GIN indexes have merged their pending entries.
    async fn bytes(&self, table: Table) -> Outcome<Bytes> {
        let merge = "SELECT count(gin_clean_pending_list(i.indexrelid)) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                     JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'gin' AND i.indrelid = $1::text::regclass";
        self.control.query_one(merge, &[&table.name]).await?;
        let sql = "SELECT pg_table_size(t), pg_indexes_size(t), (pg_current_wal_insert_lsn() - '0/0')::int8 \
                   FROM (SELECT $1::text::regclass t) one";
        let row = self.control.query_one(sql, &[&table.name]).await?;
        let number = |column: usize| u64::try_from(row.get::<_, i64>(column));
        Ok(Bytes { table: number(0)?, indexes: number(1)?, wal: number(2)? })
    }

    /// The rows after a position, and the least that each takes: its stored columns, its header, and its item pointer.
    async fn rows(&self, table: Table, after: i64) -> Outcome<Rows> {
        let each = "SELECT string_agg(format('coalesce(pg_column_size(%I), 0)', attname), ' + ') FROM pg_attribute \
                    WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";
        let each: String = self.control.query_one(each, &[&table.name]).await?.get(0);
        let sql = format!(
            "SELECT count(*), coalesce(sum(28 + {each}), 0)::int8 FROM {} WHERE {} > $1",
            table.name, table.position
        );
        let row = self.control.query_one(&sql, &[&after]).await?;
        Ok(Rows { events: u64::try_from(row.get::<_, i64>(0))?, least: u64::try_from(row.get::<_, i64>(1))? })
    }

    /// The whole of a table.
    async fn whole(&self, table: Table) -> Outcome<Option<PerEvent>> {
        let mut whole = Growth::default();
        whole.add(Bytes::default(), Bytes { wal: 0, ..self.bytes(table).await? }, self.rows(table, -1).await?);
        Ok(whole.per_event())
    }

    async fn head(&self, table: Table) -> Outcome<i64> {
        let sql = format!("SELECT coalesce(max({}), 0) FROM {}", table.position, table.name);
        Ok(self.control.query_one(&sql, &[]).await?.get(0))
    }
}

/// One load, and the results of its rounds.
pub(crate) struct Lane<'a> {
    pub(crate) label: String,
    pub(crate) site: &'a Site,
    shape: Shape,
    workers: Workers,
    /// Rounds at full speed: the throughput of each, and latencies.
    fast: Vec<f64>,
    /// Rounds at a fixed rate.
    paced: Option<Paced>,
    latencies: Latencies,
    growth: Growth,
    origin: Growth,
}

struct Paced {
    rate: f64,
    per_second: Vec<f64>,
    waiting: u64,
    latencies: Latencies,
}

impl<'a> Lane<'a> {
    /// The lanes of a site have separate boundaries: `first` is the number of this lane's first one.
    pub(crate) async fn start(site: &'a Site, label: String, first: u64, shape: Shape) -> Outcome<Self> {
        let workers = Workers::start(&site.url, site.of, first, &shape).await?;
        let (growth, origin) = (Growth::default(), Growth::default());
        let latencies = Latencies::new()?;
        Ok(Self { label, site, shape, workers, fast: Vec::new(), paced: None, latencies, growth, origin })
    }

    /// Runs at full speed, or at a rate. Afterwards the table must have exactly what was acknowledged.
    pub(crate) async fn round(&mut self, span: Duration, rate: Option<f64>, counts: bool) -> Outcome {
        self.site.control.batch_execute("CHECKPOINT").await?;
        self.workers.begin().await?;
        let (head, before) = (self.site.head(LOG).await?, self.site.bytes(LOG).await?);
        let round = self.workers.run(span, rate).await?;
        let after = self.site.bytes(LOG).await?;
        let rows = self.site.rows(LOG, head).await?;
        if rows.events != round.done {
            let (done, there) = (round.done, rows.events);
            return Err(format!("{}: {done} appends were acknowledged, and {there} rows are there", self.label).into());
        }
        if round.done == 0 {
            return Err(format!("{}: nothing was done in a round of {span:?}", self.label).into());
        }
        if counts {
            self.keep(&round, rate)?;
            self.growth.add(before, after, rows);
        }
        if self.site.has_origin {
            self.fill_origin(head, counts).await?;
        }
        Ok(())
    }

    fn keep(&mut self, round: &Round, rate: Option<f64>) -> Outcome {
        let per_second = round.done as f64 / round.elapsed.as_secs_f64();
        let Some(rate) = rate else {
            self.fast.push(per_second);
            return self.latencies.add(&round.latencies.counted());
        };
        if self.paced.is_none() {
            self.paced = Some(Paced { rate, per_second: Vec::new(), waiting: 0, latencies: Latencies::new()? });
        }
        if let Some(paced) = &mut self.paced {
            paced.per_second.push(per_second);
            paced.waiting += round.waiting;
            paced.latencies.add(&round.latencies.counted())?;
        }
        Ok(())
    }

    /// Writes the same events to the origin's table, one by one, each in its own transaction.
    async fn fill_origin(&mut self, head: i64, counts: bool) -> Outcome {
        let control = &self.site.control;
        control.batch_execute("CHECKPOINT").await?;
        let (old, before) = (self.site.head(ORIGIN).await?, self.site.bytes(ORIGIN).await?);
        // A block takes no arguments.
        let fill = include_str!("../sql/fill_origin.sql").replace("{after}", &head.to_string());
        control.batch_execute("SET synchronous_commit = off").await?;
        control.batch_execute(&fill).await?;
        control.batch_execute("RESET synchronous_commit").await?;
        if counts {
            self.origin.add(before, self.site.bytes(ORIGIN).await?, self.site.rows(ORIGIN, old).await?);
        }
        Ok(())
    }

    /// The median of events per second at full speed.
    pub(crate) fn per_second(&self) -> f64 {
        median(self.fast.clone())
    }

    /// The latencies at its rate, if it has one.
    pub(crate) fn latencies(&self) -> &Latencies {
        self.paced.as_ref().map_or(&self.latencies, |paced| &paced.latencies)
    }

    pub(crate) fn growth(&self) -> Option<PerEvent> {
        self.growth.per_event()
    }

    pub(crate) fn origin(&self) -> Option<PerEvent> {
        self.origin.per_event()
    }

    /// Compares with the origin's table, if there is one. The label names the point.
    pub(crate) fn point(&self, of: &str) -> Option<Point> {
        let (label, payload) = (format!("{of} {}", self.label), self.shape.payload);
        Some(Point { label, payload, ours: self.growth()?, origin: self.origin()? })
    }

    /// For the whole log and the origin's whole table.
    pub(crate) async fn wholes(&self) -> Outcome<[Option<PerEvent>; 2]> {
        let origin = if self.site.has_origin { self.site.whole(ORIGIN).await? } else { None };
        Ok([self.site.whole(LOG).await?, origin])
    }

    /// At the requested rate: what was achieved, and how many were still waiting at the ends of rounds.
    pub(crate) fn achieved(&self) -> Option<(f64, f64, u64)> {
        self.paced.as_ref().map(|paced| (paced.rate, median(paced.per_second.clone()), paced.waiting))
    }

    pub(crate) fn json(&self) -> Value {
        let rates = |all: &[f64]| all.iter().map(|one| digits(*one)).collect::<Vec<_>>();
        let Shape { writers, processes, payload } = self.shape;
        json!({
            "name": self.label,
            "writers": writers, "processes": processes, "payload": payload, "log_events": self.site.of.1,
            "per_second": rates(&self.fast),
            "latency": latency(&self.latencies),
            "paced": self.paced.as_ref().map(|paced| json!({
                "rate": digits(paced.rate), "per_second": rates(&paced.per_second), "waiting": paced.waiting,
                "latency": latency(&paced.latencies),
            })),
            "bytes_per_event": self.growth().map(PerEvent::json),
            "origin_bytes_per_event": self.origin().map(PerEvent::json),
        })
    }
}

fn latency(of: &Latencies) -> Value {
    json!({
        "count": of.count(), "p50_ms": digits(of.millis(0.5)), "p99_ms": digits(of.millis(0.99)),
        "p999_ms": digits(of.millis(0.999)), "max_ms": digits(of.longest_millis()),
    })
}
