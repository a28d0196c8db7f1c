//! The key of a snapshot.

use crate::{Error, Filter, FilterDigest, Result, json::quoted};

/// The key of a snapshot within its log: the name and the version of a projection, and the filter whose events its
/// state is computed from.
///
/// Filters are compared by meaning ([`Filter::digest`]): the same filter in another order is the same. (That of a model
/// is compared part by part: [`DecisionModel::snapshot_key`](crate::DecisionModel::snapshot_key).) Raise the version
/// whenever the code that computes the state, or the type of the state, changes: a state computed by other code is
/// another state, even if it can still be decoded. The snapshots of old versions stay until they are deleted, so old
/// and new instances of an application do not disturb each other; in PostgreSQL,
/// `DELETE FROM mainstem.events_snapshots WHERE projection = … AND version < …` deletes them for all filters.
///
/// ```
/// # use mainstem::{Filter, SnapshotKey};
/// let reader = Filter::matching().all_tags_of(["reader:r-7"]).finish()?;
/// let key = SnapshotKey::new("books of a reader", 2, &reader);
/// assert_eq!(key.to_string(), format!("\"books of a reader\" version 2 of the filter {}", reader.digest()));
/// # Ok::<(), mainstem::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotKey {
    projection: String,
    version: u32,
    filter: Filter,
    digest: FilterDigest,
}

impl SnapshotKey {
    /// The longest name of a projection, in bytes: 255.
    pub const MAX_NAME_LEN: usize = 255;

    /// Creates a key. The call that receives it checks the name; see [`validate`](Self::validate).
    #[must_use]
    pub fn new(projection: impl Into<String>, version: u32, filter: &Filter) -> Self {
        Self { projection: projection.into(), version, filter: filter.clone(), digest: filter.digest() }
    }

    /// The key of a state that has a part for each of these filters, in this order, and is computed from the events of
    /// all. `lengths` are those of the collections that the parts are in.
    pub(crate) fn of_parts(
        projection: impl Into<String>,
        version: u32,
        union: &Filter,
        parts: &[Filter],
        lengths: &[usize],
    ) -> Self {
        Self { digest: FilterDigest::of_parts(parts, lengths), ..Self::new(projection, version, union) }
    }

    /// Checks whether a snapshot can be stored under this name.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the name is empty, longer than
    /// [`MAX_NAME_LEN`](Self::MAX_NAME_LEN), or contains a NUL character, which PostgreSQL cannot store.
    pub fn validate(&self) -> Result<()> {
        let name = &self.projection;
        let problem = if name.is_empty() {
            "the name of a projection is empty".to_owned()
        } else if name.contains('\0') {
            format!(
                "the name of the projection {} contains a NUL character, which PostgreSQL cannot store",
                quoted(name)
            )
        } else if name.len() > Self::MAX_NAME_LEN {
            let limit = Self::MAX_NAME_LEN;
            format!("the name of the projection {} is longer than the limit of {limit} bytes", quoted(name))
        } else {
            return Ok(());
        };
        Err(Error::invalid_input(problem))
    }

    /// Returns the name of the projection.
    #[must_use]
    pub fn projection(&self) -> &str {
        &self.projection
    }

    /// Returns the version of the projection.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns the filter whose events the state is computed from.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Returns the digest by which the snapshot is found: that of the filter, or, for a
    /// [model](crate::DecisionModel::snapshot_key) of several parts or with a collection, that of their filters in
    /// their order and places.
    #[must_use]
    pub fn digest(&self) -> FilterDigest {
        self.digest
    }
}

/// For messages.
impl std::fmt::Display for SnapshotKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whose = if self.digest == self.filter.digest() { "filter" } else { "model" };
        write!(f, "{} version {} of the {} {}", quoted(&self.projection), self.version, whose, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cannot_be_stored_is_refused_with_the_reason() {
        let longest = "x".repeat(SnapshotKey::MAX_NAME_LEN);
        let too_long = longest.clone() + "x";
        let checked = |name: &str| SnapshotKey::new(name, 1, &Filter::any_event()).validate();
        for (name, part) in [("", "is empty"), ("a\0b", "NUL"), (&*too_long, "limit of 255 bytes")] {
            let message = checked(name).unwrap_err().to_string();
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
        for name in [&*longest, "'", "\"", " ", "$1"] {
            assert!(checked(name).is_ok(), "{name}");
        }
    }
}
