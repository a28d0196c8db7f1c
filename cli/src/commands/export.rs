//! `mainstem export`, and the format of its file.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use clap::Args;
use futures_util::TryStreamExt;
use mainstem::{Client, Consistency, LogName, Role, Router, tokio_postgres::types::ToSql};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    failure::{Failure, Result},
    interrupt::Interrupt,
    nodes::{Nodes, put_into},
    output::{self, Output},
    record::Record,
};

/// Write the log to a file or to standard output, as JSON lines
///
/// The first line describes the export. Each other line is an event with everything that the log
/// stores about it, in the order of the log: position, id, type, tags, payload (or content_type and
/// bytes in base64), metadata, occurred_at, recorded_at, stream and version, and how many events of
/// the same append follow. `mainstem import` recreates the log from it.
///
/// An export has every event whose append was acknowledged before it began: the primary says which
/// these are, and a replica that has them is read if there is one. Without a primary, --stale exports
/// what a replica has.
///
/// An existing file is not overwritten. --resume completes a file that an interrupted export left, and
/// begins the export if nothing of it was written yet.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ExportArgs {
    /// File to write; without it, write to standard output
    file: Option<PathBuf>,
    /// Begin after this position, which must be the last of an append; exports what was added since an earlier export
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// Complete a file that an interrupted export left; repeat its --after, in case that its first line is missing
    #[arg(long, requires = "file")]
    resume: bool,
    /// Read from the primary
    #[arg(long)]
    primary: bool,
    /// Export what a replica has, without asking the primary: the newest events may be missing
    #[arg(long, conflicts_with = "primary")]
    stale: bool,
}

/// The first line of an export.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// The version of the format.
    pub(crate) mainstem_export: u32,
    /// The export begins after this event.
    pub(crate) after: Place,
    /// The last event of the export.
    pub(crate) until: Place,
}

/// The place of an event in the log; position 0 is before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    pub(crate) position: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Uuid>,
}

pub(crate) const FORMAT: u32 = 1;
/// Events per read, between two checks for an interrupt. They arrive one by one, however large they are.
const CHUNK: i64 = 1000;

pub(crate) async fn run(args: ExportArgs, nodes: Nodes, log: LogName, interrupt: &Interrupt) -> Result<()> {
    work(args, nodes, log, interrupt).await.map_err(Failure::of_reads)
}

async fn work(args: ExportArgs, nodes: Nodes, log: LogName, interrupt: &Interrupt) -> Result<()> {
    let (client, head) = interrupt.or("nothing was written", source(&args, &nodes, &log)).await??;
    let (mut output, header, mut last) = begun(&args, &client, &log, head).await?;
    let (until, mut done) = (header.until.position, last.position);
    let bar = output::progress(until - header.after.position, "events");
    let sql = put_into(&log, include_str!("../../sql/read.sql"));
    let go_on = |done: u64| match &args.file {
        Some(path) => {
            format!(
                "{} is complete up to position {done} of {until}: repeat the command with --resume to continue",
                path.display()
            )
        }
        None => format!("written up to position {done} of {until}: the export is incomplete"),
    };
    while done < until {
        if interrupt.has_come() {
            output.flush()?;
            return Err(Failure::interrupted(go_on(done)));
        }
        let before = done;
        let failed = |error, done| Failure::from(error).and(go_on(done));
        let rows = client.query_stream(&sql, &[&number(done)?, &number(until)?, &CHUNK]).await;
        let mut rows = rows.map_err(|error| failed(error, done))?;
        while let Some(row) = rows.try_next().await.map_err(|error| failed(error, done))? {
            let record = Record::read(&row)?;
            if record.position != done + 1 {
                let message = format!(
                    "position {} follows position {done}: the log has a gap; run `mainstem verify` for details",
                    record.position
                );
                return Err(Failure::failed(message));
            }
            output.json(&record)?;
            last = Place { position: record.position, id: Some(record.id) };
            done = last.position;
        }
        if done == before {
            return Err(Failure::failed(format!(
                "the log ends at position {done}, but had an event at {until} before"
            )));
        }
        bar.set_position(done - header.after.position);
    }
    bar.finish_and_clear();
    // What is there up to it comes before it in every history. Behind a pooler another server may have gone on with ours.
    if last != header.until {
        let (position, id) = (header.until.position, header.until.id.unwrap_or_default());
        return Err(Failure::failed(format!(
            "the log has lost event {id} at position {position}, which it had when the export began, as in a failover: what was \
             written is no export of it, and cannot be resumed"
        )));
    }
    output.finish()?;
    let amount = until - header.after.position;
    output::say(format_args!("{amount} events exported, up to position {until}, from {}", client.node()));
    Ok(())
}

