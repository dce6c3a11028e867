//! What has come of late, in numbers, and what runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{RawQuery, State};
use ledger::{OverviewFilter, Period};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::ConsoleState;
use crate::page::pairs;
use crate::query_error::QueryError;
use crate::refusal::Refusal;

/// How far the feed may be behind the record.
const FEED_LAG: Duration = Duration::from_secs(60);

/// The numbers of long periods, which cost too much to be read for everybody who looks. Clones share them.
#[derive(Clone, Default)]
pub struct Overviews(Arc<Mutex<HashMap<Period, (Instant, ledger::Overview)>>>);

impl Overviews {
    /// Of a day those that are at most a minute old, of a week five minutes.
    async fn read(&self, state: &ConsoleState, filter: OverviewFilter) -> Result<ledger::Overview, Refusal> {
        let valid = match filter.period {
            Period::Hour => Duration::ZERO,
            Period::Day => Duration::from_secs(60),
            Period::Week => Duration::from_secs(300),
        };
        let read = async || ledger::overview(&mut *state.store.read().await?, filter, event::now()).await;
        if valid.is_zero() {
            return Ok(read().await?);
        }
        // Who comes while they are read waits for them.
        let mut known = self.0.lock().await;
        if let Some((_, numbers)) = known.get(&filter.period).filter(|(since, _)| since.elapsed() < valid) {
            return Ok(numbers.clone());
        }
        let numbers = read().await?;
        known.insert(filter.period, (Instant::now(), numbers.clone()));
        Ok(numbers)
    }
}

/// What has come of late, and what runs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Overview {
    /// What has come.
    #[serde(flatten)]
    pub(crate) numbers: ledger::Overview,
    /// What runs, by name.
    pub(crate) components: Vec<Component>,
}

/// A part of the installation.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Component {
    /// Its name; a consumer is `consumer.<name>`.
    pub(crate) name: String,
    /// Whether it works.
    pub(crate) state: ComponentState,
    /// What is wrong, or why it is not known.
    pub(crate) trouble: Option<String>,
}

/// Whether a component works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ComponentState {
    /// It works.
    Up,
    /// It is in trouble.
    Trouble,
    /// It is in another process, which this one does not see.
    Unseen,
}

impl Component {
    fn new(name: impl Into<String>, trouble: Option<String>) -> Self {
        let state = if trouble.is_some() { ComponentState::Trouble } else { ComponentState::Up };
        Self { name: name.into(), state, trouble }
    }

    fn unseen(name: impl Into<String>, reason: String) -> Self {
        Self { name: name.into(), state: ComponentState::Unseen, trouble: Some(reason) }
    }
}

/// What has come of late, and what runs: of each source how much came, its outcome, and whether the source is silent; over
/// time how much and how fast. The numbers of a day may be a minute old, those of a week five minutes.
#[utoipa::path(get, path = "/api/v1/overview", tag = "operations", operation_id = "overview", params(OverviewFilter),
    responses((status = 200, description = "The numbers", body = Overview)))]
pub(crate) async fn show(
    State(state): State<ConsoleState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Overview>, Refusal> {
    let pairs = pairs(&query.unwrap_or_default(), &view::names::<OverviewFilter>())?;
    for (name, value) in &pairs {
        view::check::<OverviewFilter>(name, value).map_err(QueryError::from)?;
    }
    let filter = view::read(&pairs).map_err(|error| Refusal::Parameter(error.to_string()))?;
    let numbers = state.overviews.read(&state, filter).await?;
    Ok(Json(Overview { numbers, components: components(&state).await? }))
}

/// What this process knows of itself, and of the consumers of others by their queues.
async fn components(state: &ConsoleState) -> Result<Vec<Component>, Refusal> {
    let known = state.health.troubles();
    let elsewhere: Vec<_> = state
        .consumers
        .iter()
        .map(|(name, _)| (format!("consumer.{name}"), state.layout.queue(name)))
        .filter(|(name, _)| !known.contains_key(name))
        .collect();
    let names: Vec<_> = elsewhere.iter().map(|(_, queue)| queue.clone()).collect();
    let queues = state.broker.queues(&names).await;
    let mut components: Vec<_> =
        known.iter().map(|(name, trouble)| Component::new(name, trouble.clone())).collect();
    for (at, (name, _)) in elsewhere.into_iter().enumerate() {
        components.push(match &queues {
            Ok(queues) if queues[at].consumers > 0 => Component::new(name, None),
            Ok(_) => Component::new(name, Some("no process takes from its queue".to_owned())),
            Err(error) => Component::unseen(name, format!("its queue cannot be read: {error}")),
        });
    }
    // With the embedded broker there is none.
    if state.queues.is_amqp && !known.contains_key("spool") {
        components.push(Component::unseen("spool", "each ingress has its own: see its /readyz".to_owned()));
    }
    let lag = state.feed.lag().await?;
    let behind = || format!("it is {} s behind the record", lag.as_secs());
    components.push(Component::new("feed", (lag > FEED_LAG).then(behind)));
    components.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(components)
}
