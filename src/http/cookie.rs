//! Tokens in cookies.

use std::time::{Duration, Instant};

use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};
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

/// Tokens in cookies, for browsers: signed, `HttpOnly`, `Secure`, `SameSite=Lax`.
///
/// The answer to a safe method sets the cookie `mainstem-token`. That to any other one sets one of its own, `mainstem-token.` and
/// eight digits, and takes away those that came with the request, which it stands for. So answers that are under way at
/// the same time take nothing from each other; there are as many cookies as there were writes at once, mostly one. Beyond eight an
/// answer stands for those that the same instance has given to the same client in the last five seconds, too, and takes them away. (Not
/// for a client that comes without a cookie of a write: nobody knows which others are the same one.)
/// Once more than eight have come with a request, the answer to a read takes their place, too. Of more than 32 valid ones in one
/// request the others have to wait for a later one. Those that are not valid don't count among these, but 128 in all are looked at, from
/// the last one on: browsers send older ones first. One answer takes 16 away, and the next one goes on. No cookie is longer than 4096
/// bytes, attributes included, which is what every browser takes; mostly it has 200.
///
/// It is always signed: a cookie reaches the server from wherever somebody gets one into the browser. `SameSite=Lax` keeps it
/// from requests that another site makes, but for following a link; a write that came from there is in the next token all the same.
///
/// # Its name
///
/// **Give it a name that begins with `__Host-`**, with the path `/` and `Secure`, as they are by default. Browsers then take it from this
/// very host alone, over TLS. Any other name another host of the domain (`blog.example.com` beside `shop.example.com`) can set for this
/// one, too, or whoever gets between over plain HTTP: never a token that is believed, unless it is one of another client, but cookies that
/// no answer can take away, since they have another domain or path, and 128 of which leave no room for the valid ones. It is not the
/// default since browsers refuse it wherever [the path](Self::with_path) is another one or [`Secure`](Self::without_secure) is missing.
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
/// Instances are replaced one by one, and each must take what any other one has signed. So first all of them
/// [accept](TokenKey::accepting) the next secret besides their own, then all sign with it and accept the old one, and after
/// [`max_age`](Self::with_max_age) the old one goes.
#[derive(Clone, Debug)]
pub struct TokenCookie {
    seal: Seal,
    name: String,
    path: String,
    max_age: Duration,
    is_secure: bool,
}

impl TokenCookie {
    /// The longest name and the longest path, in bytes: 128 and 512. A cookie has to hold them, too.
    const MOST_NAME: usize = 128;
    const MOST_PATH: usize = 512;
    /// So many cookies of one request are looked at: each may cost the check of a signature.
    const MOST_OPENED: usize = 128;
    /// So many that are not valid are let be.
    const MOST_INVALID: usize = 8;

    /// Cookies that are signed with this key. All instances have the same.
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

    /// Sets the name. Defaults to `mainstem-token`; [better is one that begins with `__Host-`](Self#its-name), which no other host of the
    /// domain can set.
    ///
    /// Two applications on one host need two names, since the tokens of one say nothing to the other. Two paths do as well, but only if
    /// neither begins with the other: a browser sends the cookies of `/` to `/shop`, too, where they cannot be taken away.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) when it is no name of a cookie, or has more than 128 bytes.
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

    /// Sets the path below which browsers send it. Defaults to `/`. Too narrow, and other routes don't see what was written in
    /// these; too wide costs 200 bytes a request.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) when it does not begin with `/`, has signs that a cookie cannot have, or
    /// more than 512 bytes.
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

    /// Sets how long a browser keeps it, to the second. Defaults to an hour.
    ///
    /// It is of use for as long as a replica may be behind. Too short, and whoever returns while replicas lag for longer reads the
    /// past; too long, and whoever returns after a failover may be told of what is lost, although he has forgotten it.
    #[must_use]
    pub fn with_max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Leaves `Secure` out, so that it also goes over plain HTTP: for development on another host than `localhost`, where browsers
    /// don't ask for it.
    #[must_use]
    pub fn without_secure(mut self) -> Self {
        self.is_secure = false;
        self
    }

    pub(super) fn take(&self, request: &HeaderMap) -> Taken {
        let mut taken = Taken::default();
        for (name, value) in self.own(request).take(Self::MOST_OPENED) {
            // What is not valid has no part in the number, or anybody's rubbish would hide what was written.
            if taken.cookies.len() == MOST_TOKENS {
                break;
            }
            taken.add(self.seal.open(value), Some(name));
        }
        taken
    }

    /// Whether one of the cookies is of a write. Its name is by chance, so no other client has it.
    pub(super) fn is_known(&self, taken: &Taken) -> bool {
        taken.cookies.iter().any(|name| *name != self.name)
    }

