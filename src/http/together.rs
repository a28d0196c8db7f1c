//! Concurrent writes of one client.
//!
//! Their responses do not know of each other, so each sets its own cookie. With sixty of them, the next request would
//! be longer than servers accept. Tokens given to a client are therefore remembered while other requests of it are in
//! flight, for a few seconds at most: a response that finds too many of them includes them in its own, and deletes
//! their cookies.
//!
//! Write cookies have random names, so a request with the same ones comes from the same browser. A client without any
//! cannot be identified, and nothing is remembered for it: otherwise a client that looks the same would be held to what
//! it has never seen, and after a failover be told of a loss that is not its own.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::{
    HeaderMap, HeaderName,
    header::{ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, FORWARDED, HOST, USER_AGENT},
};
use sha2::{Digest, Sha256};

use crate::token::Token;

/// The headers that distinguish clients.
const DISTINGUISHING: [HeaderName; 7] =
    [COOKIE, AUTHORIZATION, HOST, USER_AGENT, ACCEPT_LANGUAGE, FORWARDED, HeaderName::from_static("x-forwarded-for")];

type Client = [u8; 32];

/// The clients with requests in flight.
#[derive(Clone, Default)]
pub(super) struct Together {
    clients: Arc<Mutex<HashMap<Client, Group>>>,
}

#[derive(Default)]
struct Group {
    in_flight: usize,
    given: Vec<Given>,
}

/// A cookie that a response has set.
#[derive(Clone)]
struct Given {
    name: String,
    token: Token,
    /// When the oldest of the tokens in it was given.
    at: Instant,
}

impl Group {
    /// Keeps only recent tokens: a client that never pauses would otherwise be held to every token it was ever given.
    fn forget_old(&mut self, now: Instant) {
        self.given.retain(|given| now.saturating_duration_since(given.at) < Together::KEPT);
    }
}

impl Together {
    /// The most write cookies that are left beside each other.
    pub(super) const MOST: usize = 8;
    /// For how long a response may include what another one has set: longer than the writes of one burst are apart.
    pub(super) const KEPT: Duration = Duration::from_secs(5);

    /// Registers a request of this client until the returned value is dropped. One of its cookies has a random name.
    pub(super) fn enter(&self, request: &HeaderMap) -> InFlight {
        let mut digest = Sha256::new();
        for name in &DISTINGUISHING {
            for value in request.get_all(name) {
                // Neither can be in a value or a name, so no two clients have the same text.
                digest.update(name.as_str());
                digest.update([0]);
                digest.update(value.as_bytes());
                digest.update(*b"\n");
            }
        }
        let client = digest.finalize().into();
        self.lock().entry(client).or_default().in_flight += 1;
        InFlight { together: self.clone(), client }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Client, Group>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that has not been answered.
pub(super) struct InFlight {
    together: Together,
    client: Client,
}

impl InFlight {
    /// This response's token, and the cookies that it includes as well: none as long as they are few.
    pub(super) fn fold(&self, token: &Token, now: Instant) -> (Token, Vec<String>) {
        let mut clients = self.together.lock();
        let Some(group) = clients.get_mut(&self.client) else { return (token.clone(), Vec::new()) };
        group.forget_old(now);
        let given = &group.given;
        // Including this one.
        if given.len() < Together::MOST {
            return (token.clone(), Vec::new());
        }
        let folded = given.iter().fold(token.clone(), |folded, given| folded.merge(&given.token));
        (folded, given.iter().map(|given| given.name.clone()).collect())
    }

    /// Lets later responses know of a cookie that this one has set in place of these.
    pub(super) fn note(&self, name: &str, token: &Token, gone: &[String], now: Instant) {
        if let Some(group) = self.together.lock().get_mut(&self.client) {
            group.forget_old(now);
            // One of the same name is overwritten.
            let others = std::mem::take(&mut group.given).into_iter().filter(|given| given.name != name);
            let (folded, mut given): (Vec<_>, Vec<_>) = others.partition(|given| gone.contains(&given.name));
            // As old as the oldest in it, or what is carried from one to the next would never be forgotten.
            let at = folded.iter().map(|folded| folded.at).min().unwrap_or(now);
            given.push(Given { name: name.to_owned(), token: token.clone(), at });
            group.given = given;
        }
    }

    /// Prevents later responses from including what has been given: it is lost, or too much for one cookie.
    pub(super) fn forget(&self) {
        if let Some(group) = self.together.lock().get_mut(&self.client) {
            group.given.clear();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut clients = self.together.lock();
        if let Some(group) = clients.get_mut(&self.client) {
            group.in_flight -= 1;
            if group.in_flight == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

impl fmt::Debug for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together").field("clients", &self.lock().len()).finish()
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").finish_non_exhaustive()
    }
}
