//! The message that undoes what the last user of a session has left, and its answer.
//!
//! It is sent behind the last answer, and nobody waits for it. The task that reads the socket takes its answer in, so that in
//! a pool that is not in a hurry the next user finds it done. Whoever comes sooner takes in what has come himself: that
//! answer is here before the first one of his own.

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
pub(super) struct Reset {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
enum State {
    /// There is nothing to wait for.
    #[default]
    Done,
    Sent(Pin<Box<SimpleQueryStream>>),
    Failed,
}

impl Reset {
    /// Sends `sql` without waiting for the answer: the next statement gets in line behind it.
    pub(super) fn send(&self, client: &Client, sql: &str) {
        // Locked before it is sent, or its answer could come when there is nothing yet to take it in.
        let mut state = self.lock();
        // The driver queues the message at the first poll.
        *state = match client.simple_query_raw(sql).now_or_never() {
            Some(Ok(answer)) => State::Sent(Box::pin(answer)),
            Some(Err(_)) | None => State::Failed,
        };
    }

    /// Takes in what has come of the answer.
    pub(super) fn hear(&self) {
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

    /// Whether it has failed, as far as is known.
    pub(super) fn has_failed(&self) -> bool {
        self.hear();
        matches!(*self.lock(), State::Failed)
    }

    /// Whether it has succeeded, or none was sent, as far as is known.
    pub(super) fn is_done(&self) -> bool {
        matches!(*self.lock(), State::Done)
    }

    /// Waits for the end of the answer.
    pub(super) async fn answered(&self) {
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

/// The end of the answer, if it is there.
fn hear(answer: &mut Pin<Box<SimpleQueryStream>>) -> Poll<Result<(), Error>> {
    // The channel wakes nobody: behind everything that comes, the task that reads the socket asks again.
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
