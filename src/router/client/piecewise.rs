//! A user's call whose answer is read piece by piece, on a client or in a transaction.

use std::future::Future;

use futures_util::{
    TryStreamExt,
    stream::{BoxStream, iter, try_unfold},
};

use super::{Call, occupied::Occupied};
use crate::{
    error::{Error, Result},
    router::{
        Deadline, Effect, Lease, Transaction,
        lease::{
            failure,
            rows::{Incoming, Source},
        },
        pool::connection::Connection,
    },
};

/// The most pieces passed on at a time; large pieces are limited in bytes at their source.
const PIECES: usize = 256;

/// The call. Nothing else is sent on its connection while it exists.
#[derive(Debug)]
pub(in crate::router) struct PieceCall<'a> {
    by: By<'a>,
    occupied: Occupied<'a>,
    /// How many unreplicated commits this connection had before this one.
    unreplicated: Option<usize>,
}

#[derive(Debug)]
enum By<'a> {
    Client(Call<'a>),
    Transaction(&'a Transaction),
}

impl<'a> PieceCall<'a> {
    pub(in crate::router) fn on_client(occupied: Occupied<'a>, call: Call<'a>) -> Self {
        let unreplicated = unreplicated(occupied.lease());
        Self { by: By::Client(call), occupied, unreplicated }
    }

    pub(in crate::router) fn in_transaction(occupied: Occupied<'a>, transaction: &'a Transaction) -> Self {
        Self { by: By::Transaction(transaction), occupied, unreplicated: None }
    }

    pub(in crate::router) fn lease(&self) -> &'a Lease {
        self.occupied.lease()
    }

    /// See [`Occupied::must_end`].
    pub(in crate::router) fn must_end(&mut self, must_end: bool) {
        self.occupied.must_end(must_end);
    }

    pub(in crate::router) fn effect(&self) -> Effect {
        match &self.by {
            By::Client(call) => call.effect(),
            By::Transaction(_) => Effect::Read,
        }
    }

    /// The deadline of the next wait.
    pub(in crate::router) fn next(&self) -> Deadline {
        match &self.by {
            By::Client(call) => call.next(),
            By::Transaction(transaction) => transaction.next(),
        }
    }

    /// Starts the call, after the proof that its node contains what it must. From then on until its end, cancelling it
    /// costs the connection.
    pub(in crate::router) async fn begin<T, Fut>(mut self, start: Fut) -> Result<(Self, T)>
    where
        Fut: Future<Output = Result<T>>,
    {
        let started = match self.lease().prove(self.next()).await {
            Ok(()) => {
                // The node's place at that time is not its place at the end.
                self.lease().guard().map(|guard| guard.take_noted());
                self.must_end(true);
                start.await
            }
            Err(error) => Err(error),
        };
        match started {
            Ok(started) => Ok((self, started)),
            Err(error) => {
                self.must_end(self.lease().is_abandoned());
                self.end(Err(error))
            }
        }
    }

    /// The call has failed midway. Up to which place is unknown.
    fn break_off(mut self, error: Error) -> Error {
        // Not if the server's answer is complete: then only the statement has failed.
        self.must_end(self.lease().is_abandoned());
        match self.by {
            By::Client(call) => call.break_off(),
            By::Transaction(transaction) => transaction.note_error(&error),
        }
        error
    }

    /// The call was answered, or is known not to have been.
    pub(in crate::router) fn end<T>(self, outcome: Result<T>) -> Result<T> {
        match self.by {
            By::Client(call) => call.end(outcome),
            By::Transaction(transaction) => transaction.note(outcome),
        }
    }

    /// Everything has arrived.
    pub(in crate::router) async fn end_of_answer(self) -> Result<()> {
        let lease = self.lease();
        let is_unreplicated = unreplicated(lease) != self.unreplicated;
        let Self { by, mut occupied, .. } = self;
        let outcome = match by {
            By::Client(call) if is_unreplicated && call.effect() != Effect::Read => {
                call.end(Err(failure::unreplicated()))
            }
            By::Client(call) => call.end_of_answer().await,
            By::Transaction(_) => Ok(()),
        };
        occupied.must_end(lease.is_abandoned());
        outcome
    }
}

fn unreplicated(lease: &Lease) -> Option<usize> {
    lease.own().map(Connection::unreplicated)
}

/// The pieces, in order, with the limit applied to each wait.
pub(in crate::router) fn pieces<'a, S>(call: PieceCall<'a>, incoming: Incoming<S>) -> BoxStream<'a, Result<S::Piece>>
where
    S: Source + Send + 'a,
    S::Piece: Send + 'a,
{
    let portions = try_unfold((call, incoming), async |(call, mut incoming)| {
        match call.lease().take(call.effect(), &mut incoming, call.next(), PIECES).await {
            Ok(pieces) if pieces.is_empty() => call.end_of_answer().await.map(|()| None),
            Ok(pieces) => Ok(Some((iter(pieces.into_iter().map(Ok)), (call, incoming)))),
            Err(error) => Err(call.break_off(error)),
        }
    });
    Box::pin(portions.try_flatten())
}
