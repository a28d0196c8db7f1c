//! The origin of an event: the ids of messages, kept in its metadata.

use std::{borrow::Cow, fmt};

use super::{Event, NewEvent};
use crate::{
    Json,
    json::{Value, quoted},
};

/// The origin of events: the message being handled, what caused it, and the larger unit of work that it belongs to.
///
/// Put one into a [`Scope`](crate::Scope) where a message or a request comes in. Every event appended in that scope
/// then carries its ids, without passing them along. An event's own ids ([`NewEvent::with_correlation_id`] and its
/// siblings, or members of its metadata of the same names) take precedence over those of the scope.
///
/// ```
/// use mainstem::{AppendCondition, EventContext, EventStore, Filter, MemoryEventStore, NewEvent, Predicate, Scope};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mainstem::Result<()> {
/// let store = MemoryEventStore::new();
/// let context = EventContext::new().with_correlation_id("c-3").with_causation_id("m-1");
/// Scope::current()
///     .with_item(context)
///     .run(async {
///         let lent = NewEvent::new("BookLent", &())?;
///         store.append([lent], AppendCondition::none()).await
///     })
///     .await?;
///
/// let of_this_case = Predicate::metadata(EventContext::CORRELATION_ID, "c-3");
/// let history = store.query(&Filter::matching().any_predicate_of([of_this_case]).finish()?).await?;
/// assert_eq!(history[0].causation_id().as_deref(), Some("m-1"));
/// # Ok(())
/// # }
/// ```
///
/// # In the metadata
///
/// The ids are strings, stored as members of the event's metadata: [`MESSAGE_ID`](Self::MESSAGE_ID),
/// [`CAUSATION_ID`](Self::CAUSATION_ID) and [`CORRELATION_ID`](Self::CORRELATION_ID). Predicates on the metadata find
/// them, and so do other tools. Metadata that is not an object has no room for them: it takes none from the scope, and
/// an id set on the event itself is rejected.
///
/// The scope is read when [`append`](crate::EventStore::append) is called.
///
/// # Repeats
///
/// The three members are ignored when a repeat is told from other content: appending the same events again, in another
/// request or because a message was delivered twice, finds the first append with its original ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventContext {
    message: Option<Box<str>>,
    causation: Option<Box<str>>,
    correlation: Option<Box<str>>,
}

impl EventContext {
    /// The metadata member for the message that the event originates from: `MessageID`.
    ///
    /// The three members have the names that existing applications use in their logs, so one filter finds old events
    /// and new ones.
    pub const MESSAGE_ID: &'static str = "MessageID";

    /// The metadata member for what caused that message: `CausationID`.
    pub const CAUSATION_ID: &'static str = "CausationID";

    /// The metadata member for the unit of work that it belongs to: `CorrelationID`.
    pub const CORRELATION_ID: &'static str = "CorrelationID";

    /// The longest id, in bytes: 255.
    ///
    /// An id names something and is stored with every event; longer texts belong elsewhere in the metadata.
    pub const MAX_ID_LEN: usize = 255;

    /// Creates a context without any id.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the id of the message being handled.
    #[must_use]
    pub fn with_message_id(mut self, id: impl fmt::Display) -> Self {
        self.message = Some(id.to_string().into());
        self
    }

    /// Replaces the id of what caused that message, often another message or event.
    #[must_use]
    pub fn with_causation_id(mut self, id: impl fmt::Display) -> Self {
        self.causation = Some(id.to_string().into());
        self
    }

    /// Replaces the id of the larger unit of work, such as a business case or a trace.
    #[must_use]
    pub fn with_correlation_id(mut self, id: impl fmt::Display) -> Self {
        self.correlation = Some(id.to_string().into());
        self
    }

    /// Returns the id of the message.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Returns the id of what caused it.
    #[must_use]
    pub fn causation_id(&self) -> Option<&str> {
        self.causation.as_deref()
    }

