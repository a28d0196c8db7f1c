//! `mainstem import`.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
    time::SystemTime,
};

use clap::Args;
use mainstem::{Import, Isolation, LogName, PostgresEventStore, Transaction};
use uuid::Uuid;

use super::export::{self, Header, Place, number};
use crate::{
    failure::{Failure, Result},
    interrupt::Interrupt,
    nodes::{Nodes, put_into},
    output,
    record::Record,
};

/// Recreate a log from an export
///
/// The log must be empty, or contain the beginning of the export: then this part is compared, and
/// the missing events are written. Repeat an interrupted import to continue it: nothing is written
/// twice. Positions, ids, times, payloads, metadata, streams and versions are those of the export.
/// The order of each chunk is checked before the chunk is written.
///
/// The import writes chunks of whole appends under the log's lock. Others may read meanwhile. An
/// application that appends in between makes the import fail, since its event takes a position of
/// the export. So does a failover that has lost what was imported. The role needs SELECT and INSERT
/// on the log. Afterwards run ANALYZE on a long log, or leave it to autovacuum.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ImportArgs {
    /// File to read; without it, read standard input
    file: Option<PathBuf>,
    /// Write about this many events at a time. With a larger chunk, the appends of others wait longer, and have more events to
    /// look at while they lock the log; a smaller one slows the import down
    #[arg(long, value_name = "EVENTS", default_value_t = Import::DEFAULT_CHUNK_EVENTS as u64, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    chunk: u64,
}

/// A chunk ends at this many bytes, even if it has fewer events than --chunk.
const CHUNK_LEN: usize = 16 * 1024 * 1024;

pub(crate) async fn run(args: ImportArgs, nodes: Nodes, log: LogName, interrupt: &Interrupt) -> Result<()> {
    let export = Export::open(&args)?;
    let header = export.header.clone();
    let store = interrupt.or("nothing was written", nodes.store(log)).await??;
    interrupt.or("nothing was written", store.check().into_future()).await??;
    let amount = header.until.position - header.after.position;
    let bar = output::progress(amount, "events");
    let mut done = Done { position: header.after.position, written: 0, compared: 0 };
    let outcome = work(export, &store, args.chunk, interrupt, &mut done, |done| {
        bar.set_position(done.written + done.compared);
    });
    let outcome = outcome.await;
    if done.written > 0 {
        tell(&store, done.position).await;
    }
    bar.finish_and_clear();
    let summary = done.summary();
    match outcome {
        Ok(()) => {
            output::say(summary);
            Ok(())
        }
        Err(failure) => Err(failure.and(format!("{summary}; repeat the import to continue there"))),
    }
}

/// The progress of an import.
struct Done {
    position: u64,
    written: u64,
    compared: u64,
}

impl Done {
    fn summary(&self) -> String {
        let Self { position, written, compared } = self;
        format!("{written} events were written, and {compared} were there already, up to position {position}")
    }
}

async fn work(
    mut export: Export,
    store: &PostgresEventStore,
    most: u64,
    interrupt: &Interrupt,
    done: &mut Done,
    progress: impl Fn(&Done),
) -> Result<()> {
    let mut before = export.header.after;
    loop {
        // On a blocking thread, since the other end of a pipe may be slow.
        let read = tokio::task::spawn_blocking(move || {
            let chunk = export.chunk(most);
            (export, chunk)
        });
        let read = interrupt.or("interrupted between two chunks", read).await?;
        let (back, chunk) = read.map_err(|error| Failure::failed(format!("cannot read the export: {error}")))?;
        export = back;
        let Some(chunk) = chunk? else {
            // An export of nothing new also says what the log must have.
            return if before == export.header.after {
                write(store, &export.header, before, &[]).await.map(drop)
            } else {
                Ok(())
            };
        };
        let written = write(store, &export.header, before, &chunk).await?;
        before = export.last;
        done.position = before.position;
        done.written += written;
        done.compared += chunk.len() as u64 - written;
        progress(done);
    }
}

/// Notifies those that follow the log.
async fn tell(store: &PostgresEventStore, position: u64) {
    let tell = async {
        let client = store.router().client().await?;
        client.execute("SELECT pg_notify($1, $2)", &[&store.name().channel(), &position.to_string()]).await
    };
    // They also poll from time to time.
    let _ = tell.await;
}

