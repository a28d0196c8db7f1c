//! Appending: the call and its result.

use std::{collections::HashSet, future::IntoFuture, ops::RangeInclusive, sync::Arc, time::Duration};

use super::{AppendCondition, AppendRequest, BoxFuture, EventStore, ExpectedVersion, StreamAppend, noted::Noted};
use crate::{
    EventContext, Mark, NewEvent, Role, Token,
    error::{Error, Result},
    scope::current_item,
    telemetry::{Done, Operation},
};

/// An append: await it, after changing its limit if needed.
///
/// All events are written, at consecutive positions, or none. The primary executes it whatever the scope says: there is
/// nowhere else to write.
///
/// Repeating it is safe: a second append of the same events (same ids, content and order) writes nothing and returns
/// the positions of the first. Do this when the outcome is unknown.
///
/// # Together with others
///
/// Appends that arrive while another is in flight may be written together (in PostgreSQL they are). Each is checked as
/// if it came alone, in its turn, and none is refused because of another.
///
/// # Writes of your own
///
/// An append's transaction cannot include other statements: the log is locked while it runs, and every other append
/// would wait for them. Append first what has happened. Then write what follows from it, in a projection that stores
/// the position it has reached in the same transaction as its own rows: if it fails between the two, it continues from
/// there. What must be true before the append (a unique name, for example) is a condition on events.
///
/// # Errors
///
/// - [`Conflict`](crate::ErrorKind::Conflict): the condition no longer holds; [`Error::conflict`] says which event
///   broke it. Or the stream that it goes [to](Self::to_stream) has another version than expected;
///   [`Error::version_mismatch`] says which. Nothing was written.
/// - [`InvalidInput`](crate::ErrorKind::InvalidInput): an event cannot be stored, the stream id is invalid, some of the
///   ids are taken by other events, there are no events, or [too much](Self::MAX_LEN), or the condition has an `after`
///   and no filter. Nothing was written.
/// - [`LogDiverged`](crate::ErrorKind::LogDiverged): the log does not hold the event that the condition is based on, or
///   the last event that the stream was [loaded](crate::LoadedStream::unchanged) with. Nothing was written.
/// - [`Timeout`](crate::ErrorKind::Timeout), [`Unavailable`](crate::ErrorKind::Unavailable): this attempt wrote
///   nothing.
/// - [`Overloaded`](crate::ErrorKind::Overloaded): too many appends wait already. Nothing was sent.
/// - [`Closed`](crate::ErrorKind::Closed): the store has been closed. Nothing was sent.
/// - [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown): the answer was lost, or the commit did not wait for its
///   standby to the end. Repeat the same append until the answer is a different one: success, `Conflict` and
///   `InvalidInput` settle it; `Timeout` and `Unavailable` do not, since the first attempt may still be in flight.
/// - [`Schema`](crate::ErrorKind::Schema): the log's tables do not exist.
///
/// # Cancel safety
///
/// If it is dropped before it is awaited, nothing happens. In PostgreSQL, nothing is written either as long as it waits
/// for its turn. If it is dropped later, the events are written completely or not at all; repeating the same append
/// reveals which.
#[derive(Debug)]
#[must_use = "an append does nothing until it is awaited"]
pub struct Append<'a> {
    store: &'a dyn EventStore,
    request: AppendRequest,
    noted: Noted,
}

impl Append<'_> {
    /// The largest append, types, tags, payloads and metadata together, in bytes: 64 MiB.
    ///
    /// All of it is one message, written while the log is locked: a larger one would delay every other append, and
    /// beyond a gigabyte PostgreSQL drops the connection without an answer.
    pub const MAX_LEN: usize = 64 * 1024 * 1024;
}

impl<'a> Append<'a> {
    pub(super) fn new(store: &'a dyn EventStore, events: Vec<NewEvent>, condition: AppendCondition) -> Self {
        let mut events = events;
        if let Some(context) = current_item::<EventContext>() {
            events.iter_mut().for_each(|event| event.take_context(&context));
        }
        let request = AppendRequest { events, condition, stream: None, timeout: None };
        Self { store, request, noted: Noted::current() }
    }

    /// Appends the events to a fixed stream, if the stream has the expected version.
    ///
    /// The id is any text of 1 to [255 bytes](crate::StreamPlace::MAX_ID_LEN) without a NUL character, compared byte by
    /// byte. A stream begins with its first event, at version 1. An append goes to at most one stream. Its condition
    /// applies in addition, and is checked first. See [`ExpectedVersion`] for an example.
    pub fn to_stream(mut self, id: impl Into<Arc<str>>, expected: ExpectedVersion) -> Self {
        self.request.stream = Some(StreamAppend::new(id.into(), expected));
        self
    }

    /// Replaces the time limit of this call, including the waits for a connection and for the log's lock. Defaults to
    /// the store's own, which in PostgreSQL is the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.request.timeout = Some(limit);
        self
    }
}

/// The future owns all it needs, so it can be spawned.
impl IntoFuture for Append<'_> {
    type Output = Result<Appended>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let events = self.request.events.len() as u64;
        let checked = self.request.condition.check().and_then(|()| check(&self.request.events));
        if let Err(error) = checked.and_then(|()| self.request.stream.as_ref().map_or(Ok(()), StreamAppend::check)) {
            return Box::pin(Operation::Append.record(async { Err(error) }, |_: &Appended| Done::default()));
        }
        let Self { store, request, noted } = self;
        let (appended, noted) = (store.run_append(request), noted.append(store));
        let append = noted.follow(appended);
        Box::pin(Operation::Append.record(append, move |appended| appended.done(events)))
    }
}

