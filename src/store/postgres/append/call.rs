//! The one statement that locks, checks and writes: its arguments. `migrations/V2__append.sql` says what they mean.

use std::{collections::HashMap, time::Duration};

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    answer::{Answer, Answers, Sent},
    group::Waiting,
};
use crate::{
    error::{Error, ErrorKind, Result},
    router::{Deadline, Effect, Lease},
    store::{
        StreamAppend,
        batch::KeyField,
        condition::After,
        postgres::{
            tail::Predecessor,
            wire::{self, JsonText, Micros},
        },
    },
};

/// What is sent together.
pub(in crate::store::postgres) struct Call<'a> {
    pub(in crate::store::postgres) waiting: &'a [Waiting],
    /// Ids that are looked up as well.
    pub(in crate::store::postgres) ids: &'a [Uuid],
    pub(in crate::store::postgres) lock_timeout: Duration,
    /// Whether others are likely to have the lock.
    pub(in crate::store::postgres) is_crowded: bool,
    /// The name under which the session remembers the call.
    pub(in crate::store::postgres) name: Uuid,
    /// The call before it, if what that writes has been checked.
    pub(in crate::store::postgres) predecessor: Option<Predecessor>,
}

impl Call<'_> {
    /// Sends the call, and waits for the outcome of each append, and for which of the ids are in the log.
    pub(in crate::store::postgres) async fn send(
        self,
        sql: &str,
        lease: &Lease,
        deadline: Deadline,
    ) -> Result<Answers> {
        let Self { waiting, ids, lock_timeout, is_crowded, name, predecessor } = self;
        let columns = Columns::new(waiting);
        let keys = Keys::new(waiting);
        let predecessor = predecessor.and_then(|predecessor| AfterPredecessor::new(waiting, &columns, predecessor));
        let looked_up = (!ids.is_empty()).then_some(ids);
        // Rounded up: an append without time for another attempt would otherwise get one.
        let lock_timeout_ms = i32::try_from(lock_timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX).max(1);
        let predecessor_call = predecessor.as_ref().map(|predecessor| &predecessor.call);
        let predecessor_positions = predecessor.as_ref().map(|predecessor| &predecessor.positions);
        let predecessor_ids = predecessor.as_ref().map(|predecessor| &predecessor.ids);
        let params: [&(dyn ToSql + Sync); 30] = [
            &columns.ids,
            &columns.types,
            &columns.tags,
            &columns.metadata,
            &columns.payloads,
            &columns.bytes,
            &columns.content_types,
            &columns.occurred_at,
            &columns.appends,
            &columns.following,
            &columns.after_positions,
            &columns.after_ids,
            &columns.items,
            &columns.streams,
            &columns.stream_versions,
            &columns.stream_events,
            &keys.appends,
            &keys.places,
            &keys.values,
            &keys.payload_paths,
            &keys.metadata_paths,
            &columns.whole_appends,
            &columns.whole_tags,
            &lock_timeout_ms,
            &is_crowded,
            &name,
            &predecessor_call,
            &predecessor_positions,
            &predecessor_ids,
            &looked_up,
        ];
        let rows = lease.query(Effect::Append, deadline, sql, &params).await?;
        let row = rows.first().ok_or_else(|| unknown_outcome("no row"))?;
        let answer = Answer::read(row).map_err(|cause| unknown_outcome("something").with_source(cause))?;
        let sent: Vec<Sent> = waiting.iter().map(|one| Sent::new(&one.append)).collect();
        answer.read_for(&sent, !ids.is_empty()).ok_or_else(|| unknown_outcome("an outcome"))
    }
}

/// The place after which the conditions must be checked, if the call before this one has written everything that it
/// brings.
struct AfterPredecessor {
    /// The name under which the session remembers it.
    call: String,
    positions: Vec<Option<i64>>,
    ids: Vec<Option<Uuid>>,
}

impl AfterPredecessor {
    /// `None` if it makes no difference.
    fn new(waiting: &[Waiting], columns: &Columns<'_>, predecessor: Predecessor) -> Option<Self> {
        if !waiting.iter().any(|one| one.holds_after_predecessor) {
            return None;
        }
        let Predecessor { call, head, events } = predecessor;
        let end = wire::position_param(head.position() + events);
        let (mut positions, mut ids) = (columns.after_positions.clone(), columns.after_ids.clone());
        for ((one, position), id) in waiting.iter().zip(&mut positions).zip(&mut ids) {
            if one.holds_after_predecessor {
                (*position, *id) = (Some(end), None);
            }
        }
        Some(Self { call: format!("{call} {} {}", head.position(), head.id()), positions, ids })
    }
}

/// The contents of the batch, by column.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<Uuid>,
    types: Vec<&'a str>,
    tags: Vec<&'a str>,
    metadata: Vec<JsonText<'a>>,
    payloads: Vec<Option<JsonText<'a>>>,
    /// `None` if no event of the batch is bytes.
    bytes: Option<Vec<Option<&'a [u8]>>>,
    content_types: Option<Vec<Option<&'a str>>>,
    occurred_at: Vec<Option<Micros>>,
    appends: Vec<i32>,
    following: Vec<i32>,
    after_positions: Vec<Option<i64>>,
    after_ids: Vec<Option<Uuid>>,
    items: Vec<Option<&'a str>>,
    /// `None` if no append of the batch goes to a stream.
    streams: Option<Vec<Option<&'a str>>>,
    stream_versions: Option<Vec<Option<i64>>>,
    /// `None` as well if none expects a certain event there.
    stream_events: Option<Vec<Option<Uuid>>>,
    /// `None` if no condition of the batch is on the whole log.
    whole_appends: Option<Vec<i32>>,
    whole_tags: Option<Vec<&'a str>>,
}

