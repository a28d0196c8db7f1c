//! Ways to break the router on purpose, to see that the simulator and the drills notice.
//!
//! They are compiled into unit tests, where they are off until a test turns one on for its own thread, and into the
//! drills (feature `__faults`), where one can be turned on for the whole process. They do not exist anywhere else.

#[cfg(test)]
use std::cell::Cell;
#[cfg(feature = "__faults")]
use std::sync::atomic::{AtomicU8, Ordering};

/// A rule of the core that is violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum Flaw {
    /// Any writable node takes writes, whatever its timeline.
    AnyWritable,
    /// The first one of two writable nodes on one timeline wins.
    FirstOfTwo,
    /// The newest timeline is the newest of the nodes that answer now.
    ForgetNewest,
    /// A primary of the settings that has reported nothing yet gets writes, even if others have reported a failover.
    BelieveSettings,
    /// Nodes of another cluster are not told apart.
    NoIdentity,
    /// In a split brain, a node that does not answer counts as stopped.
    AnyFailureIsAStop,
    /// A floor is compared by its place alone.
    FloorWithoutTimeline,
    /// The new timeline is assumed to contain all of the old one.
    HoldsEverything,
    /// What the connection has to prove is assumed to be proven.
    IgnoreGuard,
    /// A node's report is still believed after the connection to it was lost.
    KeepPlace,
    /// A replica that has replayed everything it received is fresh, whether or not it receives anything.
    FreshByReceiver,
    /// The lag is subtracted the wrong way round.
    InvertedLag,
    /// The primary's place counts from when its answer arrived.
    ReceivedAt,
    /// An age does not grow while there are no probes.
    FrozenAge,
    /// A node that was added counts before it has reported what it is.
    NoCheck,
    /// A node is removed when it is left out of the list, even while it takes writes.
    RemoveWriter,
    /// Outliers are ejected without a limit.
    EjectAll,
    /// Ejected nodes stay out.
    NeverReadmit,
    /// A promoted node is still read from.
    ReadPromoted,
    /// Any number of calls falls back to the primary.
    NoBudget,
    /// The fallback's rate is not limited.
    NoRate,
    /// Full nodes are chosen like any other.
    IgnoreFull,
    /// Nodes that this call has tried are chosen again.
    IgnoreTried,
    /// The first of the nodes that qualify is chosen.
    AlwaysFirst,
    /// Latencies are not compared.
    IgnoreLatency,
    /// A node that comes back gets its whole share at once.
    NoSlowStart,
    /// Connecting has no limit except that of the socket.
    NoConnectLimit,
    /// An abandoned connection keeps its place in the pool.
    LeakPlaces,
}

#[cfg(test)]
thread_local! {
    static ON: Cell<Option<Flaw>> = const { Cell::new(None) };
}

/// The flaw that is on in the whole process, as its number from 1.
#[cfg(feature = "__faults")]
static ON_FOR_ALL: AtomicU8 = AtomicU8::new(0);

pub(in crate::router) fn is_on(flaw: Flaw) -> bool {
    #[cfg(test)]
    if ON.get() == Some(flaw) {
        return true;
    }
    #[cfg(feature = "__faults")]
    if ON_FOR_ALL.load(Ordering::Relaxed) == flaw as u8 + 1 {
        return true;
    }
    let _ = flaw;
    false
}

/// Not for users: breaks this rule for every router of the process, until its end. Returns whether there is such a
/// rule.
#[cfg(feature = "__faults")]
#[doc(hidden)]
#[must_use]
pub fn turn_on(name: &str) -> bool {
    let found = Flaw::OF_DRILLS.iter().find(|flaw| format!("{flaw:?}") == name);
    if let Some(flaw) = found {
        ON_FOR_ALL.store(*flaw as u8 + 1, Ordering::Relaxed);
    }
    found.is_some()
}

#[cfg(feature = "__faults")]
impl Flaw {
    /// The flaws that a drill on real servers has to find.
    const OF_DRILLS: [Self; 9] = [
        Self::AnyWritable,
        Self::ForgetNewest,
        Self::NeverReadmit,
        Self::NoBudget,
        Self::AlwaysFirst,
        Self::IgnoreLatency,
        Self::NoConnectLimit,
        Self::LeakPlaces,
        Self::IgnoreGuard,
    ];
}

/// Breaks this rule while `test` runs.
#[cfg(test)]
pub(super) fn with<T>(flaw: Flaw, test: impl FnOnce() -> T) -> T {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.set(None);
        }
    }
    ON.set(Some(flaw));
    let _off = Off;
    test()
}
