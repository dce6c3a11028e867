//! The loop of one consumer: subscribe, take a batch, give it its effect, settle it; until told to stop.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use broker::{BrokerError, Deliveries, Delivery, DeliveryTag, DynBroker, ExchangeName, Layout};
use event::{Chain, Event, EventId, Message};
use futures_util::FutureExt;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use serde::Deserialize;
use store::{Store, StoreError, Tx, inbox, seen};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug, debug_span, error, info, info_span, warn};

use crate::pause::Backoff;
use crate::settle::{History, Sent, Settlement};
use crate::{DEFAULT_RETRY, Failure, Handler, Policy, PolicyChange, Recorder, Subscription};

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
    /// How single consumers try again, by name; what is missing is as the consumer declares it.
    #[serde(default)]
    pub policies: BTreeMap<String, PolicyChange>,
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
    sender_duplicate: Counter,
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
            sender_duplicate: events("sender_duplicate"),
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

impl From<Delivery> for Taken {
    fn from(delivery: Delivery) -> Self {
        Self { tag: delivery.tag, message: delivery.message, event: None }
    }
}

/// Why a batch, or one of it, is not committed.
enum Stop {
    /// The handler, or the database about this statement, said no.
    Failed(Failure),
    /// Another transaction is in the way.
    Conflict(String),
    /// The database is away, takes no writes, or does not answer in time.
    StoreAway(String),
}

/// Why one delivery by itself is not committed, though the database takes writes.
enum Blocked {
    Failed(Failure),
    Conflict(String),
}

/// How long a batch may be held, from its first outage on, and how long the next look at the database waits.
struct Hold {
    until: Option<Instant>,
    backoff: Backoff,
}

/// How long an event that another transaction is in the way of is tried again before that counts as an attempt. The
/// others wait meanwhile, so it is short.
const CONFLICT_PATIENCE: Duration = Duration::from_secs(5);

/// How soon one batch follows another, unless it is full.
const GATHER: Duration = Duration::from_millis(20);

/// How long nothing may come before the consumer asks whether anything is there.
const IDLE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 15_000 });

/// How often an event may meet an outage that is over at the next look, before that counts as an attempt.
const OUTAGES: usize = 3;

/// Deliveries that failed and are not put aside yet.
struct Failed {
    events: VecDeque<(Taken, Failure)>,
    /// When the broker is asked again.
    again_at: Instant,
    backoff: Backoff,
}

impl Default for Failed {
    fn default() -> Self {
        Self { events: VecDeque::new(), again_at: Instant::now(), backoff: Backoff::new() }
    }
}

