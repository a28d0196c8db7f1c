//! The schema version of an event: the form of its type that the payload has.

use super::{Event, NewEvent, context::member};
use crate::{Error, Result, json::Value};

/// The metadata member.
pub(super) const VERSION: &str = "SchemaVersion";

impl NewEvent {
    /// The metadata member for the [schema version](Self::with_schema_version): `SchemaVersion`.
    pub const SCHEMA_VERSION: &'static str = VERSION;

    /// Sets the version of the type's schema that the payload has, counted from 1. Without it, the payload has version
    /// 1.
    ///
    /// It is a member of the [metadata](Self::metadata), so filters find it. An existing member with another value is
    /// rejected, and so is metadata that is not an object. An [`EventCodec`](crate::EventCodec) writes and reads it.
    pub fn with_schema_version(mut self, version: u32) -> Self {
        self.metadata.schema_version = Some(version);
        self.metadata.refresh();
        self
    }
}

impl Event {
    /// Returns the version of the type's schema that the payload has; 1 if none is given.
    ///
    /// # Errors
    ///
    /// [`InvalidData`](crate::ErrorKind::InvalidData) if the metadata has a `SchemaVersion` that is not a number from 1
    /// on.
    pub fn schema_version(&self) -> Result<u32> {
        let metadata = self.metadata.value();
        let Value::Object(members) = &metadata else { return Ok(1) };
        let version = match member(members, VERSION) {
            None => return Ok(1),
            // 2.0 is 2, and `jsonb` keeps it as written.
            Some(version @ Value::Number(_)) => {
                version.as_scalar().and_then(|number| number.parse().ok()).filter(|version| *version > 0)
            }
            Some(_) => None,
        };
        version.ok_or_else(|| {
            Error::invalid_data(format!(
                "the event of type {} at position {} has a {VERSION} in its metadata that is no number from 1 on",
                crate::json::quoted(self.event_type()),
                self.position
            ))
        })
    }
}
