//! The rows of a statement, as they come.

use std::{fmt, pin::Pin, task::Poll};

use futures_util::{Stream, future::poll_fn};
use tokio_postgres::{Row, RowStream};

use crate::error::{Error, ErrorKind, Result};

/// The rows of a statement that may still be running. The server waits for whoever reads them: the driver keeps no more than
/// it has read from the socket at once.
///
/// It belongs to the [`Lease`](super::Lease) that has started it. Until its end is reached, that is a connection whose answer
/// is to come: given back before, it is closed, and the server told to cancel.
pub(crate) struct Rows {
    stream: Option<Pin<Box<RowStream>>>,
    /// What came behind rows that were not handed out yet.
    failed: Option<tokio_postgres::Error>,
}

impl Rows {
    pub(super) fn new(stream: RowStream) -> Self {
        Self { stream: Some(Box::pin(stream)), failed: None }
    }

    /// Whether the server's answer is complete, be it an error.
    pub(super) fn is_over(&self) -> bool {
        self.stream.is_none()
    }

    /// The error that comes behind the rows that were given last.
    pub(super) fn error(&self) -> Option<&tokio_postgres::Error> {
        self.failed.as_ref()
    }

    /// The rows that are there, `most` at most, waiting for the first only; none at the end.
    pub(super) async fn next(&mut self, most: usize) -> Result<Vec<Row>, tokio_postgres::Error> {
        poll_fn(|cx| {
            if let Some(error) = self.failed.take() {
                return Poll::Ready(Err(error));
            }
            let mut rows = Vec::new();
            while rows.len() < most {
                let Some(stream) = &mut self.stream else { break };
                match stream.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(row))) => rows.push(row),
                    Poll::Ready(Some(Err(error))) => {
                        self.stream = None;
                        if rows.is_empty() {
                            return Poll::Ready(Err(error));
                        }
                        self.failed = Some(error);
                    }
                    Poll::Ready(None) => self.stream = None,
                    Poll::Pending if rows.is_empty() => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            Poll::Ready(Ok(rows))
        })
        .await
    }
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

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}
