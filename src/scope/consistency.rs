//! How fresh a read has to be, and the functions that say so for everything inside a future.

use std::{fmt, time::Duration};

use super::{CURRENT, Scope, Scoped};
use crate::token::Token;

/// How fresh the data has to be that a read returns.
///
/// It is asked for by a [`Scope`], or explicitly in a call. The default is [`Strong`](Self::Strong): a read that
/// nobody said anything about is never stale.
///
/// More levels will come, hence `#[non_exhaustive]`; some of them hold a value, hence `Clone` and not `Copy`.
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
    /// Sees every write that was acknowledged before it: the primary answers.
    #[default]
    Strong,
    /// Sees a state of the past that the primary has left behind, usually milliseconds ago: a replica may answer.
    Eventual,
    /// Sees every write that was acknowledged longer ago than this: a replica answers that is known to be that fresh, and
    /// the primary, within [its limits](crate::RouterBuilder::fallback), where there is none.
    ///
    /// It holds at the moment when a connection is got for the read. What is known comes from asking the nodes, so a bound
    /// below two or three [intervals](crate::RouterBuilder::probe_interval) of that leaves the primary only. A commit
    /// under `synchronous_commit = off` may be missing for three times `wal_writer_delay` longer.
    Bounded(Duration),
    /// Sees what the [`Token`] speaks of: a write, a state that somebody has seen. A replica answers that has got so far;
    /// if none has, one is [waited for](crate::RouterBuilder::replay_wait), and after that the primary serves, within
    /// [its limits](crate::RouterBuilder::fallback).
    ///
    /// The connection itself proves it, in a statement that is sent in front of the read. What the cluster has lost fails with
    /// [`LogDiverged`](crate::ErrorKind::LogDiverged), and what nobody can tell with
    /// [`Unproven`](crate::ErrorKind::Unproven); see [`Token`]. For SQL of your own, a replica has to tell its timeline: it does to
    /// members of `pg_read_all_stats`, and while it receives from its primary; else the primary serves. A token that is empty asks for no more than
    /// [`Eventual`](Self::Eventual).
    AtLeast(Token),
}

impl Consistency {
    /// Its name for programs, which does not say how fresh.
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

/// The level of the scope that this code runs in, and [`Consistency::Strong`] where there is none.
///
/// It costs a few nanoseconds: one thread-local variable is read, and nothing is locked, allocated or hashed.
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
/// This is the level without any scope, too; the function brings it back inside an eventual scope, for the part that
/// decides on a write.
///
/// The items of the scope around it are those of the moment of this call; see [`Scope`] for the rules.
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

/// Runs a future whose reads may be answered by a replica, a little behind the primary.
///
/// Hand over the whole `async` block. A call that is itself the argument is made *before* this function, and so in the
/// scope around it: in `with_eventual_consistency(read())`, whatever `read` looks up before its first poll is strong.
///
/// The items of the scope around it are those of the moment of this call; see [`Scope`] for the rules.
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

/// Runs a future in a scope of this level.
///
/// For a level that is a value: a setting, a parameter of the request. Where it is known in the source,
/// [`with_strong_consistency`] and [`with_eventual_consistency`] read better.
///
/// The items of the scope around it are those of the moment of this call; see [`Scope`] for the rules.
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
