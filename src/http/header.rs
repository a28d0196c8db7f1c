//! Tokens in a header.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    carrier::{MOST_TOKENS, Taken},
    seal::Seal,
};
use crate::token::{Token, TokenKey};

/// Carries tokens in a header, for programs: `mainstem-token`, in requests and in responses.
///
/// A client sends the last token that it has received. With several requests in flight it keeps the tokens of all
/// responses since, and sends them all, separated by commas in one line or in several lines. Up to 32 are accepted, of
/// up to 4096 bytes each. A response's token includes all that came with its request. If nothing is required any more,
/// as after a failover, the response has a token that says so.
///
/// A browser's script of another origin sees the header only if `Access-Control-Expose-Headers` names it.
#[derive(Clone, Debug)]
pub struct TokenHeader {
    seal: Seal,
    name: HeaderName,
}

impl TokenHeader {
    /// Creates tokens signed with this key. All instances use the same key.
    #[must_use]
    pub fn signed_by(key: TokenKey) -> Self {
        Self::with_seal(Seal::signed_by(key))
    }

    /// Creates unsigned tokens, which anybody can forge: only for clients that are all your own. See [`TokenKey`] for
    /// what a forged token can do.
    ///
    /// Beside a [`TokenCookie`](super::TokenCookie), or another header that is signed, nothing from the unsigned header
    /// is signed there: reads are held to what arrived unsigned, but the cookie contains only what servers have
    /// reported. What a read has seen is in both, as reported by the server. If a read fails because of a requirement
    /// that only the unsigned token has, only that token is discarded, and the cookie stays.
    #[must_use]
    pub fn unsigned() -> Self {
        Self::with_seal(Seal::unsigned())
    }

    fn with_seal(seal: Seal) -> Self {
        Self { seal, name: HeaderName::from_static("mainstem-token") }
    }

    /// Sets the name. Defaults to `mainstem-token`.
    #[must_use]
    pub fn with_name(mut self, name: HeaderName) -> Self {
        self.name = name;
        self
    }

    pub(super) fn is_signed(&self) -> bool {
        self.seal.is_signed()
    }

    pub(super) fn take(&self, request: &HeaderMap) -> Taken {
        let mut taken = Taken::default();
        let texts = request.get_all(&self.name).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        for text in texts.take(MOST_TOKENS) {
            // What is no text is no token, either.
            taken.add(self.seal.open(std::str::from_utf8(text).unwrap_or_default().trim()), None);
        }
        taken
    }

    /// Adds the token; returns whether that was possible.
    pub(super) fn give(&self, response: &mut HeaderMap, token: &Token) -> bool {
        let text = self.seal.close(token, Seal::MOST_BYTES);
        let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) else { return false };
        response.insert(&self.name, value);
        true
    }
}
