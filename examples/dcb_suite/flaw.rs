//! Deliberate faults of the server, which show that the checks would notice them.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Appends whatever the condition says.
    NoCondition,
    /// Ignores the tags of conditions that have types: unrelated appends fail, too.
    WideCondition,
    /// Every other read leaves out some events, as if their transaction committed after a later position.
    HiddenEvents,
}

impl Flaw {
    pub(crate) const ALL: [Self; 3] = [Self::NoCondition, Self::WideCondition, Self::HiddenEvents];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoCondition => "no-condition",
            Self::WideCondition => "wide-condition",
            Self::HiddenEvents => "hidden-events",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flaw| flaw.name() == name)
    }

    /// A read leaves out positions that are multiples of this.
    pub(crate) fn hidden(self) -> Option<u64> {
        static READS: AtomicU64 = AtomicU64::new(0);
        (self == Self::HiddenEvents && READS.fetch_add(1, Ordering::Relaxed).is_multiple_of(2)).then_some(5)
    }
}
