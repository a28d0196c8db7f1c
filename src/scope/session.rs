//! Sessions: reads that never go back, and see what was written before them.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{CURRENT, Scope, Scoped};
use crate::token::Token;

/// What somebody has written and seen so far, so that nothing they read is older than that.
///
/// Inside of a session each read contains every write that was made in it before, and everything that was read in it
/// before: it reads its own writes, and never goes back in time, from whichever replica. It does so by itself: each
/// answer makes its [`Token`] greater, and each read asks for that token at least. What level a read has is still what the
/// [scope](Scope) or the call says; a session only adds to it.
///
/// | level | in a session |
/// |---|---|
/// | [`Strong`](crate::Consistency::Strong) | the primary, as ever; an event that was seen and is not there any more fails with [`LogDiverged`](crate::ErrorKind::LogDiverged) |
/// | [`Eventual`](crate::Consistency::Eventual), [`Bounded`](crate::Consistency::Bounded), [`AtLeast`](crate::Consistency::AtLeast) | a replica that has got as far as the session |
///
/// What it cannot see is a commit in other SQL that waits for its synchronous standby: a replica may show that a moment before the
/// primary does. (Events of a log are waited for there.) A transaction of other SQL counts when it ends; what was read in one that is
/// dropped does not. Whose commits do not wait for the disk (`synchronous_commit = off`, in
/// SQL that says so) is served by the primary; but what *others* have committed so, and was read before it was on the disk, a replica may show
/// later.
///
/// Cloning is cheap, and all clones are one session. For another process, or the same user's next request, its
/// [token](Self::token) is enough:
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
    /// What stores and routers have told, and what was taken in as true.
    token: Token,
    /// What somebody has claimed, and no read has shown yet. Reads are held to it all the same.
    unproven: Token,
    /// How often somebody has asked for the token, as each read does.
    looks: u64,
    /// How often it has begun anew.
    forgets: u64,
}

impl Session {
    /// A session in which nothing has happened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What has been written and seen in it so far.
    #[must_use]
    pub fn token(&self) -> Token {
        let mut own = self.lock();
        own.looks += 1;
        own.whole()
    }

    /// Takes in what was written or seen elsewhere: the token of a message, or of another session.
    pub fn see(&self, token: &Token) {
        let mut own = self.lock();
        own.token = own.token.merge(token);
    }

    /// Begins anew, as if nothing had happened: after a failover that has lost what was seen, when the user was told.
    pub fn forget(&self) {
        let mut own = self.lock();
        (own.token, own.unproven, own.forgets) = (Token::new(), Token::new(), own.forgets + 1);
    }

    /// Takes in what a call that contained `asked` has seen.
    pub(crate) fn advance(&self, asked: &Token, seen: &Token) {
        let mut own = self.lock();
        own.token = own.token.advance(asked, seen);
        // What has been shown is in what was seen, in the server's own words.
        own.unproven = own.unproven.without_proven(asked, seen);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the layers of HTTP need to know of it.
#[cfg(feature = "tower")]
impl Session {
    /// Takes in what somebody claims: reads are held to it, and it is not [vouched for](Self::vouched) until one has shown it.
    pub(crate) fn hear(&self, token: &Token) {
        let mut own = self.lock();
        own.unproven = own.unproven.merge(token);
    }

    /// What may be handed on as true.
    pub(crate) fn vouched(&self) -> Token {
        self.lock().token.clone()
    }

    /// All of it, as [`token`](Self::token) has it, but not counted as a look.
    pub(crate) fn peek(&self) -> Token {
        self.lock().whole()
    }

    /// How often somebody has asked for its token.
    pub(crate) fn looks(&self) -> u64 {
        self.lock().looks
    }

    /// How often it has begun anew.
    pub(crate) fn forgets(&self) -> u64 {
        self.lock().forgets
    }

    /// Gives up what made a read fail. If somebody's claim asks for more than the rest does, that is all that is given up: whoever makes one
    /// up cannot make the session forget what is true.
    pub(crate) fn give_up(&self) {
        let mut own = self.lock();
        if own.whole() == own.token {
            (own.token, own.forgets) = (Token::new(), own.forgets + 1);
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

/// Runs a future within a session, at the level of the scope around it.
///
/// The session reaches as far as the [`Scope`] does; scopes inside of it are within it, too. Hand over the whole `async` block:
/// in `with_session(&session, with_eventual_consistency(…))` the inner scope is made *before* the session, and is not in it.
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

/// The session that this code runs in.
#[must_use]
pub fn current_session() -> Option<Session> {
    CURRENT.try_with(|scope| scope.session.clone()).ok().flatten()
}
