//! Where a token is, in a request and in a response.

use http::HeaderMap;

use super::{cookie::TokenCookie, header::TokenHeader, together::UnderWay};
use crate::{error::Error, scope::Session, token::Token};

/// So many valid tokens are taken from one request: of writes that were under way at the same time. What is beyond is left there.
pub(super) const MOST_TOKENS: usize = 32;

/// Where a [`TokenLayer`](super::TokenLayer) finds tokens and puts them: a [`TokenCookie`] or a [`TokenHeader`].
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

/// What a request had.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// All that were valid, merged.
    pub(super) token: Token,
    /// The cookies that had one.
    pub(super) cookies: Vec<String>,
    /// The first cookies that had none: no more than an answer can take away.
    pub(super) worthless: Vec<String>,
    /// Why one was not valid.
    pub(super) invalid: Option<Error>,
}

impl Taken {
    /// Takes in one more, and the name of the cookie that it was in.
    pub(super) fn add(&mut self, token: Result<Token, Error>, cookie: Option<&str>) {
        match token {
            Ok(token) => {
                self.token = self.token.merge(&token);
                self.cookies.extend(cookie.map(str::to_owned));
            }
            Err(error) => {
                self.invalid = Some(error);
                if self.worthless.len() < MOST_TOKENS {
                    self.worthless.extend(cookie.map(str::to_owned));
                }
            }
        }
    }
}

/// What an answer gives back.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// What a later request has to contain; an empty one is to be forgotten.
    pub(super) token: &'a Token,
    /// Whether it is another one than the request came with.
    pub(super) is_news: bool,
    /// Whether the request was of a safe method.
    pub(super) is_read: bool,
    /// Whether the session has begun anew, so that the token does not stand for what the request had.
    pub(super) is_anew: bool,
    /// What the client's other requests have to do with it.
    pub(super) under_way: Option<&'a UnderWay>,
}

impl TokenCarrier {
    /// Whether what it takes is what a server has given.
    pub(super) fn is_signed(&self) -> bool {
        match self {
            Self::Cookie(_) => true,
            Self::Header(header) => header.is_signed(),
        }
    }

    /// What of a session it may give: what came unsigned is signed by nobody.
    pub(super) fn token_of(&self, session: &Session) -> Token {
        if self.is_signed() { session.vouched() } else { session.peek() }
    }

    pub(super) fn take(&self, request: &HeaderMap) -> Taken {
        match self {
            Self::Cookie(cookie) => cookie.take(request),
            Self::Header(header) => header.take(request),
        }
    }

    /// Whether the answer to this request has to know of the client's others, and if so, whether it is known who the client is.
    pub(super) fn is_one_of_many(&self, taken: &Taken, is_read: bool) -> Option<bool> {
        match self {
            Self::Cookie(cookie) => cookie.is_one_of_many(taken, is_read),
            Self::Header(_) => None,
        }
    }

    pub(super) fn give(&self, response: &mut HeaderMap, taken: &Taken, answer: &Answer<'_>) {
        match self {
            Self::Cookie(cookie) => cookie.give(response, taken, answer),
            Self::Header(header) if answer.is_news => header.give(response, answer.token),
            Self::Header(_) => {}
        }
    }

    /// Takes everything away that the client would send again, valid or not.
    pub(super) fn clear(&self, request: &HeaderMap, response: &mut HeaderMap) {
        match self {
            Self::Cookie(cookie) => cookie.clear(request, response),
            Self::Header(header) => header.give(response, &Token::new()),
        }
    }
}