impl<'a> Columns<'a> {
    fn new(waiting: &'a [Waiting]) -> Self {
        let mut columns = Self::default();
        for (index, one) in waiting.iter().enumerate() {
            columns.append(number(index), one);
        }
        if columns.payloads.iter().any(Option::is_none) {
            let opaque = || waiting.iter().flat_map(|one| &one.append.events).map(|event| event.payload().as_bytes());
            columns.bytes = Some(opaque().map(|payload| payload.map(|(_, bytes)| bytes)).collect());
            columns.content_types = Some(opaque().map(|payload| payload.map(|(what, _)| what)).collect());
        }
        if waiting.iter().any(|one| one.append.stream.is_some()) {
            let streams = || waiting.iter().map(|one| one.append.stream.as_ref());
            columns.streams = Some(streams().map(|stream| stream.map(|it| &*it.id)).collect());
            let version = |stream: &StreamAppend| stream.expected.version().map(wire::position_param);
            columns.stream_versions = Some(streams().map(|stream| stream.and_then(version)).collect());
            let event = |stream: &StreamAppend| stream.expected.event_id().map(Uuid::from);
            let events: Vec<_> = streams().map(|stream| stream.and_then(event)).collect();
            columns.stream_events = events.iter().any(Option::is_some).then_some(events);
        }
        columns
    }

    fn append(&mut self, number_of_append: i32, waiting: &'a Waiting) {
        let append = &*waiting.append;
        for (index, (event, tags)) in append.events.iter().zip(&append.tags).enumerate() {
            self.ids.push(event.id().into());
            self.types.push(event.event_type());
            self.tags.push(tags);
            self.metadata.push(JsonText(event.metadata().as_str()));
            self.payloads.push(event.payload().as_json().map(|json| JsonText(json.as_str())));
            self.occurred_at.push(event.occurred_at().map(Micros::of));
            self.appends.push(number_of_append);
            self.following.push(int(append.events.len() - 1 - index));
        }
        let after = waiting.looked_until.map(After::Mark).or(waiting.after);
        self.after_positions.push(after.map(|after| wire::position_param(after.position())));
        self.after_ids.push(after.and_then(After::mark).map(|mark| mark.id().into()));
        self.items.push(append.guard.as_ref().map(|guard| &*guard.items));
        let tags = append.guard.as_ref().and_then(|guard| guard.tags.as_ref());
        if let (Some(After::Beginning), Some(tags)) = (after, tags) {
            self.whole_appends.get_or_insert_default().extend(tags.iter().map(|_| number_of_append));
            self.whole_tags.get_or_insert_default().extend(tags.iter().map(|tags| &**tags));
        }
    }
}

/// The keys that the conditions of the batch look for.
#[derive(Default)]
struct Keys<'a> {
    appends: Option<Vec<i32>>,
    places: Option<Vec<i32>>,
    /// As the text of a JSON array.
    values: Option<String>,
    payload_paths: Option<Vec<&'a str>>,
    metadata_paths: Option<Vec<&'a str>>,
}

impl<'a> Keys<'a> {
    fn new(waiting: &'a [Waiting]) -> Self {
        let (mut appends, mut places, mut values) = (Vec::new(), Vec::new(), String::from("["));
        let (mut of_payload, mut of_metadata) = (Paths::default(), Paths::default());
        for (index, one) in waiting.iter().enumerate() {
            for (place, value) in one.append.guard.iter().flat_map(|guard| guard.keys.places()) {
                appends.push(number(index));
                places.push(match place {
                    KeyField::Tags => 0,
                    KeyField::Type => -1,
                    KeyField::Anywhere => -2,
                    KeyField::Payload(path) => of_payload.number(path),
                    KeyField::Metadata(path) => -2 - of_metadata.number(path),
                });
                values.push_str(if values.len() > 1 { "," } else { "" });
                values.push_str(value);
            }
        }
        values.push(']');
        Self {
            values: (!appends.is_empty()).then_some(values),
            appends: some(appends),
            places: some(places),
            payload_paths: some(of_payload.paths),
            metadata_paths: some(of_metadata.paths),
        }
    }
}

/// Distinct paths, in the order of their first occurrence.
#[derive(Default)]
struct Paths<'a> {
    paths: Vec<&'a str>,
    numbers: HashMap<&'a str, i32>,
}

impl<'a> Paths<'a> {
    fn number(&mut self, path: &'a str) -> i32 {
        *self.numbers.entry(path).or_insert_with(|| {
            self.paths.push(path);
            number(self.paths.len() - 1)
        })
    }
}

/// The procedure counts from 1.
fn number(index: usize) -> i32 {
    int(index + 1)
}

/// No batch has more of anything than fits into a message.
fn int(amount: usize) -> i32 {
    i32::try_from(amount).unwrap_or(i32::MAX)
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The procedure has run, and may have committed.
pub(in crate::store::postgres) fn unknown_outcome(what: &str) -> Error {
    let message = format!("the append procedure answered with {what} that this version does not know");
    Error::new(ErrorKind::OutcomeUnknown, message)
}
