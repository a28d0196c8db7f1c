//! The end of the log, as far as this process itself has written it. Pure: no I/O.
//!
//! Most conditions look back at nothing else. They need not be checked under the log's lock: their keys are looked up
//! here. If no event after `after` has one of them, the server is told to look after the last of these events instead.
//! If one has, and matches, the append need not even be sent.
//!
//! This is correct if the log holds these events at these positions, with nothing between them. Positions show that
//! nothing is between them: a batch that begins where the one before it ends has no foreign event before it. The id of
//! the last event, which the server looks up, shows that they exist. And a server that has lost what it had
//! acknowledged, by a crash or a restore, has lost its sessions, too: so what was written counts only for sessions that
//! are [older](ServerSession::opened).
//!
//! A batch that is sent [after](Predecessor) another one of its session, whose answer is outstanding, is checked as if that
//! one had written everything that it has, at the end of what is known. The session itself remembers whether it has.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;
use uuid::Uuid;

use super::append::prepared::{Prepared, PreparedGuard};
use crate::{
    EventId, Mark, NewEvent,
    filter::Subject,
    router::ServerSession,
    store::{
        batch::{KeyMap, KeySet},
        condition::After,
    },
};

/// How many keys of events are known; twice as many at most. Each takes about 30 bytes. With fewer, a decision that
/// took its time is checked under the lock; with more, they do not fit into a processor's cache.
const KEYS: usize = 32 * 1024;

/// How many events are known; twice as many at most. Each takes the 16 bytes of its id, whether or not its keys are
/// new. Otherwise, a process whose events are alike would know ever more of them.
const EVENTS: usize = KEYS;

/// How many bytes of appends are kept, to report which conditions they break: some hundreds of usual ones. With more,
/// each of them has left the processor's caches when it is freed.
const KEPT_BYTES: usize = 512 * 1024;

/// After this many batches without a foreign one between them, the next one is likely to be alone as well.
const OURS: usize = 8;

/// A condition is compared with at most this many events here. Few readers have read before that many were written.
const COMPARED: usize = 64;

/// The most events that the procedure looks at under the lock: `near` in `migrations/V2__append.sql`.
pub(super) const UNDER_THE_LOCK: u64 = 1000;

/// The guard of an append, and the position after which it looks.
pub(super) type Condition<'a> = (Option<After>, Option<&'a PreparedGuard>);

/// What is known of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LocalCheck {
    /// Nothing: the server must look after its `after`.
    Unknown,
    /// No event up to this one breaks it: the server must look after that.
    HeldUntil(Mark),
    /// Nor does any event of the batch that this one is sent after.
    HeldAfterPredecessor(Mark),
    /// This event breaks it, and none before it does.
    Broken { position: u64, event_type: String },
}

/// What this process has written at the end of the log.
#[derive(Debug, Default)]
pub(super) struct Tail(Mutex<Written>);

/// The batch that another one is sent after, in the same session, and what it finds there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Predecessor {
    /// The call.
    pub(super) call: Uuid,
    /// The log's last event before it.
    pub(super) head: Mark,
    /// How many events it brings.
    pub(super) events: u64,
}

/// A call that has no answer yet.
#[derive(Debug)]
pub(super) struct BatchInFlight {
    tail: Arc<Tail>,
    call: Uuid,
}

#[derive(Debug)]
struct Sent {
    call: Uuid,
    session: ServerSession,
    at: Instant,
    appends: Vec<Arc<Prepared>>,
}

#[derive(Debug, Default)]
struct Written {
    /// The server that it was written to.
    server: (usize, u32),
    /// All events after this position are known.
    since: u64,
    /// The ids of these events.
    ids: VecDeque<EventId>,
    /// The first position of each batch, and a time before which it and those after it were not sent.
    batches: VecDeque<(u64, Instant)>,
    /// The last appends, with the first position of each; `bytes` is their total size.
    appends: VecDeque<(u64, Arc<Prepared>)>,
    bytes: usize,
    /// The last position of each key, in the newer half of the events and in the older one.
    newer: Keys,
    older: Keys,
    /// How many batches follow each other without a foreign one between them.
    in_a_row: usize,
    /// The batches without an answer yet.
    in_flight: Vec<Sent>,
    /// Batches answered before an earlier one was; they are applied once that one is.
    early: Vec<Batch>,
}

#[derive(Debug, Default)]
struct Keys {
    /// They belong to events after this position.
    since: u64,
    last: KeyMap<u64>,
}

