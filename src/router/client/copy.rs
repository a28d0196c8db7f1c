//! `COPY`: the fastest way to load many rows into a table, or to read them out of one.
//!
//! The driver's own calls end at the end of the statement, which is before its commit, and lose the connection when the
//! server refuses a `COPY` (rust-postgres, issue 789: one message too many, and the following answers belong to other
//! calls). A `COPY` that does not complete here is therefore the last thing on its connection.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{SinkExt, Stream, stream::BoxStream};
use tokio::time::timeout_at;
use tokio_postgres::CopyInSink;

use super::piecewise::{PieceCall, pieces};
use crate::{
    error::{Error, Result},
    router::{Client, Effect, Transaction, lease::failure},
    runtime,
};

/// A stream of the data of a `COPY … TO STDOUT` as they arrive, in order; see [`Client::copy_out`].
///
/// The pieces are the server's, one per row. The first error ends the stream. An end without an error is the end of the
/// data.
///
/// # Cancel safety
///
/// As for [`RowStream`](crate::router::RowStream).
#[must_use = "nothing more is read than what is taken"]
pub struct CopyOut<'a> {
    data: BoxStream<'a, Result<Bytes>>,
}

impl<'a> CopyOut<'a> {
    async fn start(call: PieceCall<'a>, sql: &str) -> Result<Self> {
        let start = call.lease().start_copy_out(call.effect(), call.next(), sql);
        let (call, data) = call.begin(start).await?;
        Ok(Self { data: pieces(call, data) })
    }
}

impl Stream for CopyOut<'_> {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.data.as_mut().poll_next(cx)
    }
}

/// Sends the data of a `COPY … FROM STDIN`; see [`Client::copy_in`].
///
/// # Cancel safety
///
/// If it is dropped before [`finish`](Self::finish), nothing is written. In any case, unless `finish` has returned a
/// number, the connection is no longer usable: other calls on it are refused, and a [`Transaction`] is rolled back.
#[must_use = "without `finish` nothing is written"]
pub struct CopyIn<'a> {
    call: PieceCall<'a>,
    sink: Pin<Box<CopyInSink<Bytes>>>,
    /// Why a part could not be sent: the server is then never told that the data are complete.
    failed: Option<Error>,
}

impl<'a> CopyIn<'a> {
    async fn start(call: PieceCall<'a>, sql: &str) -> Result<Self> {
        let (lease, deadline) = (call.lease(), call.next());
        // Errors of the parser appear here, and do not cost the connection.
        let (mut call, statement) = call.begin(lease.prepare_copy_in(deadline, sql)).await?;
        match lease.start_copy_in(deadline, statement).await {
            Ok(sink) => Ok(Self { call, sink: Box::pin(sink), failed: None }),
            Err(error) => {
                call.must_end(true);
                call.end(Err(error))
            }
        }
    }

    /// Sends a part of the data, at most 64 MiB. Parts may end anywhere, even in the middle of a row; small ones are
    /// buffered. Convert borrowed data, such as a `&str`, to an owned value (`to_owned`, `Bytes::copy_from_slice`).
    ///
    /// The server reports invalid data at the end, in [`finish`](Self::finish); until then it accepts and ignores what
    /// follows.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the connection was lost, and
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) if the server accepts nothing within the limit of a call.
    /// Nothing is written then, and all further calls return the same error.
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a part that is too large; the `COPY` can
    /// continue.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, this part was not accepted and may be sent again.
    pub async fn send(&mut self, data: impl Into<Bytes> + Send) -> Result<()> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let data = data.into();
        let (deadline, lease) = (self.call.next(), self.call.lease());
        let named = |error: Error| error.with_node(Arc::clone(lease.node().name()));
        runtime::current().map_err(named)?;
        if data.len() > MOST_BYTES {
            let message = format!(
                "a part of {} bytes is more than the {MOST_BYTES} that one may have: send it in several",
                data.len()
            );
            return Err(named(Error::invalid_input(message)));
        }
        let over = || failure::on_deadline(deadline, Effect::Read);
        let answers = lease.node().handle().answers();
        let sent = match deadline.is_over() {
            true => Err(over()),
            false => match timeout_at(deadline.at(), self.sink.feed(data)).await {
                Ok(sent) => sent.map_err(|error| {
                    lease.node().handle().lost();
                    failure::on_call(error, Effect::Read, lease.role())
                }),
                Err(_) => {
                    lease.node().handle().was_silent(answers);
                    Err(over())
                }
            },
        };
        sent.map_err(|error| self.failed.insert(named(error)).clone())
    }

    /// Completes the `COPY` and returns the number of rows written, once they are committed (in a [`Transaction`]: once
    /// they are part of it).
    ///
    /// # Errors
    ///
    /// The server's error about the data: none of them are written. Otherwise as [`Client::query`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the data may have been written, unless this is in a [`Transaction`].
    pub async fn finish(self) -> Result<u64> {
        let Self { call, mut sink, failed } = self;
        if let Some(failed) = failed {
            return call.end(Err(failed));
        }
        let lease = call.lease();
        // Nothing can be prepared or queried before it is over.
        let written = lease.guarded_with(None, call.effect(), call.next(), finish(sink.as_mut())).await;
        let rows = match written {
            Ok(rows) => rows,
            Err(error) => return call.end(Err(error)),
        };
        lease.came_to_its_end();
        call.end_of_answer().await.map(|()| rows)
    }
}

