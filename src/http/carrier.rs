//! Where a token is, in a request and in a response.

use http::HeaderMap;

use super::{cookie::TokenCookie, header::TokenHeader, together::UnderWay};
use crate::{error::Error, scope::Session, token::Token};

/// So many valid tokens are taken from one request: of writes that were under way at the same time. What is beyond is left there.
pub(super) const MOST_TOKENS: usize = 32;
/// So many cookies one answer takes away, of whatever kind: each is a line of some 100 bytes, and proxies bound the head of an answer.
pub(super) const MOST_GONE: usize = 16;

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
    /// Why the first one was not valid.
    pub(super) invalid: Option<Error>,
    /// How many were not.
    pub(super) invalid_count: usize,
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
                self.invalid.get_or_insert(error);
                self.invalid_count += 1;
                if self.worthless.len() < MOST_GONE {
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

    /// Whether the answer to this request has to know of the client's others: where it is sure who the client is.
    pub(super) fn is_one_of_many(&self, taken: &Taken) -> bool {
        match self {
            Self::Cookie(cookie) => cookie.is_known(taken),
            Self::Header(_) => false,
        }
    }

    /// Whether anything is given, or taken away.
    pub(super) fn give(&self, response: &mut HeaderMap, taken: &Taken, answer: &Answer<'_>) -> bool {
        match self {
            Self::Cookie(cookie) => cookie.give(response, taken, answer),
            Self::Header(header) => answer.is_news && header.give(response, answer.token),
        }
    }

    /// Takes away what the client would send again, valid or not.
    pub(super) fn clear(&self, taken: &Taken, response: &mut HeaderMap) {
        match self {
            Self::Cookie(cookie) => cookie.clear(taken, response),
            Self::Header(header) => {
                header.give(response, &Token::new());
            }
        }
    }
}
