//! Waiting until read models have what was in the log, whichever process they work in.

use std::time::Duration;

use tokio::{sync::watch, time::timeout_at};

use super::{ReadModelProgress, ReadModelState};
use crate::{
    Consistency, Error, ErrorKind, Filter, Mark, PostgresEventStore, Result,
    consume::reading::is_final,
    router::Deadline,
    store::{After, EventStore, ReadBehindRequest},
};

/// Between two looks at what other processes have handled, at first and at most. What gets on here is seen at once.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The wait for some read models.
pub(super) struct CatchingUp<'a> {
    store: &'a PostgresEventStore,
    waits: Vec<Wait>,
    limit: Duration,
    deadline: Deadline,
    /// What went wrong with the last look at the database, if it did.
    error: Option<Error>,
}

/// The wait for one of them.
struct Wait {
    changes: watch::Receiver<ReadModelProgress>,
    /// How far another process has brought it, as far as is known.
    elsewhere: Option<Mark>,
}

impl Wait {
    /// How far it is, whoever has brought it there; a `head` that is known counts, too.
    fn progress(&mut self, head: Option<u64>) -> ReadModelProgress {
        let mut progress = self.changes.borrow_and_update().clone();
        let position = |mark: Option<Mark>| mark.map_or(0, |mark| mark.position());
        if progress.state == ReadModelState::Waiting && position(self.elsewhere) > position(progress.handled) {
            progress.handled = self.elsewhere;
        }
        progress.head_position = progress.head_position.max(head.unwrap_or_default());
        progress
    }
}

impl<'a> CatchingUp<'a> {
    pub(super) fn new(
        store: &'a PostgresEventStore,
        changes: Vec<watch::Receiver<ReadModelProgress>>,
        limit: Duration,
    ) -> Self {
        let waits = changes.into_iter().map(|changes| Wait { changes, elsewhere: None }).collect();
        Self { store, waits, limit, deadline: Deadline::after(limit), error: None }
    }

    pub(super) async fn run(mut self, mut show: impl FnMut(&[ReadModelProgress])) -> Result<()> {
        if self.waits.is_empty() {
            return Ok(());
        }
        let mut head: Option<u64> = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let all: Vec<ReadModelProgress> = self.waits.iter_mut().map(|wait| wait.progress(head)).collect();
            show(&all);
            if let Some(failed) = all.iter().find(|one| has_ended(one)) {
                let stopped = || Error::new(ErrorKind::Closed, "it was stopped");
                let error = failed.error.clone().unwrap_or_else(stopped);
                return Err(error.within(&format!("the read model {:?} has ended", failed.name)));
            }
            if !all.iter().any(|one| is_due(one, head)) {
                return Ok(());
            }
            if self.deadline.remaining().is_zero() {
                return Err(self.timed_out(&all, head));
            }
            let looked = match head {
                None => self.head().await.map(|position| head = Some(position)),
                Some(_) => self.look_elsewhere(&all, head).await,
            };
            match looked {
                Ok(()) => self.error = None,
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => self.error = Some(error),
            }
            if let Some(due) = all.iter().position(|one| is_due(one, head)) {
                // One that ends says so first.
                let _ = timeout_at(self.deadline.or_within(pause), self.waits[due].changes.changed()).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// The limit of a look: that of any call, or what is left.
    fn call(&self) -> Deadline {
        let left = self.deadline.remaining();
        Deadline::after(self.store.deadline(None).limit().min(left))
    }

    /// The position of the log's last event.
    async fn head(&self) -> Result<u64> {
        let mut request = ReadBehindRequest::new(Filter::any_event(), After::Beginning, 0, Consistency::Strong);
        request.timeout = Some(self.call().limit());
        let piece = self.store.run_read_behind(request).await?;
        Ok(piece.head.map_or(0, |head| head.position()))
    }

    /// Asks how far other processes have brought those that do not work here.
    async fn look_elsewhere(&mut self, all: &[ReadModelProgress], head: Option<u64>) -> Result<()> {
        for (which, progress) in all.iter().enumerate() {
            if progress.state == ReadModelState::Waiting && is_due(progress, head) {
                let control = self.store.consumer_control(&*progress.name);
                let status = control.status_at(&Consistency::Strong, self.call()).await?;
                self.waits[which].elsewhere = status.and_then(|status| status.checkpoint());
            }
        }
        Ok(())
    }

    fn timed_out(self, all: &[ReadModelProgress], head: Option<u64>) -> Error {
        let place = all.iter().find(|one| is_due(one, head)).map(|one| {
            let position = one.handled.map_or(0, |mark| mark.position());
            let name = &one.name;
            let elsewhere = if one.state == ReadModelState::Waiting { ", and not at work in this process" } else { "" };
            format!(
                "the read model {name:?} has not caught up: it is at position {position} of {}{elsewhere}",
                one.head_position
            )
        });
        let message = place.unwrap_or_else(|| "the head of the log is not known".to_owned());
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

/// Whether it has not got to the head, or the head is not known.
fn is_due(progress: &ReadModelProgress, head: Option<u64>) -> bool {
    let position = progress.handled.map_or(0, |mark| mark.position());
    head.is_none_or(|head| position < head)
}
