//! HTTP (feature `tower`): what a request may read, and that a browser sees what it has written.
//!
//! Two layers, for any server that is made of tower's services: axum, hyper, tonic, warp.
//!
//! - [`ConsistencyLayer`] opens the [scope](crate::Scope) of each request: safe methods (`GET`, `HEAD`, `OPTIONS`, `TRACE`, `QUERY`)
//!   read replicas, all others the primary. A route that needs something else has a layer of its own.
//! - [`TokenLayer`] opens the [session](crate::Session) of each request, from the [token](crate::Token) that the client has
//!   sent, and gives the new one back, in a [cookie](TokenCookie) or in a [header](TokenHeader). So whoever writes through one
//!   instance reads it through any other, from a replica.
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
//! `examples/http` is a whole program, with a client.
//!
//! # Layers in layers
//!
//! A level that is set further inside wins, as of all scopes; a session further inside is the same session. So the order of the two
//! layers does not matter, a route may have a level of its own, and two [`TokenLayer`]s take and give the token in a
//! cookie and in a header.
//!
//! # What holds
//!
//! | a client that … | sees, through any instance |
//! |---|---|
//! | waits for the answer to its write before it reads | what it has written |
//! | sends its requests one after the other | never less than before |
//! | is a browser with requests under way at the same time | every write that was answered before the read was sent |
//! | … | and perhaps less in a read than in another one that was under way at the same time |
//!
//! The third line is why [`TokenCookie`] gives each write a cookie of its own: answers that are under way at the same time know
//! nothing of each other, and the browser keeps the cookie that comes last. The next write's token contains them all, and
//! takes their place. Of reads the last one's token is kept, hence the fourth line.
//!
//! What a token speaks of may be gone after a failover. [`error_response`] answers that with 412, once, and the token is given up:
//! the next request of the client reads what is there. (With an unsigned header beside a cookie perhaps twice: what came unsigned is
//! given up first.)
//!
//! # The head goes first
//!
//! A token is given back in the head of the response. What a handler's own future has written and read is in it. What happens
//! later is not: while a body is streamed, in a task that was spawned, after an upgrade. Bodies are
//! polled outside of the scope, too, where everything is strong. So a handler makes its calls before it returns; streams of
//! this crate keep the level of the moment when they were made.
//!
//! # Caches
//!
//! A browser that answers from its own cache does not read its writes. So responses without `Cache-Control` get
//! `private, no-cache`: kept by nobody but the browser, which asks each time whether it is still so (`ETag` works as ever). Where the
//! handler has set one, it stays, with `private` added, and what it says to some caches alone (`CDN-Cache-Control` and its like,
//! `Surrogate-Control`) goes where a token is given. Responses to safe methods that are said to be for everybody (`public`,
//! `s-maxage`) are left alone, and carry no token, except where the session begins anew: that is for its client, and
//! `private, no-store`. With that no cache ever answers one client with the response to another, and
//! `Vary` has nothing to tell it.
//!
//! | file | what it holds |
//! |---|---|
//! | `level` | the layer for the level |
//! | `layer`, `future` | the layer for the token, and its response |
//! | `carrier`, `cookie`, `header` | where a token is in a request and in a response |
//! | `together` | writes of one client that are under way at the same time |
//! | `seal` | a token's text: signed, and no longer than a cookie may be |
//! | `caching` | `Cache-Control` |
//! | `error` | which status an error has |

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

/// Whether a request asks for nothing to be changed (RFC 9110, section 9.2.1). `http` knows QUERY in its newer versions only.
fn is_safe(method: &Method) -> bool {
    method.is_safe() || method.as_str() == "QUERY"
}
