//! What responses tell caches.

use axum::body::Body;
use http::Method;
use mainstem::{
    AppendCondition, EventStore, MemoryEventStore, current_session,
    http::{TokenHeader, TokenLayer},
};
use serde_json::json;
use tower::{Layer, service_fn};

use super::{Request, Response, answer, cookie, cookies::written, key, request, silent, values};
use crate::support::event;

#[tokio::test]
async fn no_cache_shows_one_client_what_belongs_to_another_nor_a_client_what_is_old() {
    let cases: [(&str, &[&str], &str, bool); 13] = [
        ("GET", &[], "private, no-cache", true),
        ("GET", &["max-age=60"], "max-age=60, private", true),
        ("GET", &["no-cache"], "no-cache, private", true),
        ("GET", &["max-age=60, private"], "max-age=60, private", true),
        ("GET", &["max-age=60", "Private"], "max-age=60, Private", true),
        ("GET", &["private=\"x-a\""], "private=\"x-a\", private", true),
        ("GET", &["no-cache=\"x-a, private, public\""], "no-cache=\"x-a, private, public\", private", true),
        ("GET", &["no-store"], "no-store", true),
        // For everybody, so no client's token is in it.
        ("GET", &["public, max-age=60"], "public, max-age=60", false),
        ("HEAD", &["max-age=60", "S-MaxAge=5"], "max-age=60, S-MaxAge=5", false),
        // The answer to a write always has the token.
        ("POST", &["public"], "public, private", true),
        ("POST", &[], "private, no-cache", true),
        ("DELETE", &["no-store"], "no-store", true),
    ];
    for (method, said, expected, has_token) in cases {
        let store = MemoryEventStore::new();
        let writes = service_fn(move |_: Request| {
            let store = store.clone();
            async move {
                store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
                let mut response = http::Response::builder();
                for line in said {
                    response = response.header("cache-control", *line);
                }
                Ok::<Response, std::convert::Infallible>(response.body(Body::empty()).unwrap())
            }
        });
        let mut service = TokenLayer::new(cookie()).layer(writes);
        let response = answer(&mut service, request(method, &[])).await;
        assert_eq!(values(&response, "cache-control").join(", "), expected, "{method} {said:?}");
        assert_eq!(!values(&response, "set-cookie").is_empty(), has_token, "{method} {said:?}");
    }
    assert!(Method::QUERY.is_safe());
}

/// The names of the fields with which a handler speaks to some caches alone, behind the layer.
async fn targeted(response: http::response::Builder, session_is_forgotten: bool) -> (Vec<String>, usize) {
    let fields = ["CDN-Cache-Control", "Surrogate-Control", "Cloudflare-CDN-Cache-Control", "X-CDN"];
    let response = fields.iter().fold(response, |response, name| response.header(*name, "public, max-age=60"));
    let head = response.body(Body::empty()).unwrap().into_parts().0;
    let layer = TokenLayer::new(cookie());
    let mut service = silent(&layer, move || {
        if session_is_forgotten {
            current_session().unwrap().forget();
        }
        Response::from_parts(head.clone(), Body::empty())
    });
    let line = format!("mainstem-token.0123abcd={}", key().sign(&written(&MemoryEventStore::new()).await));
    let response = answer(&mut service, request("GET", &[("cookie", &line)])).await;
    let names = response
        .headers()
        .keys()
        .map(ToString::to_string)
        .filter(|name| name.contains("cdn") || name.contains("surrogate"));
    (names.collect(), values(&response, "set-cookie").len())
}

#[tokio::test]
async fn targeted_cache_control_is_removed_when_a_token_or_cookie_is_set() {
    let builder = http::Response::builder;
    assert_eq!(targeted(builder(), true).await, (vec!["x-cdn".to_owned()], 1));
    // Where nothing is in it that is the client's alone, the handler knows best.
    assert_eq!(targeted(builder(), false).await.0.len(), 4);
    assert_eq!(targeted(builder().header("cache-control", "public"), false).await.0.len(), 4);
    // A token is given.
    for carrier in [TokenLayer::new(cookie()), TokenLayer::new(TokenHeader::signed_by(key()))] {
        let store = MemoryEventStore::new();
        let writes = service_fn(move |_: Request| {
            let store = store.clone();
            async move {
                written(&store).await;
                let response = http::Response::builder()
                    .header("cdn-cache-control", "max-age=60")
                    .header("x-accel-expires", "60")
                    .header("edge-control", "max-age=60");
                Ok::<Response, std::convert::Infallible>(response.body(Body::empty()).unwrap())
            }
        });
        for method in ["GET", "POST"] {
            let response = answer(&mut carrier.layer(writes.clone()), request(method, &[])).await;
            for name in ["cdn-cache-control", "x-accel-expires", "edge-control"] {
                assert_eq!(values(&response, name), [""; 0], "{method} {name}");
            }
        }
    }
}
