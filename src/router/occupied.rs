//! A connection on which an answer is taken, or data are given, piece by piece: nothing else may be sent behind that.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{Effect, Lease};
use crate::error::{Error, ErrorKind};

/// How many calls are under way on a connection, or that something is behind which nothing may be sent.
#[derive(Debug, Default)]
pub(super) struct Occupation(AtomicU32);

/// Behind all numbers of calls that there can be.
const OCCUPIED: u32 = 1 << 30;
/// What occupied it did not come to its end.
const BROKEN_OFF: u32 = 1 << 31;

impl Lease {
    /// Notes that a call is under way, until what is answered is dropped. There may be several, one behind the other.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] while it is [occupied](Self::occupy), and [`ErrorKind::Unavailable`] if what occupied it did not come
    /// to its end.
    pub(super) fn enter(&self, effect: Effect) -> Result<UnderWay<'_>, Error> {
        let occupation = &self.occupation.0;
        let one_more = |calls: u32| (calls < OCCUPIED - 1).then_some(calls + 1);
        match occupation.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more) {
            Ok(_) => Ok(UnderWay(occupation)),
            Err(state) => Err(self.refuse(effect, why_not(state))),
        }
    }

    /// Whether something that [occupied](Self::occupy) it did not come to its end.
    pub(super) fn was_broken_off(&self) -> bool {
        self.occupation.0.load(Ordering::Acquire) == BROKEN_OFF
    }

    /// Nothing else is sent until what is answered is dropped: the answer would come behind one that nobody has taken yet.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter), and [`ErrorKind::InvalidInput`] while a call is under way, which may have more to send.
    pub(super) fn occupy(&self, effect: Effect) -> Result<Occupied<'_>, Error> {
        let occupied = self.try_occupy().map_err(|state| self.refuse(effect, why_not(state)))?;
        if self.is_abandoned() {
            let message = "another call on this connection was given up; nothing was sent";
            return Err(self.refuse(effect, Error::invalid_input(message)));
        }
        Ok(occupied)
    }

    /// The same for the end of a transaction: a call that is under way may have its statement still to send, which would run behind
    /// that, in no transaction, and be committed by itself. (What was given up sends nothing any more.)
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] while a call is under way.
    pub(super) fn occupy_for_the_end(&self) -> Result<Occupied<'_>, Error> {
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

    /// Or how it is occupied.
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

/// A call that is under way.
#[derive(Debug)]
#[must_use = "the call is over when this is dropped"]
pub(super) struct UnderWay<'a>(&'a AtomicU32);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection on which something is under way that nothing may be sent behind.
#[derive(Debug)]
pub(super) struct Occupied<'a> {
    lease: &'a Lease,
    must_end: bool,
}

impl<'a> Occupied<'a> {
    pub(super) fn lease(&self) -> &'a Lease {
        self.lease
    }

    /// Whether the connection would be of no use any more if this were dropped now.
    pub(super) fn must_end(&mut self, must_end: bool) {
        self.must_end = must_end;
    }
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        self.lease.occupation.0.store(if self.must_end { BROKEN_OFF } else { 0 }, Ordering::Release);
        if self.must_end {
            // Nobody else uses it again, and its server is not to go on until its user is gone.
            self.lease.held().pending().fetch_add(1, Ordering::AcqRel);
            self.lease.own().inspect(|connection| connection.cancel());
        }
    }
}
