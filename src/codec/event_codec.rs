//! The codec: types, versions, upcasters, unknown types.

use std::{
    any::type_name,
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Serialize, de::DeserializeOwned};

use super::tagged::{self, Undecodable};
use crate::{Error, Event, Json, NewEvent, Result, json::quoted};

/// Decodes the log's events, of whatever version, into your own enum, and encodes the enum as events.
///
/// The names of the enum's variants are the event types, and the content of a variant is the payload, in serde's
/// default form (`#[serde(rename = "…")]` gives a variant another name).
///
/// A log keeps events for ever, while the application changes. When a type changes in a way that serde's own means
/// (`default`, `alias`, optional members) do not cover, raise its version: an upcaster turns the payload of the old
/// version into that of the next one whenever an old event is read. The events in the log stay as they are.
/// [Encoded](Self::encode) events have the newest version, which is one higher than that of the last upcaster.
///
/// ```
/// use mainstem::EventCodec;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum CourseEvent {
///     CourseDefined { title: String, capacity: u32 },
///     StudentEnrolled { student: String },
/// }
///
/// /// As it was written at first: no course had a limit.
/// #[derive(Deserialize)]
/// struct CourseDefinedV1 {
///     name: String,
/// }
///
/// #[derive(Serialize)]
/// struct CourseDefinedV2 {
///     title: String,
///     capacity: u32,
/// }
///
/// let codec = EventCodec::<CourseEvent>::new()
///     .rename("CourseCreated", "CourseDefined")
///     .upcast("CourseDefined", 1, |old: CourseDefinedV1| Ok(CourseDefinedV2 { title: old.name, capacity: 100 }));
///
/// // An upcaster is tested like any function.
/// let old = mainstem::Json::from_text(r#"{"name": "Logic"}"#)?;
/// let new = mainstem::Json::from_text(r#"{"title": "Logic", "capacity": 100}"#)?;
/// assert_eq!(codec.upcast_payload("CourseCreated", 1, &old)?, new);
///
/// let enrolled = codec.encode(&CourseEvent::StudentEnrolled { student: "ada".into() })?.with_tag("course:1");
/// assert_eq!(enrolled.event_type(), "StudentEnrolled");
/// # Ok::<(), mainstem::Error>(())
/// ```
///
/// Create a codec once, in a `static` with [`LazyLock`](std::sync::LazyLock), and use it in
/// [`Projection::apply`](crate::Projection::apply) and wherever else events are read.
pub struct EventCodec<E> {
    renamed: BTreeMap<Box<str>, Box<str>>,
    /// By the type's current name, and the version that they start from.
    upcasters: BTreeMap<Box<str>, BTreeMap<u32, Upcaster>>,
    unknown: UnknownEvents,
    skipped: AtomicU64,
    events: PhantomData<fn() -> E>,
}

type Upcaster = Box<dyn Fn(&Json) -> Result<Json> + Send + Sync>;

/// How an [`EventCodec`] treats events whose type its enum does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnknownEvents {
    /// They are an error. This is the default: code that does not know an event does not know the state.
    #[default]
    Error,
    /// They are skipped and [counted](EventCodec::skipped).
    Skip,
}

impl<E> EventCodec<E> {
    /// Creates a codec without upcasters; unknown types are an error.
    #[must_use]
    pub fn new() -> Self {
        let (renamed, upcasters, skipped) = (BTreeMap::new(), BTreeMap::new(), AtomicU64::new(0));
        Self { renamed, upcasters, unknown: UnknownEvents::Error, skipped, events: PhantomData }
    }

    /// Reads events of a type that has since been renamed as events of the new name, also if that has been renamed in its
    /// turn, in whatever order they are given here.
    ///
    /// A variant has no other names: for `#[serde(alias)]` there are no versions.
    #[must_use]
    pub fn rename(mut self, old: impl Into<Box<str>>, new: impl Into<Box<str>>) -> Self {
        self.renamed.insert(old.into(), new.into());
        for (name, versions) in std::mem::take(&mut self.upcasters) {
            let today = self.name_of_today(&name).into();
            self.upcasters.entry(today).or_default().extend(versions);
        }
        self
    }

    /// Adds an upcaster, which turns payloads of a type, by its current name or an earlier one, from one version into the
    /// next. Versions begin at 1.
    ///
    /// There is one for each version but the newest: an event of version 1 goes through all of them. A second one for
    /// the same version replaces the first.
    #[must_use]
    pub fn upcast<I: DeserializeOwned, O: Serialize>(
        mut self,
        event_type: impl Into<Box<str>>,
        from: u32,
        upcaster: impl Fn(I) -> Result<O> + Send + Sync + 'static,
    ) -> Self {
        let upcaster: Upcaster = Box::new(move |json| Json::from_serialize(&upcaster(json.decode()?)?));
        let event_type = event_type.into();
        let today = self.name_of_today(&event_type).into();
        self.upcasters.entry(today).or_default().insert(from, upcaster);
        self
    }

    /// Sets how unknown types are treated. Defaults to [`UnknownEvents::Error`].
    #[must_use]
    pub fn unknown(mut self, policy: UnknownEvents) -> Self {
        self.unknown = policy;
        self
    }

    /// Returns how many events were skipped since the codec was created.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Returns the newest version of a type, by its current name.
    #[must_use]
    pub fn version(&self, event_type: &str) -> u32 {
        let last = self.upcasters.get(event_type).and_then(|versions| versions.last_key_value());
        last.map_or(1, |(from, _)| from.saturating_add(1))
    }

