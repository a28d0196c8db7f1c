//! The response to which a token is added.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Response, StatusCode};
use pin_project_lite::pin_project;

use super::layer::Giving;
use crate::scope::Scoped;

pin_project! {
    /// The future of a [`TokenService`](super::TokenService).
    ///
    /// # Panics
    ///
    /// If it is polled again after it has completed.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub struct TokenFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjection]
    enum State<F> {
        Running { #[pin] response: Scoped<F>, giving: Option<Giving> },
        /// The head of the response to an invalid token.
        Refused { headers: HeaderMap },
    }
}

impl<F> TokenFuture<F> {
    pub(super) fn new(response: Scoped<F>, giving: Giving) -> Self {
        Self { state: State::Running { response, giving: Some(giving) } }
    }

    pub(super) fn refused(headers: HeaderMap) -> Self {
        Self { state: State::Refused { headers } }
    }
}

impl<F, R, E> Future for TokenFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project().state.project() {
            StateProjection::Running { response, giving } => {
                let mut answered = ready!(response.poll(cx));
                if let (Ok(response), Some(giving)) = (&mut answered, giving.take()) {
                    giving.give(response);
                }
                Poll::Ready(answered)
            }
            StateProjection::Refused { headers } => {
                let mut response = Response::new(R::default());
                *response.status_mut() = StatusCode::BAD_REQUEST;
                *response.headers_mut() = std::mem::take(headers);
                Poll::Ready(Ok(response))
            }
        }
    }
}
