//! The place of an event in a fixed stream.

use std::sync::Arc;

use super::Event;

/// The place of an event in a fixed stream: the stream's id, and the event's version, counted from 1.
///
/// Versions have no gaps. An event is in at most one stream, and in none unless its append [said
/// so](crate::Append::to_stream).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamPlace {
    id: Arc<str>,
    version: u64,
}

impl StreamPlace {
    /// The longest id of a stream, in bytes: 255.
    ///
    /// Ids are part of an index, whose entries hold at most 2704 bytes, and are returned with every event of their
    /// stream.
    pub const MAX_ID_LEN: usize = 255;

    pub(crate) fn new(id: impl Into<Arc<str>>, version: u64) -> Self {
        Self { id: id.into(), version }
    }

    /// Returns the id of the stream.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the version: 1 for the stream's first event, 2 for the next.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}

impl Event {
    /// Returns the event's place in a fixed stream, if it is in one.
    #[must_use]
    pub fn stream(&self) -> Option<&StreamPlace> {
        self.stream.as_ref()
    }

    /// Puts the event into a fixed stream at this version; for implementors of stores.
    #[must_use]
    pub fn in_stream(mut self, id: impl Into<Arc<str>>, version: u64) -> Self {
        self.stream = Some(StreamPlace::new(id, version));
        self
    }
}
