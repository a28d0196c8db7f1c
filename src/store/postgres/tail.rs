//! The end of the log, as far as this process has written it itself. Pure: no I/O.
//!
//! Most conditions look back at nothing else. They need not be judged under the log's lock: their keys are looked up here, and
//! if no event behind `after` has one of them, the server is told to look behind the last of these events instead. If one has,
//! and matches, the append need not even be sent.
//!
//! That is right if the log holds these events there, with nothing between them. Nothing is between them, as positions tell:
//! a batch that begins where the one before it ends has nobody's event before it. They are there, as the id of the last
//! one tells, which the server looks up. And a server that has lost what it had acknowledged, by a crash or a restore,
//! has lost its sessions, too: so what was written counts only for sessions that are [older](ServerSession::opened).
//!
//! A batch that is sent [behind](Behind) another one of its session, whose answer is still to come, is looked at as if that one
//! had written all that it has, at the end of what is known. Whether it has, the session itself remembers.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;
use uuid::Uuid;

use super::prepared::{Prepared, PreparedGuard};
use crate::{
    EventId, Mark, NewEvent,
    filter::Subject,
    router::ServerSession,
    store::{
        batch::{KeyMap, KeySet},
        condition::After,
    },
};

/// So many keys of events are known, and twice as many at most; each takes about 30 bytes. Fewer, and a decision that took
/// its time is judged under the lock; more, and they do not fit into a processor's cache.
const KEYS: usize = 32 * 1024;

/// So many events are known, and twice as many at most; each takes the 16 bytes of its id, whether or not its keys are new. A process
/// whose events are alike would know ever more of them otherwise.
const EVENTS: usize = KEYS;

/// So many bytes of appends are kept, for what they say about conditions that they break: some hundreds of usual ones. With more,
/// each of them is no more in any cache of the processor when it is given back.
const KEPT_BYTES: usize = 512 * 1024;

/// After so many batches without anybody else's between them, it is likely that the next one is alone as well.
const OURS: usize = 8;

/// A condition is compared with so many events here at most. Who has read before that many were written is one of few.
const COMPARED: usize = 64;

/// So many events the procedure looks at under the lock, at most: `near` in `migrations/V2__append.sql`.
const UNDER_THE_LOCK: u64 = 1000;

/// What an append is guarded by, and behind what it looks.
pub(super) type Condition<'a> = (Option<After>, Option<&'a PreparedGuard>);

/// What is known of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// Nothing: the server has to look behind its `after`.
    Unknown,
    /// No event until this one breaks it: the server has to look behind that.
    HeldUntil(Mark),
    /// Nor does any of the batch that this one is sent behind.
    HeldBehind(Mark),
    /// This event does, and none before it.
    Broken { position: u64, event_type: String },
}

/// What this process has written at the end of the log.
#[derive(Debug, Default)]
pub(super) struct Tail(Mutex<Written>);

/// The batch that another one is sent behind, in the same session, and what it finds there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Behind {
    /// The call,
    pub(super) call: Uuid,
    /// the log's last event before it,
    pub(super) head: Mark,
    /// and how many events it brings.
    pub(super) events: u64,
}

/// A call that has no answer yet.
#[derive(Debug)]
pub(super) struct UnderWay {
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
    /// All events behind this position are known:
    since: u64,
    /// their ids,
    ids: VecDeque<EventId>,
    /// the first position of each batch, and a time before which it and those behind it were not sent.
    batches: VecDeque<(u64, Instant)>,
    /// the last appends, with the first position of each, and their bytes.
    appends: VecDeque<(u64, Arc<Prepared>)>,
    bytes: usize,
    /// The last position of each key, in the newer half of the events and in the older one.
    newer: Keys,
    older: Keys,
    /// How many batches follow each other without anybody else's between them.
    in_a_row: usize,
    /// The batches that have no answer yet,
    under_way: Vec<Sent>,
    /// and what others behind them have written.
    early: Vec<Batch>,
}

#[derive(Debug, Default)]
struct Keys {
    /// They are of events behind this position.
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
    /// Notes that these are about to be sent, all together.
    pub(super) fn send(self: &Arc<Self>, session: ServerSession, appends: Vec<Arc<Prepared>>) -> UnderWay {
        let call = Uuid::now_v7();
        self.written().under_way.push(Sent { call, session, at: Instant::now(), appends });
        UnderWay { tail: Arc::clone(self), call }
    }

