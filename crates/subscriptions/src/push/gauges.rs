//! The metrics of subscriptions: what a worker counts, and what is measured in the store.

use std::collections::BTreeMap;
use std::time::Duration;

use event::{Chain, EventId, SubscriptionName, Timestamp};
use ledger::feed;
use metrics::{Counter, Gauge};
use store::many::fetch;
use store::{Row, Store, StoreError, id};
use tokio::time::sleep;
use tracing::debug;

use super::request::Verdict;
use crate::{DoorKind, State, Subscription, table};

/// How often the store is measured.
const PERIOD: Duration = Duration::from_secs(15);

/// How many events after its position are looked at for the first that a subscription waits for.
const MOST_LOOKED_AT: u32 = 10_000;

pub(super) struct Gauges {
    delivered: Counter,
    failed: Counter,
    held: Counter,
    undelivered: Counter,
    lag: Gauge,
}

impl Gauges {
    pub(super) fn new(name: &SubscriptionName) -> Self {
        let attempts = |outcome: &'static str| metrics::counter!("push_attempts_total", "subscription" => name.to_string(), "outcome" => outcome);
        Self {
            delivered: attempts("delivered"),
            failed: attempts("failed"),
            held: attempts("held"),
            undelivered: metrics::counter!("push_undelivered_total", "subscription" => name.to_string()),
            lag: lag(name),
        }
    }

    /// So many events were in a request with this answer.
    pub(super) fn answered(&self, verdict: Verdict, events: usize) {
        let counter = match verdict {
            Verdict::Delivered => &self.delivered,
            Verdict::Failed | Verdict::Gone => &self.failed,
            Verdict::Asked(_) => &self.held,
        };
        counter.increment(events as u64);
    }

    /// The attempts of an event are used up.
    pub(super) fn undelivered(&self) {
        self.undelivered.increment(1);
    }

    /// The first event that waits was received then.
    pub(super) fn waiting_since(&self, first: Option<Timestamp>) {
        self.lag.set(age_s(first, event::now()));
    }
}

impl Drop for Gauges {
    /// The worker that delivers next measures it.
    fn drop(&mut self) {
        self.lag.set(0.0);
    }
}

fn lag(name: &SubscriptionName) -> Gauge {
    metrics::gauge!("subscription_lag_seconds", "subscription" => name.to_string())
}

fn age_s(since: Option<Timestamp>, now: Timestamp) -> f64 {
    since.map_or(0.0, |since| now.duration_since(since).as_secs_f64().max(0.0))
}

/// What the store has of one subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Measured {
    /// Events whose attempts are used up.
    pub(super) undelivered: i64,
    /// Events that wait for another attempt.
    pub(super) waiting: i64,
    /// How long the first event waits, if no worker measures that: for its reader, or while it is paused.
    pub(super) lag_s: Option<f64>,
}

/// Measures the store again and again. Every replica does, with the same result.
pub(super) async fn measure_again(store: &Store) {
    let mut shown = BTreeMap::new();
    loop {
        match measure(store, event::now()).await {
            Ok(measured) => {
                // Those of subscriptions that are gone, or that a worker measures now, end at 0.
                let gone = shown.iter().filter(|(name, _)| !measured.contains_key(*name));
                gone.for_each(|(name, before)| show(name, before, Measured::default()));
                for (name, now) in &measured {
                    show(name, &shown.get(name).copied().unwrap_or_default(), *now);
                }
                shown = measured;
            }
            Err(error) => debug!(error = %Chain(&error), "subscriptions were not measured"),
        }
        sleep(PERIOD).await;
    }
}

fn show(name: &SubscriptionName, before: &Measured, now: Measured) {
    let labels = [("subscription", name.to_string())];
    metrics::gauge!("subscription_undelivered_events", &labels).set(now.undelivered as f64);
    metrics::gauge!("subscription_waiting_events", &labels).set(now.waiting as f64);
    match (before.lag_s, now.lag_s) {
        (_, Some(seconds)) => lag(name).set(seconds),
        // A worker that has begun since then sets it within a second.
        (Some(_), None) => lag(name).set(0.0),
        (None, None) => {}
    }
}

/// Measures push and pull subscriptions.
pub(super) async fn measure(
    store: &Store,
    now: Timestamp,
) -> Result<BTreeMap<SubscriptionName, Measured>, StoreError> {
    let subscriptions = table::list(store).await?;
    let mut connection = store.read().await?;
    // An index has all of it.
    let text = "SELECT subscription, count(*) - count(due_at), count(due_at), \
                min(CASE WHEN due_at IS NULL THEN NULL ELSE received_at END) FROM deliveries GROUP BY subscription";
    let mut rows = BTreeMap::new();
    for row in fetch(&mut connection, text.to_owned(), []).await? {
        let first: Option<i64> = row.try_get(3)?;
        let first = first.and_then(|at| Timestamp::from_microsecond(at).ok());
        let counts: (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
        rows.insert(id(&row, 0)?, (counts, first));
    }
    let mut measured = BTreeMap::new();
    for subscription in subscriptions {
        let Subscription { id, declaration, state, cursor, .. } = subscription;
        let door = declaration.door().map(|door| door.kind());
        let ((undelivered, waiting), first): ((i64, i64), _) =
            rows.remove::<EventId>(&id).unwrap_or_default();
        let lag_s = match (door, declaration.topics()) {
            (Ok(DoorKind::Push), _) if state != State::Paused => None,
            (Ok(DoorKind::Push | DoorKind::Pull), Ok(topics)) => {
                let ahead = feed::first_ahead(&mut connection, &topics, cursor, MOST_LOOKED_AT).await?;
                Some(age_s(first.into_iter().chain(ahead).min(), now))
            }
            _ => continue,
        };
        measured.insert(declaration.name, Measured { undelivered, waiting, lag_s });
    }
    Ok(measured)
}
