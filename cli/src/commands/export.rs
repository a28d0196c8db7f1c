//! `mainstem export`, and the format of its file.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use clap::Args;
use futures_util::TryStreamExt;
use mainstem::{Client, Consistency, LogName, tokio_postgres::types::ToSql};
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
/// An export has the events that are there when it begins. It reads from a replica if there is one.
///
/// An existing file is not overwritten. --resume completes a file that an interrupted export left.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ExportArgs {
    /// File to write; without it, write to standard output
    file: Option<PathBuf>,
    /// Begin after this position, which must be the last of an append; exports what was added since an earlier export
    #[arg(long, value_name = "POSITION", default_value_t = 0, conflicts_with = "resume")]
    after: u64,
    /// Complete a file that an interrupted export left
    #[arg(long, requires = "file")]
    resume: bool,
    /// Read from the primary
    #[arg(long)]
    primary: bool,
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
    let level = if args.primary { Consistency::Strong } else { Consistency::Eventual };
    let (client, head) = interrupt
        .or("nothing was written", async {
            let client = nodes.connect().await?.client_at(level).await?;
            let head = last(&client, &log).await?;
            Ok::<_, Failure>((
                client,
                head.ok_or_else(|| Failure::failed("the log is empty: there is nothing to export"))?.0,
            ))
        })
        .await??;
    let (mut output, header, mut done) = match &args.file {
        Some(path) if args.resume => {
            let Kept { file, header, last } = kept(path)?;
            for place in [last, header.until] {
                if place.position > 0 && at(&client, &log, place.position).await?.map(|(place, _)| place) != Some(place)
                {
                    return Err(Failure::failed(format!(
                        "{}: the log has no event {} at position {}, so the file is not an export of it (or a replica lags: \
                         try --primary)",
                        path.display(),
                        place.id.unwrap_or_default(),
                        place.position
                    )));
                }
            }
            (Output::file(path, file)?, header, last.position)
        }
        _ => {
            let header =
                Header { mainstem_export: FORMAT, after: begin(&client, &log, args.after).await?, until: head };
            let mut output = match &args.file {
                None => Output::stdout(),
                Some(path) => {
                    let file = OpenOptions::new().write(true).create_new(true).open(path);
                    Output::file(
                        path,
                        file.map_err(|error| {
                            let more = if error.kind() == std::io::ErrorKind::AlreadyExists {
                                ": choose another file, or complete it with --resume"
                            } else {
                                ""
                            };
                            Failure::usage(format!("{}: {error}{more}", path.display()))
                        })?,
                    )?
                }
            };
            output.json(&header)?;
            (output, header, args.after)
        }
    };
    let until = header.until.position;
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
            done = record.position;
        }
        if done == before {
            return Err(Failure::failed(format!(
                "the log ends at position {done}, but had an event at {until} before"
            )));
        }
        bar.set_position(done - header.after.position);
    }
    bar.finish_and_clear();
    output.finish()?;
    eprintln!("{} events exported, up to position {until}, from {}", until - header.after.position, client.node());
    Ok(())
}

/// The place to begin after.
async fn begin(client: &Client, log: &LogName, position: u64) -> Result<Place> {
    if position == 0 {
        return Ok(Place { position, id: None });
    }
    match at(client, log, position).await? {
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

/// The last event, and how many events of its append are missing.
async fn last(client: &Client, log: &LogName) -> Result<Option<(Place, u64)>> {
    first(client, &put_into(log, include_str!("../../sql/head.sql")), &[]).await
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
    header: Header,
    last: Place,
}

/// Reads what an interrupted export left: keeps its complete lines, and cuts off the rest.
fn kept(path: &Path) -> Result<Kept> {
    let failed = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| failed(&error))?;
    let mut reader = BufReader::new(&file);
    // The file may end in the middle of a character.
    let mut line = Vec::new();
    let mut len = reader.read_until(b'\n', &mut line).map_err(|error| failed(&error))? as u64;
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
    Ok(Kept { file, header, last })
}

pub(crate) fn parse_header(line: &str) -> Result<Header, String> {
    let header: Header =
        serde_json::from_str(line).map_err(|error| format!("line 1 is not the header of an export: {error}"))?;
    match header.mainstem_export {
        FORMAT => Ok(header),
        other => Err(format!("the export has format {other}, but this version reads {FORMAT}")),
    }
}
