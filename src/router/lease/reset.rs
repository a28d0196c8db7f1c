//! The message that resets what the last user of a session has left, and its answer.
//!
//! It is sent after the last answer, and nobody waits for it. The task that reads the socket consumes its answer, so in
//! a pool under light load the next user finds it done. A user that comes sooner consumes what has arrived itself: the
//! answer arrives before the first one of its own.

use std::{
    fmt,
    pin::{Pin, pin},
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio_postgres::{Client, Error, SimpleQueryStream};

#[derive(Debug, Default)]
pub(in crate::router) struct Reset {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
enum State {
    /// Nothing is awaited.
    #[default]
    Done,
    Sent(Pin<Box<SimpleQueryStream>>),
    Failed,
}

impl Reset {
    /// Sends `sql` without waiting for the answer: the next statement queues after it.
    pub(in crate::router) fn send(&self, client: &Client, sql: &str) {
        // Locked before it is sent: otherwise its answer could arrive before there is a state to record it in.
        let mut state = self.lock();
        // The driver queues the message at the first poll.
        *state = match client.simple_query_raw(sql).now_or_never() {
            Some(Ok(answer)) => State::Sent(Box::pin(answer)),
            Some(Err(_)) | None => State::Failed,
        };
    }

    /// Consumes what has arrived of the answer.
    pub(in crate::router) fn hear(&self) {
        let mut state = self.lock();
        let State::Sent(answer) = &mut *state else { return };
        let Poll::Ready(end) = hear(answer) else { return };
        *state = if end.is_ok() { State::Done } else { State::Failed };
        drop(state);
        self.ended.notify_waiters();
        if let Err(error) = end
            && !error.is_closed()
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "a session could not be reset");
        }
    }

    /// Whether it is known to have failed.
    pub(in crate::router) fn has_failed(&self) -> bool {
        self.hear();
        matches!(*self.lock(), State::Failed)
    }

    /// Whether it is known to have succeeded, or none was sent.
    pub(in crate::router) fn is_done(&self) -> bool {
        matches!(*self.lock(), State::Done)
    }

    /// Waits for the end of the answer.
    pub(in crate::router) async fn answered(&self) {
        loop {
            let mut ended = pin!(self.ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            self.hear();
            if !matches!(*self.lock(), State::Sent(_)) {
                return;
            }
            ended.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the answer, if it has arrived.
fn hear(answer: &mut Pin<Box<SimpleQueryStream>>) -> Poll<Result<(), Error>> {
    // The channel wakes nobody: the task that reads the socket polls again after everything that arrives.
    let mut nobody = Context::from_waker(Waker::noop());
    loop {
        match answer.poll_next_unpin(&mut nobody) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) => return Poll::Ready(Ok(())),
            Poll::Pending => return Poll::Pending,
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "Done",
            Self::Sent(_) => "Sent",
            Self::Failed => "Failed",
        })
    }
}
