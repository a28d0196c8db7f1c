//! Appends that need not be sent, since an event that this process writes, or has written, breaks their condition.
//!
//! Of many concurrent appends to one boundary, one can be written. The others would be sent, read, checked and refused
//! under the log's lock, while everybody waits for them. Only their ids are looked up there: a repeated append is
//! answered with its first outcome, not according to its condition.

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

use super::{answer::AppendOutcome, group::Waiting, prepared::Prepared};
use crate::store::After;

/// An append that waits for the outcome of others.
#[derive(Debug)]
pub(in crate::store::postgres) struct Overtaken {
    waiting: Waiting,
    by: By,
}

#[derive(Debug)]
enum By {
    /// Events that are about to be written: the numbers of their appends in the queue, and their places in these.
    Rivals(Vec<(u64, usize)>),
    /// An event that is in the log.
    Written(AppendOutcome),
}

/// What has become of a batch's appends.
#[derive(Debug, Default)]
pub(in crate::store::postgres) struct Written {
    /// Each append that was written and its first position, by its number in the queue.
    appended: HashMap<u64, (u64, Arc<Prepared>)>,
    /// Those whose condition is broken: from where on it looked, and the conflict.
    refused: Vec<(Option<After>, Arc<Prepared>, AppendOutcome)>,
}

impl Overtaken {
    pub(in crate::store::postgres) fn by_rivals(waiting: Waiting, rivals: Vec<(u64, usize)>) -> Self {
        Self { waiting: waiting.not_sent(), by: By::Rivals(rivals) }
    }

    pub(in crate::store::postgres) fn by_event(waiting: Waiting, position: u64, event_type: String) -> Self {
        Self { waiting: waiting.not_sent(), by: By::Written(AppendOutcome::Conflict { position, event_type }) }
    }

    pub(in crate::store::postgres) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Returns the ids that must be looked up in the log.
    pub(in crate::store::postgres) fn ids(&self) -> impl Iterator<Item = Uuid> + use<'_> {
        self.waiting.append.events.iter().map(|event| event.id().into())
    }

    /// Returns the append, with its refusal if it need not be sent. `known` are the ids that are in the log.
    pub(in crate::store::postgres) fn settle(
        mut self,
        written: &Written,
        known: &[Uuid],
    ) -> (Waiting, Option<AppendOutcome>) {
        let is_known = self.ids().any(|id| known.contains(&id));
        if is_known {
            self.waiting.is_known = true;
            return (self.waiting, None);
        }
        let after = self.waiting.after.map_or(0, |after| after.position());
        let outcome = match self.by {
            By::Written(outcome) => Some(outcome),
            By::Rivals(rivals) => {
                let by_rival = |(number, event)| written.conflict(number, event, after);
                rivals.into_iter().find_map(by_rival).or_else(|| written.refused_like(&self.waiting))
            }
        };
        (self.waiting, outcome)
    }

    /// Returns the append; the outcome that it waited for is unknown.
    pub(in crate::store::postgres) fn into_waiting(self) -> Waiting {
        self.waiting
    }
}

impl Written {
    pub(in crate::store::postgres) fn add(&mut self, waiting: &[Waiting], outcomes: &[AppendOutcome]) {
        for (one, outcome) in waiting.iter().zip(outcomes) {
            match outcome {
                AppendOutcome::Appended { position, .. } => {
                    self.appended.insert(one.number, (*position, Arc::clone(&one.append)));
                }
                AppendOutcome::Conflict { .. } => {
                    self.refused.push((one.after, Arc::clone(&one.append), outcome.clone()))
                }
                _ => {}
            }
        }
    }

    /// The conflict with an event of an append, if that was written, and if it is after the place from which the
    /// condition looks.
    fn conflict(&self, number: u64, event: usize, after: u64) -> Option<AppendOutcome> {
        let (first, append) = self.appended.get(&number)?;
        let position = first + event as u64;
        let event_type = append.events.get(event)?.event_type();
        (position > after).then(|| AppendOutcome::Conflict { position, event_type: event_type.to_owned() })
    }

    /// The conflict of an append with the same condition, whose rival was refused. Otherwise all that another process has
    /// overtaken would be refused one after the other, each in a batch, while those who read again queue after them.
    fn refused_like(&self, waiting: &Waiting) -> Option<AppendOutcome> {
        let items = &waiting.append.guard.as_ref()?.items;
        let is_like = |after: &Option<After>, append: &Prepared| {
            *after == waiting.after && append.guard.as_ref().is_some_and(|guard| guard.items == *items)
        };
        let refused = self.refused.iter().find(|(after, append, _)| is_like(after, append));
        refused.map(|(_, _, conflict)| conflict.clone())
    }
}
