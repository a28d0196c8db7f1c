//! HTTP: the level of a request, its token, and browsers that read their own writes.

mod caching;
mod cookies;
mod crowds;
mod errors;
mod headers;
mod levels;
mod lost;
mod replicas;
mod unsigned;

use std::convert::Infallible;

use axum::body::Body;
use mainstem::{
    AppendCondition, EventStore, Filter, MemoryEventStore, TokenKey,
    http::{TokenCookie, TokenLayer, TokenService},
};
use tower::{Layer, Service, service_fn};

use crate::support::event;

type Request = http::Request<Body>;
type Response = http::Response<Body>;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn key() -> TokenKey {
    TokenKey::new(SECRET).unwrap()
}

fn cookie() -> TokenCookie {
    TokenCookie::signed_by(key())
}

/// A request without a body.
fn request(method: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = http::Request::builder().method(method).uri("/");
    for (name, value) in headers {
        request = request.header(*name, value.as_bytes());
    }
    request.body(Body::empty()).unwrap()
}

/// Appends if the request's method is not safe, and reads in any case.
fn handler(
    store: MemoryEventStore,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone {
    service_fn(move |request: Request| {
        let store = store.clone();
        async move {
            if !request.method().is_safe() {
                store.append([event("A", serde_json::json!({}))], AppendCondition::none()).await.unwrap();
            }
            let count = store.count(&Filter::any_event()).await.unwrap();
            Ok(Response::new(Body::from(count.to_string())))
        }
    })
}

/// One answer of a service.
async fn answer<S>(service: &mut S, request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    service.call(request).await.unwrap()
}

/// Layers around a handler that answers as `response` says, and reads or writes nothing.
fn silent(
    layer: &TokenLayer,
    response: impl Fn() -> Response + Clone,
) -> TokenService<impl Service<Request, Response = Response, Error = Infallible> + Clone> {
    layer.layer(service_fn(move |_: Request| {
        let response = response();
        async move { Ok(response) }
    }))
}

/// All values of a header.
fn values<'a>(response: &'a Response, name: &str) -> Vec<&'a str> {
    response.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}