    /// What is known of each condition, with the `after` that it has, to who asks in this session; and the call that
    /// this one is then sent behind, if there is one.
    pub(super) fn judge<'a>(
        &self,
        session: ServerSession,
        conditions: impl Iterator<Item = Condition<'a>>,
    ) -> (Vec<Judged>, Option<Behind>) {
        let written = self.written();
        let Some((head, known)) = written.known_to(session) else {
            return (conditions.map(|_| Judged::Unknown).collect(), None);
        };
        let before = written.sent_before(session, head);
        let judge = |condition: Condition<'a>| match (written.judge(head, known, condition), condition.1, &before) {
            (Judged::HeldUntil(head), Some(guard), Some((_, keys)))
                if !guard.keys.hashes().iter().any(|key| keys.contains(key)) =>
            {
                Judged::HeldBehind(head)
            }
            (judged, ..) => judged,
        };
        (conditions.map(judge).collect(), before.as_ref().map(|(behind, _)| *behind))
    }

    /// Whether nobody else has written for some batches.
    pub(super) fn is_ours(&self) -> bool {
        self.written().in_a_row >= OURS
    }

    /// Whether what is behind it is not known here, and too much to be looked at under the lock.
    pub(super) fn is_far_behind(&self, after: After) -> bool {
        let (written, position) = (self.written(), after.position());
        position <= written.since && written.head() - position > UNDER_THE_LOCK
    }

    /// Forgets all: the log is not what it seemed.
    pub(super) fn forget(&self) {
        let mut written = self.written();
        let head = written.head();
        written.begin_behind(head);
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    /// What the session remembers it as.
    pub(super) fn call(&self) -> Uuid {
        self.call
    }

    /// Notes what it has written, behind this position.
    pub(super) fn has_written(self, head: u64, appends: Vec<Arc<Prepared>>) {
        let mut written = self.tail.written();
        if let Some(sent) = written.under_way.iter().find(|sent| sent.call == self.call) {
            let batch = Batch { session: sent.session, sent: sent.at, head, appends };
            written.early.push(batch);
        }
        // It is taken up when this is dropped, which takes the lock as well.
        drop(written);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut written = self.tail.written();
        let call = self.call;
        written.under_way.retain(|sent| sent.call != call);
        written.take_up();
    }
}

impl Written {
    fn head(&self) -> u64 {
        self.since + self.ids.len() as u64
    }

    /// The last event, and the first one of those that are as good as known to this session.
    fn known_to(&self, session: ServerSession) -> Option<(Mark, u64)> {
        let older = self.batches.partition_point(|(_, sent)| *sent < session.opened);
        let (first, _) = self.batches.get(older).filter(|_| self.server == session.server)?;
        Some((Mark::new(self.head(), *self.ids.back()?), *first))
    }

    /// The only call of this session that has no answer, and the keys of what it brings.
    fn sent_before(&self, session: ServerSession, head: Mark) -> Option<(Behind, KeySet)> {
        let [sent] = &self.under_way[..] else { return None };
        if sent.session != session {
            return None;
        }
        let keys = || sent.appends.iter().flat_map(|append| &append.keys);
        let behind = Behind { call: sent.call, head, events: keys().count() as u64 };
        Some((behind, keys().flat_map(|keys| keys.hashes()).copied().collect()))
    }

    fn judge(&self, head: Mark, known: u64, condition: Condition<'_>) -> Judged {
        let (Some(after), Some(guard)) = condition else { return Judged::Unknown };
        let position = after.position();
        let is_known = (known..=head.position()).contains(&position)
            && after.mark().is_none_or(|mark| self.id(position) == Some(mark.id()));
        if !is_known {
            return Judged::Unknown;
        }
        if guard.keys.hashes().iter().all(|key| self.last(*key) <= position) {
            return Judged::HeldUntil(head);
        }
        // An event has one of its keys: it may match.
        let breaks = |at: &u64| self.event(*at).is_none_or(|event| guard.filter.matches_subject(&Subject::from(event)));
        let first = (position + 1..=head.position()).take(COMPARED).find(breaks);
        match first.and_then(|at| Some((at, self.event(at)?))) {
            Some((position, event)) => Judged::Broken { position, event_type: event.event_type().to_owned() },
            None => Judged::Unknown,
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

    /// The last position at which it was written, or 0.
    fn last(&self, key: u64) -> u64 {
        let last = [&self.newer, &self.older].map(|keys| keys.last.get(&key));
        last.into_iter().flatten().max().copied().unwrap_or_default()
    }

    /// Takes up what has been answered, in the order of the log. What is before it may still come; when it can't any
    /// more, somebody else has written there.
    fn take_up(&mut self) {
        while let Some(next) = (0..self.early.len()).min_by_key(|&index| self.early[index].head) {
            if self.early.len() <= self.under_way.len() && self.early[next].head > self.head() {
                return;
            }
            let batch = self.early.swap_remove(next);
            self.add(&batch);
        }
    }

    fn add(&mut self, batch: &Batch) {
        if self.head() != batch.head || self.server != batch.session.server {
            self.begin_behind(batch.head);
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
        self.newer.begin_behind(self.head());
        self.ids.drain(..usize::try_from(since - self.since).unwrap_or(self.ids.len()));
        let forgotten = self.batches.partition_point(|(first, _)| *first <= since);
        self.batches.drain(..forgotten);
        self.since = since;
        // A large batch may have more than is kept: there is one then, and it goes.
        if self.older.last.len() >= 2 * KEYS {
            self.begin_behind(self.head());
        }
    }

    /// Knows nothing of what is before the position, and nothing yet of what is behind it.
    fn begin_behind(&mut self, position: u64) {
        self.since = position;
        self.ids.clear();
        self.batches.clear();
        self.appends.clear();
        self.bytes = 0;
        self.newer.begin_behind(position);
        self.older.begin_behind(position);
    }
}

impl Keys {
    fn begin_behind(&mut self, position: u64) {
        self.since = position;
        if self.last.capacity() > 4 * KEYS {
            self.last = KeyMap::default();
        }
        self.last.clear();
    }
}

#[cfg(test)]
mod tests;