/// A connection to read from, and the last event to export, which it has.
async fn source(args: &ExportArgs, nodes: &Nodes, log: &LogName) -> Result<(Client, Place)> {
    if args.stale {
        let router = nodes.builder()?.build()?;
        // Nothing else waits until it is known which nodes answer, since there need not be a primary.
        router.ask_readiness().await;
        let client = router.client_at(Consistency::Eventual).await?;
        let head = head(&client, log).await?;
        return Ok((client, head));
    }
    let router = nodes.builder()?.connect().await.map_err(|error| without_primary(error.into()))?;
    let (primary, last) = on_primary(&router, log).await.map_err(without_primary)?;
    if args.primary {
        return Ok((primary, last));
    }
    // All that was acknowledged is before this place, so a replica that has replayed that far has it.
    let token = primary.token().await.map_err(|error| without_primary(error.into()))?;
    // The router may be allowed one connection to each node.
    drop(primary);
    // A role without pg_monitor is not told how far a replica is. But whoever has that event has all before it.
    for level in [Consistency::AtLeast(token), Consistency::Eventual] {
        let Ok(client) = router.client_at(level).await else { continue };
        let has_last = async || at(&client, log, last.position).await.is_ok_and(|it| it.is_some_and(|it| it.0 == last));
        if client.role() == Role::Replica && has_last().await {
            return Ok((client, last));
        }
    }
    // What is committed without a flush is seen before replicas can have it, and there may have been a failover.
    on_primary(&router, log).await.map_err(without_primary)
}

/// The primary, and the last event there.
async fn on_primary(router: &Router, log: &LogName) -> Result<(Client, Place)> {
    let primary = router.client_at(Consistency::Strong).await?;
    let last = head(&primary, log).await?;
    Ok((primary, last))
}

fn without_primary(failure: Failure) -> Failure {
    failure.if_outage("only the primary knows what an export must have: --stale exports what a replica has")
}

/// Where to write, what its first line says, and the last event that it has.
async fn begun(args: &ExportArgs, client: &Client, log: &LogName, head: Place) -> Result<(Output, Header, Place)> {
    let mut left = None;
    if let Some(path) = args.file.as_deref().filter(|_| args.resume)
        && let Some(Kept { file, content }) = kept(path)?
    {
        if let Some((header, last)) = content {
            fits(args, client, log, path, &header, last).await?;
            return Ok((Output::file(path, file)?, header, last));
        }
        left = Some(file);
    }
    let after = begin(client, log, args.after.unwrap_or(0), head.position).await?;
    let header = Header { mainstem_export: FORMAT, after, until: head };
    let mut output = match &args.file {
        None => Output::stdout(),
        Some(path) => Output::file(path, left.map_or_else(|| create(path), Ok)?)?,
    };
    output.json(&header)?;
    // Otherwise an export that is killed leaves nothing that says what it was.
    output.flush()?;
    Ok((output, header, after))
}

fn create(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
        let more = match error.kind() {
            std::io::ErrorKind::AlreadyExists => ": choose another file, or complete it with --resume",
            _ => "",
        };
        Failure::usage(format!("{}: {error}{more}", path.display()))
    })
}

/// Checks that what a file has is of this log, and of the export that is wanted.
async fn fits(
    args: &ExportArgs,
    client: &Client,
    log: &LogName,
    path: &Path,
    header: &Header,
    last: Place,
) -> Result<()> {
    let begins = header.after.position;
    if let Some(after) = args.after.filter(|after| *after != begins) {
        let path = path.display();
        return Err(Failure::usage(format!("{path}: it begins after position {begins}, and not after {after}")));
    }
    for place in [last, header.until] {
        if place.position > 0 && at(client, log, place.position).await?.map(|(place, _)| place) != Some(place) {
            return Err(Failure::failed(format!(
                "{}: the log has no event {} at position {}, so the file is not an export of it{}",
                path.display(),
                place.id.unwrap_or_default(),
                place.position,
                if args.stale { " (or the replica lags: try without --stale)" } else { "" }
            )));
        }
    }
    Ok(())
}

