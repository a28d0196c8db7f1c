//! The version of an event's schema: in which of the forms that its type has had a payload is.

use super::{Event, NewEvent, context::member};
use crate::{Error, Result, json::Value};

/// The member of the metadata.
pub(super) const VERSION: &str = "SchemaVersion";

impl NewEvent {
    /// The member of the metadata for the [version of the schema](Self::with_schema_version): `SchemaVersion`.
    pub const SCHEMA_VERSION: &'static str = VERSION;

    /// Says in which version of its type's schema the payload is, from 1. Without it, it is in the first one.
    ///
    /// It is a member of the [metadata](Self::metadata), so that filters find it; one there of another value, and metadata that
    /// is not an object, are refused. An [`EventCodec`](crate::EventCodec) writes and reads it.
    pub fn with_schema_version(mut self, version: u32) -> Self {
        self.metadata.schema_version = Some(version);
        self.metadata.refresh();
        self
    }
}

impl Event {
    /// In which version of its type's schema the payload is; 1 when nothing is said.
    ///
    /// # Errors
    ///
    /// [`InvalidData`](crate::ErrorKind::InvalidData) when the metadata has a `SchemaVersion` that is no number from 1 on.
    pub fn schema_version(&self) -> Result<u32> {
        let metadata = self.metadata.value();
        let Value::Object(members) = &metadata else { return Ok(1) };
        let version = match member(members, VERSION) {
            None => return Ok(1),
            // 2.0 is 2, and `jsonb` keeps it as it was written.
            Some(version @ Value::Number(_)) => {
                version.as_scalar().and_then(|number| number.parse().ok()).filter(|version| *version > 0)
            }
            Some(_) => None,
        };
        version.ok_or_else(|| {
            Error::invalid_data(format!(
                "the event of type {} at position {} has a {VERSION} in its metadata that is no number from 1 on",
                crate::json::quoted(&self.event_type),
                self.position
            ))
        })
    }
}
