//! Writes of one client that are under way at the same time.
//!
//! Their answers know nothing of each other, so each sets a cookie of its own. Of sixty of them the next request would be longer
//! than servers take. So what has been given to a client while others of its requests are under way is remembered, for as long, and for a
//! few seconds at most: an answer that finds too much of it stands for that, too, and takes it away.
//!
//! Cookies of writes have names by chance, so who sends the same ones is the same browser. Who sends none is known by nothing, and
//! nothing is remembered of him: another one who looks like him would be held to what he has never seen, and after a failover be told
//! of a loss that is not his.

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

/// What tells clients apart.
const TELLING: [HeaderName; 7] =
    [COOKIE, AUTHORIZATION, HOST, USER_AGENT, ACCEPT_LANGUAGE, FORWARDED, HeaderName::from_static("x-forwarded-for")];

type Client = [u8; 32];

/// The clients with requests under way.
#[derive(Clone, Default)]
pub(super) struct Together {
    clients: Arc<Mutex<HashMap<Client, Group>>>,
}

#[derive(Default)]
struct Group {
    under_way: usize,
    given: Vec<Given>,
}

/// A cookie that an answer has set.
#[derive(Clone)]
struct Given {
    name: String,
    token: Token,
    /// When the first of the tokens in it was given.
    at: Instant,
}

impl Group {
    /// Leaves what has been given of late: a client that never rests would otherwise be held to all that it was ever given.
    fn forget_old(&mut self, now: Instant) {
        self.given.retain(|given| now.saturating_duration_since(given.at) < Together::KEPT);
    }
}

impl Together {
    /// So many cookies of writes are left beside each other.
    pub(super) const MOST: usize = 8;
    /// For so long an answer may stand for what another one has set: longer than writes of one burst are apart.
    pub(super) const KEPT: Duration = Duration::from_secs(5);

    /// A request of this client, until what is returned is dropped. One of its cookies has a name by chance.
    pub(super) fn enter(&self, request: &HeaderMap) -> UnderWay {
        let mut digest = Sha256::new();
        for name in &TELLING {
            for value in request.get_all(name) {
                // Neither can be in a value or a name, so no two clients make one text.
                digest.update(name.as_str());
                digest.update([0]);
                digest.update(value.as_bytes());
                digest.update(*b"\n");
            }
        }
        let client = digest.finalize().into();
        self.lock().entry(client).or_default().under_way += 1;
        UnderWay { together: self.clone(), client }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Client, Group>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that has not been answered.
pub(super) struct UnderWay {
    together: Together,
    client: Client,
}

impl UnderWay {
    /// This answer's token, and the cookies that it stands for besides: none as long as they are few.
    pub(super) fn fold(&self, token: &Token, now: Instant) -> (Token, Vec<String>) {
        let mut clients = self.together.lock();
        let Some(group) = clients.get_mut(&self.client) else { return (token.clone(), Vec::new()) };
        group.forget_old(now);
        let given = &group.given;
        // With this one.
        if given.len() < Together::MOST {
            return (token.clone(), Vec::new());
        }
        let folded = given.iter().fold(token.clone(), |folded, given| folded.merge(&given.token));
        (folded, given.iter().map(|given| given.name.clone()).collect())
    }

    /// Has the answers to come know of a cookie that this one has set in the place of these.
    pub(super) fn note(&self, name: &str, token: &Token, gone: &[String], now: Instant) {
        if let Some(group) = self.together.lock().get_mut(&self.client) {
            group.forget_old(now);
            let (folded, mut given): (Vec<_>, Vec<_>) =
                std::mem::take(&mut group.given).into_iter().partition(|given| gone.contains(&given.name));
            // As old as the oldest in it, or what goes from one to the next would never be forgotten.
            let at = folded.iter().map(|folded| folded.at).min().unwrap_or(now);
            given.push(Given { name: name.to_owned(), token: token.clone(), at });
            group.given = given;
        }
    }

    /// Has no answer to come stand for what has been given: it is lost, or too much for one cookie.
    pub(super) fn forget(&self) {
        if let Some(group) = self.together.lock().get_mut(&self.client) {
            group.given.clear();
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut clients = self.together.lock();
        if let Some(group) = clients.get_mut(&self.client) {
            group.under_way -= 1;
            if group.under_way == 0 {
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

impl fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnderWay").finish_non_exhaustive()
    }
}
