//! Writes of one client that are under way at the same time.
//!
//! Their answers know nothing of each other, so each sets a cookie of its own. Of sixty of them the next request would be longer
//! than servers take. So what has been given to a client while others of its requests are under way is remembered, for as long: an
//! answer that finds too much of it stands for that, too, and takes it away.
//!
//! Whether two requests are one client's, nobody can tell for sure. Cookies of writes have names by chance, so who sends the same ones is
//! the same browser. Of others, which are alike in all that tells clients apart, one gets no more of another than places in the
//! write-ahead log, and no mark of an event.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    /// What stands for it in another cookie.
    token: Token,
}

impl Together {
    /// So many cookies of writes are left beside each other.
    pub(super) const MOST: usize = 8;

    /// A request of this client, until what is returned is dropped. `is_known`: whether one of its cookies has a name by chance.
    pub(super) fn enter(&self, request: &HeaderMap, is_known: bool) -> UnderWay {
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
        UnderWay { together: self.clone(), client, is_known }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Client, Group>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that has not been answered.
pub(super) struct UnderWay {
    together: Together,
    client: Client,
    is_known: bool,
}

impl UnderWay {
    /// This answer's token, and the cookies that it stands for besides: none as long as they are few.
    pub(super) fn fold(&self, token: &Token) -> (Token, Vec<String>) {
        let clients = self.together.lock();
        let given = clients.get(&self.client).map_or(&[][..], |group| &group.given);
        // With this one.
        if given.len() < Together::MOST {
            return (token.clone(), Vec::new());
        }
        let folded = given.iter().fold(token.clone(), |folded, given| folded.merge(&given.token));
        (folded, given.iter().map(|given| given.name.clone()).collect())
    }

    /// Has the answers to come know of a cookie that this one has set in the place of these.
    pub(super) fn note(&self, name: &str, token: &Token, gone: &[String]) {
        let token = if self.is_known { token.clone() } else { token.with_places_for_marks() };
        if let Some(group) = self.together.lock().get_mut(&self.client) {
            group.given.retain(|given| !gone.contains(&given.name));
            // A stranger is told of no event; so what only a mark can speak of keeps its cookie.
            if self.is_known || token.without_places().is_empty() {
                group.given.push(Given { name: name.to_owned(), token });
            }
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
