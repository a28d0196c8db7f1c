//! Tokens in cookies.

use std::time::{Duration, Instant};

use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    carrier::{Answer, MOST_GONE, MOST_TOKENS, Taken},
    seal::Seal,
    together::Together,
};
use crate::{
    error::{Error, Result},
    token::{Token, TokenKey},
};

/// Carries tokens in cookies, for browsers: signed, `HttpOnly`, `Secure`, `SameSite=Lax`.
///
/// The response to a safe method sets the cookie `mainstem-token`. The response to any other method sets its own
/// cookie, `mainstem-token.` and eight hexadecimal digits, and deletes the write cookies that came with the request,
/// which its token includes. Concurrent responses therefore do not overwrite each other. There are as many cookies as
/// there were concurrent writes, usually one.
///
/// The number of cookies is bounded:
///
/// - Beyond eight, a response also includes, and deletes, those that the same instance has set for the same client in
///   the last five seconds. (Not for a client that comes without a write cookie: it cannot be told from others.)
/// - Once more than eight have come with a request, the response to a read replaces them, too.
/// - At most 32 valid cookies of one request are used; the others have to wait for a later request. Invalid ones do not
///   count among these, but 128 in all are examined, starting with the last one: browsers send older ones first.
/// - One response deletes up to 16, and the next one continues.
/// - No cookie is longer than 4096 bytes, attributes included, which every browser accepts; the usual length is 200.
///
/// The cookie is always signed, because anyone who can get a cookie into the browser can send it to the server.
/// `SameSite=Lax` keeps it from requests that another site makes, except when a link is followed; a write of such a
/// request is in the next token all the same.
///
/// # Its name
///
/// **Choose a name that begins with `__Host-`**, with the path `/` and `Secure`, which are the defaults. Browsers then
/// accept the cookie only from this very host, over TLS. With any other name, another host of the domain
/// (`blog.example.com` beside `shop.example.com`), or an attacker on plain HTTP, can set the cookie for this host. Such
/// a token is never trusted, unless it is another client's valid one. But a response cannot delete these cookies, since
/// they have another domain or path, and 128 of them leave no room for valid ones. The prefix is not the default since
/// browsers reject it if [the path](Self::with_path) is a different one or [`Secure`](Self::without_secure) is missing.
///
/// ```
/// use mainstem::{TokenKey, http::{TokenCookie, TokenLayer}};
///
/// let key = TokenKey::new("0123456789abcdef0123456789abcdef")?;
/// let cookie = TokenCookie::signed_by(key).with_name("__Host-shop-token")?;
/// let layer = TokenLayer::new(cookie);
/// # Ok::<(), mainstem::Error>(())
/// ```
///
/// # Another key
///
/// Instances are replaced one by one, and each must accept what any other one has signed. Therefore first make all of
/// them [accept](TokenKey::accepting) the next secret besides their own. Then all sign with it and accept the old one.
/// After [`max_age`](Self::with_max_age), remove the old one.
#[derive(Clone, Debug)]
pub struct TokenCookie {
    seal: Seal,
    name: String,
    path: String,
    max_age: Duration,
    is_secure: bool,
}

impl TokenCookie {
    /// The longest name and the longest path, in bytes: 128 and 512. They are part of a cookie's length.
    const MOST_NAME: usize = 128;
    const MOST_PATH: usize = 512;
    /// The most cookies of one request that are examined: each may cost the check of a signature.
    const MOST_OPENED: usize = 128;
    /// The number of invalid cookies that is tolerated.
    const MOST_INVALID: usize = 8;

    /// Creates cookies signed with this key. All instances use the same key.
    #[must_use]
    pub fn signed_by(key: TokenKey) -> Self {
        Self {
            seal: Seal::signed_by(key),
            name: "mainstem-token".to_owned(),
            path: "/".to_owned(),
            max_age: Duration::from_secs(3600),
            is_secure: true,
        }
    }

    /// Sets the name. Defaults to `mainstem-token`; [a name that begins with `__Host-`](Self#its-name) is better, since
    /// no other host of the domain can set it.
    ///
    /// Two applications on one host need two names, since neither can use the other's tokens. Two paths work as well,
    /// but only if neither begins with the other: a browser also sends the cookies of `/` to `/shop`, where they cannot
    /// be deleted.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) if it is not a valid cookie name, or has more than 128 bytes.
    pub fn with_name(mut self, name: impl Into<String>) -> Result<Self> {
        self.name = name.into();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if self.name.is_empty() || self.name.len() > Self::MOST_NAME || !self.name.bytes().all(is_token) {
            let message = format!(
                "the cookie's name {:?} is not one of 1 to {} letters, digits and signs such as - and _",
                self.name,
                Self::MOST_NAME
            );
            return Err(Error::configuration(message));
        }
        Ok(self)
    }

