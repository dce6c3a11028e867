//! How full the queues are, and which version runs.

use axum::Json;
use axum::extract::State;
use broker::FixedQueue;
use broker::layout::RetryDelay;
use serde::{Deserialize, Serialize};
use store::Paged;
use subscriptions::Declaration;
use utoipa::ToSchema;
use view::{Column, Described, Form, List, Shown, View, column, shown};

use crate::ConsoleState;
use crate::refusal::Refusal;

/// `queues`: what the broker says, not the database.
pub static QUEUES: View<Described> = View {
    name: "queues",
    tag: "operations",
    about: "Every queue: the consumers', the record's, those of subscriptions, and those where messages wait to be tried again",
    row: "queue",
    rows: "queues",
    example: "",
    empty: "No queues.",
    reading: Described::new::<QueueRow>(),
};

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueRow {
    /// Its name at the broker, prefix included.
    pub name: String,
    /// What it carries, or what its consumer does.
    pub purpose: String,
    /// Messages ready to be handed out.
    pub ready: u64,
    /// Messages that consumers hold and have not settled; null if the broker does not show it. `malote queues` adds it.
    pub unacked: Option<u64>,
    /// Consumers that take from it now.
    pub consumers: u64,
    /// Why its consumer in this process is paused; null if it is running, or runs in another process.
    pub paused: Option<String>,
}

impl Shown for QueueRow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Queue", |row| shown(&row.name), Form::Text),
        column("Ready", |row| shown(&row.ready), Form::Number),
        column("Held", |row| shown(&row.unacked), Form::Number),
        column("Consumers", |row| shown(&row.consumers), Form::Number),
        column("Carries", |row| shown(&row.purpose), Form::Text),
    ];
}

/// Answers with [`QUEUES`].
pub(crate) async fn queues(State(state): State<ConsoleState>) -> Result<Json<List<QueueRow>>, Refusal> {
    let fixed = FixedQueue::ALL.map(|queue| (queue.name(), queue.purpose()));
    let named = state.consumers.iter().copied().chain(fixed).map(|(name, purpose)| {
        let paused = state.health.trouble(&format!("consumer.{name}"));
        (state.layout.queue(name), (purpose.to_owned(), paused))
    });
    let retry = RetryDelay::ALL.into_iter().map(|delay| {
        (state.layout.retry_queue(delay), (format!("waits {delay} before it is tried again"), None))
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
    let mut items: Vec<_> = statuses.into_iter().zip(rest).map(row).collect();
    // What the broker says does not depend on the store.
    let theirs = state.queues.statuses().await.unwrap_or_else(|error| {
        tracing::warn!("the queues of subscriptions are not listed: {}", event::Chain(&error));
        Vec::new()
    });
    let of_subscription = |(declaration, status): (Declaration, _)| {
        let purpose = format!("subscription {}: {}", declaration.name, declaration.topics.join(", "));
        row((status, (purpose, None)))
    };
    items.extend(theirs.into_iter().map(of_subscription));
    Ok(Json(Paged { items, next: None }.into()))
}

/// Which program answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// `malote`.
    pub name: String,
    /// The program's version.
    pub version: String,
}

/// Which program answers, in which version.
#[utoipa::path(get, path = "/api/v1/version", tag = "operations",
    responses((status = 200, description = "The program", body = Version)))]
pub(crate) async fn version(State(state): State<ConsoleState>) -> Json<Version> {
    Json(Version { name: event::APP_ID.to_owned(), version: state.version.to_owned() })
}
