//! Why a request is not answered with rows: one variant per answer.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use broker::BrokerError;
use event::Chain;
use http::StatusCode;
use ledger::feed::FeedError;
use server::Problem;
use store::StoreError;
use tokio::time::timeout;

use crate::ConsoleState;
use crate::query_error::QueryError;

/// How soon asking again makes sense, in seconds.
const RETRY_AFTER: u32 = 5;

/// How long database and broker may take to show which of them is slow.
const LATE_PATIENCE: Duration = Duration::from_secs(3);

/// A refusal. Only clients with the token see the texts: they contain the message of the database if that contains no
/// value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// No token, or the wrong one.
    #[error("This needs the header `Authorization: Bearer <token>` with the token of this installation.")]
    Unauthorized,
    /// A parameter that cannot be used: its name, what is expected and what it got.
    #[error("{0}")]
    Parameter(String),
    /// A query that a list is not read with.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// There is no such path.
    #[error("There is no such path; /api/v1/openapi.json lists those that there are.")]
    NoSuchPath,
    /// The list has no such row.
    #[error("There is none with this id.")]
    NoSuchId,
    /// The path has no such method.
    #[error("This path has no such method.")]
    Method(&'static str),
    /// The database did not do its part.
    #[error("The database does not do its part.")]
    Store(#[from] StoreError),
    /// The broker did not do its part.
    #[error("{}", match .0 {
        error @ BrokerError::Unavailable(_) => format!("{}.", sentence(error)),
        error => format!("The queues cannot be read: {error}."),
    })]
    Broker(#[from] BrokerError),
    /// The feed cannot be read from there; with where it can be.
    #[error("{}.", sentence(.0))]
    Feed(FeedError),
    /// The request took too long, for this reason.
    #[error("{0}")]
    NotInTime(String),
}

impl From<FeedError> for Refusal {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Store(error) => Self::Store(error),
            error => Self::Feed(error),
        }
    }
}

/// An answer without the address of the database, which [`complete`] adds.
#[derive(Clone)]
struct OfStore(Arc<StoreError>);

/// An error and its causes as the start of a sentence.
fn sentence(error: &dyn Error) -> String {
    let text = Chain(error).to_string();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Adds the address of the database to an answer about it.
pub(crate) fn complete(response: Response, state: &ConsoleState) -> Response {
    let Some(OfStore(error)) = response.extensions().get() else { return response };
    store_problem(error, &state.store.address()).into_response().map(Body::new)
}

/// Whether the database or the broker delays a request.
pub(crate) async fn late(state: &ConsoleState) -> Refusal {
    match tokio::join!(
        timeout(LATE_PATIENCE, state.store.check()),
        timeout(LATE_PATIENCE, state.broker.check())
    ) {
        (Ok(Err(error)), _) => error.into(),
        (_, Ok(Err(error))) => error.into(),
        (Err(_), _) => {
            Refusal::NotInTime(format!("The database, {}, does not answer.", state.store.address()))
        }
        (_, Err(_)) => Refusal::NotInTime("The broker does not answer.".to_owned()),
        (Ok(Ok(_)), Ok(Ok(_))) => Refusal::NotInTime(format!(
            "The database, {}, and the broker answer, but not this question in time: ask for less.",
            state.store.address()
        )),
    }
}

fn store_problem(error: &StoreError, address: &str) -> Problem {
    let reason = error.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
    let (status, detail) = match error {
        StoreError::Unavailable(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("The database, {address}, is unavailable{reason}. `malote doctor` says what to do."),
        ),
        StoreError::Conflict(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "The database, {address}, is busy with another transaction{reason}. Ask again in a moment."
            ),
        ),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("The database, {address}, refused{reason}. The log of the console says more."),
        ),
    };
    let problem = Problem::new(status).detail(detail);
    if status == StatusCode::SERVICE_UNAVAILABLE { problem.retry_after(RETRY_AFTER) } else { problem }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let cause = match &self {
            Self::Store(error) => error.source(),
            Self::Broker(error) => error.source(),
            _ => None,
        };
        if let Some(cause) = cause {
            tracing::warn!("a request is refused: {self} {cause}");
        }
        let again = |problem: Problem| problem.retry_after(RETRY_AFTER);
        let detail = self.to_string();
        let problem = match self {
            Self::Unauthorized => Problem::new(StatusCode::UNAUTHORIZED).authenticate("Bearer"),
            Self::Parameter(_) | Self::Query(_) => Problem::new(StatusCode::BAD_REQUEST)
                .with_type("parameter", "A parameter of the request cannot be used"),
            Self::Feed(FeedError::Full) => again(Problem::new(StatusCode::SERVICE_UNAVAILABLE)),
            Self::Feed(error) => {
                let problem = Problem::new(StatusCode::GONE)
                    .with_type("feed-position", "The feed cannot be continued from this position");
                match error {
                    FeedError::Deleted(after) => problem.member("after", after.to_string()),
                    _ => problem,
                }
            }
            Self::NoSuchPath | Self::NoSuchId => Problem::new(StatusCode::NOT_FOUND),
            Self::Method(allowed) => Problem::new(StatusCode::METHOD_NOT_ALLOWED).allow(allowed),
            Self::Broker(_) | Self::NotInTime(_) => again(Problem::new(StatusCode::SERVICE_UNAVAILABLE)),
            Self::Store(error) => {
                let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
                response.extensions_mut().insert(OfStore(Arc::new(error)));
                return response;
            }
        };
        problem.detail(detail).into_response().map(Body::new)
    }
}
