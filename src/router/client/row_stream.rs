//! The rows of a user's statement, as they arrive.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, stream::BoxStream};
use tokio_postgres::{Row, types::ToSql};

use super::piecewise::{PieceCall, pieces};
use crate::{
    error::Result,
    router::{Client, Transaction, pool::connection::Planning},
};

/// A stream of a statement's rows as they arrive, in order; see [`Client::query_stream`].
///
/// The first error ends the stream. An end without an error is the end of the rows.
///
/// # Cancel safety
///
/// Waiting for the next row may be cancelled and resumed: no row is lost, and the limit counts from the first wait. If
/// the stream is dropped before its end was reached, the server is asked to cancel, and the connection is no longer
/// usable: other calls on it are refused, and a [`Transaction`] is rolled back. A statement that writes may have been
/// executed. (The connection of a borrowed pool reads the rest before it returns.)
#[must_use = "nothing more is read than what is taken"]
pub struct RowStream<'a> {
    rows: BoxStream<'a, Result<Row>>,
}

impl<'a> RowStream<'a> {
    async fn start(call: PieceCall<'a>, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Self> {
        let start = call.lease().start(call.effect(), Planning::ByTheServer, call.next(), sql, params);
        let (call, rows) = call.begin(start).await?;
        Ok(Self { rows: pieces(call, rows) })
    }
}

impl Stream for RowStream<'_> {
    type Item = Result<Row>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.rows.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for RowStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream").finish_non_exhaustive()
    }
}

impl Client {
    /// Runs a statement and returns its rows as they arrive, for results that do not fit into memory. The server waits
    /// for the reader: at most a few megabytes are buffered, or one row if it is larger.
    ///
    /// The [limit](Self::timeout) applies to each wait for rows; the time you spend between two of them does not count.
    /// Until the stream has reached its end or is dropped, nothing else can be sent on this connection.
    ///
    /// ```no_run
    /// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
    /// use futures_util::TryStreamExt;
    ///
    /// let client = router.client().await?;
    /// let mut rows = client.query_stream("SELECT id, name FROM readers WHERE id > $1", &[&0_i64]).await?;
    /// while let Some(row) = rows.try_next().await? {
    ///     println!("{}: {}", row.get::<_, i64>(0), row.get::<_, &str>(1));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// In a [`Session`](crate::Session), a completed stream costs one more round trip, for the LSN of what it has read.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), here or in the stream. [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput)
    /// while a call, another stream or a `COPY` is in progress on this connection.
    ///
    /// # Cancel safety
    ///
    /// See [`Client`], and [`RowStream`].
    pub async fn query_stream(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<RowStream<'_>> {
        RowStream::start(self.piecewise(sql)?, sql, params).await
    }
}

impl Transaction {
    /// Runs a statement and returns its rows as they arrive, as [`Client::query_stream`] does.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), here or in the stream. [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput)
    /// while another stream or a `COPY` is in progress in this transaction.
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`], and [`RowStream`].
    pub async fn query_stream(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<RowStream<'_>> {
        RowStream::start(self.piecewise(sql)?, sql, params).await
    }
}
