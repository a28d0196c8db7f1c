//! Which reads are alike, and what one asks for that is made for several.

use std::{hash::Hash, sync::Arc};

use crate::{
    Consistency, Token,
    store::{LoadRequest, QueryRequest},
};

/// What a read asks for, whole.
pub(in crate::store::postgres) trait Request:
    Eq + Hash + Clone + Send + Sync + 'static
{
    fn level(&self) -> &Consistency;

    /// What the answer has to contain, and whether somebody waits for its token.
    fn asked(&self) -> (&Token, bool);

    fn ask(&mut self, floor: Token, wants_token: bool);
}

impl Request for QueryRequest {
    fn level(&self) -> &Consistency {
        &self.consistency
    }

    fn asked(&self) -> (&Token, bool) {
        (&self.floor, self.wants_token)
    }

    fn ask(&mut self, floor: Token, wants_token: bool) {
        (self.floor, self.wants_token) = (floor, wants_token);
    }
}

impl Request for LoadRequest {
    fn level(&self) -> &Consistency {
        &self.consistency
    }

    fn asked(&self) -> (&Token, bool) {
        (&self.floor, self.wants_token)
    }

    fn ask(&mut self, floor: Token, wants_token: bool) {
        (self.floor, self.wants_token) = (floor, wants_token);
    }
}

/// The request by which those are known that one answer will do for.
pub(super) fn alike<R: Request>(request: &Arc<R>) -> Arc<R> {
    let mut alike = Arc::clone(request);
    let (floor, wants_token) = request.asked();
    if *request.level() == Consistency::Strong && (wants_token || !floor.is_empty()) {
        Arc::make_mut(&mut alike).ask(Token::new(), false);
    }
    alike
}

/// Has the request of all ask for what this one asks for, too.
pub(super) fn join<R: Request>(all: &mut Arc<R>, request: &R) {
    let ((floor, wants_token), (other, other_wants)) = (all.asked(), request.asked());
    let (merged, wants) = (floor.merge(other), wants_token || other_wants);
    if merged != *floor || wants != wants_token {
        Arc::make_mut(all).ask(merged, wants);
    }
}
