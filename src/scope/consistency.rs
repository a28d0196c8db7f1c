//! Consistency levels, and the functions that set one for everything inside a future.

use std::{fmt, time::Duration};

use super::{CURRENT, Scope, Scoped};
use crate::token::Token;

/// How fresh the data of a read must be.
///
/// A [`Scope`] or an explicit setting of a call selects the level. The default is [`Strong`](Self::Strong): a read
/// without a chosen level is never stale.
///
/// More levels will be added, hence `#[non_exhaustive]`; some of them hold a value, hence `Clone` and not `Copy`.
///
/// ```
/// use mainstem::Consistency;
///
/// assert_eq!(Consistency::default(), Consistency::Strong);
/// assert_eq!(Consistency::Eventual.to_string(), "eventual");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Consistency {
    /// The read sees every write that was acknowledged before it. The primary serves it.
    #[default]
    Strong,
    /// The read sees a past state of the primary, usually milliseconds old. A replica may serve it.
    Eventual,
    /// The read sees every write that was acknowledged longer ago than this. A replica that is known to be that fresh
    /// serves it; if there is none, the primary does, within [its limits](crate::RouterBuilder::fallback).
    ///
    /// The bound holds at the moment when the read gets its connection. Freshness is known from probes, so a bound
    /// below two or three [probe intervals](crate::RouterBuilder::probe_interval) leaves only the primary. A commit
    /// under `synchronous_commit = off` may be missing for three times `wal_writer_delay` longer.
    Bounded(Duration),
    /// The read sees what the [`Token`] covers: a write, or a state that somebody has read. A replica that has replayed
    /// that far serves it. If none has, the read [waits for one](crate::RouterBuilder::replay_wait); after that the
    /// primary serves it, within [its limits](crate::RouterBuilder::fallback).
    ///
    /// The connection itself proves this, in a statement sent ahead of the read. If the cluster has lost what the token
    /// covers, the read fails with [`LogDiverged`](crate::ErrorKind::LogDiverged). If that cannot be determined, it
    /// fails with [`Unproven`](crate::ErrorKind::Unproven); see [`Token`]. For your own SQL, a replica must report its
    /// timeline: it does so to members of `pg_read_all_stats`, and while it receives WAL from its primary; otherwise
    /// the primary serves the read. An empty token asks for no more than [`Eventual`](Self::Eventual).
    AtLeast(Token),
}

impl Consistency {
    /// The level's name for programs, without the bound or the token.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Strong => "strong",
            Self::Eventual => "eventual",
            Self::Bounded(_) => "bounded",
            Self::AtLeast(_) => "at_least",
        }
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Strong => "strong",
            Self::Eventual => "eventual",
            Self::Bounded(_) => "bounded",
            Self::AtLeast(_) => "at least",
        })
    }
}

/// Returns the level of the scope that this code runs in, or [`Consistency::Strong`] if there is none.
///
/// It costs a few nanoseconds: it reads one thread-local variable, and locks, allocates and hashes nothing.
///
/// ```
/// use mainstem::{Consistency, current_consistency, with_eventual_consistency};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// assert_eq!(current_consistency(), Consistency::Strong);
/// let inside = with_eventual_consistency(async { current_consistency() }).await;
/// assert_eq!(inside, Consistency::Eventual);
/// # }
/// ```
#[must_use]
pub fn current_consistency() -> Consistency {
    CURRENT.try_with(|scope| scope.consistency.clone()).unwrap_or_default()
}

/// Runs a future whose reads see every acknowledged write.
///
/// This is also the level outside any scope. Use the function inside an eventual scope, for the part that decides on a
/// write.
///
/// The items of the surrounding scope are captured at this call; see [`Scope`] for the rules.
///
/// ```
/// use mainstem::{Consistency, current_consistency, with_eventual_consistency, with_strong_consistency};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// with_eventual_consistency(async {
///     with_strong_consistency(async {
///         assert_eq!(current_consistency(), Consistency::Strong);
///     })
///     .await;
///     assert_eq!(current_consistency(), Consistency::Eventual);
/// })
/// .await;
/// # }
/// ```
pub fn with_strong_consistency<F: Future>(future: F) -> Scoped<F> {
    with_consistency(Consistency::Strong, future)
}

/// Runs a future whose reads a replica may serve, slightly behind the primary.
///
/// Pass the whole `async` block. A call that is itself the argument is made *before* this function, and so in the
/// surrounding scope: in `with_eventual_consistency(read())`, everything that `read` looks up before its first poll is
/// strong.
///
/// The items of the surrounding scope are captured at this call; see [`Scope`] for the rules.
///
/// ```
/// use mainstem::{Consistency, current_consistency, with_eventual_consistency};
///
/// # async fn read() -> Consistency { current_consistency() }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let level = with_eventual_consistency(async { read().await }).await;
/// assert_eq!(level, Consistency::Eventual);
/// # }
/// ```
pub fn with_eventual_consistency<F: Future>(future: F) -> Scoped<F> {
    with_consistency(Consistency::Eventual, future)
}

/// Runs a future in a scope of the given level.
///
/// Use it when the level is a value: a setting, or a parameter of the request. If the level is known in the source,
/// [`with_strong_consistency`] and [`with_eventual_consistency`] read better.
///
/// The items of the surrounding scope are captured at this call; see [`Scope`] for the rules.
///
/// ```
/// use mainstem::{Consistency, current_consistency, with_consistency};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let may_lag = true;
/// let level = if may_lag { Consistency::Eventual } else { Consistency::Strong };
/// let inside = with_consistency(level.clone(), async { current_consistency() }).await;
/// assert_eq!(inside, level);
/// # }
/// ```
pub fn with_consistency<F: Future>(level: Consistency, future: F) -> Scoped<F> {
    Scoped::new(Scope::current().with_consistency(level), future)
}
