//! How a call updates the session in which it was made.

use super::{Appended, EventStore};
use crate::{
    Consistency, Result, Session, Token,
    router::{asked, judged},
    scope::current_session,
};

/// The session of a call, and what of it the answer had to contain.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    session: Option<Session>,
    judged: Token,
}

impl Noted {
    /// The session of the scope around this call.
    pub(super) fn current() -> Self {
        Self { session: current_session(), judged: Token::new() }
    }

    /// Returns what an answer of this level must contain now, and whether its token is needed.
    pub(super) fn ask(&mut self, level: &Consistency) -> (Token, bool) {
        let asked = asked(level, self.session.as_ref());
        self.judged = judged(level, asked.clone());
        (asked, self.session.is_some())
    }

    /// Whether there is a session.
    pub(super) fn is_on(&self) -> bool {
        self.session.is_some()
    }

    /// Adds to the session what the answer has seen or written.
    pub(super) fn saw(&self, seen: &Token) {
        if let Some(session) = &self.session {
            session.advance(&self.judged, seen);
        }
    }

    /// For an append to this store.
    pub(super) fn append(&self, store: &dyn EventStore) -> NotedAppend {
        NotedAppend { session: self.session.clone().map(|session| (session, store.token_of_unknown_place())) }
    }
}

/// How an append updates the session in which it was made.
#[derive(Debug)]
pub(super) struct NotedAppend {
    session: Option<(Session, Token)>,
}

impl NotedAppend {
    /// Executes it, and adds the outcome to the session, even if it is dropped in the middle.
    pub(super) async fn follow(self, append: impl Future<Output = Result<Appended>>) -> Result<Appended> {
        let in_flight = AppendInFlight(self);
        let outcome = append.await;
        in_flight.end(&outcome);
        outcome
    }
}

/// An append that may have been written, at an unknown place.
#[derive(Debug)]
struct AppendInFlight(NotedAppend);

impl AppendInFlight {
    fn end(mut self, outcome: &Result<Appended>) {
        match outcome {
            // Then it stays as it is.
            Err(error) if error.is_outcome_unknown() => {}
            Ok(appended) => {
                if let Some((session, _)) = self.0.session.take() {
                    session.appended(appended.token());
                }
            }
            Err(_) => self.0.session = None,
        }
    }
}

impl Drop for AppendInFlight {
    fn drop(&mut self) {
        if let Some((session, unknown)) = &self.0.session {
            session.appended(unknown);
        }
    }
}
