//! A custom event store: a file with one line of JSON for each append, for one process.
//!
//! `cargo run --example file_store` appends to `events.jsonl` in the folder for temporary files and prints its contents.
//! This crate's tests run the public suite on it.
//!
//! It shows what a store must do, not how to do it fast: a query reads the whole file.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use mainstem::{
    AppendCondition, Appended, Error, ErrorKind, Event, EventId, EventStore, Filter, Json, NewEvent, Payload, Result,
    StreamPlace,
    backend::{After, Answer, AppendRequest, BoxFuture, Guard, QueryRequest},
};
use serde::{Deserialize, Serialize};

/// A log in a file.
#[derive(Clone, Debug)]
pub struct FileEventStore {
    /// The holder of the lock checks and writes with nobody in between.
    file: Arc<Mutex<File>>,
}

/// A line of the file: the events of one append. An incomplete line was never acknowledged.
#[derive(Serialize, Deserialize)]
struct Line {
    recorded_at: i64,
    /// The fixed stream of the events, and the version of the first one.
    stream: Option<(String, u64)>,
    events: Vec<Stored>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    id: EventId,
    event_type: String,
    tags: Vec<String>,
    payload: StoredPayload,
    metadata: Json,
    occurred_at: i64,
}

#[derive(Serialize, Deserialize)]
enum StoredPayload {
    Json(Json),
    Bytes(String, Vec<u8>),
}

impl FileEventStore {
    /// Opens the log in this file, creating the file if it does not exist.
    ///
    /// # Errors
    ///
    /// When the file can be neither opened nor created.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = file.map_err(|error| unavailable("the file of the log cannot be opened", error))?;
        Ok(Self { file: Arc::new(Mutex::new(file)) })
    }
}

impl EventStore for FileEventStore {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        let file = Arc::clone(&self.file);
        Box::pin(async move {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let log = Log::read(&mut file)?;
            if let Some(appended) = log.repeated(&request)? {
                return Ok(appended);
            }
            if let Some(guard) = request.condition.guard() {
                log.judge(guard)?;
            }
            let appended = Appended::new(log.head() + 1, &request.events);
            let Some(stream) = &request.stream else {
                log.write(&mut file, &request.events, None)?;
                return Ok(appended);
            };
            let last = log.last_of(&stream.id);
            stream.judge(last)?;
            let version = last.and_then(Event::stream).map_or(0, StreamPlace::version);
            log.write(&mut file, &request.events, Some((stream.id.to_string(), version + 1)))?;
            Ok(appended.in_stream(version + 1))
        })
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        let file = Arc::clone(&self.file);
        Box::pin(async move {
            let log = Log::read(&mut file.lock().unwrap_or_else(PoisonError::into_inner))?;
            let head = log.events.last().map(Event::mark);
            Ok(Answer::new(request.select_from(log.events.iter()), head))
        })
    }
}

/// The whole content of the file. The event at position `n` is at index `n - 1`.
struct Log {
    events: Vec<Event>,
    /// For each append, the position of its first event and its number of events.
    appends: Vec<(u64, usize)>,
    /// The end of the last complete line.
    end: u64,
}

