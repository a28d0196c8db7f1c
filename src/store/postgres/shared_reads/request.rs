//! Which reads are alike, and what one asks for that is made for several.

use std::{hash::Hash, sync::Arc};

use crate::{
    Consistency,
    store::{LoadRequest, QueryRequest, postgres::floor::Asked},
};

/// What a read asks for, whole.
pub(in crate::store::postgres) trait Request:
    Eq + Hash + Clone + Send + Sync + 'static
{
    /// What it asks for besides its events.
    fn asked(&self) -> Asked<'_>;

    fn want_token(&mut self, wants_token: bool);

    /// Leaves out the caller's limit: it is in the deadline, and those with another one ask the same.
    fn forget_limit(&mut self);
}

macro_rules! requests {
    ($($request:ty),*) => {$(
        impl Request for $request {
            fn asked(&self) -> Asked<'_> {
                let Self { consistency, floor, wants_token, .. } = self;
                Asked { consistency, floor, wants_token: *wants_token }
            }

            fn want_token(&mut self, wants_token: bool) {
                self.wants_token = wants_token;
            }

            fn forget_limit(&mut self) {
                self.timeout = None;
            }
        }
    )*};
}

requests!(QueryRequest, LoadRequest);

/// The request by which those are known that one answer will do for.
///
/// What a reader has seen is a part of it. One of two events of a log may be lost and the other one there, so that no read can look
/// for both and tell each reader the truth; and who has seen nothing must not wait for an event that somebody else says he has seen.
pub(super) fn alike<R: Request>(request: &Arc<R>) -> Arc<R> {
    let mut alike = Arc::clone(request);
    // The primary tells where it is for next to nothing. Elsewhere those with a session and those without do not meet.
    let Asked { consistency, wants_token, .. } = request.asked();
    if wants_token && *consistency == Consistency::Strong {
        Arc::make_mut(&mut alike).want_token(false);
    }
    alike
}

/// Has the request of all ask for what this one asks for, too.
pub(super) fn join<R: Request>(all: &mut Arc<R>, request: &R) {
    if request.asked().wants_token && !all.asked().wants_token {
        Arc::make_mut(all).want_token(true);
    }
}
