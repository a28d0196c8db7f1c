//! Which reads are identical, and what a read for several callers requests.

use std::{hash::Hash, sync::Arc};

use crate::{
    Consistency,
    store::{LoadStreamRequest, QueryRequest, postgres::read::floor::ReadNeeds},
};

/// Everything that a read requests.
pub(in crate::store::postgres) trait Request:
    Eq + Hash + Clone + Send + Sync + 'static
{
    /// What it requests besides its events.
    fn asked(&self) -> ReadNeeds<'_>;

    fn want_token(&mut self, wants_token: bool);

    /// Removes the caller's limit: it is in the deadline, and callers with another limit request the same.
    fn forget_limit(&mut self);
}

macro_rules! requests {
    ($($request:ty),*) => {$(
        impl Request for $request {
            fn asked(&self) -> ReadNeeds<'_> {
                let Self { consistency, floor, wants_token, .. } = self;
                ReadNeeds { consistency, floor, wants_token: *wants_token }
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

requests!(QueryRequest, LoadStreamRequest);

/// Returns the request that identifies the reads which one answer can serve.
///
/// What a reader has seen is part of it. Of two events of a log, one may be lost and the other exist, so no read can
/// look for both and give each reader a correct answer; and a reader that has seen nothing must not wait for an event
/// that another one claims to have seen.
pub(super) fn alike<R: Request>(request: &Arc<R>) -> Arc<R> {
    let mut alike = Arc::clone(request);
    // The primary reports its place at almost no cost. On other nodes, callers with a session and callers without are
    // kept apart.
    let ReadNeeds { consistency, wants_token, .. } = request.asked();
    if wants_token && *consistency == Consistency::Strong {
        Arc::make_mut(&mut alike).want_token(false);
    }
    alike
}

/// Makes the shared request ask for what this one asks for, too.
pub(super) fn join<R: Request>(all: &mut Arc<R>, request: &R) {
    if request.asked().wants_token && !all.asked().wants_token {
        Arc::make_mut(all).want_token(true);
    }
}
