//! Reading event by event.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use tracing::Span;

use super::{Answer, AppendCondition, noted::Noted};
use crate::{
    Error, ErrorKind, Event, Filter, Mark, Role, Token,
    error::Result,
    filter::Selection,
    telemetry::{Done, Operation, OperationSpan},
};

/// A boxed stream, as a method of a trait object returns it.
pub type BoxStream<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// The events of a filter, one by one, in the order of the log.
///
/// It reads the log as of the moment when the first event is requested: events that are appended while it runs are not
/// in it. An error is an item, and the last one. Only when everything has been read does [`end`](Self::end) return a
/// value, so a reader that stops at an error, or early, has no proof of a complete read.
///
/// ```
/// # use mainstem::{AppendCondition, EventStore, Filter, MemoryEventStore, NewEvent};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mainstem::Result<()> {
/// # let store = MemoryEventStore::new();
/// # store.append([NewEvent::new("CopyAdded", &())?], AppendCondition::none()).await?;
/// let copies = Filter::matching().any_type_of(["CopyAdded", "CopyRemoved"]).finish()?;
/// let mut stream = store.query_stream(&copies);
/// let mut count = 0;
/// while let Some(event) = stream.next().await {
///     count += if event?.event_type() == "CopyAdded" { 1 } else { -1 };
/// }
/// if let Some(end) = stream.end() {
///     let counted = NewEvent::new("CopiesCounted", &count)?;
///     store.append([counted], end.unchanged()).await?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// It is also a [`Stream`](futures_util::Stream), for use with adapters. It is `Send + 'static`, and sends nothing
/// before it is polled.
///
/// # In PostgreSQL
///
/// It reads no faster than events are requested: the server waits for the consumer. It holds a few hundred events at a
/// time, or a few megabytes of large ones, and keeps a connection until the end. Every read by a filter is one
/// statement, so the search is made once. A consumer that takes hours keeps that statement's snapshot for hours, during
/// which `VACUUM` of this database removes nothing (and a replica may cancel it). [Any event](Filter::any_event) is
/// read in pieces of a few thousand events, and keeps a snapshot for one piece only.
///
/// If a replica is lost during the read, the stream continues after the last event, on another qualified node that has
/// the event that was the log's head at the start. A time limit ([`Query::timeout`](crate::Query::timeout)) applies to
/// each wait.
///
/// # Cancel safety
///
/// Dropping the stream, or the future of [`next`](Self::next), loses no event: the next call continues. Dropping the
/// stream before its end stops the server's work and closes the connection.
#[must_use = "a stream does nothing until it is polled"]
pub struct QueryStream<S = Filter> {
    /// `None` once it has ended or failed.
    answers: Option<BoxStream<Result<Answer>>>,
    selection: S,
    events: std::vec::IntoIter<Event>,
    /// The log's head, which comes with the first answer, if the log is not empty.
    head: Option<Option<Mark>>,
    served: Option<(Arc<str>, Role)>,
    token: Token,
    noted: Noted,
    end: Option<QueryEnd<S>>,
    /// The store is called in this span.
    span: Span,
    call_span: Option<OperationSpan>,
    read: u64,
}

/// What a complete [`QueryStream`] provides, at its end and not before.
#[derive(Clone, Debug)]
pub struct QueryEnd<S = Filter> {
    selection: S,
    head: Option<Mark>,
    token: Token,
}

impl<S: Selection> QueryStream<S> {
    pub(super) fn new(answers: BoxStream<Result<Answer>>, selection: S, noted: Noted) -> Self {
        let (events, token) = (Vec::new().into_iter(), Token::new());
        let span = Operation::QueryStream.span();
        Self {
            answers: Some(answers),
            selection,
            events,
            head: None,
            served: None,
            token,
            noted,
            end: None,
            span,
            call_span: None,
            read: 0,
        }
    }

    /// Returns the next event; `None` after the last one, and after an error.
    ///
    /// # Errors
    ///
    /// As for [`Query`](crate::Query); [`Timeout`](crate::ErrorKind::Timeout) if this event did not arrive in time.
    /// What was read before stays valid: a new stream can continue after it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Returns what the complete read provides; `None` until it is complete.
    pub fn end(&self) -> Option<&QueryEnd<S>> {
        self.end.as_ref()
    }

    /// Returns the selection that is read.
    pub fn selection(&self) -> &S {
        &self.selection
    }

    /// Returns the name of the node that serves the read; `None` before its first answer.
    pub fn node(&self) -> Option<&str> {
        self.served.as_ref().map(|(node, _)| &**node)
    }

    /// Returns the role of that node.
    pub fn role(&self) -> Option<Role> {
        self.served.as_ref().map(|(_, role)| *role)
    }

