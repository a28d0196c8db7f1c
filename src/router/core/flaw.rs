//! Ways to break the core on purpose, so that the simulator is seen to notice.
//!
//! They are compiled into unit tests only, and off there until a test turns one on for its own thread.

use std::cell::Cell;

/// A rule of the core that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Any writable node takes writes, whatever its timeline.
    AnyWritable,
    /// The first one of two writable nodes on one timeline wins.
    FirstOfTwo,
    /// The newest timeline is the newest of those who answer now.
    ForgetNewest,
    /// Nodes of another cluster are not told apart.
    NoIdentity,
    /// In a split brain, a node that does not answer counts as stopped.
    AnyFailureIsAStop,
    /// A floor is compared by its place alone.
    FloorWithoutTimeline,
    /// The new timeline is taken to hold all of the old one.
    HoldsEverything,
    /// What is to be proven by the connection is taken for proven.
    IgnoreGuard,
    /// What a node said is believed after the connection to it was lost.
    KeepPlace,
    /// A replica that has replayed all that it received is fresh, whether or not it receives anything.
    FreshByReceiver,
    /// The lag is subtracted the wrong way round.
    InvertedLag,
    /// The primary's place counts from when its answer came.
    ReceivedAt,
    /// An age does not grow while nobody asks.
    FrozenAge,
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
    /// Full nodes are chosen as others.
    IgnoreFull,
    /// Nodes that this call has tried are chosen again.
    IgnoreTried,
    /// The first of the nodes that qualify is chosen.
    AlwaysFirst,
    /// Latencies are not compared.
    IgnoreLatency,
    /// A node that comes back gets its whole share at once.
    NoSlowStart,
}

thread_local! {
    static ON: Cell<Option<Flaw>> = const { Cell::new(None) };
}

pub(super) fn is_on(flaw: Flaw) -> bool {
    ON.get() == Some(flaw)
}

/// Breaks this rule while `test` runs.
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
