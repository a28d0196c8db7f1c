//! The callers: each draws a deed, has it executed, perhaps twice or only half-way, and notes the answers.

use std::{future::IntoFuture, sync::atomic::Ordering, time::Duration};

use mainstem::{CommandError, CommandExecutor, CommandOutcome as Decided, CommandRecord, Consistency, Executed};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::deed::{Deed, Seen};
use crate::{
    Outcome,
    args::FirstRead,
    plan::Dice,
    writer::{SETTLE, Shared},
};

/// A deed, and the answers it got.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Entry {
    pub(crate) deed: Deed,
    pub(crate) is_recorded: bool,
    pub(crate) reads_replica: bool,
    /// In order.
    pub(crate) answers: Vec<Answer>,
    pub(crate) conflicts: u64,
    pub(crate) confirmations: u64,
    /// How often the same append was repeated.
    pub(crate) repeats: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Answer {
    pub(crate) told: Told,
    /// The first and last position that were returned.
    pub(crate) positions: Option<(u64, u64)>,
    pub(crate) is_repeated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Told {
    Decided,
    Nothing,
    Refused(Seen),
    /// The call was cancelled in the middle, or its outcome is unknown.
    Unknown,
    /// Nothing was written.
    GaveUp,
    /// What the drill did not expect.
    Other(String),
}

pub(crate) async fn run(shared: Shared, seed: u64, writer: u64) -> Outcome {
    let mut dice = Dice::new(seed, writer);
    let reads_replica = match shared.first_read {
        FirstRead::Primary => false,
        FirstRead::Replica => true,
        FirstRead::Both => writer.is_multiple_of(2),
    };
    let executor = CommandExecutor::new(shared.store.clone())
        .max_attempts(60)
        .base_delay(Duration::from_millis(2))
        .max_delay(Duration::from_millis(300))
        .timeout(SETTLE)
        .first_read(if reads_replica { Consistency::Eventual } else { Consistency::Strong });
    for number in 0_u64.. {
        if Instant::now() >= shared.end {
            break;
        }
        let deed = Deed::roll(format!("{writer}-{number}"), &mut dice);
        let is_recorded = dice.one_in(2);
        let mut entry =
            Entry { deed, is_recorded, reads_replica, answers: Vec::new(), conflicts: 0, confirmations: 0, repeats: 0 };
        // Without a record, nobody could ask again.
        let rolled = dice.roll(if is_recorded { 12 } else { 40 });
        match rolled {
            0 => {
                let limit = Duration::from_micros(dice.roll(4_000));
                match timeout(limit, execute(&executor, &entry)).await {
                    Ok(told) => entry.add(told),
                    Err(_) => entry.answers.push(Answer { told: Told::Unknown, positions: None, is_repeated: false }),
                }
                if is_recorded {
                    let told = execute(&executor, &entry).await;
                    entry.add(told);
                }
            }
            1 | 2 if is_recorded => {
                let (one, other) = tokio::join!(execute(&executor, &entry), execute(&executor, &entry));
                entry.add(one);
                entry.add(other);
            }
            3 if is_recorded => {
                for _ in 0..2 {
                    let told = execute(&executor, &entry).await;
                    entry.add(told);
                }
            }
            _ => {
                let told = execute(&executor, &entry).await;
                entry.add(told);
            }
        }
        let decided = entry.answers.iter().any(|answer| answer.told == Told::Decided);
        let lost = entry.answers.iter().any(|answer| matches!(answer.told, Told::Unknown | Told::GaveUp));
        shared.appends.fetch_add(decided.into(), Ordering::Relaxed);
        shared.conflicts.fetch_add(entry.conflicts, Ordering::Relaxed);
        shared.lost.fetch_add(lost.into(), Ordering::Relaxed);
        shared.note(&entry)?;
    }
    Ok(())
}

type Execution = Result<Executed, CommandError<Seen>>;

async fn execute(executor: &CommandExecutor, entry: &Entry) -> Execution {
    let execution = executor.execute(&entry.deed);
    match entry.is_recorded {
        // Without the deed: the record is found by its id.
        true => execution.recorded(CommandRecord::new(&*entry.deed.id, "Deed")).into_future().await,
        false => execution.await,
    }
}

impl Entry {
    fn add(&mut self, execution: Execution) {
        let attempts = match &execution {
            Ok(executed) => &executed.attempts,
            Err(error) => error.attempts(),
        };
        self.conflicts += u64::from(attempts.conflicts);
        self.confirmations += u64::from(attempts.confirmations);
        self.repeats += u64::from(attempts.repeats);
        let (told, appended, is_repeated) = match execution {
            Ok(executed) => {
                let told = if executed.outcome == Decided::Decided { Told::Decided } else { Told::Nothing };
                (told, executed.appended, executed.is_repeated)
            }
            Err(CommandError::Refused { reason, appended, is_repeated, .. }) => {
                (Told::Refused(reason), appended, is_repeated)
            }
            Err(CommandError::GaveUp { error, .. }) if error.is_outcome_unknown() => (Told::Unknown, None, false),
            Err(CommandError::GaveUp { error, .. }) if error.is_retryable() || error.is_conflict() => {
                (Told::GaveUp, None, false)
            }
            Err(error) => (Told::Other(error.error().map(mainstem::Error::report).unwrap_or_default()), None, false),
        };
        let positions = appended.map(|appended| (appended.first_position(), appended.last().position()));
        self.answers.push(Answer { told, positions, is_repeated });
    }
}