    /// Sets the path below which browsers send the cookie. Defaults to `/`. Too narrow, and other routes do not see
    /// what was written here; too wide, and it costs 200 bytes per request.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) if it does not begin with `/`, contains characters that a
    /// cookie cannot have, or has more than 512 bytes.
    pub fn with_path(mut self, path: impl Into<String>) -> Result<Self> {
        self.path = path.into();
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b';';
        if !self.path.starts_with('/') || self.path.len() > Self::MOST_PATH || !self.path.bytes().all(is_plain) {
            let message = format!(
                "the cookie's path {:?} is not one of 1 to {} plain signs without `;` that begins with `/`",
                self.path,
                Self::MOST_PATH
            );
            return Err(Error::configuration(message));
        }
        Ok(self)
    }

    /// Sets how long a browser keeps the cookie, rounded up to a second. Defaults to an hour.
    ///
    /// The cookie is useful for as long as a replica may lag. Too short, and users who return while replicas lag for
    /// longer read old data; too long, and users who return after a failover may be told about a loss of data they no
    /// longer remember.
    #[must_use]
    pub fn with_max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Omits `Secure`, so that the cookie is also sent over plain HTTP: for development on a host other than
    /// `localhost`, where browsers do not require it.
    #[must_use]
    pub fn without_secure(mut self) -> Self {
        self.is_secure = false;
        self
    }

    pub(super) fn take(&self, request: &HeaderMap) -> Taken {
        let mut taken = Taken::default();
        for (name, value) in self.own(request).take(Self::MOST_OPENED) {
            // Invalid cookies do not count, or anybody's garbage would displace what was written.
            if taken.cookies.len() == MOST_TOKENS {
                break;
            }
            taken.add(self.seal.open(value), Some(name));
        }
        taken
    }

    /// Whether one of the cookies is a write cookie. Its name is random, so no other client has it.
    pub(super) fn is_known(&self, taken: &Taken) -> bool {
        taken.cookies.iter().any(|name| *name != self.name)
    }

    /// Sets and deletes cookies; returns whether there was any.
    pub(super) fn give(&self, response: &mut HeaderMap, taken: &Taken, answer: &Answer<'_>) -> bool {
        let (set, mut gone) = self.give_token(response, taken, answer);
        // A few are tolerated: while a key is replaced, another instance accepts what this one does not. And cookies
        // that no response can delete, such as those of another path, cost reads nothing.
        if !answer.is_read && taken.invalid_count > Self::MOST_INVALID {
            // Unless a valid one has the same name: it is not known which of the two a browser would delete.
            let is_spoken_for = |name: &String| set.as_ref() == Some(name) || taken.cookies.contains(name);
            gone.extend(taken.worthless.iter().filter(|name| !is_spoken_for(name)).cloned());
        }
        let is_given = set.is_some() || !gone.is_empty();
        self.expire(response, gone);
        is_given
    }

    /// Sets a cookie if there is a reason to. Returns its name, if it was set, and the names of the cookies that it
    /// replaces.
    fn give_token(
        &self,
        response: &mut HeaderMap,
        taken: &Taken,
        answer: &Answer<'_>,
    ) -> (Option<String>, Vec<String>) {
        if answer.is_anew {
            if let Some(in_flight) = answer.in_flight {
                in_flight.forget();
            }
            // What is kept includes none of them.
            let name = if answer.is_read { self.name.clone() } else { self.name_of_a_write() };
            let is_set = !answer.token.is_empty() && self.set(response, &name, answer.token);
            let gone = taken.cookies.iter().filter(|gone| !is_set || **gone != name).cloned().collect();
            return (is_set.then_some(name), gone);
        }
        if answer.token.is_empty() {
            return (None, Vec::new());
        }
        // A read may have shown that what a cookie asks for is no longer needed, such as a place that nobody knows. As long
        // as the client sends it, each read would have to go to the primary.
        let covers = || answer.token.merge(&taken.token) == *answer.token;
        if answer.is_read && !self.is_crowded(taken) && covers() {
            let is_set = answer.is_news && self.set(response, &self.name, answer.token);
            return (is_set.then(|| self.name.clone()), Vec::new());
        }
        if !answer.is_news && !answer.is_read {
            return (None, Vec::new());
        }
        let name = if answer.is_read { self.name_in_place_of(taken) } else { self.name_of_a_write() };
        let Some(others) = self.set_for_others(response, &name, answer) else { return (None, Vec::new()) };
        let brought = taken.cookies.iter().filter(|gone| **gone != self.name && !others.contains(gone));
        let gone = brought.chain(&others).filter(|gone| **gone != name).cloned().collect();
        (Some(name), gone)
    }