/// Writes the missing events of a chunk, which goes on behind `before`, and compares the others. Returns how many were
/// written.
async fn write(store: &PostgresEventStore, header: &Header, before: Place, chunk: &[Record]) -> Result<u64> {
    let transaction = store.router().transaction().isolation(Isolation::ReadCommitted).await?;
    let sql = |text| put_into(store.name(), text);
    transaction.query_one(&sql(include_str!("../../sql/lock.sql")), &[]).await?;
    let head = transaction.query_opt(&sql(include_str!("../../sql/head.sql")), &[]).await?;
    let head =
        head.as_ref().map(export::place).transpose()?.map_or(Place { position: 0, id: None }, |(place, _)| place);
    let is_first = before == header.after;
    if is_first && before.position > head.position {
        return Err(Failure::usage(format!(
            "the log ends at position {}, but the export continues at {}: import the events in between first",
            head.position,
            before.position + 1
        )));
    }
    if !follows(&transaction, &sql(include_str!("../../sql/at.sql")), before).await? {
        let Place { position, id } = before;
        let id = id.unwrap_or_default();
        return Err(Failure::failed(match is_first {
            true => format!(
                "the export begins after event {id} at position {position}, but the log has a different one there: the export is of \
                 another log"
            ),
            false => format!(
                "at position {position} the log and the export have different events: the log has lost event {id}, which it had \
                 before, as in a failover"
            ),
        }));
    }
    let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { return Ok(0) };
    let there = usize::try_from((head.position + 1 - first.position).min(chunk.len() as u64)).unwrap_or(chunk.len());
    let (old, new) = chunk.split_at(there);
    if let Some(end) = old.last() {
        let rows = sql(include_str!("../../sql/read.sql"));
        let rows = transaction
            .query(&rows, &[&number(first.position - 1)?, &number(end.position)?, &(old.len() as i64)])
            .await?;
        for (record, row) in old.iter().zip(&rows) {
            if let Some(part) = Record::read(row)?.differs_from(record) {
                return Err(Failure::failed(format!(
                    "at position {} the log and the export have different events: their {part} differs; choose another --log, or \
                     import into an empty database",
                    record.position
                )));
            }
        }
    }
    if !new.is_empty() {
        insert(&transaction, &sql(include_str!("../../sql/insert.sql")), new).await?;
        let broken = sql(include_str!("../../sql/broken_streams.sql"));
        if let Some(row) = transaction.query_opt(&broken, &[&number(head.position)?, &number(last.position)?]).await? {
            return Err(Failure::usage(format!(
                "position {} has version {} of the stream {:?}, but the version before it is missing",
                row.get::<_, i64>(0),
                row.get::<_, i64>(2),
                row.get::<_, String>(1)
            )));
        }
    }
    transaction.commit().await?;
    Ok(new.len() as u64)
}

/// Whether the log has this very event there, as the last one of its append. Each chunk asks, since between two of them there
/// may have been a failover that has lost the one before, and others may have appended as many events since.
async fn follows(transaction: &Transaction, sql: &str, before: Place) -> Result<bool> {
    if before.position == 0 {
        return Ok(true);
    }
    let row = transaction.query_opt(sql, &[&number(before.position)?]).await?;
    Ok(row.as_ref().map(export::place).transpose()? == Some((before, 0)))
}

