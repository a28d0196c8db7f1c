//! Places in the write-ahead log.

use std::fmt;

/// A place in the write-ahead log of one timeline: a number of bytes. PostgreSQL writes it as `16/B374D848`.
///
/// The same number on two timelines may be two different histories, so it says nothing without its timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// Creates the place after this many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the place itself, or the end of the preceding page if only a page header is in between: a record that
    /// ends with its page ends there, and a node that has replayed it gets no further before the next record arrives.
    /// (The header of a page is 24 bytes, a page 8192; the longer header of a segment cannot be recognised without the
    /// segments' size.)
    pub(crate) const fn before_page_header(self) -> Self {
        if self.0 % 8192 == 24 { Self(self.0 - 24) } else { self }
    }

    /// Returns the number of bytes before this place.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_page_header_nothing_has_been_written_yet() {
        let ends = |lsn| Lsn::new(lsn).before_page_header().get();
        assert_eq!(
            [ends(8192 * 7 + 24), ends(8192 * 7 + 32), ends(8192 * 7), ends(0)],
            [8192 * 7, 8192 * 7 + 32, 8192 * 7, 0]
        );
    }
}