/// The largest part. A server accepts no message of more than 1 GiB, and ends the session of a client that sends one.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// The driver returns at the end of the statement, before the commit. A second call returns the commit's error, or else
/// that the server is ready, for which the driver has no name.
async fn finish(mut sink: Pin<&mut CopyInSink<Bytes>>) -> Result<u64, tokio_postgres::Error> {
    let rows = sink.as_mut().finish().await?;
    match sink.as_mut().finish().await {
        Err(error) if !failure::is_out_of_step(&error) => Err(error),
        _ => Ok(rows),
    }
}

impl Client {
    /// Starts a `COPY … FROM STDIN`, which writes all of its data or none: much faster than INSERTs for many rows.
    ///
    /// The statement sets the format (text, unless it says `CSV` or `BINARY`), and you have to escape the values
    /// accordingly. It is one statement with one commit. The [limit](Self::timeout) applies to each wait.
    ///
    /// ```no_run
    /// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
    /// let client = router.client().await?;
    /// let mut copy = client.copy_in("COPY readers (id, name) FROM STDIN").await?;
    /// for (id, name) in [(1, "Ada"), (2, "Ben")] {
    ///     copy.send(format!("{id}\t{name}\n")).await?;
    /// }
    /// assert_eq!(copy.finish().await?, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query). [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) while a call, a stream or
    /// another `COPY` is in progress on this connection, for any other statement, behind a
    /// [pooler](crate::RouterBuilder::transaction_pooling), and on a connection of an [existing
    /// pool](crate::ExistingPool), which would get it back broken. A `COPY` that fails costs the connection.
    ///
    /// # Cancel safety
    ///
    /// See [`CopyIn`]. If the future is dropped before it returns one, the connection is no longer usable.
    pub async fn copy_in(&self, sql: &str) -> Result<CopyIn<'_>> {
        CopyIn::start(self.piecewise(sql)?, sql).await
    }

    /// Starts a `COPY … TO STDOUT` and returns its data as they arrive. As with [`query_stream`](Self::query_stream),
    /// the server waits for the reader, the [limit](Self::timeout) applies to each wait, and nothing else can be sent
    /// until the end.
    ///
    /// ```no_run
    /// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
    /// use futures_util::TryStreamExt;
    ///
    /// let client = router.client().await?;
    /// let mut lines = client.copy_out("COPY (SELECT id, name FROM readers) TO STDOUT (FORMAT csv)").await?;
    /// while let Some(line) = lines.try_next().await? {
    ///     print!("{}", String::from_utf8_lossy(&line));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`query_stream`](Self::query_stream), and [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) after
    /// a [pooler](crate::RouterBuilder::transaction_pooling). A statement other than `COPY … TO STDOUT` is executed,
    /// and costs the connection: [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown).
    ///
    /// # Cancel safety
    ///
    /// See [`Client`] and [`CopyOut`].
    pub async fn copy_out(&self, sql: &str) -> Result<CopyOut<'_>> {
        CopyOut::start(self.piecewise(sql)?, sql).await
    }
}

impl Transaction {
    /// Starts a `COPY … FROM STDIN`, as [`Client::copy_in`] does.
    ///
    /// # Errors
    ///
    /// As [`Client::copy_in`]. If it fails, or is dropped before it has finished, the transaction is rolled back: not
    /// even a savepoint helps.
    ///
    /// # Cancel safety
    ///
    /// See [`CopyIn`].
    pub async fn copy_in(&self, sql: &str) -> Result<CopyIn<'_>> {
        CopyIn::start(self.piecewise(sql)?, sql).await
    }

    /// Starts a `COPY … TO STDOUT`, as [`Client::copy_out`] does.
    ///
    /// # Errors
    ///
    /// As [`Client::copy_out`].
    ///
    /// # Cancel safety
    ///
    /// See [`CopyOut`].
    pub async fn copy_out(&self, sql: &str) -> Result<CopyOut<'_>> {
        CopyOut::start(self.piecewise(sql)?, sql).await
    }
}

impl fmt::Debug for CopyOut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyOut").finish_non_exhaustive()
    }
}

impl fmt::Debug for CopyIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyIn").finish_non_exhaustive()
    }
}
