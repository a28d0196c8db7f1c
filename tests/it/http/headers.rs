//! Tokens in headers, signed and unsigned, and beside a cookie.

use axum::body::Body;
use http::HeaderName;
use mainstem::{
    AppendCondition, EventStore, Filter, MemoryEventStore, Session, Token,
    http::{TokenHeader, TokenLayer},
    with_session,
};
use serde_json::json;
use tower::Layer;

use super::{Response, answer, cookie, handler, key, request, silent, values};
use crate::support::event;

async fn written() -> Token {
    let store = MemoryEventStore::new();
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap().token().clone()
}

/// What a handler has in its session.
async fn seen(layer: &TokenLayer, headers: &[(&str, &str)]) -> (u16, Token) {
    let session = Session::new();
    let mut service = silent(layer, || Response::new(Body::empty()));
    let response = with_session(&session, async { answer(&mut service, request("GET", headers)).await }).await;
    (response.status().as_u16(), session.token())
}

#[tokio::test]
async fn tokens_of_writes_and_reads_make_the_round_trip_by_header() {
    let store = MemoryEventStore::new();
    let mut service = TokenLayer::new(TokenHeader::signed_by(key())).layer(handler(store.clone()));
    let mut text = String::new();
    for method in ["POST", "POST", "GET", "POST"] {
        let headers: &[(&str, &str)] = if text.is_empty() { &[] } else { &[("mainstem-token", &text)] };
        let response = answer(&mut service, request(method, headers)).await;
        if method == "POST" {
            let [given] = values(&response, "mainstem-token")[..] else { panic!("{response:?}") };
            text = given.to_owned();
        }
        assert_eq!(values(&response, "set-cookie"), [""; 0]);
        assert_eq!(key().verify(&text).unwrap(), *store.last(&Filter::any_event()).await.unwrap().token());
    }
}

#[tokio::test]
async fn several_tokens_are_one() {
    let (one, two, three) = (written().await, written().await, written().await);
    let all = one.merge(&two).merge(&three);
    let [first, second, third] = [&one, &two, &three].map(|token| key().sign(token));
    let layer = TokenLayer::new(TokenHeader::signed_by(key())).refusing_invalid_tokens();
    let headers = [("mainstem-token", &*format!("{first} ,{second}")), ("Mainstem-Token", &third)];
    assert_eq!(seen(&layer, &headers).await, (200, all));
}

#[tokio::test]
async fn a_token_that_is_not_valid_is_left_out_or_refused_and_never_believed() {
    let token = written().await;
    let (signed, unsigned) = (key().sign(&token), token.to_string());
    let version_2 = signed.replacen("1.", "2.", 1);
    let long = format!("1.{}", "A".repeat(9_000));
    let layer = TokenLayer::new(TokenHeader::signed_by(key()));
    for text in [&*unsigned, &version_2, &long, "", ",", "é", &format!("{signed}x")] {
        assert_eq!(seen(&layer, &[("mainstem-token", text)]).await, (200, Token::new()), "{text:?}");
        let strict = layer.clone().refusing_invalid_tokens();
        assert_eq!(seen(&strict, &[("mainstem-token", text)]).await, (400, Token::new()), "{text:?}");
        let beside = format!("{text},{signed}");
        assert_eq!(seen(&layer, &[("mainstem-token", &beside)]).await, (200, token.clone()), "{text:?}");
    }
    // Beyond 32 they are not looked at.
    let many = format!("{}{signed}", "1.,".repeat(32));
    assert_eq!(seen(&layer, &[("mainstem-token", &many)]).await, (200, Token::new()));
}

#[tokio::test]
async fn unsigned_ones_are_believed_only_where_that_was_asked_for() {
    let token = written().await;
    let unsigned = token.to_string();
    let layer = TokenLayer::new(TokenHeader::unsigned());
    assert_eq!(seen(&layer, &[("mainstem-token", &unsigned)]).await, (200, token.clone()));
    assert_eq!(seen(&layer, &[("mainstem-token", &key().sign(&token))]).await, (200, Token::new()));
    let mut service = layer.layer(handler(MemoryEventStore::new()));
    let response = answer(&mut service, request("POST", &[])).await;
    assert!(values(&response, "mainstem-token")[0].parse::<Token>().is_ok());
}

#[tokio::test]
async fn a_header_may_have_another_name() {
    let token = written().await;
    let header = TokenHeader::unsigned().with_name(HeaderName::from_static("x-seen"));
    let layer = TokenLayer::new(header);
    assert_eq!(seen(&layer, &[("x-seen", &token.to_string())]).await, (200, token.clone()));
    assert_eq!(seen(&layer, &[("mainstem-token", &token.to_string())]).await, (200, Token::new()));
}

#[tokio::test]
async fn a_cookie_and_a_header_are_one_session() {
    let (one, two) = (written().await, written().await);
    let layers = (TokenLayer::new(cookie()), TokenLayer::new(TokenHeader::signed_by(key())));
    let store = MemoryEventStore::new();
    let mut service = layers.0.layer(layers.1.layer(handler(store.clone())));
    let line = format!("mainstem-token={}", key().sign(&one));
    let headers = [("cookie", &*line), ("mainstem-token", &key().sign(&two))];
    let response = answer(&mut service, request("POST", &headers)).await;
    let all = one.merge(&two).merge(store.last(&Filter::any_event()).await.unwrap().token());
    assert_eq!(key().verify(values(&response, "mainstem-token")[0]).unwrap(), all);
    let cookie = values(&response, "set-cookie")[0];
    let text = cookie.split_once('=').unwrap().1.split_once(';').unwrap().0;
    assert_eq!(key().verify(text).unwrap(), all);
}
