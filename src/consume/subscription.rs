//! The existing and future events of a filter.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;

use super::{
    Batch, Start, StopHandle,
    exclusive::Exclusive,
    reading::{Plan, Reading},
};
use crate::{Event, Filter, Mark, Result, store::BoxFuture};

/// Delivers the events of a filter from a place in the log on: first the existing ones, then those that are appended,
/// in log order. Each is delivered at least once, and none is ever skipped.
/// [`Subscribe::subscribe`](super::Subscribe::subscribe) creates it.
///
/// ```
/// # use mainstem::{AppendCondition, EventStore, Filter, MemoryEventStore, NewEvent, Subscribe};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mainstem::Result<()> {
/// # let store = MemoryEventStore::new();
/// # store.append([NewEvent::new("BookLent", &())?], AppendCondition::none()).await?;
/// let lent = Filter::matching().any_type_of(["BookLent"]).finish()?;
/// let mut subscription = store.subscribe(&lent).build();
/// while let Some(event) = subscription.next().await {
///     match event {
///         Ok(event) => println!("{} at {}", event.event_type(), event.position()),
///         // It goes on by itself; a person may want to know.
///         Err(error) => eprintln!("{}", error.report()),
///     }
/// #   break;
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// An error is an item. If time can resolve it (no node answers, a failover is in progress, a limit expired), the next
/// call continues at the same place, after a pause that grows from 50 ms to a second. Otherwise `None` follows. That
/// applies to [`LogDiverged`](crate::ErrorKind::LogDiverged) (the log has lost what was read, which is what
/// [`mark`](Self::mark) returns; of several marks that you have kept,
/// [`last_common`](crate::PostgresEventStore::last_common) tells which the log still has), [`Schema`](crate::ErrorKind::Schema),
/// [`Configuration`](crate::ErrorKind::Configuration), [`InvalidInput`](crate::ErrorKind::InvalidInput) and
/// [`Closed`](crate::ErrorKind::Closed). A replica may say that something is not there because it has not replayed it yet: then
/// the primary is asked first.
///
/// # Memory and speed
///
/// It reads the log in pieces, a batch at a time (limited in [events](super::SubscriptionBuilder::batch_events) and
/// [bytes](super::SubscriptionBuilder::batch_bytes)), and one piece ahead while there are more; it waits for a slow
/// reader. No statement is kept open. Each piece checks, in the snapshot of its events, that the log still contains the
/// event before it, so pieces may come from different nodes.
///
/// Once it has caught up, it sends nothing. All subscriptions to a store (and its clones) in a process share one
/// connection on which the primary notifies them of appends, and an occasional look at the log's end. Behind a [pooler
/// in transaction mode](crate::RouterBuilder::transaction_pooling), and over an existing pool passed to the router,
/// `LISTEN` is not available: instead they share one look every 20 ms, as long as one of them waits.
///
/// # Cancel safety
///
/// Dropping the future of [`next`](Self::next) or [`next_batch`](Self::next_batch) loses no event: the next call
/// continues. Dropping the subscription ends it.
#[must_use = "a subscription reads nothing until it is asked"]
pub struct Subscription {
    reading: Reading,
    stop: StopHandle,
    stopped: Exclusive<BoxFuture<()>>,
    /// The rest of a batch whose first events were taken out.
    rest: Option<(Batch, std::vec::IntoIter<Event>)>,
    /// The last event that [`next`](Self::next) has delivered from it, or the place before it.
    last: Option<Mark>,
}

impl Subscription {
    pub(super) fn new(plan: Plan, start: Start) -> Self {
        let stop = StopHandle::new();
        let stopped = Exclusive::new(stop.stopped());
        Self { reading: Reading::new(plan, start), stop, stopped, rest: None, last: None }
    }

    /// Waits for the next event; `None` when the subscription has ended.
    ///
    /// # Errors
    ///
    /// See [`Subscription`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Waits for the next events, or for a step forward without events; `None` when the subscription has ended.
    ///
    /// # Errors
    ///
    /// See [`Subscription`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn next_batch(&mut self) -> Option<Result<Batch>> {
        poll_fn(|cx| self.poll_batch(cx)).await
    }

    /// Returns the place up to which everything was delivered: to continue from here,
    /// [start](super::SubscriptionBuilder::start_at) another subscription after it. `None` at the beginning of the log,
    /// and until the place of another start is known.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        match &self.rest {
            Some((_, rest)) if rest.len() > 0 => self.last,
            _ => self.reading.mark(),
        }
    }

    /// Returns a handle that ends it, even while a call waits for the next event.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Returns its filter.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.reading.plan().filter
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Batch>>> {
        if self.stop.is_stopped() || self.stopped.get_mut().as_mut().poll(cx).is_ready() {
            // The rest of a batch stays: it was not delivered, and the mark says so.
            self.reading.end();
            return Poll::Ready(None);
        }
        if let Some((batch, rest)) = self.rest.take()
            && rest.len() > 0
        {
            return Poll::Ready(Some(Ok(batch.with_events(rest.collect()))));
        }
        self.reading.poll(cx)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event>>> {
        loop {
            if !self.stop.is_stopped()
                && let Some((_, rest)) = &mut self.rest
                && let Some(event) = rest.next()
            {
                self.last = Some(event.mark());
                return Poll::Ready(Some(Ok(event)));
            }
            let before = self.mark();
            match ready!(self.poll_batch(cx)) {
                Some(Ok(mut batch)) => {
                    let events = batch.take_events();
                    self.last = before;
                    self.rest = Some((batch, events.into_iter()));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("filter", self.filter())
            .field("mark", &self.mark())
            .finish_non_exhaustive()
    }
}
