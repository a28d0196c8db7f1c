//! `mainstem append`.

use std::io::{BufRead, IsTerminal};

use clap::Args;
use mainstem::{AppendCondition, EventId, EventStore, ExpectedVersion, LogName, Mark, NewEvent};
use serde_json::json;

use crate::{
    failure::{Failure, OUTCOME_UNKNOWN, Result, UNTOLD},
    filter,
    interrupt::Interrupt,
    nodes::Nodes,
    output::{self, Output},
    record,
};

/// Append events from arguments, or from JSON lines on standard input
///
/// An event is a JSON object such as
/// {"type": "BookLent", "tags": ["book:b-1"], "payload": {"BookID": "b-1"}}.
/// Instead of a payload it may have bytes (in base64) and content_type. It may also have metadata,
/// id (a UUID) and occurred_at (a time).
///
/// All events form one append: they are written together or not at all. --chunk splits them into
/// several appends, for more events than one append can hold.
///
/// Give the events ids if you may have to repeat the command: the same events with the same ids are
/// not written twice. An event without an id gets a new one.
///
/// Prints a JSON object: first_position, last_position, last_id, repeated and node; with --stream
/// also first_version and last_version; with --chunk instead events, repeated, chunks,
/// last_position and last_id.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct AppendArgs {
    /// Events to append; without any, read standard input
    events: Vec<String>,
    /// Write nothing if an event matches this filter, in the form of `tail --filter`
    #[arg(long, value_name = "FILTER")]
    fail_if: Option<String>,
    /// Check --fail-if only after this place: POSITION, or POSITION:ID, which also detects that the log has lost what was read
    #[arg(long, value_name = "PLACE", requires = "fail_if")]
    after: Option<String>,
    /// Append to this fixed stream
    #[arg(long, value_name = "ID", conflicts_with = "chunk")]
    stream: Option<String>,
    /// Require this version of the stream: a number, `none` or `any`
    #[arg(long, value_name = "VERSION", default_value = "any", requires = "stream")]
    expect: String,
    /// Append this many events at a time, each chunk whole or not at all
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    chunk: Option<u64>,
}

pub(crate) async fn run(args: AppendArgs, nodes: Nodes, log: LogName, interrupt: &Interrupt) -> Result<()> {
    let (condition, expected) = (condition(&args)?, expected(&args.expect)?);
    let events = if args.events.is_empty() { events_of_stdin(interrupt).await? } else { from_arguments(&args.events)? };
    let ids: Vec<EventId> = events.iter().map(NewEvent::id).collect();
    let store = interrupt.or("nothing was written", nodes.store(log)).await??;
    if interrupt.has_come() {
        return Err(Failure::interrupted("nothing was written"));
    }
    // From here on an interrupt takes effect only between two chunks: each answer arrives within the limit, and says what
    // was written.
    if let Some(chunk) = args.chunk {
        let amount = events.len() as u64;
        let bar = output::progress(amount, "events");
        let events = events.into_iter().take_while(|_| !interrupt.has_come());
        let import = store.import(events, condition).chunk_events(chunk);
        let imported = import.on_progress(|so_far| bar.set_position(so_far.events)).await;
        let behind = usize::try_from(bar.position()).unwrap_or(usize::MAX);
        bar.finish_and_clear();
        let imported = match imported {
            Ok(imported) if imported.events < amount => {
                return Err(Failure::interrupted(format!(
                    "interrupted: {} of the {amount} events were written, up to {}; append the others to complete them",
                    imported.events, imported.last
                )));
            }
            Err(error) if interrupt.has_come() && behind == 0 && error.kind() == mainstem::ErrorKind::InvalidInput => {
                return Err(Failure::interrupted("nothing was written"));
            }
            imported => imported.map_err(|error| explained(error, ids.get(behind..).unwrap_or_default(), behind))?,
        };
        return tell(&json!({
            "events": imported.events, "repeated": imported.repeated, "chunks": imported.chunks,
            "last_position": imported.last.position(), "last_id": imported.last.id(),
        }));
    }
    let mut append = store.append(events, condition);
    if let Some(stream) = args.stream {
        append = append.to_stream(stream, expected);
    }
    let appended = append.await.map_err(|error| explained(error, &ids, 0))?;
    let mut answer = json!({
        "first_position": appended.first_position(), "last_position": appended.last().position(),
        "last_id": appended.last().id(), "repeated": appended.is_repeated(), "node": appended.node(),
    });
    if let Some(versions) = appended.stream_versions() {
        answer["first_version"] = (*versions.start()).into();
        answer["last_version"] = (*versions.end()).into();
    }
    tell(&answer)
}

