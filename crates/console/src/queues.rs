//! How full the queues are, and which version runs.

use axum::Json;
use axum::extract::State;
use broker::FixedQueue;
use broker::layout::RetryDelay;
use serde::Serialize;
use store::Paged;
use utoipa::ToSchema;
use view::List;

use crate::ConsoleState;
use crate::refusal::Refusal;

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueueRow {
    /// Its name at the broker, prefix included.
    pub name: String,
    /// What it carries, or what its consumer does.
    pub purpose: String,
    /// Messages ready to be handed out.
    pub ready: u64,
    /// Messages that consumers hold and have not settled; null if the broker does not show it.
    pub unacked: Option<u64>,
    /// Consumers that take from it now.
    pub consumers: u64,
    /// Why its consumer in this process is paused; null if it is running, or runs in another process.
    pub paused: Option<String>,
}

/// Every queue: the consumers', the record's, and those where messages wait to be tried again.
#[utoipa::path(get, path = "/api/v1/queues", tag = "operations",
    responses((status = 200, description = "All queues, on one page", body = List<QueueRow>)))]
pub(crate) async fn queues(State(state): State<ConsoleState>) -> Result<Json<List<QueueRow>>, Refusal> {
    let fixed = FixedQueue::ALL.map(|queue| (queue.name(), queue.purpose()));
    let named = state.consumers.iter().copied().chain(fixed).map(|(name, purpose)| {
        let paused = state.health.trouble(&format!("consumer.{name}"));
        (state.layout.queue(name), (purpose.to_owned(), paused))
    });
    let retry = RetryDelay::ALL.into_iter().map(|delay| {
        (state.layout.wait_queue(delay), (format!("waits {delay} before it is tried again"), None))
    });
    let (names, rest): (Vec<_>, Vec<_>) = named.chain(retry).unzip();
    let statuses = state.broker.queues(&names).await?;
    let row = |(status, (purpose, paused)): (broker::QueueStatus, (String, Option<String>))| QueueRow {
        name: status.queue.to_string(),
        purpose,
        ready: status.ready,
        unacked: status.unacked,
        consumers: status.consumers,
        paused,
    };
    let items = statuses.into_iter().zip(rest).map(row).collect();
    Ok(Json(Paged { items, next: None }.into()))
}

/// Which program answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Version {
    /// `malote`.
    pub name: &'static str,
    /// The program's version.
    pub version: &'static str,
}

/// Which program answers, in which version.
#[utoipa::path(get, path = "/api/v1/version", tag = "operations",
    responses((status = 200, description = "The program", body = Version)))]
pub(crate) async fn version(State(state): State<ConsoleState>) -> Json<Version> {
    Json(Version { name: event::APP_ID, version: state.version })
}
