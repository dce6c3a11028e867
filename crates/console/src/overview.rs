//! What has come of late, in numbers, and what runs.

use std::collections::HashMap;
use std::sync::{self, Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{self, RawQuery};
use event::Timestamp;
use ledger::{OverviewFilter, Period, SourceOverview};
use serde::{Deserialize, Serialize};
use store::Page;
use subscriptions::{State, SubscriptionFilter, SubscriptionRow};
use tokio::sync::Mutex;
use utoipa::ToSchema;
use view::Row;

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
pub struct Overview {
    /// What has come.
    #[serde(flatten)]
    pub numbers: ledger::Overview,
    /// What runs, by name.
    pub components: Vec<Component>,
    /// What needs somebody.
    #[serde(default)]
    pub breaches: Vec<Breach>,
}

/// Something that needs somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Breach {
    /// What is wrong.
    pub kind: BreachKind,
    /// The name of the component, the subscription or the source.
    pub name: String,
    /// Of a source, the kind of sender.
    pub provider: Option<String>,
    /// Of dead and unrouted events, how many there are.
    pub count: Option<i64>,
    /// Whether there are more than that.
    pub at_least: bool,
    /// Since when; of a silent source, when its last event came.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Of a silent source, its longest pause in the 7 days before, rounded up to hours.
    pub longest_pause_hours: Option<i64>,
    /// Why, as far as that is known.
    pub reason: Option<String>,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BreachKind {
    /// A component is in trouble.
    #[default]
    Component,
    /// The requests of a subscription fail.
    Subscription,
    /// A configured source is silent for longer than usual.
    Silent,
    /// Consumers have given up events of a source.
    Dead,
    /// Nothing takes events of a source.
    Unrouted,
}

impl Breach {
    fn new(kind: BreachKind, name: &str) -> Self {
        Self { kind, name: name.to_owned(), ..Self::default() }
    }
}

fn component_breach(component: &Component) -> Option<Breach> {
    let reason = component.trouble.clone().filter(|_| component.state == ComponentState::Trouble)?;
    Some(Breach { reason: Some(reason), ..Breach::new(BreachKind::Component, &component.name) })
}

fn subscription_breach(SubscriptionRow { name, failing_since, reason, .. }: SubscriptionRow) -> Breach {
    Breach { since: failing_since, reason, ..Breach::new(BreachKind::Subscription, &name) }
}

fn source_breaches(source: &SourceOverview) -> Vec<Breach> {
    let new = |kind| Breach { provider: Some(source.provider.clone()), ..Breach::new(kind, &source.source) };
    let silent = source.is_silent.then(|| Breach {
        since: source.last_received_at,
        longest_pause_hours: source.longest_pause_hours,
        ..new(BreachKind::Silent)
    });
    let counts = [(BreachKind::Dead, source.dead), (BreachKind::Unrouted, source.unrouted)];
    let counted = counts.into_iter().filter(|(_, count)| *count > 0).map(|(kind, count)| Breach {
        count: Some(count),
        at_least: source.at_least,
        ..new(kind)
    });
    silent.into_iter().chain(counted).collect()
}

/// A part of the installation.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Component {
    /// Its name; a consumer is `consumer.<name>`.
    pub name: String,
    /// Whether it works.
    pub state: ComponentState,
    /// What is wrong, or why it is not known.
    pub trouble: Option<String>,
}

/// Whether a component works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComponentState {
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

/// What has come of late, what runs, and what needs somebody: of each source how much came, its outcome, and whether the source is
/// silent; over time how much and how fast. The numbers of an hour may be two seconds old, those of a day two minutes, of a week ten.
#[utoipa::path(get, path = "/api/v1/overview", tag = "operations", operation_id = "overview", params(OverviewFilter),
    responses((status = 200, description = "The numbers", body = Overview)))]
pub(crate) async fn show(
    extract::State(state): extract::State<ConsoleState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Overview>, Refusal> {
    let filter = page::filter::<OverviewFilter>(&query.unwrap_or_default())?;
    let mut numbers = state.overviews.read(&state, filter).await?;
    // Only what is configured is expected to send.
    for source in &mut numbers.sources {
        source.is_silent &= state.sources.iter().any(|known| known.source == source.source);
    }
    let components = components(&state).await?;
    let failing = SubscriptionFilter { state: Some(State::Failing), ..SubscriptionFilter::default() };
    let failing =
        SubscriptionRow::page(&mut *state.store.read().await?, &failing, &Page::first(Page::LIMIT)).await?;
    let breaches = components.iter().filter_map(component_breach);
    let breaches = breaches.chain(numbers.sources.iter().flat_map(source_breaches));
    let breaches = breaches.chain(failing.items.into_iter().map(subscription_breach)).collect();
    Ok(Json(Overview { numbers, components, breaches }))
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
