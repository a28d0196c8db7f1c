//! The message that undoes what the last user of a session has left, and its answer.
//!
//! It is sent behind the last answer, and nobody waits for it. The task that reads the socket takes its answer in, so that in
//! a pool that is not in a hurry the next user finds it done. Whoever comes sooner takes in what has come himself: that
//! answer is here before the first one of his own.

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::{FutureExt, StreamExt};
use tokio_postgres::{Client, SimpleQueryStream};

#[derive(Debug, Default)]
pub(super) struct Reset(Mutex<State>);

#[derive(Default)]
enum State {
    /// There is nothing to wait for.
    #[default]
    Done,
    Sent {
        answer: Pin<Box<SimpleQueryStream>>,
        waiter: Option<Waker>,
    },
    Failed,
}

impl Reset {
    /// Sends `sql` without waiting for the answer: the next statement gets in line behind it.
    pub(super) fn send(&self, client: &Client, sql: &str) {
        // Locked before it is sent, or its answer could come when there is nothing yet to take it in.
        let mut state = self.lock();
        // The driver queues the message at the first poll.
        *state = match client.simple_query_raw(sql).now_or_never() {
            Some(Ok(answer)) => State::Sent { answer: Box::pin(answer), waiter: None },
            Some(Err(_)) | None => State::Failed,
        };
    }

    /// Takes in what has come of the answer, and wakes who waits for its end.
    pub(super) fn hear(&self) {
        let waiter = self.lock().hear();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Whether it has failed, as far as is known.
    pub(super) fn has_failed(&self) -> bool {
        self.hear();
        matches!(*self.lock(), State::Failed)
    }

    /// Whether it has failed, or its answer has not come.
    pub(super) fn is_open(&self) -> bool {
        !matches!(*self.lock(), State::Done)
    }

    /// Waits for the end of the answer.
    pub(super) async fn answered(&self) {
        poll_fn(|cx| {
            let mut state = self.lock();
            // Who hears the end is the one that waits for it: nobody else is to be woken.
            let _ = state.hear();
            match &mut *state {
                State::Done | State::Failed => Poll::Ready(()),
                State::Sent { waiter, .. } => {
                    *waiter = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns who is to be woken, since the end has come.
    fn hear(&mut self) -> Option<Waker> {
        let Self::Sent { answer, waiter } = self else { return None };
        // The channel wakes nobody: behind everything that comes, the task that reads the socket asks again.
        let mut nobody = Context::from_waker(Waker::noop());
        let end = loop {
            match answer.poll_next_unpin(&mut nobody) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a session could not be reset");
                    break Self::Failed;
                }
                Poll::Ready(None) => break Self::Done,
                Poll::Pending => return None,
            }
        };
        let waiter = mem::take(waiter);
        *self = end;
        waiter
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "Done",
            Self::Sent { .. } => "Sent",
            Self::Failed => "Failed",
        })
    }
}
