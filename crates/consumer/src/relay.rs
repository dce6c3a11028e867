//! The relay: publishes the events of the outbox, and deletes each once the broker has confirmed it.
//!
//! Promises that every event in the outbox is published at least once, always under the same id, and those of one subject in
//! their order. One relay at a time works, by a lease; another takes over when it ends. While broker or store are down the
//! events wait in the outbox.

use std::collections::BTreeSet;
use std::time::Duration;

use broker::{Backoff, DynBroker, Layout, PublishError};
use event::{Chain, Event, EventId};
use futures_util::future::join_all;
use metrics::{counter, gauge};
use store::many::rounds;
use store::{Dialect, Store, StoreError, lease, outbox};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::runtime::LONGEST_PAUSE;

/// The most events published at once. On SQLite their deletion waits for the transactions of all consumers.
const BATCH: usize = 2_048;

/// How soon one batch follows another, unless it is full: under load a deletion is worth its cost.
const GATHER: Duration = Duration::from_millis(20);

/// How often the outbox is looked at for what other processes have written. The events of this one wake the relay.
const POLL: Duration = Duration::from_millis(200);

/// The name of the lease.
const RELAY: &str = "relay";

/// How long the lease lasts, and how often its holder extends it and others ask for it.
const LEASE: Duration = Duration::from_secs(10);
const LEASE_PERIOD: Duration = Duration::from_secs(2);

/// How often the outbox is measured, at most.
const MEASURE_PERIOD: Duration = Duration::from_secs(5);

/// The most of the time that goes into measuring, as a divisor. The database counts by passing every row, and each process asks it.
const MEASURE_SHARE: u32 = 100;

