//! The canonical form of a filter as bytes, and its digest.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{Bounds, Filter, FilterItem, PredicateGroup, Selection, Side};

/// The name of the encoding. Another encoding must have another name, since digests are stored.
const VERSION: &[u8] = b"mainstem filter 1";

/// The same for the encoding of several filters.
const PARTS_VERSION: &[u8] = b"mainstem parts 1";

/// The SHA-256 of a filter's meaning: equal filters have the same digest in every process and every release, and
/// different filters have different ones.
///
/// Use it in the keys of snapshots and caches. It is displayed as 64 hexadecimal digits.
///
/// ```
/// # use mainstem::Filter;
/// let a = Filter::matching().any_type_of(["A", "B"]).finish()?.digest();
/// let b = Filter::matching().any_type_of(["B", "A", "B"]).finish()?.digest();
/// let c = Filter::matching().any_type_of(["A,B"]).finish()?.digest();
/// assert!(a == b && a != c);
/// # Ok::<(), mainstem::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterDigest([u8; 32]);

impl FilterDigest {
    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest of several filters, one for each part, and of collections with these lengths; for a single filter,
    /// its own digest.
    pub(crate) fn of_parts(filters: &[Filter], lengths: &[usize]) -> Self {
        if let ([filter], []) = (filters, lengths) {
            return filter.digest();
        }
        let mut hash = Sha256::new();
        let mut out = |bytes: &[u8]| hash.update(bytes);
        text(PARTS_VERSION, &mut out);
        count(filters.len(), &mut out);
        filters.iter().for_each(|filter| out(filter.digest().as_bytes()));
        count(lengths.len(), &mut out);
        lengths.iter().for_each(|length| count(*length, &mut out));
        Self(hash.finalize().into())
    }

    pub(super) fn of(selection: &impl Selection) -> Self {
        let mut hash = Sha256::new();
        encode(selection, &mut |bytes| hash.update(bytes));
        Self(hash.finalize().into())
    }
}

impl fmt::Display for FilterDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FilterDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Filter {
    /// Returns the digest of this filter, which never changes for equal filters.
    #[must_use]
    pub fn digest(&self) -> FilterDigest {
        FilterDigest::of(self)
    }

    pub(super) fn canonical_len(&self) -> usize {
        let mut len = 0;
        encode(self, &mut |bytes| len += bytes.len());
        len
    }
}

/// Writes the canonical form. Every list is preceded by its count and every text by its length, so no content can be
/// mistaken for structure.
pub(super) fn encode(selection: &impl Selection, out: &mut impl FnMut(&[u8])) {
    text(VERSION, out);
    match selection.filter().items() {
        None => out(b"*"),
        Some(items) => {
            out(b"i");
            count(items.len(), out);
            items.for_each(|part| item(part, out));
        }
    }
    let Bounds { after, until, occurred_from, occurred_until } = selection.bounds();
    if occurred_from.is_some() || occurred_until.is_some() {
        out(b"t");
        for bound in [occurred_from, occurred_until] {
            match bound {
                None => out(b"-"),
                Some(micros) => {
                    out(b"=");
                    out(&micros.to_be_bytes());
                }
            }
        }
    } else if let Some(until) = until {
        out(b"P");
        out(&after.unwrap_or(0).to_be_bytes());
        out(&until.to_be_bytes());
    } else if let Some(after) = after {
        out(b"p");
        out(&after.to_be_bytes());
    } else {
        out(b"-");
    }
}

fn item(item: &FilterItem, out: &mut impl FnMut(&[u8])) {
    count(item.types().len(), out);
    item.types().for_each(|event_type| text(event_type.as_bytes(), out));
    count(item.tags().len(), out);
    item.tags().for_each(|tag| text(tag.as_bytes(), out));
    let Some(predicates) = item.predicates() else { return out(b"-") };
    out(match predicates {
        PredicateGroup::AnyOf(_) => b"|",
        PredicateGroup::AllOf(_) => b"&",
    });
    count(predicates.fragments().len(), out);
    for fragment in predicates.fragments() {
        out(match fragment.side() {
            Side::Payload => b"p",
            Side::Metadata => b"m",
        });
        text(fragment.json().as_bytes(), out);
    }
}

fn text(text: &[u8], out: &mut impl FnMut(&[u8])) {
    count(text.len(), out);
    out(text);
}

fn count(count: usize, out: &mut impl FnMut(&[u8])) {
    // The same bytes on every platform.
    out(&(count as u64).to_be_bytes());
}
