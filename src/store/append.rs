//! Appending: the call, and what it gives.

use std::{collections::HashSet, future::IntoFuture, ops::RangeInclusive, sync::Arc, time::Duration};

use super::{AppendCondition, AppendRequest, BoxFuture, EventStore};
use crate::{
    Mark, NewEvent,
    error::{Error, Result},
};

/// An append that is about to be made: await it, after changing its limit if need be.
///
/// All events are written, at positions that follow each other, or none. The primary takes it whatever the scope says:
/// there is nowhere else to write.
///
/// Repeating it is safe: a second append of the same events (the same ids, content and order) writes nothing and
/// returns the positions of the first. That is what to do when the outcome is unknown.
///
/// # Errors
///
/// - [`Conflict`](crate::ErrorKind::Conflict): the condition does not hold any more; [`Error::conflict`] says which
///   event broke it. Nothing was written.
/// - [`InvalidInput`](crate::ErrorKind::InvalidInput): an event cannot be stored, some of the ids are taken by other
///   events, there are none to append, or [too much](Self::MAX_LEN). Nothing was written.
/// - [`LogDiverged`](crate::ErrorKind::LogDiverged): the log does not hold the event that the condition is based on.
///   Nothing was written.
/// - [`Timeout`](crate::ErrorKind::Timeout), [`Unavailable`](crate::ErrorKind::Unavailable): this try wrote nothing.
/// - [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown): the answer was lost, or the commit did not wait for its standby
///   to the end. Make the same append again, until it is answered in another way: success, `Conflict` and
///   `InvalidInput` settle it; `Timeout` and `Unavailable` do not, since the first try may still be under way.
/// - [`Schema`](crate::ErrorKind::Schema): the log's tables are not there.
///
/// # Cancel safety
///
/// Dropped before it is awaited, nothing happens. Dropped later, the events are written whole or not at all, and the
/// same append, made again, tells.
#[derive(Debug)]
#[must_use = "an append does nothing until it is awaited"]
pub struct Append<'a> {
    store: &'a dyn EventStore,
    request: AppendRequest,
}

impl Append<'_> {
    /// The most text of one append, types, tags, payloads and metadata together, in bytes: 64 MiB.
    ///
    /// All of it is one message, written while the log is locked: a larger one would hold up every other append, and
    /// beyond a gigabyte PostgreSQL drops the connection without an answer.
    pub const MAX_LEN: usize = 64 * 1024 * 1024;
}

impl<'a> Append<'a> {
    pub(super) fn new(store: &'a dyn EventStore, events: Vec<NewEvent>, condition: AppendCondition) -> Self {
        Self { store, request: AppendRequest { events, condition, timeout: None } }
    }

    /// Replaces the limit of this call, getting a connection and waiting for the log's lock included. Defaults to the
    /// store's own, which in PostgreSQL is the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.request.timeout = Some(limit);
        self
    }
}

/// The future owns all that it needs: it may be spawned.
impl IntoFuture for Append<'_> {
    type Output = Result<Appended>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        match check(&self.request.events) {
            Ok(()) => self.store.run_append(self.request),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}

/// About how many bytes an event takes.
pub(super) fn len(event: &NewEvent) -> usize {
    let tags: usize = event.tags().map(str::len).sum();
    event.event_type().len() + tags + event.payload().as_str().len() + event.metadata().as_str().len()
}

/// What can be told before a store is asked.
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

/// What an append has written, or had written before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    first_position: u64,
    last: Mark,
    repeated: bool,
    node: Arc<str>,
}

impl Appended {
    /// For the makers of stores: `events`, of which there is at least one, were written from `first_position` on.
    ///
    /// # Panics
    ///
    /// Without events.
    #[must_use]
    pub fn new(first_position: u64, events: &[NewEvent]) -> Self {
        let Some(last) = events.last() else { panic!("an append has at least one event") };
        let last = Mark::new(first_position + (events.len() as u64 - 1), last.id());
        Self { first_position, last, repeated: false, node: "local".into() }
    }

    /// For the makers of stores: they had been there already.
    #[must_use]
    pub fn as_repeated(mut self) -> Self {
        self.repeated = true;
        self
    }

    /// For the makers of stores: the name of the node that took them. Without it, it is `local`.
    #[must_use]
    pub fn served_by(mut self, node: impl Into<Arc<str>>) -> Self {
        self.node = node.into();
        self
    }

    /// The position of the first event, which is that of the only one, when there is one.
    #[must_use]
    pub fn first_position(&self) -> u64 {
        self.first_position
    }

    /// The positions of the events, in their order.
    #[must_use]
    pub fn positions(&self) -> RangeInclusive<u64> {
        self.first_position..=self.last.position()
    }

    /// Position and id of the last event.
    #[must_use]
    pub fn last(&self) -> Mark {
        self.last
    }

    /// Whether they had been there already: this append repeats an earlier one, whose answer may have been lost.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// The name of the node that took them.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }
}
