//! The results of a statement, as they arrive.

use std::{
    fmt,
    ops::ControlFlow,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt, future::poll_fn};
use tokio::time::timeout;
use tokio_postgres::{CopyOutStream, Row, RowStream};

use super::failure;
use crate::error::{Error, ErrorKind, Result};

/// The most bytes of rows returned at a time. About 256 rows of 16 kB: large enough that the cost of a round of reading
/// and decoding does not matter, and small enough for each of many readers to hold.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// What the driver delivers piece by piece: rows, or the data of a `COPY`.
pub(crate) trait Source: Stream<Item = Result<Self::Piece, tokio_postgres::Error>> {
    type Piece;

    /// In bytes.
    fn len(piece: &Self::Piece) -> usize;
}

impl Source for RowStream {
    type Piece = Row;

    fn len(row: &Row) -> usize {
        row.raw_size_bytes()
    }
}

impl Source for CopyData {
    type Piece = Bytes;

    fn len(data: &Bytes) -> usize {
        data.len()
    }
}

/// The data of a `COPY … TO STDOUT`, up to the end of its statement. The driver's stream ends with the data: the
/// server's messages about the statement, and about its commit, follow.
pub(crate) struct CopyData {
    stream: Pin<Box<CopyOutStream>>,
    /// How many messages are still to come after the data; set at the end of the data.
    left: Option<u8>,
}

/// That the statement is complete, and that the server is ready for the next one.
const BEHIND_THE_DATA: u8 = 2;

impl CopyData {
    pub(in crate::router) fn new(stream: CopyOutStream) -> Self {
        Self { stream: Box::pin(stream), left: None }
    }
}

impl Stream for CopyData {
    type Item = Result<Bytes, tokio_postgres::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while self.left != Some(0) {
            match (ready!(self.stream.as_mut().poll_next(cx)), self.left) {
                (Some(Ok(data)), _) => return Poll::Ready(Some(Ok(data))),
                (None, _) => self.left = Some(BEHIND_THE_DATA),
                // The driver has no names for these messages here.
                (Some(Err(error)), Some(left)) if failure::is_out_of_step(&error) => self.left = Some(left - 1),
                (Some(Err(error)), _) => return Poll::Ready(Some(Err(error))),
            }
        }
        Poll::Ready(None)
    }
}

/// The rows of a statement that may still be running.
pub(crate) type Rows = Incoming<RowStream>;

/// The results of a statement that may still be running. The server waits for the reader: the driver buffers no more
/// than it has read from the socket at once.
///
/// It belongs to the [`Lease`](crate::router::Lease) that has started it. Until its end is reached, the connection has an
/// outstanding answer: if it is returned earlier, it is closed, and the server is asked to cancel.
pub(crate) struct Incoming<S: Source> {
    stream: Option<Pin<Box<S>>>,
    /// The piece for which there was no room.
    held_back: Option<S::Piece>,
    /// The error that came after pieces that were not delivered yet.
    failed: Option<tokio_postgres::Error>,
}

impl<S: Source> Incoming<S> {
    pub(in crate::router) fn new(stream: S) -> Self {
        Self { stream: Some(Box::pin(stream)), held_back: None, failed: None }
    }

    /// Whether the server's answer is complete, even if it is an error.
    pub(in crate::router) fn is_over(&self) -> bool {
        self.stream.is_none()
    }

    /// The error that follows what was delivered last.
    pub(in crate::router) fn error(&self) -> Option<&tokio_postgres::Error> {
        self.failed.as_ref()
    }

    /// The pieces that have arrived, at most `most` and no more than [`MOST_BYTES`] unless it is a single one, waiting
    /// only for the first; none at the end.
    pub(in crate::router) async fn next(&mut self, most: usize) -> Result<Vec<S::Piece>, tokio_postgres::Error> {
        poll_fn(|cx| {
            let (mut pieces, mut bytes) = (Vec::new(), 0);
            if let Some(piece) = self.held_back.take() {
                bytes = S::len(&piece);
                pieces.push(piece);
            } else if let Some(error) = self.failed.take() {
                return Poll::Ready(Err(error));
            }
            while pieces.len() < most {
                let Some(stream) = &mut self.stream else { break };
                match stream.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(piece))) => {
                        bytes += S::len(&piece);
                        if bytes > MOST_BYTES && !pieces.is_empty() {
                            self.held_back = Some(piece);
                            break;
                        }
                        pieces.push(piece);
                    }
                    Poll::Ready(Some(Err(error))) => {
                        self.stream = None;
                        if pieces.is_empty() {
                            return Poll::Ready(Err(error));
                        }
                        self.failed = Some(error);
                    }
                    Poll::Ready(None) => self.stream = None,
                    Poll::Pending if pieces.is_empty() => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            Poll::Ready(Ok(pieces))
        })
        .await
    }
}

/// How many bytes of unwanted rows are read and discarded, and for how long, in the hope of reaching the end of the
/// answer: a new connection takes as long. After that the answer is cancelled, and the connection closed.
const REST: usize = 16 * 1024 * 1024;
const REST_TIME: Duration = Duration::from_millis(100);

/// The part of an answer that was read.
pub(in crate::router) struct Part<T> {
    pub(in crate::router) rows: Vec<T>,
    /// Whether it reached its end.
    pub(in crate::router) is_whole: bool,
}

impl<T> Part<T> {
    /// Reads rows as they arrive, up to the one at which `read` stops.
    pub(in crate::router) async fn read(
        rows: RowStream,
        mut read: impl FnMut(Row) -> ControlFlow<T, T>,
    ) -> Result<Self, tokio_postgres::Error> {
        let (mut stream, mut rows) = (pin!(rows), Vec::new());
        while let Some(row) = stream.try_next().await? {
            match read(row) {
                ControlFlow::Continue(row) => rows.push(row),
                ControlFlow::Break(row) => {
                    rows.push(row);
                    return Ok(Self { rows, is_whole: ends_soon(stream).await });
                }
            }
        }
        Ok(Self { rows, is_whole: true })
    }
}

/// Whether little follows what was read, and no error, which would be about unwanted rows.
async fn ends_soon(mut stream: Pin<&mut RowStream>) -> bool {
    let rest = async {
        let mut bytes = 0;
        while bytes <= REST {
            let Some(row) = stream.try_next().await? else { return Ok(true) };
            bytes += row.raw_size_bytes();
        }
        Ok::<_, tokio_postgres::Error>(false)
    };
    timeout(REST_TIME, rest).await.is_ok_and(|ended| ended.unwrap_or(false))
}

/// The number of rows that a statement should return.
pub(in crate::router) trait Count {
    fn exactly_one(self) -> Result<Row>;

    fn at_most_one(self) -> Result<Option<Row>>;
}

impl Count for Vec<Row> {
    fn exactly_one(mut self) -> Result<Row> {
        match (self.pop(), self.len()) {
            (Some(row), 0) => Ok(row),
            (last, more) => Err(wrong_count("exactly one row", more + usize::from(last.is_some()))),
        }
    }

    fn at_most_one(mut self) -> Result<Option<Row>> {
        match (self.pop(), self.len()) {
            (row, 0) => Ok(row),
            (_, more) => Err(wrong_count("at most one row", more + 1)),
        }
    }
}

fn wrong_count(expected: &str, found: usize) -> Error {
    let message = format!("the statement was to return {expected}, but it returned {found}");
    Error::new(ErrorKind::Database, message)
}

impl<S: Source> fmt::Debug for Incoming<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}