    /// Reports that it has ended by itself.
    fn record(&mut self, error: Option<&Error>) {
        if let Some(call_span) = self.call_span.take() {
            let served = self.served.as_ref().map(|(node, role)| (&**node, *role));
            call_span.end(error.map_or(Ok(Done { served, events: self.read }), Err));
        }
        self.span = Span::none();
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event>>> {
        loop {
            if let Some(event) = self.events.next() {
                return Poll::Ready(Some(Ok(event)));
            }
            let Some(answers) = &mut self.answers else { return Poll::Ready(None) };
            self.call_span.get_or_insert_with(|| OperationSpan::begin(Operation::QueryStream, self.span.clone()));
            match ready!(self.span.in_scope(|| answers.as_mut().poll_next(cx))) {
                Some(Ok(Answer { events, head, node, role, token })) => {
                    self.head.get_or_insert(head);
                    self.noted.saw(&token);
                    self.token = self.token.merge(&token);
                    self.served = Some((node, role));
                    self.read += events.len() as u64;
                    self.events = events.into_iter();
                }
                Some(Err(error)) => {
                    self.answers = None;
                    self.record(Some(&error));
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.answers = None;
                    let Some(head) = self.head else {
                        let message = "the store ended the stream without an answer";
                        let error = Error::new(ErrorKind::Database, message);
                        self.record(Some(&error));
                        return Poll::Ready(Some(Err(error)));
                    };
                    self.record(None);
                    self.end = Some(QueryEnd { selection: self.selection.clone(), head, token: self.token.clone() });
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl<S> QueryEnd<S> {
    /// Returns the last event of the whole log when the stream began, whether it matched or not. `None` if the log was
    /// empty.
    #[must_use]
    pub fn head(&self) -> Option<Mark> {
        self.head
    }
}

impl<S> QueryEnd<S> {
    /// Returns a token for reads that contain what this one has seen; see [`History::token`](crate::History::token).
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }
}

impl QueryEnd {
    /// Returns the condition that guards this read: no event that matches the filter has been appended since it began.
    ///
    /// As with [`History::unchanged`](crate::History::unchanged), only the complete read of a whole filter has it.
    ///
    /// ```compile_fail,E0599
    /// # async fn run(store: mainstem::MemoryEventStore, filter: mainstem::Filter) {
    /// # use mainstem::EventStore;
    /// let stream = store.query_stream(&filter.after_position(17));
    /// stream.end().unwrap().unchanged();
    /// # }
    /// ```
    pub fn unchanged(&self) -> AppendCondition {
        AppendCondition::since(self.head, self.selection.clone())
    }

    /// Returns the same condition for another filter than the one that was read: see
    /// [`History::unchanged_for`](crate::History::unchanged_for).
    pub fn unchanged_for(&self, filter: Filter) -> AppendCondition {
        AppendCondition::since(self.head, filter)
    }
}

impl<S: Selection> Stream for QueryStream<S> {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}

impl<S: fmt::Debug> fmt::Debug for QueryStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryStream")
            .field("selection", &self.selection)
            .field("served", &self.served)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// Some events of a filter, one by one, in the requested order.
///
/// It is like a [`QueryStream`], but a limit or the order makes it a part of the whole: it has no end that proves a
/// complete read, only the last event that was read. Errors and cancellation are as there.
#[must_use = "a stream does nothing until it is polled"]
#[derive(Debug)]
pub struct PageStream<S = Filter> {
    events: QueryStream<S>,
    last_read: Option<Mark>,
}

impl<S: Selection> PageStream<S> {
    pub(super) fn new(events: QueryStream<S>) -> Self {
        Self { events, last_read: None }
    }

    /// Returns the next event; `None` after the last one, and after an error.
    ///
    /// # Errors
    ///
    /// As for [`QueryStream::next`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Returns the last event that was read.
    pub fn last_read(&self) -> Option<Mark> {
        self.last_read
    }

    /// Whether everything that was requested has been read.
    pub fn is_complete(&self) -> bool {
        self.events.end.is_some()
    }

    /// Returns the selection that is read.
    pub fn selection(&self) -> &S {
        self.events.selection()
    }

    /// Returns the name of the node that serves the read; `None` before its first answer.
    pub fn node(&self) -> Option<&str> {
        self.events.node()
    }

    /// Returns the role of that node.
    pub fn role(&self) -> Option<Role> {
        self.events.role()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event>>> {
        let event = ready!(self.events.poll_event(cx));
        if let Some(Ok(event)) = &event {
            self.last_read = Some(event.mark());
        }
        Poll::Ready(event)
    }
}

impl<S: Selection> Stream for PageStream<S> {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}
