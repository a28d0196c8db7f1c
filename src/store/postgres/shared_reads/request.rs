//! Which reads are alike, and what one asks for that is made for several.

use std::{hash::Hash, sync::Arc};

use crate::{
    Consistency, Token,
    store::{LoadRequest, QueryRequest, postgres::floor::Asked},
};

/// What a read asks for, whole.
pub(in crate::store::postgres) trait Request:
    Eq + Hash + Clone + Send + Sync + 'static
{
    /// What it asks for besides its events.
    fn asked(&self) -> Asked<'_>;

    fn ask(&mut self, floor: Token, wants_token: bool);

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

            fn ask(&mut self, floor: Token, wants_token: bool) {
                (self.floor, self.wants_token) = (floor, wants_token);
            }

            fn forget_limit(&mut self) {
                self.timeout = None;
            }
        }
    )*};
}

requests!(QueryRequest, LoadRequest);

/// The request by which those are known that one answer will do for.
pub(super) fn alike<R: Request>(request: &Arc<R>) -> Arc<R> {
    let mut alike = Arc::clone(request);
    let Asked { consistency, floor, wants_token } = request.asked();
    if *consistency == Consistency::Strong && (wants_token || !floor.is_empty()) {
        Arc::make_mut(&mut alike).ask(Token::new(), false);
    }
    alike
}

/// Has the request of all ask for what this one asks for, too.
pub(super) fn join<R: Request>(all: &mut Arc<R>, request: &R) {
    let (so_far, other) = (all.asked(), request.asked());
    let (floor, wants_token) = (so_far.floor.merge(other.floor), so_far.wants_token || other.wants_token);
    if floor != *so_far.floor || wants_token != so_far.wants_token {
        Arc::make_mut(all).ask(floor, wants_token);
    }
}