    /// Converts a payload of some version to its newest form.
    ///
    /// # Errors
    ///
    /// [`InvalidData`](crate::ErrorKind::InvalidData) if the version is 0 or newer than the newest one, if an upcaster
    /// for a version in between is missing, or if the payload is not what an upcaster accepts; and whatever an upcaster
    /// returns.
    pub fn upcast_payload(&self, event_type: &str, version: u32, payload: &Json) -> Result<Json> {
        let event_type = self.name_of_today(event_type);
        let newest = self.version(event_type);
        if version == 0 || version > newest {
            return Err(Error::invalid_data(format!(
                "version {version} of {} is not known, the newest is {newest}; it was written by a newer program",
                quoted(event_type)
            )));
        }
        let mut payload = Cow::Borrowed(payload);
        for from in version..newest {
            let upcaster = self.upcasters.get(event_type).and_then(|versions| versions.get(&from));
            let at = || format!("from version {from} of {}", quoted(event_type));
            let Some(upcaster) = upcaster else {
                return Err(Error::invalid_data(format!("there is no upcaster {}", at())));
            };
            payload = Cow::Owned(upcaster(&payload).map_err(|error| error.within(&format!("the upcaster {}", at())))?);
        }
        Ok(payload.into_owned())
    }

    fn name_of_today<'a>(&'a self, event_type: &'a str) -> &'a str {
        let mut name = event_type;
        // No further than there are names: they may be renamed in a circle.
        for _ in 0..self.renamed.len() {
            let Some(new) = self.renamed.get(name) else { break };
            name = new;
        }
        name
    }
}

impl<E: DeserializeOwned> EventCodec<E> {
    /// Decodes the event as your enum; `None` if its type is unknown and unknown types are
    /// [skipped](UnknownEvents::Skip).
    ///
    /// # Errors
    ///
    /// [`InvalidData`](crate::ErrorKind::InvalidData) naming position and type, if the type is unknown, or if the
    /// payload is bytes or does not fit the variant; and as [`upcast_payload`](Self::upcast_payload).
    pub fn decode(&self, event: &Event) -> Result<Option<E>> {
        let place = || format!("the event of type {} at position {}", quoted(event.event_type()), event.position());
        let event_type = self.name_of_today(event.event_type());
        let Some(payload) = event.payload().as_json() else {
            // Whether there is a variant is checked before its payload is read.
            return match tagged::decode::<E>(event_type, "") {
                Err(Undecodable::UnknownType) => self.unknown_type(&place()),
                _ => Err(Error::invalid_data(format!("{}: {} cannot be decoded", place(), event.payload()))),
            };
        };
        // As it is, or as an upcaster converted it.
        let newest = match self.in_newest_version(event, event_type, payload) {
            Ok(newest) => newest,
            Err(_) if matches!(tagged::decode::<E>(event_type, ""), Err(Undecodable::UnknownType)) => {
                return self.unknown_type(&place());
            }
            Err(error) => return Err(error.within(&place())),
        };
        match tagged::decode(event_type, newest.as_str()) {
            Ok(event) => Ok(Some(event)),
            Err(Undecodable::UnknownType) => self.unknown_type(&place()),
            Err(error) => {
                let message = format!("{} does not decode as {}", place(), type_name::<E>());
                Err(Error::invalid_data(message).with_source(error))
            }
        }
    }

    fn in_newest_version<'e>(&self, event: &Event, event_type: &str, payload: &'e Json) -> Result<Cow<'e, Json>> {
        match event.schema_version()? {
            version if version == self.version(event_type) => Ok(Cow::Borrowed(payload)),
            version => self.upcast_payload(event_type, version, payload).map(Cow::Owned),
        }
    }

    fn unknown_type(&self, place: &str) -> Result<Option<E>> {
        match self.unknown {
            UnknownEvents::Error => {
                let target = type_name::<E>();
                Err(Error::invalid_data(format!("{place} is unknown: {target} has no variant of this name")))
            }
            UnknownEvents::Skip => {
                self.skipped.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
        }
    }
}

impl<E: Serialize> EventCodec<E> {
    /// Encodes an event to append, in the newest version.
    ///
    /// A variant without content has the payload `{}`. The version is in the [metadata](NewEvent::with_schema_version),
    /// unless it is the first.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the value is not an enum in serde's default form (externally
    /// tagged), or not JSON that the log can hold.
    pub fn encode(&self, event: &E) -> Result<NewEvent> {
        let refused = |error| {
            Error::invalid_input(format!("{} cannot be encoded as an event", type_name::<E>())).with_source(error)
        };
        let (event_type, payload) = tagged::encode(event).map_err(refused)?;
        let version = self.version(&event_type);
        let event = NewEvent::from_json(event_type, Json::from_text(payload)?);
        Ok(if version > 1 { event.with_schema_version(version) } else { event })
    }
}

impl<E> Default for EventCodec<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> fmt::Debug for EventCodec<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let upcasters: Vec<_> =
            self.upcasters.iter().flat_map(|(name, versions)| versions.keys().map(move |from| (name, from))).collect();
        f.debug_struct("EventCodec")
            .field("events", &type_name::<E>())
            .field("renamed", &self.renamed)
            .field("upcasters", &upcasters)
            .field("unknown", &self.unknown)
            .field("skipped", &self.skipped)
            .finish()
    }
}