/// Publishes what consumers have written to the outbox. Any number of replicas may run.
pub struct Relay {
    /// Where the events go.
    pub broker: DynBroker,
    /// The names of the exchanges.
    pub layout: Layout,
    /// Where the outbox is.
    pub store: Store,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the broker does not take them")]
    Broker(#[from] PublishError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a relay keeps from step to step.
struct Progress {
    /// Its name in the lease.
    holder: String,
    /// When it extends the lease; `None` while it has none.
    extends_at: Option<Instant>,
    /// Events that are confirmed and not deleted yet.
    confirmed: BTreeSet<i64>,
}

impl Relay {
    /// Works until `stop` is cancelled; the batch under way is finished.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(self.publish_until(&stop), measure_until(&self.store, &stop));
    }

    async fn publish_until(&self, stop: &CancellationToken) {
        let holder = EventId::generate().to_string();
        let mut progress = Progress { holder, extends_at: None, confirmed: BTreeSet::new() };
        let (mut backoff, mut is_waiting) = (Backoff::up_to(LONGEST_PAUSE), false);
        while !stop.is_cancelled() {
            let begun = Instant::now();
            let pause = match self.step(&mut progress).await {
                Ok(step) => {
                    if std::mem::take(&mut is_waiting) {
                        info!("domain events are published again");
                    }
                    backoff = Backoff::up_to(LONGEST_PAUSE);
                    match step {
                        None => LEASE_PERIOD,
                        Some(BATCH..) => continue,
                        Some(0) => {
                            let filled = self.store.outbox_filled().notified();
                            let poll = if self.has_peers() { POLL } else { LEASE_PERIOD };
                            stop.run_until_cancelled(timeout(poll, filled)).await;
                            continue;
                        }
                        Some(_) => GATHER.saturating_sub(begun.elapsed()),
                    }
                }
                Err(trouble) => {
                    if !std::mem::replace(&mut is_waiting, true) {
                        warn!("domain events wait in the outbox: {}", Chain(&trouble));
                    }
                    backoff.next_pause()
                }
            };
            stop.run_until_cancelled(sleep(pause)).await;
        }
        if self.has_peers() && progress.extends_at.is_some() {
            // For the next relay, which otherwise waits for the end of the lease.
            let _ = self.release(&progress.holder).await;
        }
    }

    /// A SQLite store serves one process.
    fn has_peers(&self) -> bool {
        self.store.dialect() != Dialect::Sqlite
    }

    /// Takes or extends the lease; false while another relay has it.
    async fn lease(&self, holder: &str) -> Result<bool, StoreError> {
        let now = lease::clock(&self.store).await?;
        if !lease::is_free(&mut *self.store.read().await?, RELAY, holder, now).await? {
            return Ok(false);
        }
        let mut tx = self.store.begin().await?;
        let is_mine = lease::take(&mut tx, RELAY, holder, now, now + LEASE).await?;
        tx.commit().await?;
        Ok(is_mine)
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        lease::release(&mut tx, RELAY, holder).await?;
        Ok(tx.commit().await?)
    }

    /// Publishes one batch and returns its size; `None` while another relay has the lease.
    async fn step(&self, progress: &mut Progress) -> Result<Option<usize>, Trouble> {
        let now = Instant::now();
        if self.has_peers() && progress.extends_at.is_none_or(|at| at <= now) {
            progress.extends_at = self.lease(&progress.holder).await?.then_some(now + LEASE_PERIOD);
            if progress.extends_at.is_none() {
                return Ok(None);
            }
        }
        let events = outbox::oldest(&mut *self.store.read().await?, BATCH).await?;
        let size = events.len();
        let trouble = self.publish(events, &mut progress.confirmed).await.err();
        if !progress.confirmed.is_empty() {
            // Confirmed events are deleted even if others were refused.
            let numbers: Vec<i64> = progress.confirmed.iter().copied().collect();
            let mut tx = self.store.begin().await?;
            outbox::remove(&mut tx, &numbers).await?;
            tx.commit().await.map_err(StoreError::from)?;
            progress.confirmed.clear();
        }
        match trouble {
            Some(error) => Err(error.into()),
            None => Ok(Some(size)),
        }
    }

    /// Publishes events until the broker refuses one: those of one subject one after another, others at once.
    async fn publish(
        &self,
        events: Vec<(i64, Event)>,
        confirmed: &mut BTreeSet<i64>,
    ) -> Result<(), PublishError> {
        let fresh = events.into_iter().filter(|(number, _)| !confirmed.contains(number));
        let keyed: Vec<_> = fresh
            .map(|(number, event)| {
                let about = event.subject.as_ref().map_or_else(|| event.id.to_string(), ToString::to_string);
                ((event.source.to_text(), about), (number, event))
            })
            .collect();
        let count = counter!("outbox_published_total");
        for round in rounds(keyed) {
            let publish =
                |(number, event): (i64, Event)| async move { (number, self.publish_one(event).await) };
            let mut refused = None;
            for (number, published) in join_all(round.into_iter().map(publish)).await {
                match published {
                    Ok(()) => {
                        count.increment(1);
                        confirmed.insert(number);
                    }
                    Err(error) => refused = Some(error),
                }
            }
            if let Some(error) = refused {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn publish_one(&self, event: Event) -> Result<(), PublishError> {
        let exchange = self.layout.received(&event.source.provider);
        let topic = event.topic.clone();
        self.broker.publish(&exchange, topic.as_str(), event.into_message()).await
    }
}

/// Sets the gauges of the outbox again and again; while the store is down they keep their values.
async fn measure_until(store: &Store, stop: &CancellationToken) {
    let (events, age) = (gauge!("outbox_waiting_events"), gauge!("outbox_oldest_seconds"));
    let measure = async || outbox::waiting(&mut *store.read().await?).await;
    while !stop.is_cancelled() {
        let begun = Instant::now();
        if let Ok(waiting) = measure().await {
            events.set(waiting.events as f64);
            age.set(waiting.since.map_or(0.0, |since| event::now().duration_since(since).as_secs_f64()));
        }
        let pause = MEASURE_PERIOD.max(begun.elapsed() * MEASURE_SHARE);
        stop.run_until_cancelled(sleep(pause)).await;
    }
}