impl Log {
    fn read(file: &mut File) -> Result<Self> {
        let mut text = String::new();
        let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text));
        read.map_err(|error| unavailable("the file of the log cannot be read", error))?;
        let mut log = Self { events: Vec::new(), appends: Vec::new(), end: 0 };
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            log.take(line).map_err(|error| {
                let message = format!("the file of the log is damaged at byte {}; restore it", log.end);
                Error::new(ErrorKind::Schema, message).with_source(error)
            })?;
            log.end += line.len() as u64;
        }
        Ok(log)
    }

    fn take(&mut self, line: &str) -> Result<(), serde_json::Error> {
        let Line { recorded_at, stream, events } = serde_json::from_str(line)?;
        self.appends.push((self.head() + 1, events.len()));
        for (index, stored) in (0..).zip(events) {
            let payload = match stored.payload {
                StoredPayload::Json(json) => Payload::Json(json),
                StoredPayload::Bytes(content_type, bytes) => Payload::bytes(content_type, bytes),
            };
            let event = NewEvent::from_payload(stored.event_type, payload)
                .with_id(stored.id)
                .with_tags(stored.tags)
                .with_metadata_json(stored.metadata)
                .with_occurred_at(time(stored.occurred_at));
            let event = event.into_recorded(self.head() + 1, time(recorded_at));
            self.events.push(match &stream {
                Some((id, first)) => event.in_stream(id.as_str(), first + index),
                None => event,
            });
        }
        Ok(())
    }

    fn head(&self) -> u64 {
        self.events.last().map_or(0, Event::position)
    }

    /// The result of the first append, if this one is a repeat of it. The ids are checked before the condition, since the
    /// repeat of an append often breaks its own condition.
    fn repeated(&self, request: &AppendRequest) -> Result<Option<Appended>> {
        let events = &request.events;
        let taken = self.events.iter().find(|recorded| events.iter().any(|event| event.id() == recorded.id()));
        let Some(taken) = taken else { return Ok(None) };
        let first = taken.position();
        let recorded = self.events.iter().skip_while(|recorded| recorded.position() < first);
        if !request.is_recorded_as(recorded) || !self.appends.contains(&(first, events.len())) {
            return Err(AppendRequest::reused_ids(first));
        }
        let version = taken.stream().map(StreamPlace::version);
        Ok(Some(Appended::new(first, events).as_repeated().in_stream(version)))
    }

    fn last_of(&self, stream: &str) -> Option<&Event> {
        self.events.iter().rev().find(|event| event.stream().is_some_and(|place| place.id() == stream))
    }

    fn judge(&self, guard: &Guard) -> Result<()> {
        let holds_after = match guard.after {
            After::Mark(mark) => self.events.iter().any(|event| event.mark() == mark),
            after => after.position() <= self.head(),
        };
        if !holds_after {
            return Err(guard.diverged(self.head()));
        }
        let mut since = self.events.iter().filter(|event| event.position() > guard.after.position());
        match since.find(|event| guard.filter.matches(event)) {
            Some(event) => Err(guard.conflict(event.position(), event.event_type())),
            None => Ok(()),
        }
    }

    fn write(&self, file: &mut File, events: &[NewEvent], stream: Option<(String, u64)>) -> Result<()> {
        let recorded_at = SystemTime::now();
        let events = events.iter().map(|event| Stored {
            id: event.id(),
            event_type: event.event_type().to_owned(),
            tags: event.tags().map(str::to_owned).collect(),
            payload: match event.payload() {
                Payload::Json(json) => StoredPayload::Json(json.clone()),
                Payload::Bytes { content_type, bytes } => {
                    StoredPayload::Bytes(content_type.to_string(), bytes.to_vec())
                }
            },
            metadata: event.metadata().clone(),
            occurred_at: micros(event.occurred_at().unwrap_or(recorded_at)),
        });
        let line = Line { recorded_at: micros(recorded_at), stream, events: events.collect() };
        let line = serde_json::to_string(&line)
            .map_err(|error| Error::new(ErrorKind::InvalidInput, "an event is not JSON").with_source(error))?;
        // Written after the last complete line: a process that died while writing may have left part of a line. From here
        // on, a failure leaves it open whether the line is in the file, and only the file can tell.
        let written = file.set_len(self.end).and_then(|()| writeln!(file, "{line}")).and_then(|()| file.sync_data());
        written.map_err(|error| {
            Error::new(ErrorKind::OutcomeUnknown, "the file of the log cannot be written").with_source(error)
        })
    }
}

fn unavailable(message: &str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, message).with_source(error)
}

/// Microseconds since 1970: event times are truncated to these.
fn micros(time: SystemTime) -> i64 {
    let micros = |distance: Duration| i64::try_from(distance.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(before) => -micros(before.duration()),
    }
}

fn time(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let path = std::env::temp_dir().join("events.jsonl");
    let store = FileEventStore::open(&path)?;
    let started = Filter::matching().any_type_of(["Started"]).finish()?;
    let history = store.query(&started).await?;
    let event = NewEvent::new("Started", &serde_json::json!({"before": history.len()}))?;
    match store.append([event], history.unchanged()).await {
        Ok(appended) => println!("{} now has an event at {}", path.display(), appended.first_position()),
        Err(error) if error.is_conflict() => println!("another call was faster: {error}"),
        Err(error) => return Err(error),
    }
    let closed = NewEvent::new("Ended", &())?;
    store.append([closed], AppendCondition::none()).await?;
    Ok(())
}
