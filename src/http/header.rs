//! Tokens in a header.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    carrier::{MOST_TOKENS, Taken},
    seal::Seal,
};
use crate::token::{Token, TokenKey};

/// Tokens in a header, for programs: `mainstem-token`, in requests and in responses.
///
/// A client sends the last one that it has got. With several requests under way it keeps the tokens of all answers since, and
/// sends them all, in one line with commas between them or in several; up to 32 are taken, of up to 4096 bytes each. An answer's
/// token stands for all that came with its request. Where nothing is to be asked for any more, as after a failover, the
/// answer has a token that says so.
///
/// To a browser's script of another origin the header is only shown if it is named in `Access-Control-Expose-Headers`.
#[derive(Clone, Debug)]
pub struct TokenHeader {
    seal: Seal,
    name: HeaderName,
}

impl TokenHeader {
    /// Tokens that are signed with this key. All instances have the same.
    #[must_use]
    pub fn signed_by(key: TokenKey) -> Self {
        Self::with_seal(Seal::signed_by(key))
    }

    /// Tokens that anybody can make up: where all clients are your own. See [`TokenKey`] for what a made up one can do.
    ///
    /// Beside a [`TokenCookie`](super::TokenCookie), or another header that is signed, nothing of it is signed there: reads are held to what
    /// came unsigned, and the cookie has what servers have told. What a read has shown is in both, in the server's words. When a read
    /// fails for what only the unsigned token asks for, that alone is given up, and the cookie stays.
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

    /// Whether it could be given.
    pub(super) fn give(&self, response: &mut HeaderMap, token: &Token) -> bool {
        let text = self.seal.close(token, Seal::MOST_BYTES);
        let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) else { return false };
        response.insert(&self.name, value);
        true
    }
}