    /// Whether a cookie is set or taken away.
    pub(super) fn give(&self, response: &mut HeaderMap, taken: &Taken, answer: &Answer<'_>) -> bool {
        let (set, mut gone) = self.give_token(response, taken, answer);
        // Few ones are left: while a key is replaced, another instance takes what this one does not. And what no answer can take away,
        // as of another path, costs reads nothing.
        if !answer.is_read && taken.invalid_count > Self::MOST_INVALID {
            // Unless a valid one has the same name: it is not known which of the two a browser would take away.
            let is_spoken_for = |name: &String| set.as_ref() == Some(name) || taken.cookies.contains(name);
            gone.extend(taken.worthless.iter().filter(|name| !is_spoken_for(name)).cloned());
        }
        let is_given = set.is_some() || !gone.is_empty();
        self.expire(response, gone);
        is_given
    }

    /// Sets a cookie if there is a reason. Its name, if there is one, and the names of those that it stands for.
    fn give_token(
        &self,
        response: &mut HeaderMap,
        taken: &Taken,
        answer: &Answer<'_>,
    ) -> (Option<String>, Vec<String>) {
        if answer.is_anew {
            if let Some(under_way) = answer.under_way {
                under_way.forget();
            }
            // What is kept stands for none of them.
            let name = if answer.is_read { self.name.clone() } else { self.name_of_a_write() };
            let is_set = !answer.token.is_empty() && self.set(response, &name, answer.token);
            let gone = taken.cookies.iter().filter(|gone| !is_set || **gone != name).cloned().collect();
            return (is_set.then_some(name), gone);
        }
        if answer.token.is_empty() {
            return (None, Vec::new());
        }
        if answer.is_read && !self.is_crowded(taken) {
            let is_set = answer.is_news && self.set(response, &self.name, answer.token);
            return (is_set.then(|| self.name.clone()), Vec::new());
        }
        if !answer.is_news && !answer.is_read {
            return (None, Vec::new());
        }
        let name = self.name_of_a_write();
        let Some(others) = self.set_for_others(response, &name, answer) else { return (None, Vec::new()) };
        let brought = taken.cookies.iter().filter(|gone| **gone != self.name && !others.contains(gone));
        let gone = brought.cloned().chain(others.iter().cloned()).collect();
        (Some(name), gone)
    }

    /// Sets a cookie that stands for others of the client, too, whose names are returned; `None` if it could not be set.
    fn set_for_others(&self, response: &mut HeaderMap, name: &str, answer: &Answer<'_>) -> Option<Vec<String>> {
        let Some(under_way) = answer.under_way else {
            return self.set(response, name, answer.token).then(Vec::new);
        };
        let now = Instant::now();
        let (token, others) = under_way.fold(answer.token, now);
        if self.set(response, name, &token) {
            under_way.note(name, &token, &others, now);
            return Some(others);
        }
        // Together they are too long. This answer's own write must not be forgotten for that; the others keep their cookies.
        if others.is_empty() || !self.set(response, name, answer.token) {
            return None;
        }
        under_way.forget();
        under_way.note(name, answer.token, &[], now);
        Some(Vec::new())
    }

    /// Whether so many cookies of writes have come that the answer to a read makes one of them, too.
    fn is_crowded(&self, taken: &Taken) -> bool {
        taken.cookies.iter().filter(|name| **name != self.name).count() > Together::MOST
    }

    pub(super) fn clear(&self, taken: &Taken, response: &mut HeaderMap) {
        let valid = taken.cookies.iter().filter(|name| !taken.worthless.contains(name));
        self.expire(response, taken.worthless.iter().chain(valid).cloned());
    }

    /// Names and values of the cookies that are ours, from the last one on: browsers send those first that they have had for long.
    fn own<'a>(&'a self, request: &'a HeaderMap) -> impl Iterator<Item = (&'a str, &'a str)> {
        let lines = request.get_all(COOKIE).iter().rev();
        let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';').rev());
        // Whatever others have put into theirs: ours are plain.
        let pairs = pairs.filter_map(|pair| std::str::from_utf8(pair).ok()?.trim().split_once('='));
        pairs.filter(|(name, _)| self.is_own(name))
    }

    fn is_own(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(&*self.name) else { return false };
        let is_of_a_write = |rest: &str| rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
        rest.is_empty() || rest.strip_prefix('.').is_some_and(is_of_a_write)
    }

    /// One that no other response has.
    fn name_of_a_write(&self) -> String {
        // The end of a UUID is random, in every version that makes them of random numbers.
        let [.., a, b, c, d] = Uuid::now_v7().into_bytes();
        format!("{}.{:08x}", self.name, u32::from_be_bytes([a, b, c, d]))
    }

    /// Whether it could be set.
    fn set(&self, response: &mut HeaderMap, name: &str, token: &Token) -> bool {
        let attributes = self.attributes(self.max_age.as_secs());
        // Its name, the sign behind it, and what follows the value.
        let room = Seal::MOST_BYTES - name.len() - 1 - attributes.len();
        let Some(text) = self.seal.close(token, room) else { return false };
        append(response, &format!("{name}={text}{attributes}"))
    }

    /// Takes cookies away, as many as one answer may. The others come again.
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
