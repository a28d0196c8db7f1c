//! The future that carries a scope, and the trait that makes one of any future.

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
    /// Made by [`with_strong_consistency`](crate::with_strong_consistency) and its siblings, by [`Scope::run`], and by
    /// [`InScope`]. It is `Send` when the future in it is.
    ///
    /// While the future is polled, and while it is dropped (its destructors run then), its scope is the current one;
    /// right after, the scope around it is back, also when the future panics. So cancelling it is as safe as cancelling
    /// the future in it.
    ///
    /// # Panics
    ///
    /// When it is polled again after it has completed.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct Scoped<F> {
        // Tokio's and not our own: it restores by a guard, and it knows the case of a thread that is just ending.
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

/// Gives a future a scope to take along, for tasks and channels that would lose it.
///
/// `tokio::spawn` starts a task in no scope, as it starts it in no `tracing` span; this trait is to scopes what
/// `tracing::Instrument` is to spans.
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
    /// Carries the scope of the moment of this call, not of the first poll.
    ///
    /// Called outside any scope, it carries that: the future is strong and has no items, whoever polls it.
    fn in_current_scope(self) -> Scoped<Self> {
        Scoped::new(Scope::current(), self)
    }

    /// Carries this scope, and nothing of the current one.
    ///
    /// The same as [`Scope::run`], for a chain of adapters.
    fn in_scope(self, scope: Scope) -> Scoped<Self> {
        Scoped::new(scope, self)
    }
}

impl<F: Future> InScope for F {}
