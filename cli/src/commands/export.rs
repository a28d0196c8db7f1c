//! `mainstem export`, and the file that it makes.

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

/// Writes the log to a file, or to standard output, as JSON lines
///
/// The first line says what the export holds, each other one is an event with all that the log knows of it, in the order
/// of the log: position, id, type, tags, payload (or content_type and bytes in base64), metadata, occurred_at,
/// recorded_at, stream and version, and how many events of the same append follow. `mainstem import` makes the same log
/// of it. It holds what is there when it begins, and reads from a replica, if there is one.
///
/// A file that is there already is not written over. One that an interrupted export has left is completed by --resume.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ExportArgs {
    /// The file; none for standard output
    file: Option<PathBuf>,
    /// Begin behind this position, which must be the last of an append: for what has come since another export
    #[arg(long, value_name = "POSITION", default_value_t = 0, conflicts_with = "resume")]
    after: u64,
    /// Go on with a file that is not complete
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
    /// The events are those behind this one,
    pub(crate) after: Place,
    /// up to this one.
    pub(crate) until: Place,
}

/// An event of the log; position 0 is in front of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    pub(crate) position: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Uuid>,
}

pub(crate) const FORMAT: u32 = 1;
/// Events of one read, between two looks whether to go on. They come one by one, however large they are.
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
                        "{}: the log does not hold event {} of position {}, so the file is no export of it (or a replica is behind: \
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
                                ": choose another, or --resume it"
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
            format!("{} is complete up to position {done} of {until}: the same with --resume goes on", path.display())
        }
        None => format!("written up to position {done} of {until}: this is no complete export"),
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
                    "behind position {done} comes {}: the log has a gap; `mainstem verify` says more",
                    record.position
                );
                return Err(Failure::failed(message));
            }
            output.json(&record)?;
            done = record.position;
        }
        if done == before {
            return Err(Failure::failed(format!(
                "the log ends at position {done}, and had an event at {until} before"
            )));
        }
        bar.set_position(done - header.after.position);
    }
    bar.finish_and_clear();
    output.finish()?;
    eprintln!("{} events, up to position {until}, from {}", until - header.after.position, client.node());
    Ok(())
}

/// The place to begin behind.
async fn begin(client: &Client, log: &LogName, position: u64) -> Result<Place> {
    if position == 0 {
        return Ok(Place { position, id: None });
    }
    match at(client, log, position).await? {
        Some((place, 0)) => Ok(place),
        Some((_, following)) => Err(Failure::usage(format!(
            "--after {position} is within an append, which goes on to position {}: begin behind that",
            position + following
        ))),
        None => Err(Failure::usage(format!("there is no event at position {position} to begin behind"))),
    }
}

/// The event there, and how many of its append follow.
async fn at(client: &Client, log: &LogName, position: u64) -> Result<Option<(Place, u64)>> {
    first(client, &put_into(log, include_str!("../../sql/at.sql")), &[&number(position)?]).await
}

/// The same for the last event.
async fn last(client: &Client, log: &LogName) -> Result<Option<(Place, u64)>> {
    first(client, &put_into(log, include_str!("../../sql/head.sql")), &[]).await
}

async fn first(client: &Client, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<(Place, u64)>> {
    client.query(sql, params).await?.first().map(place).transpose()
}

/// From a row of `head.sql` or `at.sql`.
pub(crate) fn place(row: &mainstem::tokio_postgres::Row) -> Result<(Place, u64)> {
    let read = || -> Result<_, Box<dyn std::error::Error>> {
        let place = Place { position: row.try_get::<_, i64>(0)?.try_into()?, id: Some(row.try_get(1)?) };
        Ok((place, row.try_get::<_, i32>(2)?.try_into()?))
    };
    read().map_err(|error| Failure::failed(format!("the log's last event cannot be read: {error}")))
}

pub(crate) fn number(position: u64) -> Result<i64> {
    i64::try_from(position).map_err(|_| Failure::usage(format!("{position} is beyond every log")))
}

struct Kept {
    file: File,
    header: Header,
    last: Place,
}

/// What an interrupted export has left: its complete lines are kept, and the rest is cut off.
fn kept(path: &Path) -> Result<Kept> {
    let failed = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| failed(&error))?;
    let mut reader = BufReader::new(&file);
    // It may end in the middle of a character.
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
                "behind position {} comes {}: this is no export",
                last.position, record.position
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
        serde_json::from_str(line).map_err(|error| format!("line 1 does not say what the export holds: {error}"))?;
    match header.mainstem_export {
        FORMAT => Ok(header),
        other => Err(format!("the format of this export is {other}, and this version reads {FORMAT}")),
    }
}
