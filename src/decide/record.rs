//! The log of commands: a record of each, appended with the events that the command caused.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{CommandOutcome, Decision, Projection};
use crate::{Error, Event, EventContext, Filter, Json, Mark, NewEvent, Result, json::quoted};

/// The record of a command: an event of the log, appended with the events that the command caused.
///
/// It is written if and only if they are. It follows them, at the position after the last, and they refer to it in
/// their [message id](EventContext) unless they have another. It holds the command's id, type and data, what was
/// decided, and how many events that produced.
///
/// All records are events of the type [`EVENT_TYPE`](Self::EVENT_TYPE), and [`RecordedCommand::from_event`] reads one.
///
/// The id makes a command repeatable: a command that was already executed is not executed again, and returns its
/// original result. See [`Execute::recorded`](crate::Execute::recorded).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a record is kept by an execution that takes it"]
pub struct CommandRecord {
    id: Box<str>,
    command_type: Box<str>,
    data: Option<Json>,
}

/// The record of an executed command, as read from the log.
#[derive(Clone, Debug)]
pub struct RecordedCommand {
    body: Body,
    mark: Mark,
}

/// The payload of the event, in the terms of the metadata's ids.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body {
    #[serde(rename = "CommandID")]
    id: Box<str>,
    command_type: Box<str>,
    #[serde(default, deserialize_with = "stored")]
    data: Option<Json>,
    outcome: RecordedOutcome,
    #[serde(default, deserialize_with = "stored")]
    refusal: Option<Json>,
    events: u64,
}

/// The stored form is longer than what was given, by the spaces of `jsonb`: it is not measured again.
fn stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    let raw = Option::<Box<RawValue>>::deserialize(deserializer)?;
    Ok(raw.map(|raw| Json::from_stored(Box::<str>::from(raw))))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
enum RecordedOutcome {
    Decided,
    Nothing,
    Refused,
}

impl CommandRecord {
    /// The type of the event: `CommandExecuted`.
    pub const EVENT_TYPE: &'static str = "CommandExecuted";

    /// The longest id, in bytes: 255, as for [a message](EventContext::MAX_ID_LEN).
    pub const MAX_ID_LEN: usize = EventContext::MAX_ID_LEN;

    /// Creates a record for a command with this id, which no other command has, and this type, a name for readers of
    /// the log.
    ///
    /// The id is created once, by the party that requests the command: the id of the requesting message, or one that a
    /// form got when it was displayed. It is checked when the command is executed.
    pub fn new(id: impl Into<Box<str>>, command_type: impl Into<Box<str>>) -> Self {
        Self { id: id.into(), command_type: command_type.into(), data: None }
    }

    /// Also keeps the command's data. A repeat with other data is rejected: so the same command must be the same JSON in
    /// every instance and every version. (A `HashSet` is an array in any order; a new optional field needs
    /// `skip_serializing_if`.)
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the data is not JSON that the log can hold; see
    /// [`Json::from_serialize`].
    pub fn with_data<T: Serialize + ?Sized>(mut self, data: &T) -> Result<Self> {
        self.data = Some(Json::from_serialize(data).map_err(|error| error.within("the data of the command"))?);
        Ok(self)
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the event for what was decided.
    pub(super) fn event<R>(&self, decision: &Decision<R>, refusal: Option<Json>) -> Result<NewEvent> {
        let events = decision.events.len() as u64;
        let outcome = match (&decision.refusal, events) {
            (Some(_), _) => RecordedOutcome::Refused,
            (None, 0) => RecordedOutcome::Nothing,
            (None, _) => RecordedOutcome::Decided,
        };
        let Self { id, command_type, data } = self.clone();
        let body = Body { id, command_type, data, outcome, refusal, events };
        Ok(NewEvent::new(Self::EVENT_TYPE, &body)?.with_tag(tag(&self.id)))
    }

    /// Checks that the recorded command is this one.
    pub(super) fn check(&self, found: &RecordedCommand) -> Result<()> {
        let same = |left: &Option<Json>, right: &Option<Json>| {
            let null = Json::from_stored("null");
            left.as_ref().unwrap_or(&null) == right.as_ref().unwrap_or(&null)
        };
        match self.command_type == found.body.command_type && same(&self.data, &found.body.data) {
            true => Ok(()),
            false => Err(Error::invalid_input(format!(
                "the command id {} is taken by another command, of type {} and recorded at {}; an id is never used again",
                quoted(&self.id),
                quoted(&found.body.command_type),
                found.mark
            ))),
        }
    }
}

impl RecordedCommand {
    /// Reads the record from an event of the log.
    ///
    /// # Errors
    ///
    /// [`InvalidData`](crate::ErrorKind::InvalidData) if the event is not the record of a command.
    pub fn from_event(event: &Event) -> Result<Self> {
        match event.event_type() {
            CommandRecord::EVENT_TYPE => Ok(Self { body: event.decode()?, mark: event.mark() }),
            other => Err(Error::invalid_data(format!(
                "the event of type {} at position {} is no record of a command",
                quoted(other),
                event.position()
            ))),
        }
    }

