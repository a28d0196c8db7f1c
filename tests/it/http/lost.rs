//! A loss in a failover is reported once, to the client whose session it was, and to nobody else.

use std::convert::Infallible;

use axum::body::Body;
use mainstem::{
    AppendCondition, Error, ErrorKind, EventStore, Filter, Mark, MemoryEventStore, current_session,
    http::{TokenLayer, error_response},
};
use tower::{Layer, Service, service_fn};

use super::{
    Request, Response, answer, cookie,
    cookies::{Jar, written},
    key, silent, values,
};
use crate::support::event;

/// With a cookie of a read, and one of a write.
async fn jar() -> Jar {
    let mut jar = Jar::default();
    for name in ["mainstem-token", "mainstem-token.0123abcd"] {
        jar.0.insert(name.to_owned(), key().sign(&written(&MemoryEventStore::new()).await));
    }
    jar
}

/// A layer that says of each response that it is for everybody, as one does around static files.
fn public(mut response: Response) -> Response {
    response.headers_mut().insert("cache-control", "public, max-age=60".parse().unwrap());
    response
}

#[tokio::test]
async fn an_answer_that_gives_the_session_up_is_for_nobody_else_whatever_a_layer_inside_says() {
    let jar = jar().await;
    let layer = TokenLayer::new(cookie());
    let told = silent(&layer, || {
        let _asked_by_a_read = current_session().unwrap().token();
        public(error_response(&Error::new(ErrorKind::Unproven, "lost")))
    });
    let by_hand = silent(&layer, || {
        current_session().unwrap().forget();
        public(Response::new(Body::empty()))
    });
    for method in ["GET", "POST"] {
        for response in [
            answer(&mut told.clone(), jar.request(method)).await,
            answer(&mut by_hand.clone(), jar.request(method)).await,
        ] {
            assert_eq!(values(&response, "cache-control"), ["private, no-store"], "{method}");
            let mut jar = jar.clone();
            jar.keep(&response);
            assert!(jar.0.is_empty(), "{method}: {:?}", jar.0);
        }
    }
}

#[tokio::test]
async fn a_session_that_begins_anew_keeps_nothing_of_what_came() {
    let store = MemoryEventStore::new();
    let own = written(&store).await;
    let service = service_fn(move |_: Request| {
        let store = store.clone();
        async move {
            current_session().unwrap().forget();
            store.count(&Filter::any_event()).await.unwrap();
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }
    });
    for method in ["GET", "POST"] {
        let mut jar = jar().await;
        jar.keep(&answer(&mut TokenLayer::new(cookie()).layer(service.clone()), jar.request(method)).await);
        assert_eq!((jar.0.len(), jar.token()), (1, own.clone()), "{method}");
    }
}

/// What the session brought is lost, and what the request has appended before it was told so is not.
#[tokio::test]
async fn what_was_appended_in_the_request_itself_is_not_given_up() {
    let store = MemoryEventStore::new();
    let log = store.clone();
    let service = service_fn(move |_: Request| {
        let store = store.clone();
        async move {
            written(&store).await;
            let _asked_by_a_read = current_session().unwrap().token();
            Ok::<_, Infallible>(error_response(&Error::new(ErrorKind::LogDiverged, "lost")))
        }
    });
    let mut jar = jar().await;
    let response = answer(&mut TokenLayer::new(cookie()).layer(service.clone()), jar.request("POST")).await;
    assert_eq!(response.status(), 412);
    jar.keep(&response);
    let own = log.last(&Filter::any_event()).await.unwrap().token().clone();
    assert_eq!((jar.0.len(), jar.token()), (1, own));
}

#[tokio::test]
async fn a_mark_that_is_not_the_sessions_costs_it_nothing() {
    let (store, jar) = (MemoryEventStore::new(), jar().await);
    // A mark that a client has sent in a header of the application's own, say, for what it decides on.
    let appends = service_fn(move |_: Request| {
        let store = store.clone();
        async move {
            let new = event("A", serde_json::json!({}));
            let theirs = Mark::new(17, new.id());
            let condition = AppendCondition::fail_if_events_match(Filter::any_event()).after(theirs);
            let error = store.append([new], condition).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LogDiverged);
            Ok::<Response, Infallible>(error_response(&error))
        }
    });
    let mut service = TokenLayer::new(cookie()).layer(appends);
    for method in ["GET", "POST"] {
        let response = service.call(jar.request(method)).await.unwrap();
        assert_eq!((response.status().as_u16(), values(&response, "set-cookie")), (412, vec![]), "{method}");
        assert_eq!(values(&response, "cache-control"), ["private, no-store"]);
    }
}
