//! The future that carries a scope, and the trait that turns any future into one.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;

use super::{CURRENT, Scope};

pin_project! {
    /// A future that carries its [`Scope`] wherever it is polled or dropped.
    ///
    /// [`with_strong_consistency`](crate::with_strong_consistency) and its siblings, [`Scope::run`] and [`InScope`]
    /// create it. It is `Send` if the future in it is.
    ///
    /// Its scope is the current one while the future is polled, and while it is dropped (its destructors run then).
    /// Right after, the surrounding scope is current again, even if the future panics. Cancelling it is therefore as
    /// safe as cancelling the future in it.
    ///
    /// # Panics
    ///
    /// If it is polled again after it has completed.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Scoped<F> {
        // Tokio's and not our own: it restores through a guard, and it handles a thread that is ending.
        #[pin]
        carried: TaskLocalFuture<Scope, F>,
    }
}

impl<F: Future> Scoped<F> {
    pub(super) fn new(scope: Scope, future: F) -> Self {
        Self { carried: CURRENT.scope(scope, future) }
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().carried.poll(cx)
    }
}

impl<F> fmt::Debug for Scoped<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scoped").finish_non_exhaustive()
    }
}

/// Attaches a scope to a future, for tasks and channels that would lose it.
///
/// `tokio::spawn` starts a task outside any scope, as it starts it outside any `tracing` span. This trait is to scopes
/// what `tracing::Instrument` is to spans.
///
/// ```
/// use mainstem::{Consistency, InScope, current_consistency, with_eventual_consistency};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// with_eventual_consistency(async {
///     let lost = tokio::spawn(async { current_consistency() });
///     let kept = tokio::spawn(async { current_consistency() }.in_current_scope());
///     assert_eq!(lost.await.unwrap(), Consistency::Strong);
///     assert_eq!(kept.await.unwrap(), Consistency::Eventual);
/// })
/// .await;
/// # }
/// ```
pub trait InScope: Future + Sized {
    /// Carries the scope that is current at this call, not at the first poll.
    ///
    /// Outside any scope, it carries exactly that: the future is strong and has no items, wherever it is polled.
    fn in_current_scope(self) -> Scoped<Self> {
        Scoped::new(Scope::current(), self)
    }

    /// Carries the given scope, and nothing of the current one.
    ///
    /// Equivalent to [`Scope::run`], for a chain of adapters.
    fn in_scope(self, scope: Scope) -> Scoped<Self> {
        Scoped::new(scope, self)
    }
}

impl<F: Future> InScope for F {}
