//! What a call has to do with the session that it was made in.

use crate::{Consistency, Session, Token, router::asked, scope::current_session};

/// The session of a call, and what its answer has to contain.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    session: Option<Session>,
    asked: Token,
}

impl Noted {
    /// That of the scope around this call.
    pub(super) fn current() -> Self {
        Self { session: current_session(), asked: Token::new() }
    }

    /// What an answer of this level has to contain now, and whether its token is of use.
    pub(super) fn ask(&mut self, level: &Consistency) -> (Token, bool) {
        self.asked = asked(level, self.session.as_ref());
        (self.asked.clone(), self.session.is_some())
    }

    /// Whether there is a session.
    pub(super) fn is_on(&self) -> bool {
        self.session.is_some()
    }

    /// Has the session take in what the answer has seen or written.
    pub(super) fn saw(&self, seen: &Token) {
        if let Some(session) = &self.session {
            session.advance(&self.asked, seen);
        }
    }
}
