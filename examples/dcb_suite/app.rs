//! The suite's contract: `GET /read?query&options` and `POST /append`, over a store.

use std::time::Instant;

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Query, State, rejection::JsonRejection},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use mainstem::{
    AppendCondition, Consistency, Error, ErrorKind, Event, EventStore, Filter, NewEvent, PageStream, Payload,
    PositionBoundedFilter, PostgresEventStore, QueryStream, http::error_response,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::flaw::Flaw;

/// How much of a response to a read is held at a time.
const CHUNK: usize = 64 * 1024;

/// What the suite calls `data` is a text that the store does not interpret.
const DATA: &str = "text/plain; charset=utf-8";

/// The routes. A flaw turns this into a server that the suite must reject.
pub(crate) fn app(store: PostgresEventStore, flaw: Option<Flaw>) -> Router {
    Router::new().route("/read", get(read)).route("/append", post(append)).with_state(App { store, flaw })
}

#[derive(Clone)]
struct App {
    store: PostgresEventStore,
    flaw: Option<Flaw>,
}

/// Events of any item; every event, if there are no items.
///
/// Unknown fields are refused here and below: a mistyped field would silently widen the query.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteQuery {
    items: Vec<SuiteItem>,
}

/// Events of one of the types, with all of the tags.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteItem {
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
}

/// A 0 means no bound and no limit, as in the suite's adapters.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadOptions {
    /// The first position to read, in reading order.
    #[serde(default)]
    from: u64,
    #[serde(default)]
    limit: u64,
    #[serde(default)]
    backwards: bool,
}

