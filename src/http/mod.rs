//! HTTP integration (feature `tower`): sets what a request may read, and lets a browser read its own writes.
//!
//! Two layers, for any server built on tower's services: axum, hyper, tonic, warp.
//!
//! - [`ConsistencyLayer`] opens the [scope](crate::Scope) of each request: safe methods (`GET`, `HEAD`, `OPTIONS`,
//!   `TRACE`, `QUERY`) read replicas, all others the primary. A route that needs something else gets its own layer.
//! - [`TokenLayer`] opens the [session](crate::Session) of each request, from the [token](crate::Token) that the client
//!   has sent, and returns the new one, in a [cookie](TokenCookie) or in a [header](TokenHeader). A client that writes
//!   through one instance can then read its write through any other, from a replica.
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{
//!     Json, Router,
//!     extract::State,
//!     response::{IntoResponse, Response},
//!     routing::get,
//! };
//! use mainstem::{
//!     AppendCondition, Consistency, EventStore, Filter, NewEvent, PostgresEventStore, TokenKey,
//!     http::{ConsistencyLayer, TokenCookie, TokenLayer, error_response},
//! };
//! use serde_json::{Value, json};
//!
//! /// The library's errors as responses.
//! struct AppError(mainstem::Error);
//!
//! impl From<mainstem::Error> for AppError {
//!     fn from(error: mainstem::Error) -> Self {
//!         Self(error)
//!     }
//! }
//!
//! impl IntoResponse for AppError {
//!     fn into_response(self) -> Response {
//!         error_response(&self.0)
//!     }
//! }
//!
//! // A replica answers, which has what this browser has written.
//! async fn count(State(store): State<PostgresEventStore>) -> Result<Json<Value>, AppError> {
//!     let count = store.count(&Filter::any_event()).await?;
//!     Ok(Json(json!({"events": *count})))
//! }
//!
//! // The primary.
//! async fn note(State(store): State<PostgresEventStore>) -> Result<(), AppError> {
//!     store.append([NewEvent::new("Noted", &json!({}))?], AppendCondition::none()).await?;
//!     Ok(())
//! }
//!
//! fn app(store: PostgresEventStore, secret: &str) -> mainstem::Result<Router> {
//!     let cookie = TokenCookie::signed_by(TokenKey::new(secret)?).with_max_age(Duration::from_secs(600));
//!     // This one must not be stale, whoever asks.
//!     let balance = get(count).layer(ConsistencyLayer::strong());
//!     // And here a few seconds don't matter, but a minute does.
//!     let report = get(count).layer(ConsistencyLayer::at(Consistency::Bounded(Duration::from_secs(5))));
//!     let router = Router::new()
//!         .route("/notes", get(count).post(note))
//!         .route("/balance", balance)
//!         .route("/report", report)
//!         .layer(ConsistencyLayer::by_method())
//!         .layer(TokenLayer::new(cookie));
//!     Ok(router.with_state(store))
//! }
//! ```
//!
//! `examples/http` is a complete program, with a client.
//!
//! # Layers in layers
//!
//! A level that is set further inside wins, as with all scopes; a session further inside is the same session. The order
//! of the two layers therefore does not matter, a route may have its own level, and two [`TokenLayer`]s accept and
//! return the token in both a cookie and a header.
//!
//! A response that is made of an error, a timeout or a panic *outside* of a [`TokenLayer`] has no token: the client does
//! not wait for a write that its request has made. So put layers that make such responses, and those that set
//! `Cache-Control`, inside.
//!
//! # What holds
//!
//! | a client that … | sees, through any instance |
//! |---|---|
//! | waits for the response to its write before it reads | what it has written |
//! | sends its requests one after the other | never less than before |
//! | is a browser with concurrent requests | every write that was answered before the read was sent |
//! | … | and perhaps less in one read than in another concurrent one |
//!
//! The third line is why [`TokenCookie`] gives each write its own cookie: concurrent responses do not know of each
//! other, and the browser keeps the cookie that arrives last. The next write's token includes them all and replaces
//! them. Of reads, only the last one's token is kept, hence the fourth line.
//!
//! What a token refers to may be lost after a failover. [`error_response`] answers that with 412, once, and the token
//! is discarded, apart from what the request itself has appended: the next request of the client reads what is there.
//! (With an unsigned header beside a cookie, perhaps twice: what arrived unsigned is discarded first.)
//!
//! # The head goes first
//!
//! A token is returned in the head of the response. It includes what the handler's own future has written and read. It
//! does not include what happens later: while a body is streamed, in a spawned task, or after an upgrade. Bodies are
//! also polled outside of the scope, where everything is strong. A handler should therefore make its calls before it
//! returns; streams of this crate keep the level that applied when they were created.
//!
//! # Caches
//!
//! A browser that answers from its own cache does not read its writes. Responses without `Cache-Control` therefore get
//! `private, no-cache`: only the browser stores them, and revalidates each time (`ETag` works as usual). A
//! `Cache-Control` that the handler has set stays, with `private` added. Directives for particular caches
//! (`CDN-Cache-Control` and its like, `Surrogate-Control`) are removed if a token is returned. Responses to safe
//! methods that are declared public (`public`, `s-maxage`) are left alone and carry no token, unless the session was
//! restarted: that response is for its client, and `private, no-store`. No cache therefore ever answers one client with
//! the response to another, and `Vary` is not needed.
//!
//! | file | what it holds |
//! |---|---|
//! | `level` | the layer for the level |
//! | `layer`, `future` | the layer for the token, and its response |
//! | `carrier`, `cookie`, `header` | the place of a token in a request and in a response |
//! | `together` | concurrent writes of one client |
//! | `seal` | a token's text: signed, and no longer than a cookie may be |
//! | `caching` | `Cache-Control` |
//! | `error` | the status of an error |

mod caching;
mod carrier;
mod cookie;
mod error;
mod future;
mod header;
mod layer;
mod level;
mod seal;
#[cfg(test)]
mod tests;
mod together;

pub use self::{
    carrier::TokenCarrier,
    cookie::TokenCookie,
    error::{error_response, status},
    future::TokenFuture,
    header::TokenHeader,
    layer::{TokenLayer, TokenService},
    level::{ConsistencyLayer, ConsistencyService},
};

use http::Method;

/// Whether the method of a request is safe (RFC 9110, section 9.2.1). Only newer versions of `http` know QUERY.
fn is_safe(method: &Method) -> bool {
    method.is_safe() || method.as_str() == "QUERY"
}
