//! The desk: each command runs on the primary, and is complete when the read model there includes it.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use mainstem::{
    Appended, Attempts, Command, CommandError, CommandExecutor, CommandOutcome, Consistency, PostgresEventStore,
    PrimaryState, ReadModels, Role, Scope, Token, current_session,
};

use super::{
    Result,
    commands::{AddCopy, LendCopy, Refusal, RegisterReader},
    journal::{End, Entry, Journal},
    shelf::{Shelf, Shown},
};

/// The limit of one command, with all of its attempts.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the read model may take to include what was written.
const KEPT: Duration = Duration::from_secs(10);
/// How many numbers are tried for a new copy or reader.
const NUMBERS: u32 = 10;

pub(crate) struct Desk {
    store: PostgresEventStore,
    executor: CommandExecutor,
    /// Decides on what a replica shows; the append detects when that is out of date.
    replica_first: CommandExecutor,
    pub(crate) read_models: ReadModels,
    pub(crate) journal: Journal,
}

impl Desk {
    pub(crate) fn new(store: &PostgresEventStore, read_models: ReadModels) -> Self {
        let executor = || CommandExecutor::new(store.clone()).timeout(LIMIT);
        let replica_first = executor().first_read(Consistency::Eventual);
        Self { store: store.clone(), executor: executor(), replica_first, read_models, journal: Journal::default() }
    }

    /// Creates the initial books and readers. Existing ones stay as they are.
    pub(crate) async fn furnish(&self, titles: &[&str], names: &[&str]) -> Result {
        let mut entries = Vec::new();
        for (copy, title) in (1..).zip(titles) {
            let command = AddCopy { copy, title: (*title).to_owned() };
            entries.push(self.carry_out(&command, false).await);
        }
        for (reader, name) in (1..).zip(names) {
            let command = RegisterReader { reader, name: (*name).to_owned() };
            entries.push(self.carry_out(&command, false).await);
        }
        let failed = entries.into_iter().find_map(|entry| match entry.end {
            End::Failed(error) => Some(error),
            _ => None,
        });
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Executes a command, and records the outcome in the journal.
    pub(crate) async fn execute<C: Command<Refusal = Refusal>>(
        &self,
        action: u64,
        command: &C,
        what: String,
        replica_first: bool,
    ) -> Entry {
        let entry = Entry { action, what, ..self.carry_out(command, replica_first).await };
        self.journal.add(entry.clone());
        entry
    }

    async fn carry_out<C: Command<Refusal = Refusal>>(&self, command: &C, replica_first: bool) -> Entry {
        let start = Instant::now();
        let result = match replica_first {
            // Outside the browser's session: within it, only replicas that have the browser's own writes would be asked.
            true => Scope::new().run(async { self.replica_first.execute(command).await }).await,
            false => self.executor.execute(command).await,
        };
        let took = start.elapsed();
        let (mut end, attempts, appended) = match result {
            Ok(executed) if executed.outcome == CommandOutcome::Nothing => (End::Nothing, executed.attempts, None),
            Ok(executed) => (End::Done, executed.attempts, executed.appended),
            Err(CommandError::Refused { reason, attempts, appended, .. }) => {
                (End::Refused(reason.to_string()), attempts, appended)
            }
            Err(error) => (failed(&error), error.attempts().clone(), None),
        };
        let shown = match &appended {
            None => None,
            Some(appended) => match self.wait_until_on_the_shelf(appended).await {
                Ok(waited) => Some(waited),
                Err(error) => {
                    end =
                        End::Failed(format!("it is written, but the read model does not have it: {}", error.report()));
                    None
                }
            },
        };
        let node = appended.as_ref().map_or_else(|| self.primary(), |appended| appended.node().to_owned());
        let Attempts { decisions, conflicts, .. } = attempts;
        let position = appended.map(|appended| appended.last().position());
        let served_by = format!("{} {node}", Role::Primary);
        Entry { end, served_by, position, decisions, conflicts, took, shown, ..Entry::default() }
    }

    /// Two readers ask for the same copy at the same time. Both decisions are based on the earlier state, so the second append
    /// is refused and its command is decided again.
    pub(crate) async fn lend_at_once(&self, action: u64, copy: u32, readers: [u32; 2], whats: [String; 2]) {
        let [one, other] = readers.map(|reader| LendCopy { copy, reader });
        let [of_one, of_other] = whats;
        tokio::join!(self.execute(action, &one, of_one, false), self.execute(action, &other, of_other, false));
    }

    pub(crate) async fn add_copy(&self, action: u64, shown: &Shown, title: &str) -> Entry {
        let last = shown.copies.last().map_or(0, |it| it.copy);
        let what = format!("“{title}” comes into the library");
        self.numbered(action, last, what, |copy| AddCopy { copy, title: title.to_owned() }).await
    }

    pub(crate) async fn register_reader(&self, action: u64, shown: &Shown, name: &str) -> Entry {
        let last = shown.readers.last().map_or(0, |it| it.reader);
        let what = format!("{name} becomes a reader");
        self.numbered(action, last, what, |reader| RegisterReader { reader, name: name.to_owned() }).await
    }

    /// Uses the next number that is still free.
    async fn numbered<C: Command<Refusal = Refusal>>(
        &self,
        action: u64,
        last: u32,
        what: String,
        command: impl Fn(u32) -> C,
    ) -> Entry {
        let mut number = last;
        loop {
            number = number.saturating_add(1);
            let entry = self.execute(action, &command(number), format!("{what}, as number {number}"), false).await;
            if !matches!(entry.end, End::Nothing) || number >= last.saturating_add(NUMBERS) {
                return entry;
            }
        }
    }

    /// Waits until the read model includes the append, then advances the browser's session to the primary's current place in
    /// the WAL. From then on the browser's reads of its own writes also see the read model's update. The append's token alone
    /// does not cover that.
    async fn wait_until_on_the_shelf(&self, appended: &Appended) -> mainstem::Result<Duration> {
        let start = Instant::now();
        if let Some(session) = current_session() {
            session.see(appended.token());
        }
        self.read_models.wait_until_handled(Shelf::NAME, appended.last()).timeout(KEPT).await?;
        let token = self.place().await?;
        if let Some(session) = current_session() {
            session.see(&token);
        }
        Ok(start.elapsed())
    }

    /// The primary's current place in the WAL.
    async fn place(&self) -> mainstem::Result<Token> {
        self.store.router().client_at(Consistency::Strong).await?.token().await
    }

    fn primary(&self) -> String {
        match self.store.router().status().primary {
            PrimaryState::Known { node: name, .. } => name.to_string(),
            _ => "unknown".to_owned(),
        }
    }
}

fn failed<R: Display>(error: &CommandError<R>) -> End {
    End::Failed(error.error().map_or_else(|| error.to_string(), mainstem::Error::report))
}
