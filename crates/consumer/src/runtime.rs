//! The loop of one consumer: subscribe, take a batch, give it its effect, settle it; until told to stop.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{BrokerError, Deliveries, Delivery, DeliveryTag, DynBroker, ExchangeName, Layout, PublishError};
use event::{Event, Message};
use futures_util::FutureExt;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use serde::Deserialize;
use store::{Store, StoreError, inbox};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, info_span, warn};

use crate::pause::Backoff;
use crate::settle::{Sent, Settlement};
use crate::{DEFAULT_RETRY, Failure, Handler, Recorder, RetryDelay, Subscription};

/// How a consumer takes and tries.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The most events in one transaction.
    pub batch_events: usize,
    /// How long one transaction may take, in milliseconds.
    pub batch_timeout_ms: u64,
    /// How long deliveries are held while the database is away, in milliseconds, before they go back to the queue.
    pub hold_ms: u64,
}

/// What a consumer is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has not reached its queue yet.
    Starting,
    /// It takes deliveries.
    Running,
    /// It has stopped taking, and why: it goes on by itself.
    Paused(String),
    /// It was told to stop, and has.
    Stopped,
}

/// What every consumer of a process shares.
#[derive(Clone)]
pub struct Runtime {
    /// Where deliveries come from, and retries and dead letters go.
    pub broker: DynBroker,
    /// The names of queues and exchanges.
    pub layout: Layout,
    /// Where the inbox and the effects are.
    pub store: Store,
    /// How to take and try.
    pub config: Config,
}

enum Work {
    Each(Arc<dyn Handler>),
    Whole(Arc<dyn Recorder>),
}

/// A consumer, ready to [`run`](Self::run). Any number of replicas of one may run, here or in other processes.
pub struct Consumer {
    work: Work,
    prefetch: u16,
    settlement: Settlement,
    store: Store,
    config: Config,
    status: watch::Sender<Status>,
    metrics: Metrics,
}

struct Metrics {
    handled: Counter,
    duplicate: Counter,
    retried: Counter,
    dead: Counter,
    batches: Counter,
    latency: Histogram,
    paused: Gauge,
}

impl Metrics {
    fn new(consumer: &str) -> Self {
        let consumer = consumer.to_owned();
        let events = |outcome: &'static str| counter!("consumer_events_total", "consumer" => consumer.clone(), "outcome" => outcome);
        Self {
            handled: events("handled"),
            duplicate: events("duplicate"),
            retried: events("retried"),
            dead: events("dead"),
            batches: counter!("consumer_batches_total", "consumer" => consumer.clone()),
            latency: histogram!("consumer_latency_seconds", "consumer" => consumer.clone()),
            paused: gauge!("consumer_paused", "consumer" => consumer.clone()),
        }
    }
}

/// A delivery that has been read as far as this consumer needs.
struct Taken {
    tag: DeliveryTag,
    message: Message,
    /// The event, where the work wants one and the message is one.
    event: Option<Event>,
}

/// Why a batch, or one of it, is not committed.
enum Stop {
    /// The handler, or the database about this statement, said no.
    Failed(Failure),
    /// The database is away.
    StoreAway(StoreError),
}

/// For how long a batch has been held, and how long the next look at the database waits.
struct Hold {
    since: Instant,
    backoff: Backoff,
}

/// Why the subscription ends.
enum End {
    Told,
    Lost(BrokerError),
    /// A retry or dead letter could not be published: the original goes back to its queue.
    Unsettled(PublishError),
    /// The database stayed away: what was held goes back to the queue.
    StoreAway,
}

impl From<BrokerError> for End {
    fn from(error: BrokerError) -> Self {
        Self::Lost(error)
    }
}

impl Consumer {
    /// A consumer of events.
    pub fn new(subscription: &'static Subscription, handler: Arc<dyn Handler>, runtime: Runtime) -> Self {
        let give_up = runtime.layout.dead();
        Self::with(
            subscription.consumer,
            subscription.prefetch,
            subscription.retry,
            give_up,
            Work::Each(handler),
            runtime,
        )
    }

    /// A consumer that records the messages of one of the fixed queues as they are. What it gives up is parked.
    pub fn recorder(queue: &str, prefetch: u16, recorder: Arc<dyn Recorder>, runtime: Runtime) -> Self {
        let give_up = runtime.layout.parked();
        Self::with(queue, prefetch, DEFAULT_RETRY, give_up, Work::Whole(recorder), runtime)
    }

    fn with(
        consumer: &str,
        prefetch: u16,
        retry: &'static [RetryDelay],
        give_up: ExchangeName,
        work: Work,
        Runtime { broker, layout, store, config }: Runtime,
    ) -> Self {
        let queue = layout.queue(consumer);
        let settlement = Settlement { consumer: consumer.to_owned(), queue, retry, give_up, layout, broker };
        let (status, metrics) = (watch::Sender::new(Status::Starting), Metrics::new(consumer));
        Self { work, prefetch, settlement, store, config, status, metrics }
    }