async fn insert(transaction: &Transaction, sql: &str, records: &[Record]) -> Result<()> {
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let positions: Vec<i64> = records.iter().map(|it| whole(it.position)).collect();
    let following: Vec<i32> =
        records.iter().map(|it| i32::try_from(it.following.unwrap_or(0)).unwrap_or(i32::MAX)).collect();
    let ids: Vec<Uuid> = records.iter().map(|it| it.id).collect();
    let types: Vec<&str> = records.iter().map(|it| &*it.event_type).collect();
    let tags: Vec<String> = records.iter().map(|it| serde_json::json!(it.tags).to_string()).collect();
    let payloads: Vec<Option<&str>> = records.iter().map(|it| it.payload.as_ref().map(|json| json.get())).collect();
    let metadata: Vec<&str> = records.iter().map(|it| it.metadata.get()).collect();
    let bytes: Vec<Option<&[u8]>> = records.iter().map(|it| it.bytes.as_ref().map(|bytes| &*bytes.0)).collect();
    let content_types: Vec<Option<&str>> = records.iter().map(|it| it.content_type.as_deref()).collect();
    let streams: Vec<Option<&str>> = records.iter().map(|it| it.stream.as_deref()).collect();
    let versions: Vec<Option<i64>> = records.iter().map(|it| it.version.map(whole)).collect();
    let occurred: Vec<SystemTime> = records.iter().map(|it| it.occurred_at.0).collect();
    let recorded: Vec<SystemTime> = records.iter().map(|it| it.recorded_at.0).collect();
    let inserted = transaction
        .execute(
            sql,
            &[
                &positions,
                &following,
                &ids,
                &types,
                &tags,
                &payloads,
                &metadata,
                &bytes,
                &content_types,
                &streams,
                &versions,
                &occurred,
                &recorded,
            ],
        )
        .await?;
    match inserted == records.len() as u64 {
        true => Ok(()),
        false => Err(Failure::failed(format!(
            "{inserted} of {} events were inserted: a trigger on the table interferes",
            records.len()
        ))),
    }
}

/// Reads an export, and checks its order.
struct Export {
    lines: Box<dyn BufRead + Send>,
    /// For messages.
    name: String,
    line: u64,
    header: Header,
    last: Place,
    /// How many events of the last event's append must follow.
    following: u32,
}

impl Export {
    fn open(args: &ImportArgs) -> Result<Self> {
        let (name, mut lines): (_, Box<dyn BufRead + Send>) = match &args.file {
            None => ("standard input".to_owned(), Box::new(BufReader::new(std::io::stdin()))),
            Some(path) => {
                let file = File::open(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
                (path.display().to_string(), Box::new(BufReader::with_capacity(1 << 16, file)))
            }
        };
        let mut line = String::new();
        lines.read_line(&mut line).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
        let header = export::parse_header(&line).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
        if header.until.position < header.after.position {
            return Err(Failure::usage(format!("{name}: line 1: the export ends before it begins")));
        }
        Ok(Self { lines, name, line: 1, last: header.after, header, following: 0 })
    }

    /// The next whole appends, about `most` events; `None` after the last one.
    fn chunk(&mut self, most: u64) -> Result<Option<Vec<Record>>> {
        let (mut records, mut len) = (Vec::new(), 0);
        while (records.len() as u64) < most && len < CHUNK_LEN || self.following > 0 {
            let mut text = String::new();
            self.line += 1;
            let read = self.lines.read_line(&mut text).map_err(|error| self.wrong(&error))?;
            if read == 0 {
                if self.last != self.header.until {
                    let Place { position, .. } = self.last;
                    let until = self.header.until.position;
                    return Err(self.wrong(&format!(
                        "the export ends at position {position}, but line 1 says {until}: it is cut off"
                    )));
                }
                break;
            }
            len += read;
            let record: Record = serde_json::from_str(&text).map_err(|error| self.wrong(&error))?;
            self.check(&record)?;
            records.push(record);
        }
        Ok((!records.is_empty()).then_some(records))
    }

    fn check(&mut self, record: &Record) -> Result<()> {
        let Place { position, .. } = self.last;
        if record.position != position + 1 {
            return Err(self.wrong(&format!("position {} follows position {position}", record.position)));
        }
        if record.position > self.header.until.position {
            return Err(self.wrong(&format!("position {} is beyond the end that line 1 gives", record.position)));
        }
        if record.payload.is_some() == record.bytes.is_some() || record.bytes.is_some() != record.content_type.is_some()
        {
            return Err(self.wrong(&"an event has either a payload, or bytes and their content_type"));
        }
        let Some(following) = record.following else {
            return Err(self.wrong(&"`following` is missing: this is not a line of an export"));
        };
        if self.following > 0 && following != self.following - 1 {
            return Err(self.wrong(&format!("{} events of the preceding append are missing", self.following)));
        }
        self.following = following;
        self.last = Place { position: record.position, id: Some(record.id) };
        Ok(())
    }

    fn wrong(&self, what: &dyn std::fmt::Display) -> Failure {
        Failure::usage(format!("{}: line {}: {what}", self.name, self.line))
    }
}