    /// Sets a cookie that also replaces others of the client, whose names are returned; `None` if it could not be set.
    fn set_for_others(&self, response: &mut HeaderMap, name: &str, answer: &Answer<'_>) -> Option<Vec<String>> {
        let Some(in_flight) = answer.in_flight else {
            return self.set(response, name, answer.token).then(Vec::new);
        };
        let now = Instant::now();
        let (token, others) = in_flight.fold(answer.token, now);
        if self.set(response, name, &token) {
            in_flight.note(name, &token, &others, now);
            return Some(others);
        }
        // Together they are too long. This response's own write must not be lost for that; the others keep their
        // cookies.
        if others.is_empty() || !self.set(response, name, answer.token) {
            return None;
        }
        in_flight.forget();
        in_flight.note(name, answer.token, &[], now);
        Some(Vec::new())
    }

    /// Whether the request had so many write cookies that the response to a read merges them into one, too.
    fn is_crowded(&self, taken: &Taken) -> bool {
        taken.cookies.iter().filter(|name| **name != self.name).count() > Together::MOST
    }

    pub(super) fn clear(&self, taken: &Taken, response: &mut HeaderMap) {
        let valid = taken.cookies.iter().filter(|name| !taken.worthless.contains(name));
        self.expire(response, taken.worthless.iter().chain(valid).cloned());
    }

    /// Names and values of our cookies, starting with the last one: browsers send the oldest ones first.
    fn own<'a>(&'a self, request: &'a HeaderMap) -> impl Iterator<Item = (&'a str, &'a str)> {
        let lines = request.get_all(COOKIE).iter().rev();
        let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';').rev());
        // Other cookies may contain anything: ours are plain text.
        let pairs = pairs.filter_map(|pair| std::str::from_utf8(pair).ok()?.trim().split_once('='));
        pairs.filter(|(name, _)| self.is_own(name))
    }

    fn is_own(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(&*self.name) else { return false };
        let is_of_a_write = |rest: &str| rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
        rest.is_empty() || rest.strip_prefix('.').is_some_and(is_of_a_write)
    }

    /// A name that no other response has.
    fn name_of_a_write(&self) -> String {
        // The end of a UUID is random in every version based on random numbers.
        let [.., a, b, c, d] = Uuid::now_v7().into_bytes();
        format!("{}.{:08x}", self.name, u32::from_be_bytes([a, b, c, d]))
    }

    /// The name of a cookie in place of these: the same for all reads that bring them at the same time, on whichever
    /// instance. Each of them contains all that was brought, so they may overwrite each other.
    fn name_in_place_of(&self, taken: &Taken) -> String {
        let mut names: Vec<&str> = taken.cookies.iter().map(String::as_str).collect();
        names.sort_unstable();
        let digest = Sha256::digest(names.join(";"));
        let [a, b, c, d] = *digest.first_chunk().unwrap_or(&[0; 4]);
        format!("{}.{:08x}", self.name, u32::from_be_bytes([a, b, c, d]))
    }

    /// Sets a cookie; returns whether that was possible.
    fn set(&self, response: &mut HeaderMap, name: &str, token: &Token) -> bool {
        // Rounded up: 0 would delete it.
        let attributes = self.attributes(self.max_age.as_secs() + u64::from(self.max_age.subsec_nanos() > 0));
        // The name, the `=` after it, and what follows the value.
        let room = Seal::MOST_BYTES - name.len() - 1 - attributes.len();
        let Some(text) = self.seal.close(token, room) else { return false };
        append(response, &format!("{name}={text}{attributes}"))
    }

    /// Deletes cookies, as many as one response may. The others are sent again.
    fn expire(&self, response: &mut HeaderMap, names: impl IntoIterator<Item = String>) {
        for name in names.into_iter().take(MOST_GONE) {
            append(response, &format!("{name}={}", self.attributes(0)));
        }
    }

    fn attributes(&self, max_age: u64) -> String {
        let secure = if self.is_secure { "; Secure" } else { "" };
        format!("; Path={}; Max-Age={max_age}; HttpOnly{secure}; SameSite=Lax", self.path)
    }
}

fn append(response: &mut HeaderMap, cookie: &str) -> bool {
    let Ok(value) = HeaderValue::from_str(cookie) else { return false };
    response.append(SET_COOKIE, value);
    true
}
