//! The text of a token: signed, and limited in length.

use crate::{
    error::Result,
    token::{Token, TokenKey},
};

#[derive(Clone, Debug)]
pub(super) struct Seal {
    /// Without one, every token is trusted.
    key: Option<TokenKey>,
}

impl Seal {
    /// The length that every browser accepts for one cookie, including its name and its attributes (RFC 6265, section
    /// 6.1).
    pub(super) const MOST_BYTES: usize = 4096;

    pub(super) fn signed_by(key: TokenKey) -> Self {
        Self { key: Some(key) }
    }

    pub(super) fn unsigned() -> Self {
        Self { key: None }
    }

    pub(super) fn is_signed(&self) -> bool {
        self.key.is_some()
    }

    /// The token, if it can be trusted.
    pub(super) fn open(&self, text: &str) -> Result<Token> {
        match &self.key {
            Some(key) => key.verify(text),
            None => text.parse(),
        }
    }

    /// The token's text, in at most this many bytes.
    ///
    /// A token has a mark for each log and cluster, and a place for each cluster, for as many timelines as have not
    /// been read past since. A token of a hundred logs is too long: its marks are then replaced by places, which
    /// require as much, but cannot be proven after a failover. `None` for a token of a hundred clusters.
    pub(super) fn close(&self, token: &Token, room: usize) -> Option<String> {
        let short = |token: &Token| Some(self.text(token)).filter(|text| text.len() <= room);
        let text = short(token).or_else(|| short(&token.with_places_for_marks()));
        if text.is_none() {
            tracing::warn!(
                room,
                "a consistency token is too long to be sent to a client, which may now read what is older than what it has \
                 written; have fewer clusters in one session"
            );
        }
        text
    }

    fn text(&self, token: &Token) -> String {
        self.key.as_ref().map_or_else(|| token.to_string(), |key| key.sign(token))
    }
}