#[derive(Deserialize)]
struct ReadParameters {
    query: String,
    options: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppendBody {
    events: Vec<SuiteEvent>,
    condition: Option<SuiteCondition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteEvent {
    r#type: String,
    tags: Vec<String>,
    data: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SuiteCondition {
    fail_if_events_match: SuiteQuery,
    after: Option<u64>,
}

#[derive(Serialize)]
struct SequencedEvent<'a> {
    r#type: &'a str,
    tags: Vec<&'a str>,
    data: &'a str,
    position: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AppendAnswer {
    duration_in_microseconds: u64,
    append_condition_failed: bool,
}

/// Strong, that is, from the primary. A read that a decision is based on could come from a replica: the condition is checked on
/// the primary, where events that the replica did not show yet break it. But the suite also compares reads with each other, by
/// one reader and by several, and expects each to show the current log.
const LEVEL: Consistency = Consistency::Strong;

async fn read(State(app): State<App>, Query(asked): Query<ReadParameters>) -> Result<Response, AppError> {
    let filter = parsed::<SuiteQuery>("query", &asked.query)?.filter()?;
    let options = asked.options.as_deref().map(|options| parsed::<ReadOptions>("options", options)).transpose()?;
    let ReadOptions { from, limit, backwards } = options.unwrap_or_default();
    let selection = match backwards {
        true if from > 0 => filter.after_position(0).until_position(from),
        _ => filter.after_position(from.saturating_sub(1)),
    };
    let query = app.store.query(&selection).consistency(LEVEL);
    let events = match (backwards, limit) {
        (false, 0) => Events::All(query.stream()),
        (false, _) => Events::Some(query.limit(limit).stream()),
        (true, 0) => Events::Some(query.newest_first().stream()),
        (true, _) => Events::Some(query.newest_first().limit(limit).stream()),
    };
    let hidden = app.flaw.and_then(Flaw::hidden);
    // An error before the first event can still be a response of its own; a later one can only cut the response off.
    let mut reading = Reading { events, hidden, state: Progress::Begun };
    let first = reading.chunk().await?;
    let first = stream::iter(first.map(Ok));
    let rest = stream::unfold(reading, async |mut reading| {
        let chunk =
            reading.chunk().await.inspect_err(|error| eprintln!("dcb_suite: {}", error.report())).transpose()?;
        Some((chunk, reading))
    });
    let body = Body::from_stream(stream::StreamExt::chain(first, rest));
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// The events of a read, being written as a JSON array.
struct Reading {
    events: Events,
    hidden: Option<u64>,
    state: Progress,
}

enum Events {
    All(QueryStream<PositionBoundedFilter>),
    Some(PageStream<PositionBoundedFilter>),
}

enum Progress {
    Begun,
    Going,
    Over,
}

impl Reading {
    /// The next part of the array, up to about `CHUNK`; nothing after its end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let (mut chunk, mut separator) = match self.state {
            Progress::Begun => (b"[".to_vec(), ""),
            Progress::Going => (Vec::new(), ","),
            Progress::Over => return Ok(None),
        };
        self.state = Progress::Going;
        while chunk.len() < CHUNK {
            let next = match &mut self.events {
                Events::All(events) => events.next().await,
                Events::Some(events) => events.next().await,
            };
            let Some(event) = next.transpose()? else {
                chunk.push(b']');
                self.state = Progress::Over;
                break;
            };
            if self.hidden.is_some_and(|every| event.position() % every == 0) {
                continue;
            }
            chunk.extend_from_slice(separator.as_bytes());
            separator = ",";
            write(&mut chunk, &event)?;
        }
        Ok(Some(chunk.into()))
    }
}

fn write(json: &mut Vec<u8>, event: &Event) -> Result<(), Error> {
    let not_ours = || {
        let position = event.position();
        Error::new(ErrorKind::Schema, format!("the event at position {position} was not written by this server"))
    };
    let Payload::Bytes { bytes, .. } = event.payload() else { return Err(not_ours()) };
    let data = std::str::from_utf8(bytes).map_err(|error| not_ours().with_source(error))?;
    let tags = event.tags().collect();
    let event = SequencedEvent { r#type: event.event_type(), tags, data, position: event.position() };
    serde_json::to_writer(json, &event).map_err(|error| not_ours().with_source(error))
}

async fn append(
    State(app): State<App>,
    body: Result<Json<AppendBody>, JsonRejection>,
) -> Result<Json<AppendAnswer>, AppError> {
    let Json(AppendBody { events, condition }) = body?;
    let condition = match condition {
        Some(condition) => condition.condition(app.flaw)?,
        None => AppendCondition::none(),
    };
    let events = events.into_iter().map(|SuiteEvent { r#type, tags, data }| {
        NewEvent::from_payload(r#type, Payload::bytes(DATA, data.into_bytes())).with_tags(tags)
    });
    let start = Instant::now();
    let outcome = app.store.append(events, condition).await;
    let duration_in_microseconds = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let append_condition_failed = match outcome {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::Conflict => true,
        Err(error) => return Err(error.into()),
    };
    Ok(Json(AppendAnswer { duration_in_microseconds, append_condition_failed }))
}

impl SuiteQuery {
    fn filter(self) -> Result<Filter, Error> {
        if self.items.is_empty() {
            return Ok(Filter::any_event());
        }
        let items: Vec<Filter> = self.items.into_iter().map(SuiteItem::filter).collect::<Result<_, _>>()?;
        Filter::union(items)
    }
}

impl SuiteItem {
    fn filter(self) -> Result<Filter, Error> {
        let Self { types, tags } = self;
        let start = Filter::matching();
        match (types.is_empty(), tags.is_empty()) {
            (false, false) => start.any_type_of(types).and_all_tags_of(tags).finish(),
            (false, true) => start.any_type_of(types).finish(),
            (true, false) => start.all_tags_of(tags).finish(),
            (true, true) => Err(invalid("an item of a query needs types or tags; every event is {\"items\":[]}")),
        }
    }
}

impl SuiteCondition {
    fn condition(mut self, flaw: Option<Flaw>) -> Result<AppendCondition, Error> {
        match flaw {
            Some(Flaw::NoCondition) => return Ok(AppendCondition::none()),
            Some(Flaw::WideCondition) => {
                let items = &mut self.fail_if_events_match.items;
                items.iter_mut().filter(|item| !item.types.is_empty()).for_each(|item| item.tags.clear());
            }
            Some(Flaw::HiddenEvents) | None => {}
        }
        let condition = AppendCondition::fail_if_events_match(self.fail_if_events_match.filter()?);
        Ok(match self.after {
            // A bare position, as in the specification. What was read before may be lost by now, and a bare position cannot
            // tell.
            Some(position) => condition.after_position(position),
            None => condition,
        })
    }
}

fn parsed<T: DeserializeOwned>(what: &str, json: &str) -> Result<T, Error> {
    serde_json::from_str(json)
        .map_err(|error| invalid(&format!("the parameter `{what}` is not what it should be: {error}")))
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

/// The library's error as a response. It says what was wrong with a request; other errors name servers, and are only logged.
struct AppError(Error);

impl From<Error> for AppError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<JsonRejection> for AppError {
    fn from(rejection: JsonRejection) -> Self {
        Self(invalid(&rejection.body_text()))
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        if self.0.kind() == ErrorKind::InvalidInput {
            return (StatusCode::BAD_REQUEST, self.0.to_string()).into_response();
        }
        eprintln!("dcb_suite: {}", self.0.report());
        error_response(&self.0)
    }
}
