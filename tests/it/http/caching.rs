//! What caches are told.

use axum::body::Body;
use http::Method;
use mainstem::{AppendCondition, EventStore, MemoryEventStore, http::TokenLayer};
use serde_json::json;
use tower::{Layer, service_fn};

use super::{Request, Response, answer, cookie, request, values};
use crate::support::event;

#[tokio::test]
async fn no_cache_shows_one_client_what_belongs_to_another_nor_a_client_what_is_old() {
    let cases: [(&str, &[&str], &str, bool); 12] = [
        ("GET", &[], "private, no-cache", true),
        ("GET", &["max-age=60"], "max-age=60, private", true),
        ("GET", &["no-cache"], "no-cache, private", true),
        ("GET", &["max-age=60, private"], "max-age=60, private", true),
        ("GET", &["max-age=60", "Private"], "max-age=60, Private", true),
        ("GET", &["private=\"x-a\""], "private=\"x-a\"", true),
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
