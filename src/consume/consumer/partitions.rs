//! Which partition an event belongs to.

use std::{borrow::Cow, fmt, sync::Arc};

use crate::Event;

/// The key of an event. Events with the same key are handled in order.
type KeyOf = dyn Fn(&Event) -> Option<Cow<'_, str>> + Send + Sync;

/// How events are divided.
#[derive(Clone)]
pub(super) struct Partitions {
    pub(super) amount: u32,
    key: Arc<KeyOf>,
}

impl Partitions {
    pub(super) fn new(amount: u32, key: impl Fn(&Event) -> Option<Cow<'_, str>> + Send + Sync + 'static) -> Self {
        Self { amount: amount.clamp(1, i32::MAX.unsigned_abs()), key: Arc::new(key) }
    }

    pub(super) fn one() -> Self {
        Self::new(1, |_| None)
    }

    /// The partition; the first one for an event without a key.
    pub(super) fn of(&self, event: &Event) -> i32 {
        let partition = (self.key)(event).map_or(0, |key| hash(&key) % u64::from(self.amount));
        i32::try_from(partition).unwrap_or_default()
    }
}

/// FNV-1a: the same in every process and version, since checkpoints depend on it.
fn hash(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partitions").field("amount", &self.amount).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_same_hash_for_good() {
        assert_eq!(
            (hash(""), hash("a"), hash("foobar")),
            (0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c, 0x8594_4171_f739_67e8)
        );
    }
}
