//! A connection on which an answer is taken, or data are given, piece by piece: nothing else may be sent behind that.

use std::sync::atomic::{AtomicU8, Ordering};

use super::{Effect, Lease};
use crate::error::{Error, ErrorKind};

/// Whether something is under way on a connection behind which nothing may be sent.
#[derive(Debug, Default)]
pub(super) struct Occupation(AtomicU8);

const FREE: u8 = 0;
const BUSY: u8 = 1;
/// Something did not come to its end.
const SPENT: u8 = 2;

impl Lease {
    /// Whether something may be sent.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] while it is [occupied](Self::occupy), and [`ErrorKind::Unavailable`] if what occupied it did not come
    /// to its end.
    pub(super) fn check_free(&self, effect: Effect) -> Result<(), Error> {
        let error = match self.occupation.0.load(Ordering::Acquire) {
            FREE => return Ok(()),
            BUSY => Error::invalid_input(
                "what a stream or a COPY on this connection gives or takes is still to come: take it to its end first; nothing was sent",
            ),
            _ => Error::new(
                ErrorKind::Unavailable,
                "a stream or a COPY on this connection did not come to its end, so it is of no further use: get another one; nothing was \
                 sent",
            ),
        };
        Err(self.refuse(effect, error))
    }

    /// Whether something that [occupied](Self::occupy) it did not come to its end.
    pub(super) fn is_spent(&self) -> bool {
        self.occupation.0.load(Ordering::Acquire) == SPENT
    }

    /// Nothing else is sent until what is answered is dropped: the answer would come behind one that nobody has taken yet.
    ///
    /// # Errors
    ///
    /// As [`check_free`](Self::check_free), and [`ErrorKind::InvalidInput`] while a call is under way, which may have more to send.
    pub(super) fn occupy(&self, effect: Effect) -> Result<Occupied<'_>, Error> {
        self.check_free(effect)?;
        let is_free = !self.is_abandoned();
        if is_free && self.occupation.0.compare_exchange(FREE, BUSY, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return Ok(Occupied { lease: self, is_spent: false });
        }
        let message = "another call on this connection is under way, or was given up; nothing was sent";
        Err(self.refuse(effect, Error::invalid_input(message)))
    }
}

/// A connection on which something is under way that nothing may be sent behind.
#[derive(Debug)]
pub(super) struct Occupied<'a> {
    lease: &'a Lease,
    is_spent: bool,
}

impl<'a> Occupied<'a> {
    pub(super) fn lease(&self) -> &'a Lease {
        self.lease
    }

    /// Whether the connection would be of no use any more if this ended here.
    pub(super) fn spends(&mut self, is_spent: bool) {
        self.is_spent = is_spent;
    }
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        self.lease.occupation.0.store(if self.is_spent { SPENT } else { FREE }, Ordering::Release);
        if self.is_spent {
            // Nobody else uses it again, and its server is not to go on until its user is gone.
            self.lease.held().pending().fetch_add(1, Ordering::AcqRel);
            self.lease.own().inspect(|connection| connection.cancel());
        }
    }
}