    /// Returns the id of the command.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.body.id
    }

    /// Returns the type of the command.
    #[must_use]
    pub fn command_type(&self) -> &str {
        &self.body.command_type
    }

    /// Returns the command's data, if it was kept.
    #[must_use]
    pub fn data(&self) -> Option<&Json> {
        self.body.data.as_ref()
    }

    /// Returns what was decided; `None` if the command was refused.
    #[must_use]
    pub fn outcome(&self) -> Option<CommandOutcome> {
        match self.body.outcome {
            RecordedOutcome::Decided => Some(CommandOutcome::Decided),
            RecordedOutcome::Nothing => Some(CommandOutcome::Nothing),
            RecordedOutcome::Refused => None,
        }
    }

    /// Returns the reason for the refusal, if it was refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&Json> {
        self.body.refusal.as_ref()
    }

    /// Returns the positions of the events that the command caused, which may be none.
    #[must_use]
    pub fn positions(&self) -> std::ops::Range<u64> {
        self.mark.position().saturating_sub(self.body.events)..self.mark.position()
    }

    /// Returns the position and id of the record.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark
    }
}

/// Whether a command was already executed: part of what its execution is based on.
#[derive(Debug)]
pub(super) struct First {
    filter: Filter,
    found: Option<RecordedCommand>,
}

impl First {
    pub(super) fn of(id: &str) -> Result<Self> {
        if id.is_empty() || id.len() > CommandRecord::MAX_ID_LEN || id.contains('\0') {
            return Err(Error::invalid_input(format!(
                "the command id {} is empty, longer than the limit of {} bytes, or has a NUL character in it",
                quoted(id),
                CommandRecord::MAX_ID_LEN
            )));
        }
        let filter = Filter::matching().any_type_of([CommandRecord::EVENT_TYPE]).and_all_tags_of([tag(id)]).finish()?;
        Ok(Self { filter, found: None })
    }

    pub(super) fn into_found(self) -> Option<RecordedCommand> {
        self.found
    }
}

impl Projection for First {
    fn filter(&self) -> Result<Filter> {
        Ok(self.filter.clone())
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        self.found.get_or_insert(RecordedCommand::from_event(event)?);
        Ok(())
    }
}

fn tag(id: &str) -> String {
    format!("command:{id}")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    /// `jsonb` writes a space after each comma, so what is read back is longer than what was given.
    #[test]
    fn large_data_is_read_back() {
        let data = vec![(); 3_000_000];
        let record = CommandRecord::new("c-1", "Fill").with_data(&data).unwrap();
        let event = record.event(&Decision::<()>::nothing(), None).unwrap().into_recorded(1, SystemTime::now());
        let found = RecordedCommand::from_event(&event).unwrap();
        assert!(found.data().unwrap().as_str().len() > Json::MAX_LEN);
        record.check(&found).unwrap();
    }
}
