//! Tokens in cookies: which are set, which are accepted, and which are not trusted.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use axum::body::Body;
use mainstem::{
    AppendCondition, ErrorKind, EventStore, Filter, MemoryEventStore, Session, Token, TokenKey, current_session,
    http::{TokenCookie, TokenHeader, TokenLayer, error_response},
    with_session,
};
use serde_json::json;
use tower::{Layer, service_fn};

use super::{Request, Response, SECRET, answer, cookie, handler, key, request, silent, values};
use crate::support::event;

/// The cookies of a browser.
#[derive(Clone, Default)]
pub(super) struct Jar(pub(super) BTreeMap<String, String>);

impl Jar {
    pub(super) fn keep(&mut self, response: &Response) {
        for line in values(response, "set-cookie") {
            let (name, rest) = line.split_once('=').unwrap();
            let (value, attributes) = rest.split_once("; ").unwrap();
            match attributes.contains("Max-Age=0") {
                true => drop(self.0.remove(name)),
                false => drop(self.0.insert(name.to_owned(), value.to_owned())),
            }
        }
    }

    pub(super) fn line(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    /// What they ask for together.
    pub(super) fn token(&self) -> Token {
        self.0.values().fold(Token::new(), |merged, text| merged.merge(&key().verify(text).unwrap()))
    }

    pub(super) fn contains(&self, token: &Token) -> bool {
        self.token().merge(token) == self.token()
    }

    pub(super) fn request(&self, method: &str) -> Request {
        request(method, &[("cookie", &self.line())])
    }
}

/// The token of a write on a log.
pub(super) async fn written(store: &MemoryEventStore) -> Token {
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap().token().clone()
}

/// What a handler within this layer has in its session, for a request with this line of cookies.
async fn seen(layer: &TokenLayer, line: &str) -> (u16, Token) {
    let session = Session::new();
    let mut service = silent(layer, || Response::new(Body::empty()));
    let response = with_session(&session, async { answer(&mut service, request("GET", &[("cookie", line)])).await });
    (response.await.status().as_u16(), session.token())
}

#[tokio::test]
async fn tokens_of_writes_and_reads_make_the_round_trip_by_cookie() {
    let store = MemoryEventStore::new();
    let mut service = TokenLayer::new(cookie()).layer(handler(store.clone()));
    let mut jar = Jar::default();
    for round in 1..=3 {
        let response = answer(&mut service, jar.request("POST")).await;
        jar.keep(&response);
        let own = store.last(&Filter::any_event()).await.unwrap().token().clone();
        assert_eq!((jar.0.len(), jar.token()), (1, own), "one cookie in round {round}, with the write in it");
        let (name, _) = jar.0.iter().next().unwrap();
        assert!(name.starts_with("mainstem-token.") && name.len() == 23, "{name}");
    }
    // Somebody else writes, and this one sees it: no read of his may be older from now on.
    let theirs = written(&store).await;
    assert!(!jar.contains(&theirs));
    jar.keep(&answer(&mut service, jar.request("GET")).await);
    assert!(jar.contains(&theirs));
    assert_eq!(jar.0.len(), 2);
    // Nothing new: nothing is set.
    let response = answer(&mut service, jar.request("GET")).await;
    assert_eq!(values(&response, "set-cookie"), [""; 0]);
}

#[tokio::test]
async fn a_cookie_has_the_attributes_that_are_asked_for() {
    let set = async |cookie: TokenCookie, method| {
        let mut service = TokenLayer::new(cookie).layer(handler(MemoryEventStore::new()));
        answer(&mut service, request("POST", &[])).await;
        let response = answer(&mut service, request(method, &[])).await;
        let [line] = values(&response, "set-cookie")[..] else { panic!("{response:?}") };
        let (pair, attributes) = line.split_once(';').unwrap();
        (pair.split_once('=').unwrap().0.to_owned(), attributes.to_owned())
    };
    let default = " Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax".to_owned();
    assert_eq!(set(cookie(), "GET").await, ("mainstem-token".to_owned(), default.clone()));
    assert_eq!(set(cookie(), "POST").await.1, default);
    let own = cookie().with_name("__Secure-t").unwrap().with_path("/shop").unwrap();
    let own = own.with_max_age(Duration::from_millis(89_001)).without_secure();
    let attributes = " Path=/shop; Max-Age=90; HttpOnly; SameSite=Lax";
    assert_eq!(set(own, "GET").await, ("__Secure-t".to_owned(), attributes.to_owned()));
    for name in ["", "a b", "a=b", "a;b", "ä", "a\n", &"n".repeat(129)] {
        assert_eq!(cookie().with_name(name).unwrap_err().kind(), ErrorKind::Configuration, "{name:?}");
    }
    for path in ["", "shop", "/a;b", "/ä", "/\n", &format!("/{}", "p".repeat(512))] {
        assert_eq!(cookie().with_path(path).unwrap_err().kind(), ErrorKind::Configuration, "{path:?}");
    }
}

#[tokio::test]
async fn answers_that_come_in_any_order_take_no_write_away() {
    let store = MemoryEventStore::new();
    let mut service = TokenLayer::new(cookie()).layer(handler(store.clone()));
    let mut jar = Jar::default();
    written(&store).await;
    // Sent before the first write was answered, and itself answered whenever.
    let early = answer(&mut service, jar.request("GET")).await;
    jar.keep(&answer(&mut service, jar.request("POST")).await);
    // All of them are sent before any is answered.
    let mut responses = vec![("GET", Token::new(), early)];
    for method in ["GET", "POST", "POST", "GET", "POST"] {
        // Another log each time stands for a place in the log that the others have not seen.
        let log = MemoryEventStore::new();
        written(&log).await;
        let mut service = TokenLayer::new(cookie()).layer(handler(log.clone()));
        let response = answer(&mut service, jar.request(method)).await;
        responses.push((method, log.last(&Filter::any_event()).await.unwrap().token().clone(), response));
    }
    for first in 0..responses.len() {
        let mut jar = jar.clone();
        let mut written = vec![jar.token()];
        for offset in 0..responses.len() {
            let (method, token, response) = &responses[(first + offset) % responses.len()];
            jar.keep(response);
            if *method == "POST" {
                written.push(token.clone());
            }
            assert!(written.iter().all(|token| jar.contains(token)), "{first} {offset}: {:?}", jar.0);
        }
        assert!(jar.0.len() <= 4, "three writes and a read: {:?}", jar.0);
        // The next write has them all in one.
        jar.keep(&answer(&mut service, jar.request("POST")).await);
        assert!(written.iter().all(|token| jar.contains(token)));
        assert!(jar.0.len() <= 2, "{:?}", jar.0);
    }
}

#[tokio::test]
async fn a_token_that_is_not_valid_is_left_out_or_refused_and_never_believed() {
    let token = written(&MemoryEventStore::new()).await;
    let other = TokenKey::new("another secret, as long as it has to be").unwrap();
    let (ours, theirs) = (key().sign(&token), other.sign(&token));
    let mut forged = ours.clone();
    let changed = if forged.ends_with('A') { 'B' } else { 'A' };
    forged.replace_range(4..5, &changed.to_string());
    let version_2 = ours.replacen("1.", "2.", 1);
    let unsigned = token.to_string();
    let long = format!("1.{}", "A".repeat(9_000));
    let (lenient, strict) = (TokenLayer::new(cookie()), TokenLayer::new(cookie()).refusing_invalid_tokens());
    for text in [&theirs, &forged, &version_2, &unsigned, &long, &ours[..ours.len() - 1], "", "\"", "1.", "..", "é"] {
        for name in ["mainstem-token", "mainstem-token.0123abcd"] {
            let line = format!("a=b; {name}={text}; c=d");
            assert_eq!(seen(&lenient, &line).await, (200, Token::new()), "{line}");
            // Beside a valid one, that one counts.
            let line = format!("{line}; mainstem-token.ffffffff={ours}");
            assert_eq!(seen(&lenient, &line).await, (200, token.clone()), "{line}");
            assert_eq!(seen(&strict, &line).await, (400, Token::new()), "{line}");
        }
    }
    // Nor do other cookies of any bytes harm it.
    let line = [b"a=\xFF; mainstem-token=", ours.as_bytes(), b"; b=\xE9"].concat();
    let mut request = request("GET", &[]);
    request.headers_mut().insert("cookie", line[..].try_into().unwrap());
    let session = Session::new();
    let mut service = silent(&strict, || Response::new(Body::empty()));
    with_session(&session, async { answer(&mut service, request).await }).await;
    assert_eq!(session.token(), token);
    // What only looks like ours is not looked at.
    for name in
        ["x-mainstem-token", "mainstem-tokens", "mainstem-token.", "mainstem-token.0123abc", "mainstem-token.0123abcx"]
    {
        assert_eq!(seen(&strict, &format!("{name}={theirs}")).await, (200, Token::new()), "{name}");
    }
}

#[tokio::test]
async fn with_the_refusal_the_cookies_go() {
    let mut jar = Jar::default();
    let names = ["mainstem-token", "mainstem-token.0123abcd", "other"];
    jar.0.extend(names.map(|name| (name.to_owned(), "forged".to_owned())));
    let layer = TokenLayer::new(cookie()).refusing_invalid_tokens();
    let mut service = layer.layer(handler(MemoryEventStore::new()));
    let response = answer(&mut service, jar.request("POST")).await;
    assert_eq!(values(&response, "cache-control"), ["private, no-store"]);
    assert_eq!(response.status(), 400);
    jar.keep(&response);
    assert_eq!(jar.0.keys().collect::<Vec<_>>(), ["other"]);
    assert_eq!(answer(&mut service, jar.request("POST")).await.status(), 200);
    // Of many those go first that are the reason.
    for number in 0..30 {
        let text = if number < 10 { "forged".to_owned() } else { key().sign(&written(&MemoryEventStore::new()).await) };
        jar.0.insert(format!("mainstem-token.{number:08x}"), text);
    }
    let response = answer(&mut service, jar.request("POST")).await;
    assert_eq!((response.status().as_u16(), values(&response, "set-cookie").len()), (400, 16));
    jar.keep(&response);
    assert_eq!(answer(&mut service, jar.request("POST")).await.status(), 200);
}

#[tokio::test]
async fn a_key_is_replaced_while_browsers_have_cookies_of_the_old_one() {
    const NEXT: &str = "the next secret, which is long enough";
    let store = MemoryEventStore::new();
    let token = written(&store).await;
    let keys = [
        key(),
        key().accepting(NEXT).unwrap(),
        TokenKey::new(NEXT).unwrap().accepting(SECRET).unwrap(),
        TokenKey::new(NEXT).unwrap(),
    ];
    let of = |key: &TokenKey| TokenLayer::new(TokenCookie::signed_by(key.clone()));
    for (step, neighbours) in keys.windows(2).enumerate() {
        // At each step instances of both are there.
        for (signs, takes) in [(0, 1), (1, 0)] {
            let line = format!("mainstem-token={}", neighbours[signs].sign(&token));
            assert_eq!(seen(&of(&neighbours[takes]), &line).await.1, token, "step {step}");
        }
    }
    let line = format!("mainstem-token={}", keys[0].sign(&token));
    assert_eq!(seen(&of(&keys[3]), &line).await.1, Token::new(), "the old secret is gone");
}

#[tokio::test]
async fn more_cookies_than_are_taken_are_left_for_later() {
    let store = MemoryEventStore::new();
    let mut jar = Jar::default();
    for number in 0..40 {
        jar.0.insert(format!("mainstem-token.{number:08x}"), key().sign(&written(&MemoryEventStore::new()).await));
    }
    let all = jar.token();
    let mut service = TokenLayer::new(cookie()).layer(handler(store));
    jar.keep(&answer(&mut service, jar.request("POST")).await);
    // No answer takes more than sixteen away.
    assert_eq!((jar.0.len(), jar.contains(&all)), (25, true));
    for left in [10, 1] {
        jar.keep(&answer(&mut service, jar.request("POST")).await);
        assert_eq!((jar.0.len(), jar.contains(&all)), (left, true));
    }
}

#[tokio::test]
async fn a_session_that_is_forgotten_takes_its_cookies_along() {
    let mut jar = Jar::default();
    for name in ["mainstem-token", "mainstem-token.0123abcd"] {
        jar.0.insert(name.to_owned(), key().sign(&written(&MemoryEventStore::new()).await));
    }
    // As each read does, before it fails.
    let asks = || drop(current_session().unwrap().token());
    let by_itself = TokenLayer::new(cookie()).layer(service_fn(async |_: Request| {
        current_session().unwrap().forget();
        Ok::<_, Infallible>(Response::new(Body::empty()))
    }));
    for kind in [ErrorKind::LogDiverged, ErrorKind::Unproven] {
        let layers = (TokenLayer::new(cookie()), TokenLayer::new(TokenHeader::signed_by(key())));
        let lost = move || {
            asks();
            error_response(&mainstem::Error::new(kind, "lost"))
        };
        let mut service = layers.0.layer(silent(&layers.1, lost));
        for method in ["GET", "POST"] {
            let mut jar = jar.clone();
            let response = answer(&mut service, jar.request(method)).await;
            jar.keep(&response);
            assert_eq!((response.status().as_u16(), jar.0.len()), (412, 0));
            assert_eq!(values(&response, "mainstem-token"), [key().sign(&Token::new())]);
        }
    }
    let response = answer(&mut by_itself.clone(), jar.request("GET")).await;
    jar.keep(&response);
    assert_eq!((response.status().as_u16(), jar.0.len()), (200, 0));
    // Other errors are no reason.
    let conflict = move || {
        asks();
        error_response(&mainstem::Error::new(ErrorKind::Conflict, "faster"))
    };
    let response = answer(&mut silent(&TokenLayer::new(cookie()), conflict), jar.request("POST")).await;
    assert_eq!(values(&response, "set-cookie"), [""; 0]);
}

#[tokio::test]
async fn a_cookie_of_the_handlers_own_stays() {
    let store = MemoryEventStore::new();
    let own = service_fn(move |_: Request| {
        let store = store.clone();
        async move {
            written(&store).await;
            let response = http::Response::builder().header("set-cookie", "login=1; HttpOnly");
            Ok::<_, Infallible>(response.header("set-cookie", "theme=dark").body(Body::empty()).unwrap())
        }
    });
    let response = answer(&mut TokenLayer::new(cookie()).layer(own), request("POST", &[])).await;
    let lines = values(&response, "set-cookie");
    assert_eq!((lines.len(), &lines[..2]), (3, &["login=1; HttpOnly", "theme=dark"][..]));
}
