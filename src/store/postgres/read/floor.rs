//! What a read of the log must contain because of tokens and sessions, and the token of what it has seen.
//!
//! An event that must exist is looked up by position and id, in a statement ahead of the read. That is proof on any
//! node and across failovers: a replica shows a prefix of the log, and after a failover that lost events, positions are
//! reused, while ids are not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    Consistency, Filter, Mark, Role, Token,
    error::Result,
    router::{Ask, Check, Deadline, Floor, Freshness, Lease, Tried},
    store::{
        EventStore,
        postgres::{LogName, PostgresEventStore, failure, wire},
        refusal,
    },
    token::{LogMark, Place},
};

/// The statements.
#[derive(Debug)]
pub(in crate::store::postgres) struct Statements {
    marked: String,
    pub(in crate::store::postgres) head: String,
    in_flight: String,
}

impl Statements {
    pub(in crate::store::postgres) fn new(name: &LogName) -> Self {
        Self {
            marked: name.put_into(include_str!("../sql/marked.sql")),
            head: name.put_into(include_str!("../sql/head.sql")),
            in_flight: name.put_into(include_str!("../sql/in_flight.sql")),
        }
    }
}

/// The number of a log in tokens: the same in every process and on every node, and a different one for each log of a
/// cluster. (With an existing pool, the database is unknown. There, the marks of other processes belong to another log:
/// what is read is then proven by their places.)
pub(in crate::store::postgres) fn number(database: Option<&str>, name: &LogName) -> u64 {
    let names = [database.unwrap_or_default(), name.schema(), name.log()];
    let digest = Sha256::digest(names.join("\0"));
    // No log has the number 0, which stands for an unknown place.
    digest.first_chunk().map_or(1, |bytes| u64::from_be_bytes(*bytes).max(1))
}

/// What a read requests besides its events.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::postgres) struct ReadNeeds<'a> {
    pub(in crate::store::postgres) consistency: &'a Consistency,
    pub(in crate::store::postgres) floor: &'a Token,
    pub(in crate::store::postgres) wants_token: bool,
}

/// The events that must exist.
#[derive(Debug)]
struct LogCheck {
    log: Arc<crate::store::postgres::Log>,
    marks: Vec<LogMark>,
    positions: Vec<i64>,
    /// Whether the appends in flight have been waited for: what is not on the primary now is lost.
    has_waited: AtomicBool,
}

impl LogCheck {
    fn new(log: &Arc<crate::store::postgres::Log>, marks: Vec<LogMark>) -> Self {
        let positions = marks.iter().map(|mark| wire::position_param(mark.position)).collect();
        Self { log: Arc::clone(log), marks, positions, has_waited: AtomicBool::new(false) }
    }
}

impl Check for LogCheck {
    fn sql_before(&self) -> Option<&str> {
        (!self.marks.is_empty()).then_some(&self.log.floor.marked)
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![&self.positions]
    }

    fn judge(&self, rows: &[Row], role: Role) -> Result<Freshness> {
        let found = rows.iter().map(|row| wire::mark(row, 0)).collect::<Result<Vec<_>, _>>();
        let found: Vec<Mark> = found.map_err(wire::unreadable)?.into_iter().flatten().collect();
        // A borrowed connection does not report when its server becomes a replica.
        let is_replica = rows.first().map(|row| row.try_get(2)).transpose();
        let is_replica = is_replica.map_err(|error| wire::unreadable(error.into()))? == Some(true);
        let role = if is_replica { Role::Replica } else { role };
        let mut freshness = Freshness::Contained;
        for mark in self.marks.iter().copied().map(LogMark::mark) {
            match found.iter().find(|found| found.position() == mark.position()) {
                Some(found) if found.id() == mark.id() => {}
                // A replica that has not followed a failover shows what the others have lost, and vice versa.
                Some(_) if role == Role::Replica => freshness = Freshness::Unknown,
                Some(_) => return Err(refusal::lost(mark)),
                None if role == Role::Primary && self.has_waited.load(Ordering::Relaxed) => {
                    return Err(refusal::lost(mark));
                }
                None if freshness == Freshness::Contained => freshness = Freshness::Behind,
                None => {}
            }
        }
        Ok(freshness)
    }

    fn sql_after(&self) -> &str {
        &self.log.floor.head
    }

    fn log(&self) -> (u64, Option<Place>) {
        let newest = self.marks.iter().max_by_key(|mark| mark.place.map(|place| place.timeline));
        (self.log.number, newest.and_then(|mark| mark.place))
    }
}

