//! Where a token is, in a request and in a response.

use http::HeaderMap;

use super::{cookie::TokenCookie, header::TokenHeader};
use crate::{error::Error, token::Token};

/// So many tokens are taken from one request: of writes that were under way at the same time. What is beyond is left there.
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
            Err(error) => self.invalid = Some(error),
        }
    }
}

impl TokenCarrier {
    pub(super) fn take(&self, request: &HeaderMap) -> Taken {
        match self {
            Self::Cookie(cookie) => cookie.take(request),
            Self::Header(header) => header.take(request),
        }
    }

    /// Puts in what a later request has to contain; an empty token is to be forgotten. `is_read`: whether the request was
    /// of a safe method.
    pub(super) fn give(&self, response: &mut HeaderMap, taken: &Taken, token: &Token, is_read: bool) {
        match self {
            Self::Cookie(cookie) => cookie.give(response, taken, token, is_read),
            Self::Header(header) => header.give(response, token),
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
