//! The rows of a user's statement, as they come.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, stream::BoxStream};
use tokio_postgres::{Row, types::ToSql};

use super::{
    Client, Transaction,
    connection::Planning,
    piecewise::{PieceCall, pieces},
};
use crate::error::Result;

/// The rows of a statement as they come, in order; see [`Client::query_stream`].
///
/// The first error ends it, and an end without one is the end of the rows.
///
/// # Cancel safety
///
/// Waiting for the next row may be given up and begun again: no row is lost, and the limit is that of the first wait. Dropped before its
/// end was seen, the server is told to cancel, and the connection is of no further use: other calls on it are refused, and a
/// [`Transaction`] is rolled back. A statement that writes may have been executed. (Of a pool that was handed in, the connection takes in
/// the rest before it goes back.)
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
    /// Runs a statement, and returns its rows as they come: for more of them than fit into memory. The server waits for whoever takes
    /// them; no more than a few megabytes are kept here, or one row if that is larger.
    ///
    /// The [limit](Self::timeout) is that of each wait for rows; what you do between two of them does not count. Until the stream has
    /// come to its end or is dropped, nothing else can be sent on this connection.
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
    /// In a [`Session`](crate::Session) a stream that comes to its end costs one more round trip, for the place of what it has seen.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), here or in the stream. [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) while a call, another
    /// stream or a `COPY` is under way on this connection.
    ///
    /// # Cancel safety
    ///
    /// See [`Client`], and [`RowStream`].
    pub async fn query_stream(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<RowStream<'_>> {
        RowStream::start(self.piecewise(sql)?, sql, params).await
    }
}

impl Transaction {
    /// Runs a statement, and returns its rows as they come, as [`Client::query_stream`] does.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), here or in the stream. [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) while another stream
    /// or a `COPY` is under way in this transaction.
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`], and [`RowStream`].
    pub async fn query_stream(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<RowStream<'_>> {
        RowStream::start(self.piecewise(sql)?, sql, params).await
    }
}