    /// Returns the id of the larger unit of work.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.correlation.as_deref()
    }

    /// Takes the ids that neither it nor the metadata has.
    pub(super) fn fill_from(&mut self, scope: &Self, metadata: &Json) {
        let Value::Object(members) = metadata.value() else { return };
        let fill = |own: &mut Option<Box<str>>, key: &str, id: &Option<Box<str>>| {
            if own.is_none() && member(&members, key).is_none() {
                own.clone_from(id);
            }
        };
        fill(&mut self.message, Self::MESSAGE_ID, &scope.message);
        fill(&mut self.causation, Self::CAUSATION_ID, &scope.causation);
        fill(&mut self.correlation, Self::CORRELATION_ID, &scope.correlation);
    }

    /// Returns the metadata with the ids and the schema version in it.
    pub(super) fn put_into(&self, metadata: &Json, version: Option<u32>) -> Result<Json, String> {
        let ids = [
            (Self::MESSAGE_ID, &self.message),
            (Self::CAUSATION_ID, &self.causation),
            (Self::CORRELATION_ID, &self.correlation),
        ];
        let ids = ids.iter().filter_map(|(key, id)| Some((*key, id.as_deref()?)));
        ids.clone().try_for_each(|(key, id)| check(key, id))?;
        let ids = ids.map(|(key, id)| (key, serde_json::Value::from(id)));
        let version = version.map(|version| (super::schema::VERSION, serde_json::Value::from(version)));
        let all: Vec<(&str, serde_json::Value)> = ids.chain(version).collect();
        if all.is_empty() {
            return Ok(metadata.clone());
        }
        let mut new = String::new();
        let value = metadata.value();
        for (key, own) in all {
            let Value::Object(members) = &value else {
                return Err(format!("the metadata is not an object, so it has no place for the {key}"));
            };
            let own = own.to_string();
            match member(members, key) {
                Some(there) if *there == parsed(&own) => {}
                Some(_) => return Err(format!("the metadata has a {key} of its own, which is not {own}")),
                None => {
                    if !new.is_empty() || !members.is_empty() {
                        new.push(',');
                    }
                    new.push_str(&format!("\"{key}\":{own}"));
                }
            }
        }
        let text = metadata.as_str().trim_end();
        let open = text.strip_suffix('}').unwrap_or(text);
        Json::from_text([open, &new, "}"].concat()).map_err(|error| format!("metadata with its ids: {error}"))
    }
}

/// What is wrong with an id.
fn check(key: &str, id: &str) -> Result<(), String> {
    if id.is_empty() {
        Err(format!("the {key} is empty"))
    } else if id.contains('\0') {
        Err(format!("the {key} {} contains a NUL character, which PostgreSQL cannot store", quoted(id)))
    } else if id.len() > EventContext::MAX_ID_LEN {
        Err(format!("the {key} {} is longer than the limit of {} bytes", quoted(id), EventContext::MAX_ID_LEN))
    } else {
        Ok(())
    }
}

/// Whether two events have the same metadata, ignoring the three ids.
pub(super) fn same_apart_from_ids(left: &Json, right: &Json) -> bool {
    left == right
        || match (left.value(), right.value()) {
            (Value::Object(left), Value::Object(right)) => rest(left) == rest(right),
            _ => false,
        }
}

fn rest<'a>(mut members: Vec<(Cow<'a, str>, Value<'a>)>) -> Value<'a> {
    let ids = [EventContext::MESSAGE_ID, EventContext::CAUSATION_ID, EventContext::CORRELATION_ID];
    members.retain(|(key, _)| !ids.contains(&&**key));
    Value::Object(members)
}

fn parsed(json: &str) -> Value<'_> {
    crate::json::stored(json)
}

pub(super) fn member<'m, 'a>(members: &'m [(Cow<'a, str>, Value<'a>)], key: &str) -> Option<&'m Value<'a>> {
    members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

fn id<'a>(metadata: &'a Json, key: &str) -> Option<Cow<'a, str>> {
    let Value::Object(members) = metadata.value() else { return None };
    members.into_iter().find(|(name, _)| name == key).and_then(|(_, value)| match value {
        Value::String(id) => Some(id),
        _ => None,
    })
}