    /// The consumer's name.
    pub fn name(&self) -> &str {
        &self.settlement.consumer
    }

    /// What the consumer is doing, now and whenever it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Runs until `stop` is cancelled: then finishes the batch it holds, acks it and returns.
    pub async fn run(self, stop: CancellationToken) {
        let span = info_span!("consumer", consumer = self.name());
        async {
            let mut backoff = Backoff::new();
            while !stop.is_cancelled() {
                let started = Instant::now();
                let pause = match self.consume(&stop).await {
                    End::Told => break,
                    End::Lost(error) => format!("its queue is away: {}", chain(&error)),
                    End::Unsettled(error) => format!("a failed event cannot be put aside: {}", chain(&error)),
                    End::StoreAway => {
                        // The queue keeps what comes; asking for it again before the database is back would only
                        // count deliveries towards the queue's limit.
                        self.wait_for_store(&mut Backoff::new(), None, &stop).await;
                        backoff = Backoff::new();
                        continue;
                    }
                };
                warn!("the consumer pauses: {pause}");
                self.pause(pause);
                if started.elapsed() > Duration::from_secs(30) {
                    backoff = Backoff::new();
                }
                backoff.wait(&stop).await;
            }
            self.status.send_replace(Status::Stopped);
            debug!("the consumer has stopped");
        }
        .instrument(span)
        .await;
    }

    fn pause(&self, why: String) {
        self.metrics.paused.set(1.0);
        self.status.send_replace(Status::Paused(why));
    }

    /// Gives what the consumer was doing before.
    fn running(&self) -> Status {
        self.metrics.paused.set(0.0);
        self.status.send_replace(Status::Running)
    }