/// The place to begin after.
async fn begin(client: &Client, log: &LogName, position: u64, end: u64) -> Result<Place> {
    if position == 0 {
        return Ok(Place { position, id: None });
    }
    // What was appended since may be there already, and is not exported.
    match at(client, log, position).await?.filter(|(place, _)| place.position <= end) {
        Some((place, 0)) => Ok(place),
        Some((_, following)) => Err(Failure::usage(format!(
            "--after {position} is within an append that ends at position {}: begin after that",
            position + following
        ))),
        None => Err(Failure::usage(format!("there is no event at position {position} to begin after"))),
    }
}

/// The event at this position, and how many events of its append follow.
async fn at(client: &Client, log: &LogName, position: u64) -> Result<Option<(Place, u64)>> {
    first(client, &put_into(log, include_str!("../../sql/at.sql")), &[&number(position)?]).await
}

/// The last event.
async fn head(client: &Client, log: &LogName) -> Result<Place> {
    let head = first(client, &put_into(log, include_str!("../../sql/head.sql")), &[]).await?;
    head.map(|(place, _)| place).ok_or_else(|| Failure::failed("the log is empty: there is nothing to export"))
}

async fn first(client: &Client, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<(Place, u64)>> {
    client.query(sql, params).await?.first().map(place).transpose()
}

/// Reads a row of `head.sql` or `at.sql`.
pub(crate) fn place(row: &mainstem::tokio_postgres::Row) -> Result<(Place, u64)> {
    let read = || -> Result<_, Box<dyn std::error::Error>> {
        let place = Place { position: row.try_get::<_, i64>(0)?.try_into()?, id: Some(row.try_get(1)?) };
        Ok((place, row.try_get::<_, i32>(2)?.try_into()?))
    };
    read().map_err(|error| Failure::failed(format!("cannot read the place of an event: {error}")))
}

pub(crate) fn number(position: u64) -> Result<i64> {
    i64::try_from(position).map_err(|_| Failure::usage(format!("position {position} is beyond the end of any log")))
}

struct Kept {
    file: File,
    /// Its first line, and the last event. `None` if it does not even have a whole first line: then the file is empty.
    content: Option<(Header, Place)>,
}

/// How each export begins.
const BEGINNING: &[u8] = br#"{"mainstem_export":"#;

/// Reads what an interrupted export left: keeps its complete lines, and cuts off the rest. `None` if it did not even create
/// the file.
fn kept(path: &Path) -> Result<Option<Kept>> {
    let failed = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| failed(&error))?,
    };
    let mut reader = BufReader::new(&file);
    // The file may end in the middle of a character.
    let mut line = Vec::new();
    let mut len = reader.read_until(b'\n', &mut line).map_err(|error| failed(&error))? as u64;
    if !line.ends_with(b"\n") {
        // It may be any file, named by mistake: only what an export has begun is thrown away.
        if !line.starts_with(BEGINNING) && !BEGINNING.starts_with(&line) {
            return Err(failed(&"line 1 is not the header of an export"));
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(|error| failed(&error))?;
        return Ok(Some(Kept { file, content: None }));
    }
    let header = parse_header(&String::from_utf8_lossy(&line)).map_err(|error| failed(&error))?;
    let mut last = header.after;
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|error| failed(&error))? as u64;
        if !line.ends_with(b"\n") {
            break;
        }
        let record: Record = serde_json::from_slice(&line).map_err(|error| failed(&error))?;
        if record.position != last.position + 1 {
            return Err(failed(&format!(
                "position {} follows position {}: this is not an export",
                record.position, last.position
            )));
        }
        last = Place { position: record.position, id: Some(record.id) };
        len += read;
    }
    file.set_len(len).map_err(|error| failed(&error))?;
    file.seek(SeekFrom::End(0)).map_err(|error| failed(&error))?;
    Ok(Some(Kept { file, content: Some((header, last)) }))
}

pub(crate) fn parse_header(line: &str) -> Result<Header, String> {
    let header: Header =
        serde_json::from_str(line).map_err(|error| format!("line 1 is not the header of an export: {error}"))?;
    match header.mainstem_export {
        FORMAT => Ok(header),
        other => Err(format!("the export has format {other}, but this version reads {FORMAT}")),
    }
}