/// The approximate number of bytes of an event.
pub(super) fn len(event: &NewEvent) -> usize {
    let tags: usize = event.tags().map(str::len).sum();
    event.event_type().len() + tags + event.payload().len() + event.metadata().as_str().len()
}

/// Checks what can be checked without asking a store.
pub(super) fn check(events: &[NewEvent]) -> Result<()> {
    if events.is_empty() {
        return Err(Error::invalid_input("there are no events to append"));
    }
    NewEvent::validate_all(events)?;
    let len: usize = events.iter().map(len).sum();
    if len > Append::MAX_LEN {
        return Err(Error::invalid_input(format!(
            "the {} events have {len} bytes, more than the limit of {} for one append",
            events.len(),
            Append::MAX_LEN
        )));
    }
    let mut ids = HashSet::with_capacity(events.len());
    match events.iter().find(|event| !ids.insert(event.id())) {
        Some(twice) => Err(Error::invalid_input(format!("two events of the append have the id {}", twice.id()))),
        None => Ok(()),
    }
}

/// The result of an append: what it has written, or an earlier one had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    first_position: u64,
    last: Mark,
    first_version: Option<u64>,
    repeated: bool,
    node: Arc<str>,
    token: Token,
    lock_time: Option<Duration>,
}

impl Appended {
    /// Creates the result for `events`, at least one, written from `first_position` on; for implementors of stores.
    ///
    /// # Panics
    ///
    /// If `events` is empty.
    #[must_use]
    pub fn new(first_position: u64, events: &[NewEvent]) -> Self {
        let Some(last) = events.last() else { panic!("an append has at least one event") };
        let last = Mark::new(first_position + (events.len() as u64 - 1), last.id());
        let (first_version, token, lock_time) = (None, Token::new(), None);
        Self { first_position, last, first_version, repeated: false, node: "local".into(), token, lock_time }
    }

    /// What telemetry reports about an append of this many events.
    pub(super) fn done(&self, events: u64) -> Done<'_> {
        Done { served: Some((&self.node, Role::Primary)), events: if self.repeated { 0 } else { events } }
    }

    /// The result for events that were written earlier, from `first_position` up to `last`, as the log shows.
    pub(crate) fn found(first_position: u64, last: Mark, node: &str, token: Token) -> Self {
        let (first_version, lock_time) = (None, None);
        Self { first_position, last, first_version, repeated: true, node: node.into(), token, lock_time }
    }

    /// Sets the version of the first event in the stream that they went to, if any; for implementors of stores.
    #[must_use]
    pub fn in_stream(mut self, first_version: impl Into<Option<u64>>) -> Self {
        self.first_version = first_version.into();
        self
    }

    /// Marks the events as already present before; for implementors of stores.
    #[must_use]
    pub fn as_repeated(mut self) -> Self {
        self.repeated = true;
        self
    }

    /// Sets the name of the node that wrote them; for implementors of stores. Without it, the name is `local`.
    #[must_use]
    pub fn served_by(mut self, node: impl Into<Arc<str>>) -> Self {
        self.node = node.into();
        self
    }

    /// Adds the token for reads that contain these events.
    #[must_use]
    pub fn with_token(mut self, token: Token) -> Self {
        self.token = token;
        self
    }

    /// Sets how long the log was [locked](Self::lock_time) for them; for implementors of stores. Without it, that is
    /// unknown.
    #[must_use]
    pub fn with_lock_time(mut self, lock_time: impl Into<Option<Duration>>) -> Self {
        self.lock_time = lock_time.into();
        self
    }

    /// Returns a token for reads that contain these events: with [`Consistency::AtLeast`](crate::Consistency::AtLeast),
    /// their writer sees them on a replica.
    ///
    /// It has the mark of the last event and the place where it was written, so it also works for other reads of this
    /// database.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Returns the position of the first event, or of the only one.
    #[must_use]
    pub fn first_position(&self) -> u64 {
        self.first_position
    }

    /// Returns the positions of the events, in order.
    #[must_use]
    pub fn positions(&self) -> RangeInclusive<u64> {
        self.first_position..=self.last.position()
    }

    /// Returns the versions of the events in the stream that they were appended [to](Append::to_stream), if any.
    #[must_use]
    pub fn stream_versions(&self) -> Option<RangeInclusive<u64>> {
        let first = self.first_version?;
        Some(first..=first + (self.last.position() - self.first_position))
    }

    /// Returns the position and id of the last event.
    #[must_use]
    pub fn last(&self) -> Mark {
        self.last
    }

    /// Whether the events were already present: this append repeats an earlier one, whose answer may have been lost.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// Returns the name of the node that wrote them.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns how long other appends had to wait for these events and those written together with them: for checking
    /// and writing, without the wait of the commit. `None` if the store does not report it, as in memory.
    #[must_use]
    pub fn lock_time(&self) -> Option<Duration> {
        self.lock_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_that_was_there_already_has_written_no_events() {
        let events = [NewEvent::new("A", &()).unwrap(), NewEvent::new("A", &()).unwrap()];
        let written = Appended::new(1, &events);
        assert_eq!(written.done(2).events, 2);
        assert_eq!(Appended::found(1, written.last(), "primary", Token::new()).done(2).events, 0);
    }
}
