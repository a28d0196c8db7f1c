//! What comes of a statement, as it comes.

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

/// The bytes of the rows that are given at a time. About what 256 rows of 16 kB are: large enough that no round of reading and decoding
/// counts, and small enough to be held by each of many readers.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// What the driver hands out piece by piece: rows, or the data of a `COPY`.
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

/// The data of a `COPY … TO STDOUT`, up to the end of its statement. The driver's stream ends with the data: what the server says
/// of the statement, and of its commit, comes behind that.
pub(crate) struct CopyData {
    stream: Pin<Box<CopyOutStream>>,
    /// What is still to come behind the data, from their end on.
    left: Option<u8>,
}

/// That the statement is complete, and that the server is ready for another one.
const BEHIND_THE_DATA: u8 = 2;

impl CopyData {
    pub(super) fn new(stream: CopyOutStream) -> Self {
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
                // The driver has no names for these here.
                (Some(Err(error)), Some(left)) if failure::is_out_of_step(&error) => self.left = Some(left - 1),
                (Some(Err(error)), _) => return Poll::Ready(Some(Err(error))),
            }
        }
        Poll::Ready(None)
    }
}

/// The rows of a statement that may still be running.
pub(crate) type Rows = Incoming<RowStream>;

/// What comes of a statement that may still be running. The server waits for whoever takes it: the driver keeps no more than
/// it has read from the socket at once.
///
/// It belongs to the [`Lease`](super::Lease) that has started it. Until its end is reached, that is a connection whose answer
/// is to come: given back before, it is closed, and the server told to cancel.
pub(crate) struct Incoming<S: Source> {
    stream: Option<Pin<Box<S>>>,
    /// The piece for which there was no room any more.
    held_back: Option<S::Piece>,
    /// What came behind pieces that were not handed out yet.
    failed: Option<tokio_postgres::Error>,
}

impl<S: Source> Incoming<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream: Some(Box::pin(stream)), held_back: None, failed: None }
    }

    /// Whether the server's answer is complete, be it an error.
    pub(super) fn is_over(&self) -> bool {
        self.stream.is_none()
    }

    /// The error that comes behind what was given last.
    pub(super) fn error(&self) -> Option<&tokio_postgres::Error> {
        self.failed.as_ref()
    }

    /// The pieces that are there, `most` at most and no more than [`MOST_BYTES`] unless it is one alone, waiting for the first
    /// only; none at the end.
    pub(super) async fn next(&mut self, most: usize) -> Result<Vec<S::Piece>, tokio_postgres::Error> {
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

/// So many bytes of rows that nobody wants are read and thrown away, and for so long, in the hope for the end of the answer: a new
/// connection takes as long. Then the answer is given up, and the connection with it.
const REST: usize = 16 * 1024 * 1024;
const REST_TIME: Duration = Duration::from_millis(100);

/// What was read of an answer.
pub(super) struct Part<T> {
    pub(super) rows: Vec<T>,
    /// Whether it has come to its end.
    pub(super) is_whole: bool,
}

impl<T> Part<T> {
    /// Reads rows as they come, up to the one that `read` breaks off at.
    pub(super) async fn read(
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

/// Whether there is little behind what was read, and no error: that would be about rows that nobody wants.
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

/// What a statement was to return.
pub(super) trait Count {
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
