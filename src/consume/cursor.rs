//! A place in the log as text.

use std::{fmt, str::FromStr};

use super::Start;
use crate::{Error, EventId, Mark, Result, json::quoted, store::After};

/// A place in the log that can be stored as opaque text.
///
/// The default is the beginning of the log. A cursor contains the position and the id of an event, so that the log can
/// tell whether it is still the log that was read.
///
/// ```
/// # use mainstem::{Cursor, Mark, EventId};
/// let cursor = Cursor::from(Mark::new(17, EventId::new()));
/// let text = cursor.to_string();
/// assert_eq!(text.parse::<Cursor>()?, cursor);
/// assert_eq!("".parse::<Cursor>()?, Cursor::default());
/// assert!("17".parse::<Cursor>().is_err());
/// # Ok::<(), mainstem::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor {
    position: u64,
    /// Unknown if nothing was read after a bare position.
    id: Option<EventId>,
}

impl Cursor {
    pub(super) fn of(after: After) -> Self {
        Self { position: after.position(), id: after.mark().map(|mark| mark.id()) }
    }

    /// Returns the last event before the cursor. `None` at the beginning of the log, and after a bare
    /// [position](Start::AfterPosition) as long as no event has followed.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.id.map(|id| Mark::new(self.position, id))
    }
}

impl From<Mark> for Cursor {
    fn from(mark: Mark) -> Self {
        Self::of(After::Mark(mark))
    }
}

impl From<Cursor> for Start {
    fn from(cursor: Cursor) -> Self {
        cursor.mark().map_or(Self::AfterPosition(cursor.position), Self::After)
    }
}

impl fmt::Display for Cursor {
    /// Writes the text that [`parse`](str::parse) reads. The beginning of the log is an empty text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.position, self.id) {
            (0, _) => Ok(()),
            (position, Some(id)) => write!(f, "m1.{position}.{id}"),
            (position, None) => write!(f, "p1.{position}"),
        }
    }
}

impl FromStr for Cursor {
    type Err = Error;

    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the text is not a cursor. Such a text is never taken for the
    /// beginning.
    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let read = || {
            let (kind, rest) = text.split_once('.')?;
            let (position, id) = match kind {
                "m1" => rest.split_once('.').and_then(|(position, id)| Some((position, Some(id.parse().ok()?))))?,
                "p1" => (rest, None),
                _ => return None,
            };
            Some(Self { position: position.parse().ok().filter(|position| *position > 0)?, id })
        };
        // Each cursor has exactly one text, so that texts can be compared.
        let cursor = read().filter(|cursor| cursor.to_string() == text);
        cursor.ok_or_else(|| Error::invalid_input(format!("{} is no cursor of a log", quoted(text))))
    }
}
