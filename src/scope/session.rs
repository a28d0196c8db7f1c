//! Sessions: reads that never go back in time, and see the writes made before them.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{CURRENT, Scope, Scoped};
use crate::token::Token;

/// What a client has written and read so far, so that none of its reads is older than that.
///
/// In a session, each read contains every earlier write and every earlier read of that session. It reads its own
/// writes, and it never goes back in time, whichever replica serves it. This is automatic: each answer advances the
/// session's [`Token`], and each read asks for at least that token. The [scope](Scope) or the call still determines the
/// level of a read; a session only adds to it.
///
/// | level | in a session |
/// |---|---|
/// | [`Strong`](crate::Consistency::Strong) | the primary, as always; if an event that the session has seen is gone, the read fails with [`LogDiverged`](crate::ErrorKind::LogDiverged) |
/// | [`Eventual`](crate::Consistency::Eventual), [`Bounded`](crate::Consistency::Bounded), [`AtLeast`](crate::Consistency::AtLeast) | a replica that has caught up with the session |
///
/// A session does not cover a commit in other SQL that waits for its synchronous standby: a replica may show it a
/// moment before the primary does. (For events of a log, the primary's read waits.) A transaction of other SQL counts
/// when it ends; reads in a transaction that is dropped do not count. A session whose commits do not wait for the disk
/// (`synchronous_commit = off`, in SQL that says so) is served by the primary. What *other sessions* commit that way,
/// and this one reads before it is on the disk, may appear on a replica only later.
///
/// Cloning is cheap, and all clones are one session. To continue it in another process, or in the same user's next
/// request, its [token](Self::token) is enough:
///
/// ```
/// use mainstem::{Session, Token, with_eventual_consistency, with_session};
///
/// # async fn run(cookie: &str) -> mainstem::Result<()> {
/// let session = Session::from(cookie.parse::<Token>()?);
/// with_session(&session, async {
///     // … append
///     with_eventual_consistency(async {
///         // … query, and query again
///     })
///     .await;
/// })
/// .await;
/// let cookie = session.token().to_string();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Session {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What stores and routers have reported, and what was accepted as true.
    token: Token,
    /// What a client has claimed and no read has shown yet. Reads must contain it all the same.
    unproven: Token,
    /// What was appended in this session: part of `token`.
    appended: Token,
    /// How often the token was requested; each read requests it.
    looks: u64,
    /// How often the session was reset.
    forgets: u64,
}

impl Session {
    /// Creates a session in which nothing has happened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns what has been written and read in the session so far.
    #[must_use]
    pub fn token(&self) -> Token {
        let mut own = self.lock();
        own.looks += 1;
        own.whole()
    }

    /// Adds what was written or read elsewhere: the token of a message, or of another session.
    pub fn see(&self, token: &Token) {
        let mut own = self.lock();
        own.token = own.token.merge(token);
    }

    /// Resets the session, as if nothing had happened: after a failover that lost what it has seen, once the user was
    /// informed.
    pub fn forget(&self) {
        let mut own = self.lock();
        *own = State { looks: own.looks, forgets: own.forgets + 1, ..State::default() };
    }

    /// Adds what was appended, or may have been.
    pub(crate) fn appended(&self, token: &Token) {
        let mut own = self.lock();
        own.token = own.token.merge(token);
        own.appended = own.appended.merge(token);
    }

    /// Adds what a call that contained `asked` has seen.
    pub(crate) fn advance(&self, asked: &Token, seen: &Token) {
        let mut own = self.lock();
        own.token = own.token.advance(asked, seen);
        // What was proven is in `seen`, in the server's own words.
        own.unproven = own.unproven.without_proven(asked, seen);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the HTTP layers need to know of a session.
#[cfg(feature = "tower")]
impl Session {
    /// Adds what a client claims: reads must contain it, and it is not [vouched for](Self::vouched) until a read has
    /// shown it.
    pub(crate) fn hear(&self, token: &Token) {
        let mut own = self.lock();
        own.unproven = own.unproven.merge(token);
    }

    /// What may be passed on as true.
    pub(crate) fn vouched(&self) -> Token {
        self.lock().token.clone()
    }

    /// The whole token, as [`token`](Self::token) returns it, but not counted as a look.
    pub(crate) fn peek(&self) -> Token {
        self.lock().whole()
    }

    /// How often the token was requested.
    pub(crate) fn looks(&self) -> u64 {
        self.lock().looks
    }

    /// How often the session was reset.
    pub(crate) fn forgets(&self) -> u64 {
        self.lock().forgets
    }

    /// Drops what made a read fail. If a client's claim asks for more than the rest does, only the claim is dropped: a
    /// forged claim cannot make the session forget what is true. What was appended in this session stays, once: it is
    /// newer than what was lost before, unless it is lost itself.
    pub(crate) fn give_up(&self) {
        let mut own = self.lock();
        if own.whole() == own.token {
            (own.token, own.forgets) = (std::mem::take(&mut own.appended), own.forgets + 1);
        }
        own.unproven = Token::new();
    }
}

impl State {
    fn whole(&self) -> Token {
        self.token.merge(&self.unproven)
    }
}

impl From<Token> for Session {
    fn from(token: Token) -> Self {
        Self { state: Arc::new(Mutex::new(State { token, ..State::default() })) }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.lock().whole()).finish()
    }
}

/// Runs a future within a session, at the level of the surrounding scope.
///
/// The session reaches as far as the [`Scope`] does, and includes the scopes nested in it. Pass the whole `async`
/// block: in `with_session(&session, with_eventual_consistency(…))` the inner scope is created *before* the session,
/// and is not in it.
///
/// ```
/// use mainstem::{Session, current_session, with_session, with_strong_consistency};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let session = Session::new();
/// with_session(&session, async {
///     assert!(with_strong_consistency(async { current_session() }).await.is_some());
/// })
/// .await;
/// assert!(current_session().is_none());
/// # }
/// ```
pub fn with_session<F: Future>(session: &Session, future: F) -> Scoped<F> {
    Scoped::new(Scope::current().with_session(session.clone()), future)
}

/// Returns the session that this code runs in, if there is one.
#[must_use]
pub fn current_session() -> Option<Session> {
    CURRENT.try_with(|scope| scope.session.clone()).ok().flatten()
}
