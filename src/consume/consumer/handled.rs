//! Waiting until a consumer has handled an event.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{ConsumerControl, ConsumerStatus};
use crate::{
    Consistency, Error, ErrorKind, Filter, Mark, Result, Role, Token,
    router::Deadline,
    store::{After, BoxFuture, EventStore, ReadAfterRequest, no_consumer},
};

/// The first and the longest pause between two looks.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Waits until a consumer has handled an event, or everything that a token refers to: await it, after setting where
/// that must be visible and how long it may take if necessary.
///
/// Use it to show users what they have just written, in a read model that a consumer maintains:
///
/// ```no_run
/// # use mainstem::{AppendCondition, EventStore, NewEvent, PostgresEventStore};
/// # async fn run(store: PostgresEventStore, event: NewEvent) -> mainstem::Result<()> {
/// let appended = store.append([event], AppendCondition::none()).await?;
/// store.consumer_control("shelf").wait_until_handled(appended.last()).await?;
/// // … read the model: the event is in it.
///
/// // In another request, by the token that the client has brought along.
/// # let token: mainstem::Token = appended.token().clone();
/// store.consumer_control("shelf").wait_until_handled(&token).await?;
/// # Ok(())
/// # }
/// ```
///
/// In an eventual scope it looks at a replica, and returns when the checkpoint has arrived there; with several replicas
/// another one may not have it yet.
///
/// A token from an append or a read of the log names the events to wait for. A token from your own SQL only contains an
/// LSN: then the wait is for everything that is in the log by now. A token that is empty, or of other clusters only,
/// requires nothing.
///
/// # Errors
///
/// [`Timeout`](ErrorKind::Timeout) if the limit expires first; the message says how far the consumer is.
/// [`LogDiverged`](ErrorKind::LogDiverged) if the log no longer contains the event.
/// [`Configuration`](ErrorKind::Configuration) if there is no such consumer. Otherwise as for a [query](crate::Query).
///
/// # Cancel safety
///
/// It only reads.
#[derive(Debug)]
#[must_use = "nothing is waited for until it is awaited"]
pub struct WaitUntilHandled {
    control: ConsumerControl,
    awaited: Awaited,
    consistency: Consistency,
    timeout: Duration,
    /// Whether the consumer has been started, and so will exist.
    is_started: bool,
}

/// The target of the wait: an event, or everything that a [`Token`] refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited(Of);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    Event(Mark),
    Token(Token),
}

impl From<Mark> for Awaited {
    fn from(mark: Mark) -> Self {
        Self(Of::Event(mark))
    }
}

impl From<Token> for Awaited {
    fn from(token: Token) -> Self {
        Self(Of::Token(token))
    }
}

impl From<&Token> for Awaited {
    fn from(token: &Token) -> Self {
        token.clone().into()
    }
}

/// The result of a wait: the target has been handled, as seen on a node.
#[derive(Clone, Debug)]
pub struct Handled {
    checkpoint: Option<Mark>,
    node: Arc<str>,
    role: Role,
}

impl WaitUntilHandled {
    /// The limit, unless [`timeout`](Self::timeout) sets another: five seconds.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

    pub(super) fn new(control: ConsumerControl, awaited: Awaited, consistency: Consistency) -> Self {
        Self { control, awaited, consistency, timeout: Self::DEFAULT_TIMEOUT, is_started: false }
    }

    /// Also waits for the consumer to be created, if it has been started.
    pub(in crate::consume) fn started(mut self, is_started: bool) -> Self {
        self.is_started = is_started;
        self
    }

    /// Replaces the consistency level of the scope.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Replaces the limit. Defaults to [`DEFAULT_TIMEOUT`](Self::DEFAULT_TIMEOUT).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    async fn run(self) -> Result<Handled> {
        let Self { control, awaited, consistency, timeout, is_started } = self;
        let deadline = Deadline::after(timeout);
        let marks = match awaited.0 {
            Of::Event(mark) => vec![mark],
            Of::Token(token) => control.store().marks_of(&token, deadline).await?,
        };
        let last = marks.iter().map(Mark::position).max().unwrap_or_default();
        let mut pause = FIRST_PAUSE;
        loop {
            let status = control.status_at(&consistency, deadline).await?;
            if status.is_none() && !is_started {
                return Err(no_consumer(control.name()));
            }
            let checkpoint = status.as_ref().and_then(ConsumerStatus::checkpoint);
            if let Some(status) = &status
                && Mark::position_or_zero(checkpoint) >= last
                && are_held(&control, &marks, &consistency, deadline).await?
            {
                return Ok(Handled { checkpoint, node: status.node().into(), role: status.role() });
            }
            if deadline.remaining() <= pause {
                let Some(status) = status else { return Err(no_consumer(control.name())) };
                let place = checkpoint.map_or_else(|| "at the beginning".to_owned(), |mark| format!("at {mark}"));
                let message = format!(
                    "the consumer {:?} has not handled the event at position {last} within {timeout:?}: it is {place}, {} events \
                     of the log behind{}",
                    control.name(),
                    status.events_behind(),
                    if status.is_paused() { ", and paused" } else { "" }
                );
                return Err(Error::new(ErrorKind::Timeout, message).with_node(status.node()));
            }
            sleep(pause).await;
            pause = pause.mul_f64(1.5).min(LONGEST_PAUSE);
        }
    }
}

/// Whether the log holds these events: the consumer may have handled others at their positions, of another history. A
/// replica that has not got that far proves nothing.
async fn are_held(
    control: &ConsumerControl,
    marks: &[Mark],
    consistency: &Consistency,
    deadline: Deadline,
) -> Result<bool> {
    for mark in marks {
        let mut check = ReadAfterRequest::new(Filter::any_event(), After::Mark(*mark), 0, consistency.clone());
        check.timeout = Some(deadline.remaining());
        let piece = control.store().run_read_after(check).await?;
        if piece.head.is_none_or(|head| head.position() < mark.position()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The future owns everything it needs, so it can be spawned.
impl IntoFuture for WaitUntilHandled {
    type Output = Result<Handled>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl Handled {
    /// Returns the consumer's checkpoint: at the awaited event, or after it. `None` at the beginning, if nothing was
    /// awaited.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Mark> {
        self.checkpoint
    }

    /// Returns the name of the node that shows it.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns the role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }
}
