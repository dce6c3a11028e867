//! Why a request is not answered with rows: one variant per answer.

use std::error::Error;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use broker::BrokerError;
use http::StatusCode;
use server::Problem;
use store::StoreError;

/// How soon asking again makes sense, in seconds.
const RETRY_AFTER: u32 = 5;

/// A refusal. The texts reach the client: nothing of the database's own words is in them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// No token, or the wrong one.
    #[error("This needs the header `Authorization: Bearer <token>` with the token of this installation.")]
    Unauthorized,
    /// A parameter that cannot be used: its name, what is expected and what it got.
    #[error("{0}")]
    Parameter(String),
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
    #[error("{}", match .0 {
        StoreError::Unavailable(_) => "The database is unavailable.",
        StoreError::Conflict(_) => "The database is busy.",
        _ => "The database refused; the log of the console says why.",
    })]
    Store(#[from] StoreError),
    /// The broker did not do its part.
    #[error("{}", match .0 {
        BrokerError::Unavailable(_) => "The broker is unavailable.".to_owned(),
        error => format!("The queues cannot be read: {error}."),
    })]
    Broker(#[from] BrokerError),
    /// The database or the broker did not answer in time.
    #[error("The database or the broker did not answer in time.")]
    NotInTime,
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
        let problem = match &self {
            Self::Unauthorized => Problem::new(StatusCode::UNAUTHORIZED).authenticate("Bearer"),
            Self::Parameter(_) => Problem::new(StatusCode::BAD_REQUEST)
                .with_type("parameter", "A parameter of the request cannot be used"),
            Self::NoSuchPath | Self::NoSuchId => Problem::new(StatusCode::NOT_FOUND),
            Self::Method(allowed) => Problem::new(StatusCode::METHOD_NOT_ALLOWED).allow(allowed),
            Self::Store(StoreError::Unavailable(_) | StoreError::Conflict(_))
            | Self::Broker(_)
            | Self::NotInTime => again(Problem::new(StatusCode::SERVICE_UNAVAILABLE)),
            Self::Store(_) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR),
        };
        problem.detail(self.to_string()).into_response().map(Body::new)
    }
}
