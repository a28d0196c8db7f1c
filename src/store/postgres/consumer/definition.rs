//! Which events a consumer handles, and in which version: a checkpoint says how far somebody has got with just these.

use super::Member;
use crate::{
    FilterDigest,
    error::{Error, Result},
};

/// What the checkpoints of a consumer are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) filter: FilterDigest,
    pub(crate) version: u32,
}

/// What becomes of the stored definition when a member joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is the member's own.
    None,
    /// There is none since a reset: it is the member's from now on.
    Begins,
    /// The same, and those who have joined with the other one are shut out.
    Replaces,
}

impl Definition {
    /// In the form of the table.
    pub(super) fn params(&self) -> (&[u8], i64) {
        (self.filter.as_bytes(), self.version.into())
    }
}

impl Change {
    /// Whether the member may go on from the checkpoints of those who had the stored filter and version.
    pub(super) fn by(member: &Member, filter: Option<&[u8]>, version: Option<i64>) -> Result<Self> {
        let (Some(filter), Some(version)) = (filter, version) else { return Ok(Self::Begins) };
        let (own_filter, own) = member.definition.params();
        if (filter, version) == (own_filter, own) {
            return Ok(Self::None);
        }
        // A late process of an older version would take it back, and shut out those that have replaced it.
        if member.accepts_change && version <= own {
            return Ok(Self::Replaces);
        }
        let what = match (filter == own_filter, version == own) {
            (true, _) => format!("has version {version}, and this member {own}"),
            (_, true) => {
                "has another filter than this member, and has passed over what only this one matches".to_owned()
            }
            _ => format!("has version {version} with another filter, and this member {own}"),
        };
        Err(Error::configuration(format!(
            "the consumer {:?} {what}; choose: another name, to build this one beside it; or, once no member of the other kind \
             runs, `ConsumerControl::reset`, to begin anew as this one once it is started again; or `accept_change`, to go on from the \
             checkpoint as it is (never to a lower version)",
            member.consumer
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::Filter;

    #[test]
    fn a_lower_version_never_takes_a_consumer_back() {
        let filter = Filter::any_event().digest();
        let member = |version, accepts_change| Member {
            consumer: "c".to_owned(),
            id: Uuid::nil(),
            partitions: 1,
            definition: Definition { filter, version },
            accepts_change,
            lease: Duration::ZERO,
        };
        let joins = |version, accepts| Change::by(&member(version, accepts), Some(filter.as_bytes()), Some(2)).ok();
        assert_eq!(
            [joins(1, true), joins(2, true), joins(3, true)],
            [None, Some(Change::None), Some(Change::Replaces)]
        );
        assert_eq!([joins(1, false), joins(2, false), joins(3, false)], [None, Some(Change::None), None]);
    }
}