/// Why the subscription ends.
enum End {
    Told,
    Lost(BrokerError),
    /// The database stayed away: what was held goes back to the queue.
    StoreAway,
    /// The broker hands out nothing of what is there, as after a leader that was lost in the wrong moment.
    Forgotten,
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
            Policy::of(subscription, &runtime.config),
            give_up,
            Work::Each(handler),
            runtime,
        )
    }

    /// A consumer that records the messages of one of the fixed queues as they are. What it gives up is parked.
    pub fn recorder(queue: &str, prefetch: u16, recorder: Arc<dyn Recorder>, runtime: Runtime) -> Self {
        let give_up = runtime.layout.parked();
        Self::with(queue, prefetch, Policy::declared(DEFAULT_RETRY), give_up, Work::Whole(recorder), runtime)
    }

    fn with(
        consumer: &str,
        prefetch: u16,
        policy: Policy,
        give_up: ExchangeName,
        work: Work,
        Runtime { broker, layout, store, config }: Runtime,
    ) -> Self {
        let queue = layout.queue(consumer);
        let history = match &work {
            Work::Each(_) => History::OF_EVENTS,
            Work::Whole(_) => History::OF_RECORDS,
        };
        let consumer_name = consumer.to_owned();
        let settlement =
            Settlement { consumer: consumer_name, queue, policy, history, give_up, layout, broker };
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

    /// Runs until `stop` is cancelled: then finishes the batch it holds, acks it and returns. What the database or the
    /// broker keeps it from finishing goes back to the queue.
    pub async fn run(self, stop: CancellationToken) {
        let span = info_span!("consumer", consumer = self.name());
        async {
            let mut backoff = Backoff::new();
            while !stop.is_cancelled() {
                let started = Instant::now();
                let pause = match self.consume(&stop).await {
                    End::Told => break,
                    End::Forgotten => "its queue has messages and hands out none".to_owned(),
                    End::Lost(error) => format!("its queue is away: {}", one_line(&error)),
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
        let mut failed = Failed::default();
        let mut begun = Instant::now() - GATHER;
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return End::Told,
                first = deliveries.next() => Some(first),
                () = sleep_until(failed.again_at), if !failed.events.is_empty() => None,
                () = sleep(IDLE), if failed.events.is_empty() => match self.is_forgotten().await {
                    true => return End::Forgotten,
                    false => None,
                },
            };
            let done = match first {
                Some(Ok(first)) => {
                    let batch = self.fill(first, begun + GATHER, deliveries.as_mut()).await;
                    begun = Instant::now();
                    self.complete(batch, &mut failed, deliveries.as_mut(), stop).await
                }
                Some(Err(error)) => return End::Lost(error),
                None => Ok(()),
            };
            let done = match done {
                Ok(()) => self.put_aside(&mut failed, deliveries.as_mut()).await,
                Err(end) => Err(end),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Whether the queue has messages and hands out none: seen twice, so that one that has just come is none of them.
    async fn is_forgotten(&self) -> bool {
        let queue = std::slice::from_ref(&self.settlement.queue);
        for pause in [Duration::from_secs(1), Duration::ZERO] {
            // A broker that does not answer ends the subscription in its own way.
            match self.settlement.broker.queues(queue).await.as_deref() {
                Ok([status]) if status.ready > 0 => sleep(pause).await,
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }

    /// The first delivery and those that come until then, or are there already: after a pause nobody waits for company,
    /// and under load a transaction is worth its cost.
    async fn fill(&self, first: Delivery, until: Instant, deliveries: &mut dyn Deliveries) -> Vec<Taken> {
        let mut batch = vec![Taken::from(first)];
        while batch.len() < self.config.batch_events {
            let next = match deliveries.next().now_or_never() {
                None => timeout_at(until, deliveries.next()).await.ok(),
                next => next,
            };
            match next {
                Some(Ok(delivery)) => batch.push(Taken::from(delivery)),
                // The batch is still tried: its messages may be nowhere else, as after a deletion of the queue. The end of
                // the subscription shows again when the batch is settled.
                Some(Err(_)) | None => break,
            }
        }
        batch
    }

    /// Gives every delivery of the batch its effect, and adds those that failed to `failed`: they are put aside after the
    /// others, so that a broker which takes no retries holds up no healthy event.
    async fn complete(
        &self,
        batch: Vec<Taken>,
        failed: &mut Failed,
        deliveries: &mut dyn Deliveries,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        let (batch, malformed) = self.read(batch);
        failed.events.extend(malformed);
        let mut hold = Hold { until: None, backoff: Backoff::new() };
        let mut alone = Vec::new();
        // What does not go through whole is tried by halves: the few that fail keep few others waiting.
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            if part.len() == 1 {
                alone.append(&mut part);
                continue;
            }
            match self.attempt(&part).await {
                Ok(()) => {
                    self.ack(&part, deliveries).await?;
                    continue;
                }
                Err(Stop::StoreAway(why)) => self.hold(&mut hold, &why, stop).await?,
                Err(Stop::Failed(_) | Stop::Conflict(_)) => {}
            }
            parts.push(part.split_off(part.len() / 2));
            parts.push(part);
        }
        // What another transaction is in the way of stands back behind the others and is tried again, for a while.
        let mut backoff = Backoff::new();
        let until = Instant::now() + CONFLICT_PATIENCE;
        while !alone.is_empty() {
            let mut blocked = Vec::new();
            for taken in alone {
                match self.attempt_alone(&taken, &mut hold, stop).await? {
                    Ok(()) => self.ack(std::slice::from_ref(&taken), deliveries).await?,
                    Err(Blocked::Failed(failure)) => failed.events.push_back((taken, failure)),
                    Err(Blocked::Conflict(why)) if Instant::now() >= until => {
                        failed.events.push_back((taken, Failure::Transient(why)));
                    }
                    Err(Blocked::Conflict(_)) => blocked.push(taken),
                }
                if stop.is_cancelled() && !blocked.is_empty() {
                    break;
                }
            }
            alone = if blocked.is_empty() || !backoff.wait(stop).await { Vec::new() } else { blocked };
        }
        Ok(())
    }

    /// Tries one delivery by itself, and waits for a database that is away. An event that takes the database away
    /// every time, though it takes writes in between, has failed.
    async fn attempt_alone(
        &self,
        taken: &Taken,
        hold: &mut Hold,
        stop: &CancellationToken,
    ) -> Result<Result<(), Blocked>, End> {
        let mut last = String::new();
        for _ in 0..OUTAGES {
            match self.attempt(std::slice::from_ref(taken)).await {
                Ok(()) => return Ok(Ok(())),
                Err(Stop::Failed(failure)) => return Ok(Err(Blocked::Failed(failure))),
                Err(Stop::Conflict(why)) => return Ok(Err(Blocked::Conflict(why))),
                Err(Stop::StoreAway(why)) => {
                    self.hold(hold, &why, stop).await?;
                    last = why;
                }
            }
        }
        Ok(Err(Blocked::Failed(Failure::Transient(last))))
    }

    /// Reads the events, where the work wants events, and puts aside what is none.
    fn read(&self, batch: Vec<Taken>) -> (Vec<Taken>, Vec<(Taken, Failure)>) {
        if matches!(self.work, Work::Whole(_)) {
            return (batch, Vec::new());
        }
        let mut events = Vec::with_capacity(batch.len());
        let mut malformed = Vec::new();
        for taken in batch {
            match Event::from_message(&taken.message) {
                Ok(event) => events.push(Taken { event: Some(event), ..taken }),
                Err(error) => {
                    let failure =
                        Failure::Permanent(format!("the message is not an event of malote's: {error}"));
                    malformed.push((taken, failure));
                }
            }
        }
        (events, malformed)
    }

    /// One transaction for these deliveries: all of them have their effect, or none has.
    async fn attempt(&self, batch: &[Taken]) -> Result<(), Stop> {
        if batch.is_empty() {
            return Ok(());
        }
        let limit = Duration::from_millis(self.config.batch_timeout_ms);
        let tried = timeout(limit, AssertUnwindSafe(self.transact(batch)).catch_unwind()).await;
        let failure = match tried {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(panic)) => {
                Failure::Permanent(format!("the handler panicked: {}", panic_text(panic.as_ref())))
            }
            // Handlers do nothing but ask the database: it is away, or something in it is in the way.
            Err(_) => {
                return Err(match self.store.check_writable().await {
                    Ok(()) => Stop::Conflict(format!("not done within {limit:?}")),
                    Err(away) => Stop::StoreAway(one_line(&away)),
                });
            }
        };
        Err(match failure {
            Failure::Store(away @ StoreError::Unavailable(_)) => Stop::StoreAway(one_line(&away)),
            Failure::Store(conflict @ StoreError::Conflict(_)) => Stop::Conflict(one_line(&conflict)),
            failure => Stop::Failed(failure),
        })
    }

    async fn transact(&self, batch: &[Taken]) -> Result<(), Failure> {
        let mut tx = self.store.begin().await?;
        let mut of_sender = 0;
        let handled = match &self.work {
            Work::Whole(recorder) => {
                let messages: Vec<&Message> = batch.iter().map(|taken| &taken.message).collect();
                recorder.record(&messages, &mut tx).await?;
                batch.len()
            }
            Work::Each(handler) => {
                let duplicates = self.sender_duplicates(batch, &mut tx).await?;
                of_sender = duplicates.len();
                let events = || {
                    let events = batch.iter().filter_map(|taken| taken.event.as_ref());
                    events.filter(|event| !duplicates.contains_key(&event.id))
                };
                let ids: Vec<_> = events().map(|event| event.id).collect();
                let mut new = inbox::claim(&mut tx, self.name(), &ids, event::now()).await?;
                // Removing it keeps a message that is in the batch twice from being handled twice.
                let events: Vec<&Event> = events().filter(|event| new.remove(&event.id)).collect();
                if !events.is_empty() {
                    let _spans: Vec<Span> = events.iter().map(|event| span(event)).collect();
                    handler.handle(&events, &mut tx).await?;
                }
                events.len()
            }
        };
        tx.commit().await.map_err(StoreError::from)?;
        self.metrics.batches.increment(1);
        self.metrics.handled.increment(handled as u64);
        self.metrics.duplicate.increment((batch.len() - handled - of_sender) as u64);
        self.metrics.sender_duplicate.increment(of_sender as u64);
        let now = event::now();
        for event in batch.iter().filter_map(|taken| taken.event.as_ref()) {
            self.metrics.latency.record(now.duration_since(event.time).as_secs_f64());
        }
        Ok(())
    }

    /// Those of the batch whose sender has sent the same before: nobody handles them.
    async fn sender_duplicates(
        &self,
        batch: &[Taken],
        tx: &mut Tx,
    ) -> Result<HashMap<EventId, EventId>, StoreError> {
        let sightings: Vec<_> = batch
            .iter()
            .filter_map(|taken| seen::Sighting::of(taken.event.as_ref()?, &taken.message))
            .collect();
        seen::duplicates(tx, &sightings).await
    }

    async fn ack(&self, batch: &[Taken], deliveries: &mut dyn Deliveries) -> Result<(), End> {
        if batch.is_empty() {
            return Ok(());
        }
        let tags: Vec<DeliveryTag> = batch.iter().map(|taken| taken.tag).collect();
        Ok(deliveries.ack(&tags).await?)
    }

    /// Publishes each failed message to its next place, then acks the original. What the broker does not take is kept,
    /// held and not acked, and tried again later; others are handled meanwhile.
    async fn put_aside(&self, failed: &mut Failed, deliveries: &mut dyn Deliveries) -> Result<(), End> {
        if failed.events.is_empty() || Instant::now() < failed.again_at {
            return Ok(());
        }
        while let Some((taken, failure)) = failed.events.front() {
            let text = one_line(failure);
            let permanent = matches!(failure, Failure::Permanent(_) | Failure::Store(StoreError::Unfit(_)));
            let (event_id, topic) = (&taken.message.message_id, &taken.message.r#type);
            match self.settlement.fail(taken.message.clone(), &text, permanent).await {
                Ok(Sent::Retry(delay)) => {
                    self.metrics.retried.increment(1);
                    warn!(%event_id, topic, "tried again in {delay}: {text}");
                }
                Ok(Sent::Dead) => {
                    self.metrics.dead.increment(1);
                    error!(%event_id, topic, "now a dead letter: {text}");
                }
                Err(error) => {
                    let why = format!("a failed event cannot be put aside: {}", one_line(&error));
                    warn!("{why}");
                    self.pause(why);
                    failed.again_at = Instant::now() + failed.backoff.next();
                    // With the subscription the originals are gone, too: they will fail again where they then are.
                    return Ok(deliveries.ack(&[]).await?);
                }
            }
            deliveries.ack(&[taken.tag]).await?;
            failed.events.pop_front();
        }
        *failed = Failed::default();
        self.running();
        Ok(())
    }

    /// Keeps the batch while the database is away, for a while.
    async fn hold(&self, hold: &mut Hold, why: &str, stop: &CancellationToken) -> Result<(), End> {
        warn!("the consumer pauses: {why}");
        self.pause(why.to_owned());
        let until =
            *hold.until.get_or_insert_with(|| Instant::now() + Duration::from_millis(self.config.hold_ms));
        if !self.wait_for_store(&mut hold.backoff, Some(until), stop).await {
            return Err(if stop.is_cancelled() { End::Told } else { End::StoreAway });
        }
        self.running();
        info!("the database takes writes");
        Ok(())
    }

    /// Waits until the database takes a write; false when told to stop or the time is over.
    async fn wait_for_store(
        &self,
        backoff: &mut Backoff,
        until: Option<Instant>,
        stop: &CancellationToken,
    ) -> bool {
        while backoff.wait(stop).await {
            if self.store.check_writable().await.is_ok() {
                return true;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return false;
            }
        }
        false
    }
}

fn one_line(error: &dyn std::error::Error) -> String {
    Chain(error).to_string()
}

/// Below the event's own trace. At the level of debugging, since only an exporter of spans has a use for it.
fn span(event: &Event) -> Span {
    debug_span!(
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
