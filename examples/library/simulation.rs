//! Many readers and librarians at once, and the check of the log they leave.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstem::{
    Command, CommandError, CommandExecutor, CommandOutcome, CommandRecord, EventStore, Filter, SnapshotStore,
    with_eventual_consistency,
};
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Result,
    commands::{AddCopy, CancelContract, LendCopy, MOST_COPIES, Refusal, RegisterReader, RemoveCopy, ReturnCopy},
    events::{CODEC, LibraryEvent},
    queries::{CopiesLentByReader, CopiesLentOut, answer},
};

/// Of a hundred visits of a reader, how many return a copy if the reader has one, and how many borrow one.
const RETURNS: u64 = 85;
const BORROWS: u64 = 65;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) readers: u32,
    pub(crate) librarians: u32,
    pub(crate) copies: u32,
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
    pub(crate) repeats_per_mille: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let duration = Duration::from_secs(10);
        Self { readers: 100, librarians: 4, copies: 200, duration, seed: 1, repeats_per_mille: 3 }
    }
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) decided: AtomicU64,
    pub(crate) nothing: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) repeated: AtomicU64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { decided, nothing, refused, conflicts, repeated } = self;
        let [decided, nothing, refused, conflicts, repeated] =
            [decided, nothing, refused, conflicts, repeated].map(|count| count.load(Ordering::Relaxed));
        write!(f, "decided={decided} nothing={nothing} refused={refused} conflicts={conflicts} repeated={repeated}")
    }
}

/// Lets all actors run for a while, and reports progress once a second.
pub(crate) async fn simulate(store: impl SnapshotStore + Clone + 'static, settings: Settings) -> Result<Arc<Figures>> {
    let figures = Arc::<Figures>::default();
    let end = Instant::now() + settings.duration;
    let mut actors = JoinSet::new();
    for number in 0..settings.librarians + settings.readers {
        let actor = Actor {
            executor: CommandExecutor::new(store.clone()).max_attempts(50),
            figures: Arc::clone(&figures),
            dice: settings.seed ^ u64::from(number + 1).wrapping_mul(0xd129_0bc9_8c21_4bd7),
            number,
            commands: 0,
            settings: settings.clone(),
            end,
        };
        match number < settings.librarians {
            true => actors.spawn(actor.librarian()),
            false => actors.spawn(actor.reader(store.clone())),
        };
    }
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !actors.is_empty() {
        tokio::select! {
            Some(ended) = actors.join_next() => ended??,
            _ = ticks.tick() => {
                let lent = with_eventual_consistency(async { answer(&store, CopiesLentOut::default()).await });
                println!("{figures}; {} copies are lent", lent.await?.lent.len());
            }
        }
    }
    Ok(figures)
}

/// A reader or a librarian.
struct Actor {
    executor: CommandExecutor,
    figures: Arc<Figures>,
    dice: u64,
    number: u32,
    commands: u64,
    settings: Settings,
    end: Instant,
}

