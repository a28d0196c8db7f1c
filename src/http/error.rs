//! The library's errors as responses.

use http::{HeaderValue, Response, StatusCode, header::RETRY_AFTER};

use crate::error::{Error, ErrorKind};

/// In a response's extensions: what the client's token refers to is lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenIsLost;

/// Returns the HTTP status for an error.
///
/// | status | error | what the client does |
/// |---|---|---|
/// | 400 | `InvalidInput` | sends something else |
/// | 409 | `Conflict`, `OwnershipLost` | reads again, and decides again |
/// | 412 | `LogDiverged`, `Unproven` | reads again: what it has seen is lost, or that cannot be determined |
/// | 500 | `Application`, `Configuration`, `Database`, `InvalidData`, `ReadOnly`, `Schema` | nothing: this needs human action |
/// | 503 | `Closed`, `Overloaded`, `ReplicasUnavailable`, `SplitBrain`, `Timeout`, `Unavailable`, and a `Database` that [`is_retryable`](Error::is_retryable) | tries again: that call has written nothing |
/// | 504 | `OutcomeUnknown` | repeats the same write with the same ids |
///
/// 503 means that the call which failed has written nothing, 504 that it may have written: a proxy may be allowed to
/// repeat the former, but never the latter, unless your handler takes the ids of its events from the request. A handler
/// that has written *before* that call must not answer 503 either, or its write is repeated.
///
/// ```
/// use mainstem::{Error, ErrorKind, http::status};
///
/// assert_eq!(status(&Error::new(ErrorKind::Conflict, "somebody was faster")).as_u16(), 409);
/// ```
#[must_use]
pub fn status(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::Conflict | ErrorKind::OwnershipLost => StatusCode::CONFLICT,
        ErrorKind::LogDiverged | ErrorKind::Unproven => StatusCode::PRECONDITION_FAILED,
        ErrorKind::Database if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Application
        | ErrorKind::Configuration
        | ErrorKind::Database
        | ErrorKind::InvalidData
        | ErrorKind::ReadOnly
        | ErrorKind::Schema => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::Closed
        | ErrorKind::Overloaded
        | ErrorKind::ReplicasUnavailable
        | ErrorKind::SplitBrain
        | ErrorKind::Timeout
        | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// Creates a response with the [`status`] of an error and an empty body.
///
/// A 503 has `Retry-After: 1`, except for a split brain, which lasts until someone ends it. With a 412, the surrounding
/// [`TokenLayer`](super::TokenLayer) discards the client's token if a call of this request has used it; otherwise each
/// further request of that client would fail. If you build your own response with this [`status`], you have to do that
/// yourself, with [`Session::forget`](crate::Session::forget). The same applies if the handler has read at a token of
/// the client's own ([`AtLeast`](crate::Consistency::AtLeast)), which may be the lost one instead of the session's.
///
/// The message is not in the response, since it names nodes: log it.
#[must_use]
pub fn error_response<B: Default>(error: &Error) -> Response<B> {
    let mut response = Response::new(B::default());
    let status = status(error);
    *response.status_mut() = status;
    if status == StatusCode::SERVICE_UNAVAILABLE && error.kind() != ErrorKind::SplitBrain {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if status == StatusCode::PRECONDITION_FAILED {
        response.extensions_mut().insert(TokenIsLost);
    }
    response
}
