//! Why a request is not answered with rows: one variant per answer.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use access::{BadToken, Role};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use broker::BrokerError;
use event::Chain;
use http::StatusCode;
use ledger::feed::FeedError;
use ledger::jobs::EditError;
use server::Problem;
use store::StoreError;
use subscriptions::queue::QueueError;
use subscriptions::{SubscriptionError, TrialError};
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
    #[error(
        "This needs the header `Authorization: Bearer <token>` with the token of this installation, or one that \
         `malote tokens add` has given."
    )]
    Unauthorized,
    /// The role of the token is not enough.
    #[error("This needs a token with the role {}; this one has the role {}.", .needs.as_str(), .has.as_str())]
    Role {
        /// What the token has.
        has: Role,
        /// What the route needs.
        needs: Role,
    },
    /// There is no such token.
    #[error("There is no token {0:?}; `malote tokens list` lists those that there are.")]
    NoToken(String),
    /// There is no such source.
    #[error("There is no source {0:?}; `malote sources list` lists those that there are.")]
    NoSource(String),
    /// The name is taken.
    #[error("{}.", sentence(.0))]
    TokenExists(BadToken),
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
    /// There is no such subscription.
    #[error("There is no subscription {0:?}; `malote subscriptions list` lists those that there are.")]
    NoSubscription(String),
    /// The subscription is in the way.
    #[error("{0}")]
    Conflict(String),
    /// The dead letter is not open, or there is none.
    #[error("{}.", sentence(.0))]
    Edit(EditError),
    /// The secrets of a subscription cannot be read.
    #[error("{}.", sentence(.0))]
    Sealed(SubscriptionError),
    /// The path has no such method.
    #[error("This path has no such method.")]
    Method(&'static str),
    /// The request to the database failed.
    #[error("The database request failed.")]
    Store(#[from] StoreError),
    /// The request to the broker failed.
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

impl From<SubscriptionError> for Refusal {
    fn from(error: SubscriptionError) -> Self {
        match error {
            SubscriptionError::Store(error) => Self::Store(error),
            SubscriptionError::Unknown(name) => Self::NoSubscription(name.to_string()),
            SubscriptionError::Declaration(error) => Self::Parameter(error.to_string()),
            SubscriptionError::NoEvent(_) | SubscriptionError::NoHistory(_) => {
                Self::Parameter(error.to_string())
            }
            SubscriptionError::Exists(_)
            | SubscriptionError::Door { .. }
            | SubscriptionError::Changed(_)
            | SubscriptionError::NoCursor(_) => Self::Conflict(format!("{}.", sentence(&error))),
            error @ SubscriptionError::Sealed { .. } => Self::Sealed(error),
        }
    }
}

impl From<EditError> for Refusal {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Unfit(text) => Self::Parameter(text),
            EditError::Store(error) => Self::Store(error),
            error @ (EditError::NoLetter { .. } | EditError::Closed(_)) => Self::Edit(error),
        }
    }
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Embedded | QueueError::NoManagement => Self::Parameter(format!("queue: {error}")),
            QueueError::NoQueue(_)
            | QueueError::NoUser(_)
            | QueueError::Management(_)
            | QueueError::Contended(_) => Self::Conflict(format!("{}.", sentence(&error))),
            QueueError::Broker(error) => Self::Broker(error),
            QueueError::Subscription(error) => error.into(),
            QueueError::Store(error) => Self::Store(error),
        }
    }
}

impl From<TrialError> for Refusal {
    fn from(error: TrialError) -> Self {
        match error {
            TrialError::Feed(error) => error.into(),
            TrialError::NoEvent(_) => Self::Parameter(format!("event: {error}")),
            TrialError::Declaration(error) => SubscriptionError::from(error).into(),
        }
    }
}

/// An answer without the address of the database, which [`complete`] adds.
#[derive(Clone)]
struct StoreCause(Arc<StoreError>);

/// An error and its causes as the start of a sentence.
fn sentence(error: &dyn Error) -> String {
    let text = Chain(error).to_string();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Adds the address of the database to an answer about it.
pub(crate) fn complete(response: Response, state: &ConsoleState) -> Response {
    let Some(StoreCause(error)) = response.extensions().get() else { return response };
    let address = state.store.address();
    let is_down = matches!(**error, StoreError::Unavailable(_) | StoreError::Conflict(_));
    let problem = match is_down || state.migrated.is_cancelled() {
        true => store_problem(error, &address),
        false => {
            let detail =
                format!("The tables of the database, {address}, are being prepared. Ask again in a moment.");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE).detail(detail).retry_after(RETRY_AFTER)
        }
    };
    problem.into_response().map(Body::new)
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
            Self::Conflict(_) => Problem::new(StatusCode::CONFLICT)
                .with_type("subscription", "The subscription does not allow this"),
            Self::Edit(EditError::NoLetter { .. }) => Problem::new(StatusCode::NOT_FOUND),
            Self::Edit(_) => {
                Problem::new(StatusCode::CONFLICT).with_type("dead-letter", "The dead letter is closed")
            }
            Self::TokenExists(_) => {
                Problem::new(StatusCode::CONFLICT).with_type("token", "The token is not added")
            }
            Self::Role { .. } => Problem::new(StatusCode::FORBIDDEN)
                .with_type("role", "The role of the token does not allow this"),
            Self::Sealed(_) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR),
            Self::NoSuchPath
            | Self::NoSuchId
            | Self::NoSubscription(_)
            | Self::NoSource(_)
            | Self::NoToken(_) => Problem::new(StatusCode::NOT_FOUND),
            Self::Method(allowed) => Problem::new(StatusCode::METHOD_NOT_ALLOWED).allow(allowed),
            Self::Broker(_) | Self::NotInTime(_) => again(Problem::new(StatusCode::SERVICE_UNAVAILABLE)),
            Self::Store(error) => {
                let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
                response.extensions_mut().insert(StoreCause(Arc::new(error)));
                return response;
            }
        };
        problem.detail(detail).into_response().map(Body::new)
    }
}
