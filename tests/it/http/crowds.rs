//! Many cookies: from concurrent writes, and from anybody who puts rubbish into a browser.

use std::collections::BTreeMap;

use axum::body::Body;
use futures_util::future::join_all;
use mainstem::{EventStore, Filter, MemoryEventStore, Session, Token, TokenKey, http::TokenLayer, with_session};
use tower::{Layer, Service};

use super::{
    Response, answer, cookie,
    cookies::{Jar, written},
    handler, key, request, silent, values,
};

/// Sixty writes, each to a log of its own, all sent with these cookies before one is answered; and what each has written.
async fn sixty(layer: &TokenLayer, jar: &Jar) -> Vec<(Response, Token)> {
    let mut sent = Vec::new();
    for _ in 0..60 {
        let log = MemoryEventStore::new();
        sent.push((layer.layer(handler(log.clone())).call(jar.request("POST")), log));
    }
    let written = async |log: &MemoryEventStore| log.last(&Filter::any_event()).await.unwrap().token().clone();
    let answered = sent.into_iter().map(async |(response, log)| (response.await.unwrap(), written(&log).await));
    join_all(answered).await
}

async fn one_write() -> Jar {
    let mut jar = Jar::default();
    let token = written(&MemoryEventStore::new()).await;
    jar.0.insert("mainstem-token.0123abcd".to_owned(), key().sign(&token));
    jar
}

#[tokio::test]
async fn sixty_writes_at_once_leave_few_cookies_and_none_is_forgotten() {
    let (layer, jar) = (TokenLayer::new(cookie()), one_write().await);
    let before = jar.token();
    let answers = sixty(&layer, &jar).await;
    let all = answers.iter().fold(before, |all, (_, token)| all.merge(token));
    let mut in_order = jar.clone();
    answers.iter().for_each(|(response, _)| in_order.keep(response));
    assert!(in_order.0.len() <= 8, "{} cookies, {} bytes", in_order.0.len(), in_order.line().len());
    assert!(in_order.contains(&all));
    // In whatever order they come: what is answered is there from then on.
    for step in [7, 11, 23, 59] {
        let (mut jar, mut known) = (jar.clone(), Token::new());
        for place in 0..answers.len() {
            let (response, token) = &answers[place * step % answers.len()];
            jar.keep(response);
            known = known.merge(token);
            assert!(jar.contains(&known), "every {step}th: answer {place} has taken a write away");
        }
    }
    // Nothing is remembered once all are answered.
    let alone = answer(&mut layer.layer(handler(MemoryEventStore::new())), jar.request("POST")).await;
    assert_eq!(values(&alone, "set-cookie").len(), 2);
    assert_eq!(format!("{layer:?}").matches("clients: 0").count(), 1, "{layer:?}");
}

#[tokio::test]
async fn requests_without_cookies_are_not_held_to_each_others_writes() {
    // Whatever comes to be lost of it, and however long the one or the other always has a request under way.
    let layer = TokenLayer::new(cookie());
    for (response, token) in sixty(&layer, &Jar::default()).await {
        assert_eq!(values(&response, "set-cookie").len(), 1, "and none is taken away that it has not brought");
        let mut jar = Jar::default();
        jar.keep(&response);
        assert_eq!((jar.0.len(), jar.token()), (1, token));
    }
}

#[tokio::test]
async fn a_read_takes_the_place_of_many_cookies() {
    let mut jar = Jar::default();
    for number in 0..9 {
        let own = key().sign(&written(&MemoryEventStore::new()).await);
        jar.0.insert(format!("mainstem-token.{number:08x}"), own);
    }
    let all = jar.token();
    let layer = TokenLayer::new(cookie());
    let mut service = silent(&layer, || Response::new(Body::empty()));
    jar.keep(&answer(&mut service, jar.request("GET")).await);
    assert_eq!((jar.0.len(), jar.token()), (1, all));
    // And leaves few ones as they are.
    assert_eq!(values(&answer(&mut service, jar.request("GET")).await, "set-cookie"), [""; 0]);
}

/// So many cookies of writes that are not valid.
fn rubbish(count: usize, token: &Token) -> Jar {
    let old = TokenKey::new("the secret of last year, which nobody accepts").unwrap();
    let texts = ["forged".to_owned(), old.sign(token), String::new()];
    let text = |number: usize| texts[number % texts.len()].clone();
    Jar((0..count).map(|number| (format!("mainstem-token.{number:08x}"), text(number))).collect())
}

