//! Scopes: settings that apply to all calls inside a future without being passed to each of them.
//!
//! Tokio's task-local is the only carrier. `task_local_extensions` has a carrier too, `with_extensions`, but without a
//! guard: after a panic in it, its values stay on the thread, and the next task on that thread, perhaps a command,
//! would read from a replica. We use only its typed map, as the value.
//!
//! Every other module may use this one; this one uses nothing of the crate but tokens.

mod consistency;
mod items;
mod scoped;
mod session;

use std::fmt;

/// The typed map of [`Scope::with_items`], which holds at most one value of each type.
///
/// This is the type of the crate `task_local_extensions`, re-exported so that you need no dependency on that crate.
/// Moving to an incompatible version of it is a breaking change of this crate.
///
/// Do not pass it to that crate's own `with_extensions`: [`Scope`] does not see it there, and it stays on the thread
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

/// The settings of all calls inside a future: the [`Consistency`] of its reads, a [`Session`], and your own items.
///
/// A scope is the dynamic extent of a future: the code that runs while the future is polled or dropped. Every call in
/// it that has no explicit level takes the scope's level. Outside any scope, the level is strong and there are no
/// items, so a forgotten scope costs speed, never correctness.
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
/// The inner scope wins. A scope derived from the current one, as `with_…_consistency` does, stays in the outer
/// [`Session`] and sees the outer items; its own item shadows an outer one of the same type. When the inner scope ends,
/// including by a panic, cancellation or a drop, the outer one is current again. Destructors see the scope of the
/// future that they belong to.
///
/// # What is captured when
///
/// A scope is captured **when a function is called**, never at the first poll:
///
/// - `with_…_consistency(future)` and [`in_current_scope`](InScope::in_current_scope) capture the current items when
///   they are called, wherever the future is polled afterwards.
/// - A method of this crate that returns a future, a stream or a queued write captures the level and the items when it
///   is called.
/// - An argument is evaluated before the call. In `with_strong_consistency(read())`, `read()` is still called in the
///   surrounding scope; in `with_strong_consistency(async { read().await })` it is called inside. Write the latter.
///
/// # Where it reaches
///
/// | inside a scope | runs in that scope | to take it along |
/// |---|---|---|
/// | `.await`, called functions | yes | |
/// | `join!`, `select!`, `FuturesUnordered`, `StreamExt::buffered`: other futures of the same task | yes | |
/// | `tokio::task::block_in_place`, and a `Handle::block_on` in it | yes | |
/// | destructors, also of a future that is cancelled before its first poll | yes | |
/// | `tokio::spawn`, `JoinSet::spawn` | no | [`in_current_scope`](InScope::in_current_scope) |
/// | `tokio::task::spawn_blocking`, `std::thread::spawn` | no | [`run_sync`](Self::run_sync) |
/// | a future that is sent elsewhere and polled there | no | [`in_current_scope`](InScope::in_current_scope) |
/// | a stream that is returned and polled outside | no | scope the futures in it |
/// | a `LocalSet` or a whole runtime that is driven from inside | yes, **all** its tasks | drive it outside |
///
/// Avoid the last case: such an executor polls tasks of others on the scope's thread, and a task-local variable cannot
/// tell them apart.
///
/// # Cost
///
/// Reading the level takes a few nanoseconds and entering a scope some tens, both without allocating. Adding an item
/// allocates. Reading an item costs one hash for each nested scope with items that is searched.
#[derive(Clone, Default)]
pub struct Scope {
    consistency: Consistency,
    session: Option<Session>,
    items: Items,
}

impl Scope {
    /// Creates the scope that applies outside all scopes: strong, without items.
    ///
    /// Run a future in it to hide the surrounding scope. To derive a nested scope, start from
    /// [`current`](Self::current).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the scope that this code runs in, or [`Scope::new`] if there is none.
    ///
    /// This is a cheap clone: the items are shared.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// Returns this scope at another level.
    #[must_use]
    pub fn with_consistency(mut self, level: Consistency) -> Self {
        self.consistency = level;
        self
    }

    /// Returns this scope within a session.
    #[must_use]
    pub fn with_session(mut self, session: Session) -> Self {
        self.session = Some(session);
        self
    }

    /// Returns this scope with one more item, which shadows an outer item of the same type.
    ///
    /// Give the item a type of its own: `Tenant(String)`, not `String`, which any other code could shadow.
    ///
    /// A shadowed item lives as long as any scope in which it was set, or any scope derived from that. Do not add an
    /// item in each generation of a task that spawns its successor in its own scope: that chain never gets shorter.
    #[must_use]
    pub fn with_item<T: Send + Sync + 'static>(mut self, item: T) -> Self {
        self.items.change(|own| drop(own.insert(item)));
        self
    }

    /// Returns this scope with all items of an existing map; each shadows an outer item of the same type.
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

    /// Returns the level of this scope.
    ///
    /// For the current scope, [`current_consistency`] is cheaper than `Scope::current().consistency()`.
    #[must_use]
    pub fn consistency(&self) -> &Consistency {
        &self.consistency
    }

    /// Returns the session of this scope, if there is one.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Returns the innermost item of this type.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.items.get()
    }

    /// Runs a future in this scope, which replaces the current one.
    ///
    /// Derive the scope from [`Scope::current`] to keep the outer items.
    pub fn run<F: Future>(&self, future: F) -> Scoped<F> {
        Scoped::new(self.clone(), future)
    }

    /// Runs a closure in this scope, for `spawn_blocking` and threads.
    ///
    /// A future that the closure creates and returns is polled outside the scope; see
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
    /// If it is called from the destructor of a thread-local variable while the thread ends.
    pub fn run_sync<T>(&self, closure: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), closure)
    }
}

/// The innermost item of this type in the current scope.
pub(crate) fn current_item<T: Clone + Send + Sync + 'static>() -> Option<T> {
    CURRENT.try_with(|scope| scope.get::<T>().cloned()).ok().flatten()
}

impl fmt::Debug for Scope {
    /// Omits the items: a scope ends up in logs, and an item may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("consistency", &self.consistency).finish_non_exhaustive()
    }
}
