//! The lending library of `examples/library` over HTTP. No handler says where it reads: the layers do.

#[path = "../library/commands.rs"]
pub(crate) mod commands;
#[path = "../library/events.rs"]
mod events;
#[path = "../library/queries.rs"]
#[allow(dead_code, reason = "here an answer also tells who has served it")]
mod queries;
#[path = "../library/state.rs"]
mod state;

use std::fmt::Debug;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use mainstem::{
    Command, CommandError, CommandExecutor, DecisionModel, PostgresEventStore, TokenKey,
    http::{ConsistencyLayer, TokenCookie, TokenHeader, TokenLayer, error_response},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use commands::{AddCopy, CancelContract, LendCopy, Refusal, RegisterReader, RemoveCopy, ReturnCopy};
use queries::{
    CancelledReaders, CopiesInCirculation, CopiesLentByReader, CopiesLentOut, FinishedLendings, Query,
    RegisteredReaders, RemovedCopies,
};

/// One instance. All instances share the key and the database, and nothing else.
///
/// The token is in a cookie for browsers, and in a header for other programs.
pub(crate) fn app(store: PostgresEventStore, key: TokenKey) -> Router {
    let app = App { executor: CommandExecutor::new(store.clone()), store };
    Router::new()
        .route("/copies", get(ask::<CopiesInCirculation>).post(execute::<AddCopy>))
        .route("/copies/removed", get(ask::<RemovedCopies>).post(execute::<RemoveCopy>))
        .route("/readers", get(ask::<RegisteredReaders>).post(execute::<RegisterReader>))
        .route("/readers/cancelled", get(ask::<CancelledReaders>).post(execute::<CancelContract>))
        .route("/readers/{reader}/loans", get(loans_of))
        // The desk must have the current state.
        .route("/desk/readers/{reader}/loans", get(loans_of).layer(ConsistencyLayer::strong()))
        .route("/loans", get(ask::<CopiesLentOut>).post(execute::<LendCopy>))
        .route("/loans/finished", get(ask::<FinishedLendings>).post(execute::<ReturnCopy>))
        .layer(ConsistencyLayer::by_method())
        .layer(TokenLayer::new(TokenHeader::signed_by(key.clone())))
        .layer(TokenLayer::new(TokenCookie::signed_by(key)))
        .with_state(app)
}

#[derive(Clone)]
struct App {
    executor: CommandExecutor,
    store: PostgresEventStore,
}

async fn execute<C>(State(app): State<App>, Json(command): Json<C>) -> Result<Response, AppError>
where
    C: Command<Refusal = Refusal> + DeserializeOwned + Send,
{
    match app.executor.execute(&command).await {
        Ok(executed) => Ok(Json(json!({"position": executed.appended.map(|it| it.first_position())})).into_response()),
        Err(CommandError::Refused { reason, .. }) => {
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"refused": reason.to_string()}))).into_response())
        }
        Err(CommandError::GaveUp { error, .. }) => Err(error.into()),
        Err(other) => Err(unknown(other)),
    }
}

async fn ask<Q: Query + Default>(State(app): State<App>) -> Result<Response, AppError> {
    answer(&app, Q::default()).await
}

async fn loans_of(State(app): State<App>, Path(reader): Path<u32>) -> Result<Response, AppError> {
    answer(&app, CopiesLentByReader { reader, copies: Default::default() }).await
}

async fn answer<Q: Query>(app: &App, query: Q) -> Result<Response, AppError> {
    let projected = query.resume_from(&app.store, Q::NAME, 1)?.await?;
    let served_by = format!("{} {}", projected.role(), projected.node());
    // The position up to which the answer is current.
    let as_of = projected.head().map_or(0, |head| head.position()).to_string();
    Ok(([("served-by", served_by), ("as-of", as_of)], Json(projected.into_state())).into_response())
}

/// The library's error as a response. The error's text is only logged, since it names servers.
struct AppError(mainstem::Error);

impl From<mainstem::Error> for AppError {
    fn from(error: mainstem::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        eprintln!("http: {}", self.0.report());
        error_response(&self.0)
    }
}

/// Error variants that a later version of the library may add.
fn unknown(error: impl Debug) -> AppError {
    mainstem::Error::new(mainstem::ErrorKind::Database, format!("{error:?}")).into()
}
