//! The scope: what holds for all calls inside a future, without being passed to each of them.
//!
//! Tokio's task-local carries it and nothing else does. `task_local_extensions` has a carrier too, `with_extensions`,
//! which has no guard: after a panic in it, its values stay on the thread, and the next task there, a command perhaps,
//! would read from a replica. We use its typed map only, as the value.
//!
//! Everything else in the crate may use this module; of the crate it uses nothing but tokens.

mod consistency;
mod items;
mod scoped;
mod session;

use std::fmt;

/// The typed map of [`Scope::with_items`], at most one value of each type.
///
/// It is the one of the crate `task_local_extensions`, exported here so that you need no dependency on that crate.
/// A version of it that is not compatible is a breaking change of this crate.
///
/// Don't hand it to that crate's own `with_extensions`: [`Scope`] does not see it there, and it stays on the thread
/// after a panic.
#[doc(inline)]
pub use task_local_extensions::Extensions;

use self::items::Items;
pub use self::{
    consistency::{
        Consistency, current_consistency, with_consistency, with_eventual_consistency, with_strong_consistency,
    },
    scoped::{InScope, Scoped},
    session::{Session, current_session, with_session},
};

tokio::task_local! {
    static CURRENT: Scope;
}

/// What holds for all calls inside a future: the [`Consistency`] of its reads, a [`Session`], and your own items.
///
/// A scope is the dynamic extent of a future: the code that runs while it is polled or dropped. There, every call that
/// is not told a level explicitly takes the scope's. Outside any scope the level is strong and there are no items, so
/// that a forgotten scope costs speed and never correctness.
///
/// ```
/// use mainstem::{Consistency, Scope};
///
/// #[derive(Debug, PartialEq)]
/// struct Tenant(u32);
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let scope = Scope::current().with_consistency(Consistency::Eventual).with_item(Tenant(7));
/// scope
///     .run(async {
///         let scope = Scope::current();
///         assert_eq!(scope.consistency(), &Consistency::Eventual);
///         assert_eq!(scope.get(), Some(&Tenant(7)));
///     })
///     .await;
/// assert_eq!(Scope::current().get::<Tenant>(), None);
/// # }
/// ```
///
/// # Nesting
///
/// The inner scope wins. A scope that is derived from the current one, as `with_…_consistency` does it, is within the outer
/// [`Session`] and sees the outer items, and an item of its own shadows the outer one of the same type. After the inner scope the outer one is back:
/// also after a panic, a cancel, or a drop. Destructors see the scope of the future that they belong to.
///
/// # What is captured when
///
/// A scope is captured **when a function is called**, never at the first poll:
///
/// - `with_…_consistency(future)` and [`in_current_scope`](InScope::in_current_scope) take the current items in the
///   moment of the call, wherever the future is polled afterwards.
/// - A method of this crate that returns a future, a stream or a queued write takes level and items when it is called.
/// - An argument is evaluated before the call. In `with_strong_consistency(read())`, `read()` is still called in the
///   scope around it; in `with_strong_consistency(async { read().await })` it is called inside. Write the latter.
///
/// # Where it reaches
///
/// | inside a scope | runs in that scope | to take it along |
/// |---|---|---|
/// | `.await`, functions that are called | yes | |
/// | `join!`, `select!`, `FuturesUnordered`, `StreamExt::buffered`: other futures of the same task | yes | |
/// | `tokio::task::block_in_place`, and a `Handle::block_on` in it | yes | |
/// | destructors, also of a future that is cancelled before its first poll | yes | |
/// | `tokio::spawn`, `JoinSet::spawn` | no | [`in_current_scope`](InScope::in_current_scope) |
/// | `tokio::task::spawn_blocking`, `std::thread::spawn` | no | [`run_sync`](Self::run_sync) |
/// | a future that is sent elsewhere and polled there | no | [`in_current_scope`](InScope::in_current_scope) |
/// | a stream that is returned and polled outside | no | scope the futures in it |
/// | a `LocalSet` or a whole runtime that is driven from inside | yes, **all** its tasks | drive it outside |
///
/// The last line is the one to avoid: such an executor polls tasks of others on the thread of the scope, and a
/// task-local variable cannot tell them apart.
///
/// # Cost
///
/// Reading the level takes a few nanoseconds and entering a scope some tens, both without an allocation. An item costs
/// allocations when it is added, and a hash for each nested scope with items that is looked through when it is read.
#[derive(Clone, Default)]
pub struct Scope {
    consistency: Consistency,
    session: Option<Session>,
    items: Items,
}

