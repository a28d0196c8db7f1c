//! The place of a token in a request and in a response.

use http::HeaderMap;

use super::{cookie::TokenCookie, header::TokenHeader, together::InFlight};
use crate::{error::Error, scope::Session, token::Token};

/// The most valid tokens taken from one request: those of concurrent writes. The rest is left in place.
pub(super) const MOST_TOKENS: usize = 32;
/// The most cookies of any kind that one response deletes: each is a line of some 100 bytes, and proxies limit the head
/// of a response.
pub(super) const MOST_GONE: usize = 16;

/// The place where a [`TokenLayer`](super::TokenLayer) reads and writes tokens: a [`TokenCookie`] or a [`TokenHeader`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TokenCarrier {
    /// For browsers.
    Cookie(TokenCookie),
    /// For programs.
    Header(TokenHeader),
}

impl From<TokenCookie> for TokenCarrier {
    fn from(cookie: TokenCookie) -> Self {
        Self::Cookie(cookie)
    }
}

impl From<TokenHeader> for TokenCarrier {
    fn from(header: TokenHeader) -> Self {
        Self::Header(header)
    }
}

/// The tokens of a request.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// All valid ones, merged.
    pub(super) token: Token,
    /// The cookies that contained a valid one.
    pub(super) cookies: Vec<String>,
    /// The first cookies without a valid one: no more than a response can delete.
    pub(super) worthless: Vec<String>,
    /// Why the first invalid one was not valid.
    pub(super) invalid: Option<Error>,
    /// How many were not valid.
    pub(super) invalid_count: usize,
}

impl Taken {
    /// Adds a token, and the name of its cookie.
    pub(super) fn add(&mut self, token: Result<Token, Error>, cookie: Option<&str>) {
        match token {
            Ok(token) => {
                self.token = self.token.merge(&token);
                self.cookies.extend(cookie.map(str::to_owned));
            }
            Err(error) => {
                self.invalid.get_or_insert(error);
                self.invalid_count += 1;
                if self.worthless.len() < MOST_GONE {
                    self.worthless.extend(cookie.map(str::to_owned));
                }
            }
        }
    }
}

/// What a response returns.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// What a later request must contain; an empty token means that the old one is to be forgotten.
    pub(super) token: &'a Token,
    /// Whether it differs from the one in the request.
    pub(super) is_news: bool,
    /// Whether the request had a safe method.
    pub(super) is_read: bool,
    /// Whether the session was restarted, so that the token does not include what the request had.
    pub(super) is_anew: bool,
    /// The other requests of the client that are in flight.
    pub(super) in_flight: Option<&'a InFlight>,
}

impl TokenCarrier {
    /// Whether the tokens it accepts were issued by a server.
    pub(super) fn is_signed(&self) -> bool {
        match self {
            Self::Cookie(_) => true,
            Self::Header(header) => header.is_signed(),
        }
    }

    /// The part of a session that it may return: tokens that arrived unsigned are never signed.
    pub(super) fn token_of(&self, session: &Session) -> Token {
        if self.is_signed() { session.vouched() } else { session.peek() }
    }

    pub(super) fn take(&self, request: &HeaderMap) -> Taken {
        match self {
            Self::Cookie(cookie) => cookie.take(request),
            Self::Header(header) => header.take(request),
        }
    }

    /// Whether the response to this request has to take the client's other requests into account: only if the client is
    /// certain.
    pub(super) fn is_one_of_many(&self, taken: &Taken) -> bool {
        match self {
            Self::Cookie(cookie) => cookie.is_known(taken),
            Self::Header(_) => false,
        }
    }

    /// Adds and deletes tokens; returns whether there was any.
    pub(super) fn give(&self, response: &mut HeaderMap, taken: &Taken, answer: &Answer<'_>) -> bool {
        match self {
            Self::Cookie(cookie) => cookie.give(response, taken, answer),
            Self::Header(header) => answer.is_news && header.give(response, answer.token),
        }
    }

    /// Deletes what the client would send again, valid or not.
    pub(super) fn clear(&self, taken: &Taken, response: &mut HeaderMap) {
        match self {
            Self::Cookie(cookie) => cookie.clear(taken, response),
            Self::Header(header) => {
                header.give(response, &Token::new());
            }
        }
    }
}
