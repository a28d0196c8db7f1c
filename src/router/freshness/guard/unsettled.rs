//! Writes in progress in a session.

use crate::{router::Lease, scope::Session};

/// A write in progress in a session. If it is dropped before it is settled, the call was cancelled: it may have been
/// written, and its place is unknown.
#[derive(Debug)]
pub(in crate::router) struct Unsettled<'a> {
    lease: &'a Lease,
    session: Option<&'a Session>,
}

impl<'a> Unsettled<'a> {
    pub(in crate::router) fn new(lease: &'a Lease, session: Option<&'a Session>) -> Self {
        Self { lease, session }
    }

    /// The call was answered, or is known not to have been.
    pub(in crate::router) fn settled(mut self) {
        self.session = None;
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session {
            session.see(&self.lease.token_of(None));
        }
    }
}