/// Prints what was written. If this fails, the append has not failed: the caller must not append again.
fn tell(answer: &serde_json::Value) -> Result<()> {
    let mut output = Output::stdout();
    let told = output.json(answer).and_then(|()| output.flush());
    told.map_err(|failure| {
        let why = if failure.message.is_empty() { "its reader has closed it" } else { &*failure.message };
        Failure::new(UNTOLD, format!("the events were written, but standard output failed ({why}): {answer}"))
    })
}

/// Adds what was written before, and the ids of these events, without which the append cannot be repeated.
fn explained(error: mainstem::Error, ids: &[EventId], behind: usize) -> Failure {
    let failure = Failure::from(error);
    let failure =
        if behind > 0 { failure.and(format!("{behind} events were written before the failure")) } else { failure };
    if failure.status != OUTCOME_UNKNOWN {
        return failure;
    }
    const SHOWN: usize = 20;
    let shown: Vec<_> = ids.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if ids.len() > SHOWN { " …" } else { "" };
    failure.and(format!(
        "append the same events with the same ids again: this writes them, or reports that they are there. The ids: {}{more}",
        shown.join(" ")
    ))
}

fn from_arguments(events: &[String]) -> Result<Vec<NewEvent>> {
    events.iter().enumerate().map(|(index, text)| record::new_event(&format!("event {}", index + 1), text)).collect()
}

async fn events_of_stdin(interrupt: &Interrupt) -> Result<Vec<NewEvent>> {
    let read = interrupt.or("nothing was written", tokio::task::spawn_blocking(from_stdin)).await?;
    read.map_err(|error| Failure::failed(format!("cannot read standard input: {error}")))?
}

fn from_stdin() -> Result<Vec<NewEvent>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        output::say("reading events from the terminal, one per line; Ctrl-D ends the input");
    }
    let mut events = Vec::new();
    for (index, line) in stdin.lock().lines().enumerate() {
        let line = line.map_err(|error| Failure::usage(format!("standard input: line {}: {error}", index + 1)))?;
        if !line.trim().is_empty() {
            events.push(record::new_event(&format!("line {}", index + 1), &line)?);
        }
    }
    match events.is_empty() {
        true => Err(Failure::usage("there are no events to append: pass them as arguments or on standard input")),
        false => Ok(events),
    }
}

fn condition(args: &AppendArgs) -> Result<AppendCondition> {
    let Some(text) = &args.fail_if else { return Ok(AppendCondition::none()) };
    let condition = AppendCondition::fail_if_events_match(filter::parse("--fail-if", text)?);
    let Some(place) = &args.after else { return Ok(condition) };
    let wrong = || Failure::usage(format!("--after {place:?} is neither POSITION nor POSITION:ID"));
    Ok(match place.split_once(':') {
        None => condition.after_position(place.parse().map_err(|_| wrong())?),
        Some((position, id)) => {
            let id: EventId = id.parse().map_err(|_| wrong())?;
            condition.after(Mark::new(position.parse().map_err(|_| wrong())?, id))
        }
    })
}

fn expected(text: &str) -> Result<ExpectedVersion> {
    match text {
        "any" => Ok(ExpectedVersion::Any),
        "none" => Ok(ExpectedVersion::NoStream),
        version => version
            .parse()
            .map(ExpectedVersion::Exact)
            .map_err(|_| Failure::usage(format!("--expect {version:?} is neither a version nor `none` nor `any`"))),
    }
}
