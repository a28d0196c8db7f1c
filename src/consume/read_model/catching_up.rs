//! Waiting until read models contain what was in the log, whichever process runs them.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{ReadModelProgress, ReadModelState};
use crate::{
    Consistency, Error, ErrorKind, Filter, Mark, PostgresEventStore, Result,
    consume::reading::is_final,
    router::Deadline,
    store::{After, EventStore, ReadAfterRequest},
};

/// The first and the longest pause between two looks at a checkpoint. Progress in this process is seen at once.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The wait for several read models.
pub(super) struct CatchingUp<'a> {
    store: &'a PostgresEventStore,
    waits: Vec<Wait>,
    /// The position of the log's last event when the wait began.
    head: Option<u64>,
    limit: Duration,
    deadline: Deadline,
    /// The error of the last look at the database, if it failed.
    error: Option<Error>,
}

/// The wait for one of them.
struct Wait {
    changes: watch::Receiver<ReadModelProgress>,
    /// Its checkpoint at the last look.
    checkpoint: Option<Mark>,
    /// Whether the checkpoint has reached the head. Only that counts: this process may not have noticed a reset yet.
    is_over: bool,
    next_look: Instant,
    pause: Duration,
}

impl Wait {
    fn new(changes: watch::Receiver<ReadModelProgress>) -> Self {
        Self { changes, checkpoint: None, is_over: false, next_look: Instant::now(), pause: FIRST_PAUSE }
    }

    /// How far it is, whichever process has done the work.
    fn progress(&mut self, head: Option<u64>) -> ReadModelProgress {
        let mut progress = self.changes.borrow_and_update().clone();
        if progress.state == ReadModelState::Waiting {
            progress.handled = self.checkpoint;
        }
        progress.head_position = progress.head_position.max(head.unwrap_or_default());
        progress
    }

    /// Whether its checkpoint may have arrived: if another process runs it, only a look can tell. One that has not joined yet
    /// may be refused, since the checkpoint is of another filter.
    fn may_be_over(&self, progress: &ReadModelProgress, head: u64) -> bool {
        let is_elsewhere = progress.state == ReadModelState::Waiting;
        let may_be_there = is_elsewhere || Mark::position_or_zero(progress.handled) >= head;
        !self.is_over && progress.has_joined && may_be_there
    }
}

impl<'a> CatchingUp<'a> {
    pub(super) fn new(
        store: &'a PostgresEventStore,
        changes: Vec<watch::Receiver<ReadModelProgress>>,
        limit: Duration,
    ) -> Self {
        let waits = changes.into_iter().map(Wait::new).collect();
        Self { store, waits, head: None, limit, deadline: Deadline::after(limit), error: None }
    }

    pub(super) async fn run(mut self, mut show: impl FnMut(&[ReadModelProgress])) -> Result<()> {
        loop {
            let head = self.head;
            let all: Vec<ReadModelProgress> = self.waits.iter_mut().map(|wait| wait.progress(head)).collect();
            show(&all);
            if let Some(failed) = all.iter().find(|one| has_ended(one)) {
                let stopped = || Error::new(ErrorKind::Closed, "it was stopped");
                let error = failed.error.clone().unwrap_or_else(stopped);
                return Err(error.within(&format!("the read model {:?} has ended", failed.name)));
            }
            if self.waits.iter().all(|wait| wait.is_over) {
                return Ok(());
            }
            if self.deadline.remaining().is_zero() {
                return Err(self.timed_out(&all));
            }
            match self.look(&all).await {
                Ok(()) => self.error = None,
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => self.error = Some(error),
            }
            self.wait(&all).await;
        }
    }

    /// Asks for the head, until it is known, and then for the checkpoints that may have reached it.
    async fn look(&mut self, all: &[ReadModelProgress]) -> Result<()> {
        let head = match self.head {
            Some(head) => head,
            None => *self.head.insert(self.ask_for_head().await?),
        };
        for (which, progress) in all.iter().enumerate() {
            let (call, wait) = (self.call(), &mut self.waits[which]);
            if wait.next_look > Instant::now() || !wait.may_be_over(progress, head) {
                continue;
            }
            wait.next_look = Instant::now() + wait.pause;
            wait.pause = (wait.pause * 2).min(LONGEST_PAUSE);
            let control = self.store.consumer_control(&*progress.name);
            let status = control.status_at(&Consistency::Strong, call).await?;
            wait.checkpoint = status.and_then(|status| status.checkpoint());
            wait.is_over = Mark::position_or_zero(wait.checkpoint) >= head;
        }
        Ok(())
    }

    async fn ask_for_head(&self) -> Result<u64> {
        let mut request = ReadAfterRequest::new(Filter::any_event(), After::Beginning, 0, Consistency::Strong);
        request.timeout = Some(self.call().limit());
        let piece = self.store.run_read_after(request).await?;
        Ok(Mark::position_or_zero(piece.head))
    }

    /// Waits until one of them progresses here, or the next look is due.
    async fn wait(&mut self, all: &[ReadModelProgress]) {
        let Some(first) = self.waits.iter().position(|wait| !wait.is_over) else { return };
        let mut until = Instant::now() + LONGEST_PAUSE;
        for (wait, progress) in self.waits.iter().zip(all) {
            if self.head.is_some_and(|head| wait.may_be_over(progress, head)) {
                until = until.min(wait.next_look);
            }
        }
        let until = until.min(self.deadline.at());
        // A model that ends reports that first.
        let _ = timeout_at(until, self.waits[first].changes.changed()).await;
    }

    /// The limit of a look: that of any call, or what is left.
    fn call(&self) -> Deadline {
        let left = self.deadline.remaining();
        Deadline::after(self.store.deadline(None).limit().min(left))
    }

    fn timed_out(self, all: &[ReadModelProgress]) -> Error {
        let due = self.waits.iter().zip(all).find(|(wait, _)| !wait.is_over);
        let message = match (self.head, due) {
            (Some(head), Some((_, one))) => {
                let elsewhere =
                    if one.state == ReadModelState::Waiting { ", and not at work in this process" } else { "" };
                let (name, at) = (&one.name, Mark::position_or_zero(one.handled));
                format!("the read model {name:?} has not caught up: it is at position {at} of {head}{elsewhere}")
            }
            _ => "nobody has told where the log ends".to_owned(),
        };
        let error = Error::new(ErrorKind::Timeout, format!("{message} after {:?}", self.limit));
        match self.error {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }
}

fn has_ended(progress: &ReadModelProgress) -> bool {
    matches!(progress.state, ReadModelState::Failed | ReadModelState::Stopped)
}