impl PostgresEventStore {
    /// Runs a read on a node that its level allows, and that has what the read must contain.
    pub(in crate::store::postgres) async fn read<T, F, Fut>(
        &self,
        asked: ReadNeeds<'_>,
        deadline: Deadline,
        read: F,
    ) -> Result<T>
    where
        F: Fn(Arc<Lease>) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let check = self.log_check(asked, deadline).await;
        let floor = check.as_ref().map(|check| Floor::with_check(asked.floor.clone(), Arc::clone(check) as _));
        let ask = Ask { floor: floor.as_ref(), notes_place: asked.wants_token, ..Ask::from(asked.consistency) };
        let on = |lease: Lease| self.read_on(Arc::new(lease), check.clone(), deadline, &read);
        let outcome = self.router.read(ask, deadline, on).await;
        outcome.map_err(|error| failure::classify(error, self.name()))
    }

    /// A primary that does not show an event yet may have it in a commit that waits for its standby, on which a reader
    /// has seen it. Such an append holds the log's lock: after waiting for that, the event is visible, or it never will
    /// be.
    async fn read_on<T, F, Fut>(
        &self,
        lease: Arc<Lease>,
        check: Option<Arc<LogCheck>>,
        deadline: Deadline,
        read: &F,
    ) -> Result<T>
    where
        F: Fn(Arc<Lease>) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let outcome = read(Arc::clone(&lease)).await;
        let Some(check) = check.filter(|_| is_behind_as_primary(&lease)) else { return outcome };
        self.wait_for_appends(&lease, deadline, self.router.replay_wait()).await?;
        check.has_waited.store(true, Ordering::Relaxed);
        read(lease).await
    }

    /// Returns a connection for a read that leaves rows to be fetched, to a node that has proven what the read must
    /// contain.
    pub(in crate::store::postgres) async fn lease_at(
        &self,
        asked: ReadNeeds<'_>,
        deadline: Deadline,
        tried: &mut Tried,
    ) -> Result<Lease> {
        let check = self.log_check(asked, deadline).await;
        let floor = check.as_ref().map(|check| Floor::with_check(asked.floor.clone(), Arc::clone(check) as _));
        let ask = Ask { floor: floor.as_ref(), notes_place: asked.wants_token, ..Ask::from(asked.consistency) };
        let lease = self.router.lease_at(ask, deadline, tried).await?;
        if let Some(check) = &check
            && is_behind_as_primary(&lease)
        {
            self.wait_for_appends(&lease, deadline, self.router.replay_wait()).await?;
            check.has_waited.store(true, Ordering::Relaxed);
            lease.prove(deadline).await?;
        }
        Ok(lease)
    }

    /// Waits until the append that holds the log's lock, if there is one, has finished; no longer than this, since the
    /// event waited for may be made up.
    pub(in crate::store::postgres) async fn wait_for_appends(
        &self,
        lease: &Lease,
        deadline: Deadline,
        longest: Duration,
    ) -> Result<()> {
        // 0 would mean no limit.
        let limit_ms = longest.as_millis().clamp(1, i32::MAX as u128).to_string();
        let waited = lease.unguarded(deadline, &self.log.floor.in_flight, &[&limit_ms]).await;
        waited.map(drop).map_err(|error| failure::on_wait_for_appends(error, longest, self.name()))
    }

    async fn log_check(
        &self,
        ReadNeeds { floor, wants_token, .. }: ReadNeeds<'_>,
        deadline: Deadline,
    ) -> Option<Arc<LogCheck>> {
        if floor.is_empty() && !wants_token {
            return None;
        }
        if !floor.is_empty() && self.router.system().is_none() {
            // The first answers tell which parts of it are of this cluster.
            self.router.all_asked(deadline).await;
        }
        let marks = floor.marks(self.router.system(), self.log.number).collect();
        Some(Arc::new(LogCheck::new(&self.log, marks)))
    }

    /// Returns the events of this log that a token covers. For places in the write-ahead log, it is unknown which
    /// events these contain; they are covered by the current last event.
    pub(crate) async fn marks_of(&self, token: &Token, deadline: Deadline) -> Result<Vec<Mark>> {
        if !token.is_empty() && self.router.system().is_none() {
            self.router.all_asked(deadline).await;
        }
        let (system, log) = (self.router.system(), self.log.number);
        let mut marks: Vec<Mark> = token.marks(system, log).map(LogMark::mark).collect();
        if token.places(system, Some(log)).next().is_some() {
            let level = Consistency::AtLeast(token.clone());
            let head = self.last(&Filter::any_event()).consistency(level).timeout(deadline.remaining()).await?;
            marks.extend(head.into_inner().map(|head| head.mark()));
        }
        Ok(marks)
    }

    /// The token for reads that contain what was seen on this connection, when the log ended there.
    pub(in crate::store::postgres) fn seen(&self, lease: &Lease, head: Option<Mark>) -> Token {
        let place = lease.guard().and_then(|guard| guard.seen());
        head.map(|head| self.token(lease.system(), head, place)).unwrap_or_default()
    }

    /// The same if the log's end was only requested after the call, as in a session.
    pub(in crate::store::postgres) fn token_after_read(&self, lease: &Lease, wants_token: bool) -> Token {
        if !wants_token {
            return Token::new();
        }
        let Some(rows) = lease.guard().and_then(|guard| guard.take_checked()) else {
            return Token::of_unknown_place(lease.system());
        };
        match rows.first().map_or(Ok(None), |row| wire::mark(row, 0)) {
            Ok(head) => self.seen(lease, head),
            // Not the token of an empty log, which asks for nothing.
            Err(_) => Token::of_unknown_place(lease.system()),
        }
    }

    pub(in crate::store::postgres) fn token(&self, system: Option<u64>, mark: Mark, place: Option<Place>) -> Token {
        let mark = LogMark { log: self.log.number, position: mark.position(), id: mark.id().into(), place };
        Token::of_mark(system, mark)
    }
}

fn is_behind_as_primary(lease: &Lease) -> bool {
    lease.role() == Role::Primary && lease.guard().is_some_and(|guard| guard.is_behind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_log_has_its_number() {
        let events = LogName::default();
        let other = LogName::new("mainstem", "others").unwrap();
        let moved = LogName::new("mainstem\u{a0}", "events").unwrap();
        let numbers = [
            number(Some("shop"), &events),
            number(Some("shop"), &other),
            number(Some("shop"), &moved),
            number(Some("till"), &events),
            number(None, &events),
        ];
        for (index, one) in numbers.iter().enumerate() {
            assert!(!numbers[..index].contains(one));
        }
        assert_eq!(number(Some("shop"), &events), 0x72dd_4d37_5c7f_c22b, "it is in tokens that others hold");
    }
}
