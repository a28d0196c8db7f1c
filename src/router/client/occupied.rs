//! A connection on which an answer is read, or data are sent, piece by piece: nothing else may be sent meanwhile.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::{
    error::{Error, ErrorKind},
    router::{Effect, Lease},
};

/// The number of calls in progress on a connection, or a mark that nothing may be sent.
#[derive(Debug, Default)]
pub(in crate::router) struct Occupation(AtomicU32);

/// Above every possible number of calls.
const OCCUPIED: u32 = 1 << 30;
/// The operation that occupied it was not completed.
const BROKEN_OFF: u32 = 1 << 31;

impl Lease {
    /// Registers a call in progress until the returned value is dropped. There may be several, queued one after the
    /// other.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] while it is [occupied](Self::occupy), and [`ErrorKind::Unavailable`] if the
    /// operation that occupied it was not completed.
    pub(in crate::router) fn enter(&self, effect: Effect) -> Result<CallInFlight<'_>, Error> {
        let occupation = &self.occupation.0;
        let one_more = |calls: u32| (calls < OCCUPIED - 1).then_some(calls + 1);
        match occupation.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more) {
            Ok(_) => Ok(CallInFlight(occupation)),
            Err(state) => Err(self.refuse(effect, why_not(state))),
        }
    }

    /// Whether an operation that [occupied](Self::occupy) it was not completed.
    pub(in crate::router) fn was_broken_off(&self) -> bool {
        self.occupation.0.load(Ordering::Acquire) == BROKEN_OFF
    }

    /// Lets nothing else be sent until the returned value is dropped: its answer would come after one that has not been
    /// read yet.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter), and [`ErrorKind::InvalidInput`] while a call is in progress, which may have more to
    /// send.
    pub(in crate::router) fn occupy(&self, effect: Effect) -> Result<Occupied<'_>, Error> {
        let occupied = self.try_occupy().map_err(|state| self.refuse(effect, why_not(state)))?;
        if self.is_abandoned() {
            let message = "another call on this connection was given up; nothing was sent";
            return Err(self.refuse(effect, Error::invalid_input(message)));
        }
        Ok(occupied)
    }

    /// The same for the end of a transaction: a call in progress may still have to send its statement, which would run
    /// after the end, outside of any transaction, and be committed on its own. (A cancelled call sends nothing any
    /// more.)
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] while a call is in progress.
    pub(in crate::router) fn occupy_for_the_end(&self) -> Result<Occupied<'_>, Error> {
        self.try_occupy().map_err(|_| {
            self.refuse(
                Effect::Read,
                Error::invalid_input(
                    "another call of this transaction is under way, so it is rolled back: wait for the answers to all calls before \
                     its end",
                ),
            )
        })
    }

    /// The error is how it is occupied.
    fn try_occupy(&self) -> Result<Occupied<'_>, u32> {
        self.occupation
            .0
            .compare_exchange(0, OCCUPIED, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| Occupied { lease: self, must_end: false })
    }
}

fn why_not(state: u32) -> Error {
    match state {
        BROKEN_OFF => Error::new(
            ErrorKind::Unavailable,
            "a stream or a COPY on this connection did not come to its end, so it is of no further use: get another one; nothing was \
             sent",
        ),
        OCCUPIED => Error::invalid_input(
            "what a stream or a COPY on this connection gives or takes is still to come: take it to its end first; nothing was sent",
        ),
        _ => Error::invalid_input("another call on this connection is under way; nothing was sent"),
    }
}

/// A call in progress.
#[derive(Debug)]
#[must_use = "the call is over when this is dropped"]
pub(in crate::router) struct CallInFlight<'a>(&'a AtomicU32);

impl Drop for CallInFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection with an operation in progress after which nothing may be sent.
#[derive(Debug)]
pub(in crate::router) struct Occupied<'a> {
    lease: &'a Lease,
    must_end: bool,
}

impl<'a> Occupied<'a> {
    pub(in crate::router) fn lease(&self) -> &'a Lease {
        self.lease
    }

    /// Sets whether the connection becomes unusable if this is dropped now.
    pub(in crate::router) fn must_end(&mut self, must_end: bool) {
        self.must_end = must_end;
    }
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        self.lease.occupation.0.store(if self.must_end { BROKEN_OFF } else { 0 }, Ordering::Release);
        if self.must_end {
            // The connection is not reused, and its server must not continue until its user is gone.
            self.lease.held().pending().fetch_add(1, Ordering::AcqRel);
            self.lease.own().inspect(|connection| connection.cancel());
        }
    }
}