/// What one transaction has written.
#[derive(Debug)]
struct Batch {
    session: ServerSession,
    sent: Instant,
    /// The position before its first event.
    head: u64,
    appends: Vec<Arc<Prepared>>,
}

impl Tail {
    /// Records that these are about to be sent, all together.
    pub(super) fn send(self: &Arc<Self>, session: ServerSession, appends: Vec<Arc<Prepared>>) -> BatchInFlight {
        let call = Uuid::now_v7();
        self.written().in_flight.push(Sent { call, session, at: Instant::now(), appends });
        BatchInFlight { tail: Arc::clone(self), call }
    }

    /// Returns what is known of each condition, given its `after`, for a caller in this session; and the call that this
    /// one is then sent after, if there is one.
    pub(super) fn judge<'a>(
        &self,
        session: ServerSession,
        conditions: impl Iterator<Item = Condition<'a>>,
    ) -> (Vec<LocalCheck>, Option<Predecessor>) {
        let written = self.written();
        let Some((head, known)) = written.known_to(session) else {
            return (conditions.map(|_| LocalCheck::Unknown).collect(), None);
        };
        let before = written.sent_before(session, head);
        let judge = |condition: Condition<'a>| match (written.judge(head, known, condition), condition.1, &before) {
            (LocalCheck::HeldUntil(head), Some(guard), Some((_, keys)))
                if !guard.keys.hashes().iter().any(|key| keys.contains(key)) =>
            {
                LocalCheck::HeldAfterPredecessor(head)
            }
            (judged, ..) => judged,
        };
        (conditions.map(judge).collect(), before.as_ref().map(|(predecessor, _)| *predecessor))
    }

    /// Whether no other process has written for some batches.
    pub(super) fn is_ours(&self) -> bool {
        self.written().in_a_row >= OURS
    }

    /// Whether what follows it is unknown here, and too much to be looked at under the lock.
    pub(super) fn is_far_behind(&self, after: After) -> bool {
        let (written, position) = (self.written(), after.position());
        position <= written.since && written.head() - position > UNDER_THE_LOCK
    }

    /// Forgets everything: the log is not what it seemed.
    pub(super) fn forget(&self) {
        let mut written = self.written();
        let head = written.head();
        written.begin_after(head);
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BatchInFlight {
    /// The name under which the session remembers it.
    pub(super) fn call(&self) -> Uuid {
        self.call
    }

    /// Records what it has written, after this position.
    pub(super) fn has_written(self, head: u64, appends: Vec<Arc<Prepared>>) {
        let mut written = self.tail.written();
        if let Some(sent) = written.in_flight.iter().find(|sent| sent.call == self.call) {
            let batch = Batch { session: sent.session, sent: sent.at, head, appends };
            written.early.push(batch);
        }
        // It is added when this is dropped, which takes the lock as well.
        drop(written);
    }
}

impl Drop for BatchInFlight {
    fn drop(&mut self) {
        let mut written = self.tail.written();
        let call = self.call;
        written.in_flight.retain(|sent| sent.call != call);
        written.take_up();
    }
}

impl Written {
    fn head(&self) -> u64 {
        self.since + self.ids.len() as u64
    }

    /// The last event, and the first one of those that count as known to this session.
    fn known_to(&self, session: ServerSession) -> Option<(Mark, u64)> {
        let older = self.batches.partition_point(|(_, sent)| *sent < session.opened);
        let (first, _) = self.batches.get(older).filter(|_| self.server == session.server)?;
        Some((Mark::new(self.head(), *self.ids.back()?), *first))
    }

    /// The only call of this session without an answer, and the keys of what it brings.
    fn sent_before(&self, session: ServerSession, head: Mark) -> Option<(Predecessor, KeySet)> {
        let [sent] = &self.in_flight[..] else { return None };
        if sent.session != session {
            return None;
        }
        let keys = || sent.appends.iter().flat_map(|append| &append.keys);
        let predecessor = Predecessor { call: sent.call, head, events: keys().count() as u64 };
        Some((predecessor, keys().flat_map(|keys| keys.hashes()).copied().collect()))
    }

    fn judge(&self, head: Mark, known: u64, condition: Condition<'_>) -> LocalCheck {
        let (Some(after), Some(guard)) = condition else { return LocalCheck::Unknown };
        let position = after.position();
        let is_known = (known..=head.position()).contains(&position)
            && after.mark().is_none_or(|mark| self.id(position) == Some(mark.id()));
        if !is_known {
            return LocalCheck::Unknown;
        }
        if guard.keys.hashes().iter().all(|key| self.last(*key) <= position) {
            return LocalCheck::HeldUntil(head);
        }
        // An event has one of its keys: it may match.
        let breaks = |at: &u64| self.event(*at).is_none_or(|event| guard.filter.matches_subject(&Subject::from(event)));
        let first = (position + 1..=head.position()).take(COMPARED).find(breaks);
        match first.and_then(|at| Some((at, self.event(at)?))) {
            Some((position, event)) => LocalCheck::Broken { position, event_type: event.event_type().to_owned() },
            None => LocalCheck::Unknown,
        }
    }

    fn id(&self, position: u64) -> Option<EventId> {
        let index = usize::try_from(position.checked_sub(self.since + 1)?).ok()?;
        self.ids.get(index).copied()
    }

    fn event(&self, position: u64) -> Option<&NewEvent> {
        let next = self.appends.partition_point(|(first, _)| *first <= position);
        let (first, append) = self.appends.get(next.checked_sub(1)?)?;
        append.events.get(usize::try_from(position - first).ok()?)
    }

    /// The last position at which the key was written, or 0.
    fn last(&self, key: u64) -> u64 {
        let last = [&self.newer, &self.older].map(|keys| keys.last.get(&key));
        last.into_iter().flatten().max().copied().unwrap_or_default()
    }

    /// Adds what has been answered, in the order of the log. What comes before it may still arrive; if it cannot any
    /// more, another process has written there.
    fn take_up(&mut self) {
        while let Some(next) = (0..self.early.len()).min_by_key(|&index| self.early[index].head) {
            if self.early.len() <= self.in_flight.len() && self.early[next].head > self.head() {
                return;
            }
            let batch = self.early.swap_remove(next);
            self.add(&batch);
        }
    }

    fn add(&mut self, batch: &Batch) {
        if self.head() != batch.head || self.server != batch.session.server {
            self.begin_after(batch.head);
            self.in_a_row = 0;
            self.server = batch.session.server;
        }
        for (_, sent) in self.batches.iter_mut().rev().take_while(|(_, sent)| *sent > batch.sent) {
            *sent = batch.sent;
        }
        self.in_a_row += 1;
        self.batches.push_back((batch.head + 1, batch.sent));
        let mut first = batch.head + 1;
        for append in &batch.appends {
            self.appends.push_back((first, Arc::clone(append)));
            self.bytes += append.len;
            first += append.events.len() as u64;
        }
        while self.bytes > KEPT_BYTES
            && let Some((_, dropped)) = self.appends.pop_front()
        {
            self.bytes -= dropped.len;
        }
        let events = batch.appends.iter().flat_map(|append| append.events.iter().zip(&append.keys));
        for (position, (event, keys)) in (batch.head + 1..).zip(events) {
            self.ids.push_back(event.id());
            self.newer.last.extend(keys.hashes().iter().map(|key| (*key, position)));
        }
        if self.newer.last.len() >= KEYS || self.head() - self.newer.since >= EVENTS as u64 {
            self.forget_the_older_half();
        }
    }

    fn forget_the_older_half(&mut self) {
        mem::swap(&mut self.newer, &mut self.older);
        let since = self.older.since;
        self.newer.begin_after(self.head());
        self.ids.drain(..usize::try_from(since - self.since).unwrap_or(self.ids.len()));
        let forgotten = self.batches.partition_point(|(first, _)| *first <= since);
        self.batches.drain(..forgotten);
        self.since = since;
        // A large batch may have more than is kept: then there is only this one, and it is dropped.
        if self.older.last.len() >= 2 * KEYS {
            self.begin_after(self.head());
        }
    }

    /// Forgets what is before the position, and starts with nothing after it.
    fn begin_after(&mut self, position: u64) {
        self.since = position;
        self.ids.clear();
        self.batches.clear();
        self.appends.clear();
        self.bytes = 0;
        self.newer.begin_after(position);
        self.older.begin_after(position);
    }
}

impl Keys {
    fn begin_after(&mut self, position: u64) {
        self.since = position;
        if self.last.capacity() > 4 * KEYS {
            self.last = KeyMap::default();
        }
        self.last.clear();
    }
}

#[cfg(test)]
mod tests;