impl Actor {
    /// A number below `sides`, from the seed.
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (bits ^ (bits >> 27)) % sides.max(1)
    }

    /// Any copy that may exist.
    fn any_copy(&mut self) -> u32 {
        let copies = self.settings.copies;
        u32::try_from(self.roll(copies.into())).unwrap_or_default()
    }

    async fn librarian(mut self) -> Result {
        // First all librarians together fill the shelves.
        for copy in (self.number..self.settings.copies).step_by(self.settings.librarians as usize) {
            self.ask(AddCopy { copy, title: format!("Title {}", copy / 3) }).await?;
        }
        while Instant::now() < self.end {
            let copy = self.any_copy();
            match self.roll(2) {
                0 => self.ask(RemoveCopy { copy }).await?,
                _ => self.ask(AddCopy { copy, title: format!("Title {}", copy / 3) }).await?,
            }
        }
        Ok(())
    }

    async fn reader(mut self, store: impl SnapshotStore) -> Result {
        let reader = self.number;
        while Instant::now() < self.end {
            self.ask(RegisterReader { reader, name: format!("Reader {reader}") }).await?;
            // At home, readers look up what they have: a replica may answer.
            let has = CopiesLentByReader { reader, copies: BTreeSet::new() };
            let has = with_eventual_consistency(async { answer(&store, has).await }).await?.copies;
            if let Some(copy) = has.first().copied().filter(|_| self.roll(100) < RETURNS) {
                self.ask(ReturnCopy { copy, reader }).await?;
            }
            if self.roll(100) < BORROWS {
                let copy = self.any_copy();
                self.ask(LendCopy { copy, reader }).await?;
            }
            if self.roll(100) == 0 {
                self.ask(CancelContract { reader }).await?;
            }
        }
        Ok(())
    }

    /// Executes a command, and sometimes repeats it, as if its message had been delivered twice.
    async fn ask<C: Command<Refusal = Refusal> + Serialize>(&mut self, command: C) -> Result {
        self.commands += 1;
        let id = format!("{}-{}-{}", self.settings.seed, self.number, self.commands);
        let record = CommandRecord::new(id, std::any::type_name::<C>()).with_data(&command)?;
        let is_repeated = self.roll(1_000) < self.settings.repeats_per_mille;
        let first = self.once(&command, record.clone()).await?;
        if is_repeated {
            let again = self.once(&command, record).await?;
            if (again.0, again.1) != (first.0, true) {
                return Err(format!("a repeat came to {again:?}, and the first to {first:?}").into());
            }
        }
        Ok(())
    }

    /// What was decided, and whether this call repeated an earlier one.
    async fn once<C: Command<Refusal = Refusal>>(
        &self,
        command: &C,
        record: CommandRecord,
    ) -> Result<(std::result::Result<CommandOutcome, Refusal>, bool)> {
        let Figures { decided, nothing, refused, conflicts, repeated } = &*self.figures;
        let (told, is_repeated, attempts) = match self.executor.execute(command).recorded(record).await {
            Ok(executed) => (Ok(executed.outcome), executed.is_repeated, executed.attempts),
            Err(CommandError::Refused { reason, is_repeated, attempts, .. }) => (Err(reason), is_repeated, attempts),
            Err(error) => return Err(error.into()),
        };
        let count = match told {
            _ if is_repeated => repeated,
            Ok(CommandOutcome::Nothing) => nothing,
            Ok(_) => decided,
            Err(_) => refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        conflicts.fetch_add(attempts.conflicts.into(), Ordering::Relaxed);
        Ok((told, is_repeated))
    }
}

/// Reads the whole log and checks that each event was allowed at its position.
pub(crate) async fn judge(store: &impl EventStore) -> Result {
    let (mut shelf, mut readers) = (BTreeMap::<u32, Option<u32>>::new(), BTreeMap::<u32, BTreeSet<u32>>::new());
    let mut log = store.query_stream(&Filter::any_event());
    while let Some(event) = log.next().await {
        let event = event?;
        if event.event_type() == CommandRecord::EVENT_TYPE {
            continue;
        }
        let Some(happened) = CODEC.decode(&event)? else { continue };
        let is_allowed = match happened {
            LibraryEvent::CopyAdded { copy, .. } => shelf.insert(copy, None).is_none(),
            LibraryEvent::CopyRemoved { copy } => shelf.remove(&copy) == Some(None),
            LibraryEvent::ReaderRegistered { reader, .. } => readers.insert(reader, BTreeSet::new()).is_none(),
            LibraryEvent::ContractCancelled { reader } => readers.remove(&reader).is_some_and(|has| has.is_empty()),
            LibraryEvent::CopyLent { copy, reader } => {
                let is_free = shelf.insert(copy, Some(reader)) == Some(None);
                let has = readers.get_mut(&reader);
                is_free && has.is_some_and(|has| has.insert(copy) && has.len() <= MOST_COPIES)
            }
            LibraryEvent::CopyReturned { copy, reader } => {
                let was_lent = shelf.insert(copy, None) == Some(Some(reader));
                was_lent && readers.entry(reader).or_default().remove(&copy)
            }
            LibraryEvent::CopyRemovalRefused { copy, .. } => shelf.get(&copy).is_some_and(Option::is_some),
            LibraryEvent::CancellationRefused { reader, .. } => readers.get(&reader).is_some_and(|has| !has.is_empty()),
            LibraryEvent::LendingRefused { copy, reader, .. } => {
                let has = readers.get(&reader);
                shelf.get(&copy).is_none_or(Option::is_some) || has.is_none_or(|has| has.len() >= MOST_COPIES)
            }
            LibraryEvent::ReturnRefused { copy, reader, .. } => {
                shelf.get(&copy).is_none_or(|holder| holder.is_some_and(|holder| holder != reader))
            }
        };
        if !is_allowed {
            return Err(format!("against the rules: {} {}", event.mark(), event.payload()).into());
        }
    }
    Ok(())
}
