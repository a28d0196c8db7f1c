//! Where following the log begins.

use std::time::{Duration, SystemTime};

use crate::{
    Consistency, Error, Event, EventStore, Filter, Mark, Result,
    router::Deadline,
    store::{After, Order, QueryRequest},
};

/// The place where a subscription, a fetch or a new consumer begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the first event of the log.
    #[default]
    Beginning,
    /// After this event, which must be in the log: otherwise that is [`LogDiverged`](crate::ErrorKind::LogDiverged).
    After(Mark),
    /// After this position, whatever event is there; 0 is the beginning. **Unfenced**: after a failover or a restore
    /// that lost events, the event at the position may not be the one that was handled. Prefer [`After`](Self::After).
    AfterPosition(u64),
    /// At the first event that was [recorded](Event::recorded_at) at this time or later.
    ///
    /// The time is the database's clock, which follows the order of the log as long as it is never set back. Finding
    /// the event takes some twenty short reads.
    RecordedFrom(SystemTime),
    /// At the first event that is appended from now on: after the log's head at the moment of the first read.
    Now,
}

impl Start {
    /// The place, resolved in the log as seen at this level.
    pub(super) async fn resolve(
        self,
        store: &dyn EventStore,
        consistency: &Consistency,
        limit: ReadLimit,
    ) -> Result<After> {
        let log = Log { store, consistency, limit };
        match self {
            Self::Beginning | Self::AfterPosition(0) => Ok(After::Beginning),
            Self::After(mark) => Ok(After::Mark(mark)),
            Self::AfterPosition(position) => Ok(After::Position(position)),
            Self::Now => Ok(log.last(u64::MAX).await?.map_or(After::Beginning, |it| After::Mark(it.mark()))),
            Self::RecordedFrom(time) => log.before(time).await,
        }
    }
}

impl Start {
    /// The place as the event that is there, on the primary; `None` for the beginning.
    pub(super) async fn resolve_to_mark(self, store: &dyn EventStore, limit: ReadLimit) -> Result<Option<Mark>> {
        let Self::AfterPosition(position @ 1..) = self else {
            return Ok(self.resolve(store, &Consistency::Strong, limit).await?.mark());
        };
        let log = Log { store, consistency: &Consistency::Strong, limit };
        let last = log.last(position).await?.map(|event| event.mark());
        match last.filter(|last| last.position() == position) {
            Some(mark) => Ok(Some(mark)),
            None => Err(Error::invalid_input(format!("there is no event at position {position} to begin after"))),
        }
    }
}

/// The time limit of the reads that resolve a place.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReadLimit {
    /// Of each; without one, the store's own.
    Each(Option<Duration>),
    /// Of all of them.
    Together(Deadline),
}

/// The log in which a place is resolved.
struct Log<'a> {
    store: &'a dyn EventStore,
    consistency: &'a Consistency,
    limit: ReadLimit,
}

impl Log<'_> {
    /// The place after the last event that was recorded before this time.
    async fn before(&self, time: SystemTime) -> Result<After> {
        let Some(head) = self.last(u64::MAX).await? else { return Ok(After::Beginning) };
        if head.recorded_at() < time {
            return Ok(After::Mark(head.mark()));
        }
        // Of the positions in between, the answer is the last whose event is too early.
        let (mut early, mut late) = (After::Beginning, head.position());
        while early.position() + 1 < late {
            let middle = early.position() + (late - early.position()) / 2;
            match self.last(middle).await? {
                Some(event) if event.position() <= early.position() => late = middle,
                Some(event) if event.recorded_at() < time => early = After::Mark(event.mark()),
                // Never beyond what was asked for, whatever is answered: otherwise this would not terminate.
                Some(event) => late = event.position().min(middle),
                None => late = middle,
            }
        }
        Ok(early)
    }

    /// The last event up to a position.
    async fn last(&self, until: u64) -> Result<Option<Event>> {
        let mut request = QueryRequest::new(&Filter::any_event());
        (request.order, request.limit, request.consistency) = (Order::NewestFirst, Some(1), self.consistency.clone());
        request.bounds.until = (until < u64::MAX).then_some(until);
        request.timeout = match self.limit {
            ReadLimit::Each(timeout) => timeout,
            ReadLimit::Together(deadline) => Some(deadline.remaining()),
        };
        Ok(self.store.run_query(request).await?.events.pop())
    }
}

impl From<Mark> for Start {
    fn from(mark: Mark) -> Self {
        Self::After(mark)
    }
}