impl Scope {
    /// The scope outside all scopes: strong, without items.
    ///
    /// Run a future in it to hide the scope around: [`current`](Self::current) is the base for a nested one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The scope that this code runs in, and [`Scope::new`] where there is none.
    ///
    /// A cheap clone: the items are shared.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// This scope at another level.
    #[must_use]
    pub fn with_consistency(mut self, level: Consistency) -> Self {
        self.consistency = level;
        self
    }

    /// This scope within a session.
    #[must_use]
    pub fn with_session(mut self, session: Session) -> Self {
        self.session = Some(session);
        self
    }

    /// This scope with one more item, which shadows an outer item of the same type.
    ///
    /// Give it a type of its own: `Tenant(String)`, not `String`, which anybody could shadow.
    ///
    /// A shadowed item lives as long as a scope in which it was set, or one derived from that. So don't add an item in
    /// each generation of a task that spawns its successor in its own scope: that chain never gets shorter.
    #[must_use]
    pub fn with_item<T: Send + Sync + 'static>(mut self, item: T) -> Self {
        self.items.change(|own| drop(own.insert(item)));
        self
    }

    /// This scope with all items of a map that is there already; each shadows an outer item of the same type.
    ///
    /// ```
    /// use mainstem::{Extensions, Scope};
    ///
    /// let scope = Scope::new().with_item(1_u8).with_items(Extensions::new().with(2_u8).with("name"));
    /// assert_eq!(scope.get(), Some(&2_u8));
    /// assert_eq!(scope.get(), Some(&"name"));
    /// ```
    #[must_use]
    pub fn with_items(mut self, mut items: Extensions) -> Self {
        self.items.change(|own| own.append(&mut items));
        self
    }

    /// The level of this scope.
    ///
    /// For the current one, [`current_consistency`] is cheaper than `Scope::current().consistency()`.
    #[must_use]
    pub fn consistency(&self) -> &Consistency {
        &self.consistency
    }

    /// The session that this scope is within.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// The innermost item of this type.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.items.get()
    }

    /// Runs a future in this scope, which replaces the current one.
    ///
    /// Derive it from [`Scope::current`] to keep the outer items.
    pub fn run<F: Future>(&self, future: F) -> Scoped<F> {
        Scoped::new(self.clone(), future)
    }

    /// Runs a closure in this scope, for `spawn_blocking` and threads.
    ///
    /// A future that is made in the closure and returned from it is polled outside; see
    /// [`in_current_scope`](InScope::in_current_scope).
    ///
    /// ```
    /// use mainstem::{Consistency, Scope, current_consistency, with_eventual_consistency};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// with_eventual_consistency(async {
    ///     let scope = Scope::current();
    ///     let blocking = tokio::task::spawn_blocking(move || scope.run_sync(current_consistency));
    ///     assert_eq!(blocking.await.unwrap(), Consistency::Eventual);
    /// })
    /// .await;
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// When it is called from the destructor of a thread-local variable while the thread ends.
    pub fn run_sync<T>(&self, closure: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), closure)
    }
}

/// The innermost item of this type in the current scope.
pub(crate) fn current_item<T: Clone + Send + Sync + 'static>() -> Option<T> {
    CURRENT.try_with(|scope| scope.get::<T>().cloned()).ok().flatten()
}

impl fmt::Debug for Scope {
    /// The items are left out: a scope ends up in logs, and an item may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("consistency", &self.consistency).finish_non_exhaustive()
    }
}