#[tokio::test]
async fn cookies_that_are_not_valid_hide_none_that_is_and_many_are_taken_away() {
    let token = written(&MemoryEventStore::new()).await;
    let mut jar = rubbish(40, &token);
    jar.0.insert("mainstem-token".to_owned(), key().sign(&token));
    jar.0.insert("other".to_owned(), "forged".to_owned());
    let layer = TokenLayer::new(cookie());
    let mut service = silent(&layer, || Response::new(Body::empty()));
    let session = Session::new();
    let response = with_session(&session, async { answer(&mut service, jar.request("GET")).await }).await;
    assert_eq!(session.token(), token);
    assert_eq!(values(&response, "set-cookie"), [""; 0], "reads are many, and some cookies nobody can take away");
    // The last eight may be another instance's, which has the next key already.
    for left in [24, 8, 8] {
        let response = answer(&mut service, jar.request("POST")).await;
        assert!(values(&response, "set-cookie").len() <= 16);
        jar.keep(&response);
        let (others, all) = (["mainstem-token", "other"], jar.0.len());
        assert!(others.iter().all(|name| jar.0.contains_key(*name)));
        assert_eq!(all - others.len(), left);
    }
    // What is brought and what is not valid are bounded together.
    let mut jar = rubbish(20, &token);
    for number in 0..12 {
        let own = key().sign(&written(&MemoryEventStore::new()).await);
        jar.0.insert(format!("mainstem-token.ffff{number:04x}"), own);
    }
    let response = answer(&mut layer.layer(handler(MemoryEventStore::new())), jar.request("POST")).await;
    assert_eq!(values(&response, "set-cookie").len(), 17);
    jar.keep(&response);
    assert_eq!(jar.0.len(), 17);
}

#[tokio::test]
async fn only_the_last_128_token_cookies_are_read() {
    let token = written(&MemoryEventStore::new()).await;
    let valid = format!("mainstem-token={}", key().sign(&token));
    let layer = TokenLayer::new(cookie());
    let mut service = silent(&layer, || Response::new(Body::empty()));
    for (before, behind, expected) in [(8_000, 127, token.clone()), (0, 128, Token::new()), (0, 8_000, Token::new())] {
        let (before, behind) = (rubbish(before, &token).line(), rubbish(behind, &token).line());
        let session = Session::new();
        let lines = [("cookie", &*before), ("cookie", &*format!("a=b; {valid}; {behind}"))];
        with_session(&session, async { answer(&mut service, request("GET", &lines)).await }).await;
        assert_eq!(session.token(), expected, "{} bytes before, {} behind", before.len(), behind.len());
    }
}

#[tokio::test]
async fn a_cookie_that_is_not_valid_takes_no_valid_one_of_its_name_along() {
    let token = written(&MemoryEventStore::new()).await;
    // So many that the others would be taken away.
    let line = format!("{}mainstem-token={}", "mainstem-token=of-another-host; ".repeat(9), key().sign(&token));
    let layer = TokenLayer::new(cookie());
    let mut service = silent(&layer, || Response::new(Body::empty()));
    let response = answer(&mut service, request("POST", &[("cookie", &line)])).await;
    assert_eq!(values(&response, "set-cookie"), [""; 0]);
    let others = line.replace("mainstem-token=of", "mainstem-token.00000000=of");
    let response = answer(&mut service, request("POST", &[("cookie", &others)])).await;
    assert!(!values(&response, "set-cookie").is_empty(), "of a name of their own");
    // Nor the one that is set.
    let mut service = TokenLayer::new(cookie()).layer(handler(MemoryEventStore::new()));
    answer(&mut service, request("POST", &[])).await;
    let mut jar = Jar(BTreeMap::from([("mainstem-token".to_owned(), "forged".to_owned())]));
    jar.keep(&answer(&mut service, jar.request("GET")).await);
    assert!(!jar.token().is_empty());
    // For everybody: no client's cookie is in it.
    let public = || http::Response::builder().header("cache-control", "public").body(Body::empty()).unwrap();
    let mut service = silent(&layer, public);
    let response = answer(&mut service, request("GET", &[("cookie", "mainstem-token=forged")])).await;
    assert_eq!(values(&response, "set-cookie"), [""; 0]);
}