/// The origin of the event: strings in its metadata, parsed on each call. See [`EventContext`].
impl Event {
    /// Returns the id of the message that the event originates from.
    #[must_use]
    pub fn message_id(&self) -> Option<Cow<'_, str>> {
        id(&self.metadata, EventContext::MESSAGE_ID)
    }

    /// Returns the id of what caused that message.
    #[must_use]
    pub fn causation_id(&self) -> Option<Cow<'_, str>> {
        id(&self.metadata, EventContext::CAUSATION_ID)
    }

    /// Returns the id of the larger unit of work that it belongs to.
    #[must_use]
    pub fn correlation_id(&self) -> Option<Cow<'_, str>> {
        id(&self.metadata, EventContext::CORRELATION_ID)
    }
}

/// The origin of the event. Each id is a member of the [metadata](Self::metadata); if the metadata already has that
/// member with another value, the id is rejected. See [`EventContext`].
impl NewEvent {
    /// Replaces the id of the message that the event originates from.
    pub fn with_message_id(self, id: impl fmt::Display) -> Self {
        self.change_context(|context| context.with_message_id(id))
    }

    /// Replaces the id of what caused that message, often another message or event.
    pub fn with_causation_id(self, id: impl fmt::Display) -> Self {
        self.change_context(|context| context.with_causation_id(id))
    }

    /// Replaces the id of the larger unit of work that it belongs to, such as a business case or a trace.
    pub fn with_correlation_id(self, id: impl fmt::Display) -> Self {
        self.change_context(|context| context.with_correlation_id(id))
    }

    fn change_context(mut self, change: impl FnOnce(EventContext) -> EventContext) -> Self {
        self.metadata.context = change(std::mem::take(&mut self.metadata.context));
        self.metadata.refresh();
        self
    }

    /// Takes the ids of a scope that it does not have itself.
    pub(crate) fn take_context(&mut self, scope: &EventContext) {
        self.metadata.context.fill_from(scope, &self.metadata.given);
        self.metadata.refresh();
    }

    /// Returns the id of the message that the event originates from.
    #[must_use]
    pub fn message_id(&self) -> Option<Cow<'_, str>> {
        id(self.metadata(), EventContext::MESSAGE_ID)
    }

    /// Returns the id of what caused that message.
    #[must_use]
    pub fn causation_id(&self) -> Option<Cow<'_, str>> {
        id(self.metadata(), EventContext::CAUSATION_ID)
    }

    /// Returns the id of the larger unit of work that it belongs to.
    #[must_use]
    pub fn correlation_id(&self) -> Option<Cow<'_, str>> {
        id(self.metadata(), EventContext::CORRELATION_ID)
    }
}

/// The metadata of a new event: what was set, and the ids in it.
#[derive(Clone, Debug, Default)]
pub(super) struct NewMetadata {
    given: Json,
    context: EventContext,
    pub(super) schema_version: Option<u32>,
    /// All of it together, as far as possible,
    whole: Json,
    /// and why it is not possible.
    pub(super) problem: Option<Box<str>>,
}

impl NewMetadata {
    pub(super) fn replace(&mut self, given: Json) {
        self.given = given;
        self.refresh();
    }

    pub(super) fn whole(&self) -> &Json {
        &self.whole
    }

    pub(super) fn into_whole(self) -> Json {
        self.whole
    }

    pub(super) fn refresh(&mut self) {
        (self.whole, self.problem) = match self.context.put_into(&self.given, self.schema_version) {
            Ok(whole) => (whole, None),
            Err(problem) => (self.given.clone(), Some(problem.into())),
        };
    }
}

impl PartialEq for NewMetadata {
    /// How the ids got into it does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.whole == other.whole && self.problem == other.problem
    }
}

impl Eq for NewMetadata {}
