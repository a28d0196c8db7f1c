//! What a guard asks the node, in front of a read and behind it.

use futures_util::future::{OptionFuture, join};
use tokio_postgres::{Client, Row};

use super::Guard;
use crate::router::pooled::Question;

/// The statements, prepared.
pub(super) struct Prepared {
    pub(super) place: Option<Question>,
    pub(super) check: Option<Question>,
    pub(super) behind: Option<(Question, Option<Question>)>,
}

/// Asks in front of the read: for the node's place, and for what the floor checks.
pub(super) async fn prove(
    client: &Client,
    guard: &Guard,
    statements: &Prepared,
) -> Result<(Option<Vec<Row>>, Option<Vec<Row>>), tokio_postgres::Error> {
    let params = guard.check.as_ref().map(|check| check.params()).unwrap_or_default();
    let check = async {
        match &statements.check {
            Some(check) => Some(check.ask(client, &params).await),
            None => None,
        }
    };
    // Both are in line before anything is waited for.
    let (place, check) = join(ask(client, statements.place.as_ref()), check).await;
    Ok((place.transpose()?, check.transpose()?))
}

pub(super) async fn ask(
    client: &Client,
    question: Option<&Question>,
) -> Option<Result<Vec<Row>, tokio_postgres::Error>> {
    OptionFuture::from(question.map(|question| question.ask(client, &[]))).await
}
