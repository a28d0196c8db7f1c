//! The events of a filter, those that are there and those that come.

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

/// The events of a filter from some place of the log on, first those that are there, then those that are appended, in the
/// order of the log: each at least once, and none is ever skipped. [`Subscribe::subscribe`](super::Subscribe::subscribe)
/// makes it.
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
/// An error is an item. When time can mend it (no node answers, a failover is under way, a limit ran out), the next call goes
/// on where this one stood, after a pause that grows from 50 ms to a second. Otherwise there is nothing behind it: `None`
/// follows. That is so for [`LogDiverged`](crate::ErrorKind::LogDiverged) (the log has lost what was read:
/// [`mark`](Self::mark) says what), [`Schema`](crate::ErrorKind::Schema),
/// [`Configuration`](crate::ErrorKind::Configuration), [`InvalidInput`](crate::ErrorKind::InvalidInput) and
/// [`Closed`](crate::ErrorKind::Closed).
///
/// # Memory and speed
///
/// It reads in pieces, a batch at a time ([so many events](super::SubscriptionBuilder::batch_events), and
/// [so many bytes](super::SubscriptionBuilder::batch_bytes)), and one piece ahead while there are more; whoever is slow is waited for. No statement is kept open. Each piece checks that the log still holds the event before it,
/// in the snapshot of its events, so that pieces may come from different nodes.
///
/// When it has caught up it sends nothing. All subscriptions of a store (and of its clones) in a process share one
/// connection on which the primary tells of appends, and one look at the log's end now and then. Behind a
/// [pooler in transaction mode](crate::RouterBuilder::transaction_pooling), and over a pool that was handed to the router, nobody
/// can listen: they share one look every 20 ms instead, as long as one of them waits.
///
/// # Cancel safety
///
/// Dropping the future of [`next`](Self::next) or [`next_batch`](Self::next_batch) loses no event: the next call goes on.
/// Dropping the subscription ends it.
#[must_use = "a subscription reads nothing until it is asked"]
pub struct Subscription {
    reading: Reading,
    stop: StopHandle,
    stopped: Exclusive<BoxFuture<()>>,
    /// What was taken out of a batch, and the rest of that.
    rest: Option<(Batch, std::vec::IntoIter<Event>)>,
    /// Of the last event that [`next`](Self::next) has handed out of it, or that of what was before it.
    last: Option<Mark>,
}

impl Subscription {
    pub(super) fn new(plan: Plan, start: Start) -> Self {
        let stop = StopHandle::new();
        let stopped = Exclusive::new(stop.stopped());
        Self { reading: Reading::new(plan, start), stop, stopped, rest: None, last: None }
    }

    /// The next event, as soon as there is one; `None` when the subscription has ended.
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

    /// The next events, as soon as there are some, or none for a step forward without any; `None` when the subscription has
    /// ended.
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

    /// The place up to which everything was handed out: to go on from here, [start](super::SubscriptionBuilder::start) another
    /// one behind it. `None` at the beginning of the log, and until the place of another start is known.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        match &self.rest {
            Some((_, rest)) if rest.len() > 0 => self.last,
            _ => self.reading.mark(),
        }
    }

    /// What ends it, also while somebody waits for the next event.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// What was asked for.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.reading.plan().filter
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Batch>>> {
        if self.stop.is_stopped() || self.stopped.get_mut().as_mut().poll(cx).is_ready() {
            // What is left of a batch stays: it was not handed out, and the mark says so.
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
