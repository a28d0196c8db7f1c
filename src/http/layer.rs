//! The token of a request, and of its response.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    TokenCarrier, TokenFuture, caching,
    carrier::{Answer, Taken},
    error::TokenIsLost,
    is_safe,
    together::{InFlight, Together},
};
use crate::{
    scope::{Scope, Session},
    token::Token,
};

/// Opens the session of each request, from the tokens in it, and returns a token of what was written and read.
///
/// Inside of another session, for example within a second layer of this kind, the request's tokens go into that
/// session.
///
/// # Tokens that are not valid
///
/// A token may be forged, truncated, too long, of another version, or signed with a key that is not accepted. Such a
/// token is never trusted. It is ignored, with a warning in the log, and the request is served according to the valid
/// ones beside it; or, with [`refusing_invalid_tokens`](Self::refusing_invalid_tokens), answered with 400.
///
/// A cookie with such a token stays, since another instance may accept its key already, or still. If there are more
/// than eight such cookies in one request, the response to a write deletes up to 16.
///
/// # Cancel safety
///
/// If the response's future is dropped, the client gets neither a response nor a token. Nothing else remains.
#[derive(Clone, Debug)]
pub struct TokenLayer {
    settings: Arc<Settings>,
}

#[derive(Clone, Debug)]
struct Settings {
    carrier: TokenCarrier,
    refuses_invalid: bool,
    /// Shared by all clones: a server has one for each connection.
    together: Together,
}

impl TokenLayer {
    /// Creates a layer for tokens in a [`TokenCookie`](super::TokenCookie) or a [`TokenHeader`](super::TokenHeader).
    pub fn new(carrier: impl Into<TokenCarrier>) -> Self {
        let settings = Settings { carrier: carrier.into(), refuses_invalid: false, together: Together::default() };
        Self { settings: Arc::new(settings) }
    }

    /// Answers a request with an invalid token with 400, an empty body, and an empty token in the header, if that is where
    /// it came from. The response deletes up to 16 of its cookies, invalid ones first, so that the client's next request
    /// is served. No cache keeps it.
    ///
    /// Off by default: a user is not at fault if a key was changed too early, or if another host of the domain has set
    /// a cookie that this one cannot delete ([`TokenCookie`](super::TokenCookie#its-name)). If it is on, a client's
    /// mistake shows at once.
    #[must_use]
    pub fn refusing_invalid_tokens(mut self) -> Self {
        Arc::make_mut(&mut self.settings).refuses_invalid = true;
        self
    }
}

impl<S> Layer<S> for TokenLayer {
    type Service = TokenService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TokenService { inner, settings: Arc::clone(&self.settings) }
    }
}

/// The service created by a [`TokenLayer`].
#[derive(Clone, Debug)]
pub struct TokenService<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S, B, R> Service<Request<B>> for TokenService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = TokenFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Settings { carrier, refuses_invalid, together } = &*self.settings;
        let taken = carrier.take(request.headers());
        if let Some(error) = &taken.invalid {
            if *refuses_invalid {
                let mut cleared = HeaderMap::new();
                carrier.clear(&taken, &mut cleared);
                caching::make_unkept(&mut cleared);
                return TokenFuture::refused(cleared);
            }
            let count = taken.invalid_count;
            tracing::warn!(%error, count, "a request has a consistency token that is not valid; it is served without");
        }
        let current = Scope::current();
        let session = current.session().cloned().unwrap_or_default();
        match carrier.is_signed() {
            true => session.see(&taken.token),
            false => session.hear(&taken.token),
        }
        let is_read = is_safe(request.method());
        let giving = Giving {
            settings: Arc::clone(&self.settings),
            asked: carrier.token_of(&session),
            before: Before { looks: session.looks(), forgets: session.forgets() },
            session: session.clone(),
            is_read,
            in_flight: carrier.is_one_of_many(&taken).then(|| together.enter(request.headers())),
            taken,
        };
        let scope = current.with_session(session);
        let response = scope.run_sync(|| self.inner.call(request));
        TokenFuture::new(scope.run(response), giving)
    }
}

/// The state needed to return a token.
#[derive(Debug)]
pub(super) struct Giving {
    settings: Arc<Settings>,
    session: Session,
    taken: Taken,
    /// What the session required when the request arrived.
    asked: Token,
    before: Before,
    is_read: bool,
    in_flight: Option<InFlight>,
}

/// The state of the session when the request arrived.
#[derive(Debug)]
struct Before {
    looks: u64,
    forgets: u64,
}

impl Giving {
    pub(super) fn give<R>(self, response: &mut Response<R>) {
        let is_lost = response.extensions().get::<TokenIsLost>().is_some();
        // If no call has used the session's token, the loss does not concern it, but a mark that the handler has from
        // elsewhere.
        if is_lost && self.session.looks() != self.before.looks {
            self.session.give_up();
            // A surrounding layer would discard the rest.
            response.extensions_mut().remove::<TokenIsLost>();
        }
        let token = self.settings.carrier.token_of(&self.session);
        let is_anew = self.session.forgets() != self.before.forgets;
        let is_private = if is_lost || is_anew {
            caching::make_unkept(response.headers_mut());
            true
        } else {
            caching::make_private(response.headers_mut(), self.is_read)
        };
        if is_private {
            let (is_read, in_flight) = (self.is_read, self.in_flight.as_ref());
            let answer = Answer { token: &token, is_news: token != self.asked, is_read, is_anew, in_flight };
            if self.settings.carrier.give(response.headers_mut(), &self.taken, &answer) {
                caching::remove_targeted(response.headers_mut());
            }
        }
    }
}
