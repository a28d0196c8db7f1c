//! Signed tokens.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Token;
use crate::error::{Error, Result};

/// HMAC-SHA-256 truncated to half its length: RFC 2104 section 5 allows no less.
const MAC_LEN: usize = 16;

/// Signs the tokens that are sent to a client, and accepts only signed ones back.
///
/// An unsigned token can do little harm: it shows nothing that the reader could not see anyway. But a client that
/// forges one can make its own reads wait, go to the primary, or fail. With a key, a client can only send what it was
/// given.
///
/// All instances of an application share the same secret, for example 32 random bytes. [`Debug`](fmt::Debug) does not
/// show it.
///
/// ```
/// use mainstem::{Token, TokenKey};
///
/// let key = TokenKey::new("0123456789abcdef0123456789abcdef")?;
/// let signed = key.sign(&Token::new());
/// assert_eq!(key.verify(&signed)?, Token::new());
/// assert!(key.verify("1.").is_err());
///
/// // The next secret, while clients still have tokens under the old one.
/// let next = TokenKey::new("fedcba9876543210fedcba9876543210")?.accepting("0123456789abcdef0123456789abcdef")?;
/// assert!(next.verify(&signed).is_ok());
/// # Ok::<(), mainstem::Error>(())
/// ```
#[derive(Clone)]
pub struct TokenKey {
    /// The first one signs.
    keys: Vec<Hmac<Sha256>>,
}

impl TokenKey {
    /// The shortest secret, in bytes: 16. A shorter one could be found by brute force.
    pub const MIN_SECRET_LEN: usize = 16;

    /// Creates a key from a secret.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) if the secret is shorter than
    /// [`MIN_SECRET_LEN`](Self::MIN_SECRET_LEN).
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self> {
        Ok(Self { keys: vec![keyed(secret.as_ref())?] })
    }

    /// Also accepts tokens signed with another secret: an old one, until its tokens have expired.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) if the secret is too short.
    pub fn accepting(mut self, secret: impl AsRef<[u8]>) -> Result<Self> {
        self.keys.push(keyed(secret.as_ref())?);
        Ok(self)
    }

    /// Returns the token's text with a signature.
    #[must_use]
    pub fn sign(&self, token: &Token) -> String {
        let text = token.to_string();
        let Some(key) = self.keys.first() else { return text };
        let mac = key.clone().chain_update(&text).finalize().into_bytes();
        format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(&mac[..MAC_LEN]))
    }

    /// Returns the token if its text was signed with this key. A wrong signature takes as long to check as a right one.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the text is not signed with this key, or is no token.
    pub fn verify(&self, text: &str) -> Result<Token> {
        let refused = || Error::invalid_input("the consistency token is not signed with a key that is accepted here");
        if text.len() > Token::MAX_TEXT_LEN + 64 {
            return Err(refused());
        }
        let (token, mac) = text.rsplit_once('.').ok_or_else(refused)?;
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac).map_err(|_| refused())?;
        let is_ours = |key: &Hmac<Sha256>| key.clone().chain_update(token).verify_truncated_left(&mac).is_ok();
        if mac.len() != MAC_LEN || !self.keys.iter().any(is_ours) {
            return Err(refused());
        }
        token.parse()
    }
}

fn keyed(secret: &[u8]) -> Result<Hmac<Sha256>> {
    if secret.len() < TokenKey::MIN_SECRET_LEN {
        let message = format!(
            "the secret that signs tokens has {} bytes; it must have {} at least",
            secret.len(),
            TokenKey::MIN_SECRET_LEN
        );
        return Err(Error::configuration(message));
    }
    Hmac::new_from_slice(secret).map_err(|_| Error::configuration("the secret that signs tokens cannot be used"))
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").finish_non_exhaustive()
    }
}
