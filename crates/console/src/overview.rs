//! What has come of late, in numbers, and what runs.

use std::collections::HashMap;
use std::sync::{self, Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{RawQuery, State};
use ledger::{OverviewFilter, Period};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::ConsoleState;
use crate::page;
use crate::refusal::Refusal;

/// How far the feed may be behind the record.
const FEED_LAG: Duration = Duration::from_secs(60);

/// The numbers of each period, which cost too much to be read for everybody who looks. Clones share them.
#[derive(Clone, Default)]
pub struct Overviews(Arc<Known>);

#[derive(Default)]
struct Known {
    numbers: sync::Mutex<HashMap<Period, (Instant, ledger::Overview)>>,
    /// Held by who reads those of a period.
    reading: [Mutex<()>; 3],
}

/// For how long the numbers of a period are valid.
fn validity(period: Period) -> Duration {
    Duration::from_secs(match period {
        Period::Hour => 1,
        Period::Day => 60,
        Period::Week => 300,
    })
}

impl Overviews {
    /// The numbers as they were read last while they are valid, and for as long again while they are read again; else who looks
    /// waits for them.
    async fn read(&self, state: &ConsoleState, filter: OverviewFilter) -> Result<ledger::Overview, Refusal> {
        let valid = validity(filter.period);
        match self.last(filter.period) {
            Some((age, numbers)) if age < valid => return Ok(numbers),
            Some((age, numbers)) if age < valid * 2 => {
                let (shared, state) = (self.clone(), state.clone());
                tokio::spawn(async move {
                    let Ok(_reading) = shared.0.reading[filter.period as usize].try_lock() else { return };
                    if let Err(error) = shared.renew(&state, filter).await {
                        tracing::debug!("the numbers of the overview are not read: {error}");
                    }
                });
                return Ok(numbers);
            }
            _ => {}
        }
        let _reading = self.0.reading[filter.period as usize].lock().await;
        match self.last(filter.period) {
            // Somebody else has just read them.
            Some((age, numbers)) if age < valid => Ok(numbers),
            _ => self.renew(state, filter).await,
        }
    }

    async fn renew(&self, state: &ConsoleState, filter: OverviewFilter) -> Result<ledger::Overview, Refusal> {
        let numbers = ledger::overview(&mut *state.store.read().await?, filter, event::now()).await?;
        let mut known = self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(filter.period, (Instant::now(), numbers.clone()));
        Ok(numbers)
    }

    /// The numbers that are known, and how old they are.
    fn last(&self, period: Period) -> Option<(Duration, ledger::Overview)> {
        let known = self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&period).map(|(since, numbers)| (since.elapsed(), numbers.clone()))
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
/// time how much and how fast. The numbers of an hour may be two seconds old, those of a day two minutes, of a week ten.
#[utoipa::path(get, path = "/api/v1/overview", tag = "operations", operation_id = "overview", params(OverviewFilter),
    responses((status = 200, description = "The numbers", body = Overview)))]
pub(crate) async fn show(
    State(state): State<ConsoleState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Overview>, Refusal> {
    let filter = page::filter::<OverviewFilter>(&query.unwrap_or_default())?;
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