    /// One subscription, from its start to its end.
    async fn consume(&self, stop: &CancellationToken) -> End {
        let subscribe = self.settlement.broker.subscribe(&self.settlement.queue, self.prefetch);
        let subscribed = tokio::select! {
            () = stop.cancelled() => return End::Told,
            subscribed = subscribe => subscribed,
        };
        let mut deliveries = match subscribed {
            Ok(deliveries) => deliveries,
            Err(error) => return End::Lost(error),
        };
        match self.running() {
            Status::Paused(_) => info!("the consumer goes on"),
            Status::Starting | Status::Running | Status::Stopped => debug!("the consumer takes deliveries"),
        }
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return End::Told,
                first = deliveries.next() => first,
            };
            let batch = match first {
                Ok(first) => self.fill(first, deliveries.as_mut()),
                Err(error) => return End::Lost(error),
            };
            if let Err(end) = self.complete(batch, deliveries.as_mut(), stop).await {
                return end;
            }
        }
    }

    /// The first delivery and those that are there already. While one batch commits the next one gathers, so that
    /// batches grow with the load and nobody waits for company.
    fn fill(&self, first: Delivery, deliveries: &mut dyn Deliveries) -> Vec<Taken> {
        let mut batch = vec![self.take(first)];
        while batch.len() < self.config.batch_events {
            match deliveries.next().now_or_never() {
                Some(Ok(delivery)) => batch.push(self.take(delivery)),
                // An error shows again when the batch is settled.
                Some(Err(_)) | None => break,
            }
        }
        batch
    }

    fn take(&self, delivery: Delivery) -> Taken {
        let event = match &self.work {
            Work::Each(_) => Event::from_message(&delivery.message).ok(),
            Work::Whole(_) => None,
        };
        Taken { tag: delivery.tag, message: delivery.message, event }
    }

    /// Brings every delivery of the batch to an end.
    async fn complete(
        &self,
        batch: Vec<Taken>,
        deliveries: &mut dyn Deliveries,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        let batch = self.without_malformed(batch, deliveries).await?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut hold = Hold { since: Instant::now(), backoff: Backoff::new() };
        match self.attempt(&batch).await {
            Ok(()) => return self.ack(&batch, deliveries).await,
            Err(Stop::Failed(failure)) => debug!("the batch is tried one by one: {failure}"),
            Err(Stop::StoreAway(cause)) => self.hold(&mut hold, &cause, stop).await?,
        }
        for taken in &batch {
            loop {
                match self.attempt(std::slice::from_ref(taken)).await {
                    Ok(()) => break self.ack(std::slice::from_ref(taken), deliveries).await?,
                    Err(Stop::Failed(failure)) => break self.fail(taken, &failure, deliveries).await?,
                    Err(Stop::StoreAway(cause)) => self.hold(&mut hold, &cause, stop).await?,
                }
            }
        }
        Ok(())
    }

    /// Puts aside what is not an event at all.
    async fn without_malformed(
        &self,
        batch: Vec<Taken>,
        deliveries: &mut dyn Deliveries,
    ) -> Result<Vec<Taken>, End> {
        if matches!(self.work, Work::Whole(_)) {
            return Ok(batch);
        }
        let (events, malformed): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|taken| taken.event.is_some());
        for taken in malformed {
            if let Err(malformed) = Event::from_message(&taken.message) {
                let failure =
                    Failure::Permanent(format!("the message is not an event of malote's: {malformed}"));
                self.fail(&taken, &failure, deliveries).await?;
            }
        }
        Ok(events)
    }

    /// One transaction for these deliveries: all of them have their effect, or none has.
    async fn attempt(&self, batch: &[Taken]) -> Result<(), Stop> {
        let limit = Duration::from_millis(self.config.batch_timeout_ms);
        let tried = timeout(limit, AssertUnwindSafe(self.transact(batch)).catch_unwind()).await;
        let failure = match tried {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(panic)) => {
                Failure::Permanent(format!("the handler panicked: {}", panic_text(panic.as_ref())))
            }
            Err(_) => match self.store.check().await {
                Ok(_) => Failure::Transient(format!("not done within {limit:?}")),
                Err(away) => Failure::Store(away),
            },
        };
        match failure {
            Failure::Store(away @ StoreError::Unavailable(_)) => Err(Stop::StoreAway(away)),
            failure => Err(Stop::Failed(failure)),
        }
    }

    async fn transact(&self, batch: &[Taken]) -> Result<(), Failure> {
        let mut tx = self.store.begin().await?;
        let handled = match &self.work {
            Work::Whole(recorder) => {
                let messages: Vec<Message> = batch.iter().map(|taken| taken.message.clone()).collect();
                recorder.record(&messages, &mut tx).await?;
                batch.len()
            }
            Work::Each(handler) => {
                let events = || batch.iter().filter_map(|taken| taken.event.as_ref());
                let ids: Vec<_> = events().map(|event| event.id).collect();
                let mut new = inbox::claim(&mut tx, self.name(), &ids, event::now()).await?;
                let count = new.len();
                for event in events() {
                    // Removing it keeps a message that is in the batch twice from being handled twice.
                    if new.remove(&event.id) {
                        handler.handle(event, &mut tx).instrument(span(event)).await?;
                    }
                }
                count
            }
        };
        tx.commit().await.map_err(StoreError::from)?;
        self.metrics.batches.increment(1);
        self.metrics.handled.increment(handled as u64);
        self.metrics.duplicate.increment((batch.len() - handled) as u64);
        let now = event::now();
        for event in batch.iter().filter_map(|taken| taken.event.as_ref()) {
            self.metrics.latency.record(now.duration_since(event.time).as_secs_f64());
        }
        Ok(())
    }

    async fn ack(&self, batch: &[Taken], deliveries: &mut dyn Deliveries) -> Result<(), End> {
        let tags: Vec<DeliveryTag> = batch.iter().map(|taken| taken.tag).collect();
        Ok(deliveries.ack(&tags).await?)
    }

    /// Publishes the failed message to its next place, then acks the original.
    async fn fail(
        &self,
        taken: &Taken,
        failure: &Failure,
        deliveries: &mut dyn Deliveries,
    ) -> Result<(), End> {
        let text = chain(failure);
        let permanent = matches!(failure, Failure::Permanent(_) | Failure::Store(StoreError::Unfit(_)));
        let sent =
            self.settlement.fail(taken.message.clone(), &text, permanent).await.map_err(End::Unsettled)?;
        let (event_id, topic) = (&taken.message.message_id, &taken.message.r#type);
        match sent {
            Sent::Retry(delay) => {
                self.metrics.retried.increment(1);
                warn!(%event_id, topic, "tried again in {delay}: {text}");
            }
            Sent::Dead => {
                self.metrics.dead.increment(1);
                error!(%event_id, topic, "now a dead letter: {text}");
            }
        }
        Ok(deliveries.ack(&[taken.tag]).await?)
    }

    /// Keeps the batch while the database is away, for a while.
    async fn hold(&self, hold: &mut Hold, cause: &StoreError, stop: &CancellationToken) -> Result<(), End> {
        warn!("the consumer pauses: {}", chain(cause));
        self.pause(chain(cause));
        let end = hold.since + Duration::from_millis(self.config.hold_ms);
        if !self.wait_for_store(&mut hold.backoff, Some(end), stop).await {
            return Err(if stop.is_cancelled() { End::Told } else { End::StoreAway });
        }
        self.running();
        info!("the database is back");
        Ok(())
    }

    /// Waits until the database answers; false when told to stop or the time is over.
    async fn wait_for_store(
        &self,
        backoff: &mut Backoff,
        end: Option<Instant>,
        stop: &CancellationToken,
    ) -> bool {
        while end.is_none_or(|end| Instant::now() < end) && backoff.wait(stop).await {
            if self.store.check().await.is_ok() {
                return true;
            }
        }
        false
    }
}

fn span(event: &Event) -> tracing::Span {
    info_span!(
        "handle",
        event_id = %event.id,
        source = %event.source,
        topic = %event.topic,
        traceparent = event.traceparent.as_deref(),
    )
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text")
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
