//! The loop of one consumer: subscribe, take a batch, apply it, settle it, until the consumer is to stop. A batch that fails is
//! split into halves, down to the event that fails.

mod aside;
mod transaction;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use broker::{Backoff, BrokerError, Deliveries, Delivery, DeliveryTag, DynBroker, ExchangeName, Layout};
use event::{Chain, Event};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use serde::Deserialize;
use store::Store;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use self::aside::{Aside, Fate};
use self::transaction::Stop;
use crate::handler::{AnyFact, AnyHandler};
use crate::panics::panicked;
use crate::settle::{History, Settlement};
use crate::taken::Taken;
use crate::window::Window;
use crate::{Bindings, DEFAULT_RETRY, Failure, Handler, Observer, Permanent, Policy, PolicyChange, Recorder};

/// The longest pause before the database or the broker is tried again.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How a consumer takes and tries.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The most events in one transaction.
    pub batch_events: usize,
    /// How long one transaction may take, in milliseconds.
    pub batch_timeout_ms: u64,
    /// How long deliveries that cannot be settled are held, in milliseconds, before they go back to the queue: while
    /// the database is down, a batch does not commit, or the broker accepts no retries.
    pub hold_ms: u64,
    /// How many bytes of bodies one consumer holds unsettled at a time, by the mean size of the bodies seen. A batch ends at
    /// a quarter of it; a consumer that receives more than twice as much begins to read its queue again, with one delivery.
    pub prefetch_bytes: usize,
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
    /// It has stopped taking deliveries for this reason, and resumes by itself.
    Paused(String),
    /// It has stopped, as asked.
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
    Each(Arc<dyn AnyHandler>),
    Whole(Arc<dyn Recorder>),
}

/// A consumer, ready to [`run`](Self::run). Any number of replicas of one may run, here or in other processes.
pub struct Consumer {
    work: Work,
    observer: Option<Arc<dyn Observer>>,
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

/// Why one delivery by itself is not committed, though the database takes writes.
enum Blocked {
    Failed(Failure),
    Conflict(String),
}

/// How long a batch may be held, and the pause before the next check of the database.
struct Hold {
    until: Instant,
    backoff: Backoff,
}

/// How long an event that another transaction is in the way of is tried again before that counts as an attempt. The
/// others wait meanwhile, so it is short.
const CONFLICT_PATIENCE: Duration = Duration::from_secs(5);

/// How soon one batch follows another, unless it is full.
const GATHER: Duration = Duration::from_millis(20);

/// How long nothing may come before the consumer asks whether anything is there.
const IDLE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 15_000 });

/// How often the consumer checks whether it still reads its queue while it handles a batch.
const LOOK: Duration = Duration::from_secs(1);

/// How often an event may meet an outage that is over at the next look, before that counts as an attempt.
const OUTAGES: usize = 3;

/// Why reading the queue ends.
enum End {
    /// The consumer is to stop.
    Stopped,
    Lost(BrokerError),
    /// The database stayed away: what was held goes back to the queue.
    StoreAway,
    /// What was held too long for another reason goes back to the queue.
    Held(String),
    /// A delivery is to be tried alone.
    Alone,
    /// Suddenly larger bodies exceed what may be held, in bytes.
    Overfull(usize),
    /// The broker delivers nothing although the queue has messages, as after the loss of a leader at the wrong moment.
    Forgotten,
}

impl From<BrokerError> for End {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Overfull { bytes } => Self::Overfull(bytes),
            error => Self::Lost(error),
        }
    }
}

impl Consumer {
    /// A consumer of events.
    pub fn new<H: Handler>(bindings: &Bindings, handler: Arc<H>, runtime: Runtime) -> Self {
        let give_up = runtime.layout.dead();
        Self::with(
            bindings.consumer,
            bindings.prefetch,
            Policy::configured(bindings, runtime.config.policies.get(bindings.consumer)),
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
            Work::Each(_) => History::EVENTS,
            Work::Whole(_) => History::RECORDS,
        };
        let consumer_name = consumer.to_owned();
        let settlement =
            Settlement { consumer: consumer_name, queue, policy, history, give_up, layout, broker };
        let (status, metrics) = (watch::Sender::new(Status::Starting), Metrics::new(consumer));
        Self { work, observer: None, prefetch, settlement, store, config, status, metrics }
    }

    /// The same consumer of events, observed.
    pub fn observed(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self }
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
    ///
    /// A boxed future, so that the runtime is compiled with this crate, as optimised as this one is.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(self.run_until(stop))
    }

    async fn run_until(self, stop: CancellationToken) {
        let span = info_span!("consumer", consumer = self.name());
        async {
            let mut backoff = Backoff::up_to(LONGEST_PAUSE);
            while !stop.is_cancelled() {
                let started = Instant::now();
                let pause = match self.consume(&stop).await {
                    End::Stopped => break,
                    End::Alone => continue,
                    End::Overfull(bytes) => {
                        info!("more than {bytes} bytes arrived at once: they go back to the queue and are taken one by one");
                        continue;
                    }
                    End::Held(why) => why,
                    End::Forgotten => "its queue has messages and delivers none".to_owned(),
                    End::Lost(error) => format!("its queue is unavailable: {}", one_line(&error)),
                    End::StoreAway => {
                        // The queue keeps what comes; asking for it again before the database is back would only
                        // count deliveries towards the queue's limit.
                        self.wait_for_store(&mut Backoff::up_to(LONGEST_PAUSE), None, &stop).await;
                        backoff = Backoff::up_to(LONGEST_PAUSE);
                        continue;
                    }
                };
                warn!("the consumer pauses: {pause}");
                self.pause(pause);
                if started.elapsed() > Duration::from_secs(30) {
                    backoff = Backoff::up_to(LONGEST_PAUSE);
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

    /// Reads the queue until that ends.
    async fn consume(&self, stop: &CancellationToken) -> End {
        let mut window = Window::new(self.prefetch, self.config.prefetch_bytes);
        let subscribe = self.settlement.broker.subscribe(&self.settlement.queue, window.now());
        let subscribed = tokio::select! {
            () = stop.cancelled() => return End::Stopped,
            subscribed = subscribe => subscribed,
        };
        let mut deliveries = match subscribed {
            Ok(deliveries) => deliveries,
            Err(error) => return error.into(),
        };
        match self.running() {
            Status::Paused(_) => info!("the consumer resumes"),
            Status::Starting | Status::Running | Status::Stopped => debug!("the consumer is running"),
        }
        let mut aside = Aside::default();
        let mut begun = Instant::now() - GATHER;
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                first = deliveries.next() => Some(first),
                () = sleep_until(aside.again_at), if !aside.events.is_empty() => None,
                () = sleep(IDLE), if aside.events.is_empty() => match self.is_forgotten().await {
                    // Nothing took what arrived meanwhile: with a window of 1, one delivery keeps all others waiting.
                    true => match deliveries.next().now_or_never() {
                        None => return End::Forgotten,
                        first => first,
                    },
                    false => None,
                },
            };
            let first = match first.transpose() {
                Ok(first) => first,
                Err(error) => return error.into(),
            };
            let batch = match first {
                Some(first) if window.now() == 1 => vec![Taken::from(first)],
                Some(first) => self.fill(first, begun + GATHER, deliveries.as_mut()).await,
                None => Vec::new(),
            };
            begun = Instant::now();
            if let Err(end) = self.work(batch, &mut window, &mut aside, deliveries.as_mut(), stop).await {
                return end;
            }
        }
    }

    /// Handles one batch, until the next deliveries arrive.
    async fn work(
        &self,
        mut batch: Vec<Taken>,
        window: &mut Window,
        aside: &mut Aside,
        deliveries: &mut dyn Deliveries,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        window.note(&batch);
        let together = batch.len();
        if window.now() > 1 {
            batch.retain(|taken| !taken.is_alone());
        }
        let are_apart = batch.len() < together;
        let completed = self.complete(batch, aside, deliveries, stop).await;
        if matches!(completed, Ok(()) | Err(End::Held(_))) {
            self.put_aside(aside, deliveries).await?;
        }
        completed?;
        if are_apart {
            return Err(End::Alone);
        }
        if let Some(prefetch) = window.next(!aside.events.is_empty()) {
            deliveries.limit(prefetch, 2 * self.config.prefetch_bytes).await?;
        }
        Ok(())
    }

    /// Whether the queue has messages and delivers none: checked twice, since one may have come just now.
    async fn is_forgotten(&self) -> bool {
        let queue = std::slice::from_ref(&self.settlement.queue);
        for pause in [Duration::from_secs(1), Duration::ZERO] {
            // A broker that does not answer shows in another way.
            match self.settlement.broker.queues(queue).await.as_deref() {
                Ok([status]) if status.ready > 0 => sleep(pause).await,
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }

    /// The first delivery and those that come until then, or are there already: after a pause an event does not wait for
    /// others, and under load a transaction is worth its cost.
    async fn fill(&self, first: Delivery, until: Instant, deliveries: &mut dyn Deliveries) -> Vec<Taken> {
        let mut bytes = first.message.body.len();
        let mut batch = vec![Taken::from(first)];
        while batch.len() < self.config.batch_events && bytes < self.config.prefetch_bytes / 4 {
            let next = match deliveries.next().now_or_never() {
                None => timeout_at(until, deliveries.next()).await.ok(),
                next => next,
            };
            match next {
                Some(Ok(delivery)) => {
                    bytes += delivery.message.body.len();
                    batch.push(Taken::from(delivery));
                }
                // The batch is still tried: its messages may be nowhere else, as after a deletion of the queue. The error
                // shows again when the batch is settled.
                Some(Err(_)) | None => break,
            }
        }
        batch
    }

    /// Gives every delivery of the batch its effect, and adds those that failed to `aside`: they are set aside after
    /// the others, so that a broker that accepts no retries does not hold up healthy events.
    async fn complete(
        &self,
        batch: Vec<Taken>,
        aside: &mut Aside,
        deliveries: &mut dyn Deliveries,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        let batch = self.read(batch, aside);
        let until = Instant::now() + Duration::from_millis(self.config.hold_ms);
        let mut hold = Hold { until, backoff: Backoff::up_to(LONGEST_PAUSE) };
        let mut blocked = Vec::new();
        // A batch that fails as a whole is tried in halves, so that the few events that fail delay few others.
        let (mut parts, mut is_progress) = (vec![batch], false);
        while let Some(mut part) = parts.pop() {
            // Every round settles something, so this ends.
            if is_progress && Instant::now() >= hold.until {
                return Err(End::Held("a batch is not committed in time".to_owned()));
            }
            if let [taken] = part.as_slice() {
                let tried = self.attempt_alone(taken, &mut hold, deliveries, stop).await?;
                is_progress |= !matches!(tried, Err(Blocked::Conflict(_)));
                match tried {
                    Ok(()) => self.ack(&part, deliveries).await?,
                    Err(Blocked::Failed(failure)) => {
                        aside.events.extend(part.pop().map(|taken| (taken, Fate::Failed(failure))));
                    }
                    Err(Blocked::Conflict(_)) => blocked.append(&mut part),
                }
                continue;
            }
            match self.watched(self.attempt(&part), deliveries).await {
                Ok(()) => {
                    is_progress = true;
                    self.ack(&part, deliveries).await?;
                    continue;
                }
                Err(Stop::StoreAway(why)) => self.hold(&mut hold, &why, stop).await?,
                Err(Stop::Failed(_) | Stop::Conflict(_)) => {}
            }
            parts.push(part.split_off(part.len() / 2));
            parts.push(part);
        }
        self.outwait(blocked, &mut hold, aside, deliveries, stop).await
    }

    /// Retries what conflicts with another transaction, after all the others, for a while.
    async fn outwait(
        &self,
        mut blocked: Vec<Taken>,
        hold: &mut Hold,
        aside: &mut Aside,
        deliveries: &mut dyn Deliveries,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        let until = Instant::now() + CONFLICT_PATIENCE;
        while !blocked.is_empty() && backoff.wait(stop).await {
            for taken in std::mem::take(&mut blocked) {
                match self.attempt_alone(&taken, hold, deliveries, stop).await? {
                    Ok(()) => self.ack(std::slice::from_ref(&taken), deliveries).await?,
                    Err(Blocked::Failed(failure)) => aside.events.push_back((taken, Fate::Failed(failure))),
                    Err(Blocked::Conflict(why)) if Instant::now() >= until => {
                        aside.events.push_back((taken, Fate::Failed(Failure::Transient(why))));
                    }
                    Err(Blocked::Conflict(_)) => blocked.push(taken),
                }
            }
        }
        Ok(())
    }

    /// Tries one delivery alone, and waits while the database is down. An event that makes the database fail every
    /// time, although it accepts writes in between, has failed.
    async fn attempt_alone(
        &self,
        taken: &Taken,
        hold: &mut Hold,
        deliveries: &mut dyn Deliveries,
        stop: &CancellationToken,
    ) -> Result<Result<(), Blocked>, End> {
        let mut last = String::new();
        for _ in 0..OUTAGES {
            match self.watched(self.attempt(std::slice::from_ref(taken)), deliveries).await {
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

    /// Waits for work that may take long, and notices if reading the queue has ended meanwhile. The work is finished in
    /// any case: its messages may be nowhere else.
    async fn watched<T>(&self, work: impl Future<Output = T>, deliveries: &mut dyn Deliveries) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = sleep(LOOK) => {}
            }
            match deliveries.ack(&[]).await {
                Ok(()) => {}
                Err(BrokerError::Overfull { .. }) => return work.await,
                Err(error) => {
                    self.pause(format!("its queue is unavailable: {}", one_line(&error)));
                    return work.await;
                }
            }
        }
    }

    /// Reads the events, if the work needs them, and sets aside what cannot be read and what belongs in another queue.
    fn read(&self, batch: Vec<Taken>, aside: &mut Aside) -> Vec<Taken> {
        let mut kept = Vec::with_capacity(batch.len());
        for mut taken in batch {
            let fate = match &self.work {
                Work::Whole(recorder) => recorder.forward(&taken.message).map(Fate::Forwarded),
                Work::Each(handler) => match Event::from_message(&taken.message) {
                    Ok(event) => match read(handler.as_ref(), &event) {
                        Ok(fact) => {
                            taken.read = Some((event, fact));
                            None
                        }
                        Err(why) => Some(Fate::Unreadable(event, why)),
                    },
                    Err(error) => Some(Fate::Failed(Failure::Permanent(format!(
                        "the message is not an event of malote's: {error}"
                    )))),
                },
            };
            match fate {
                Some(fate) => aside.events.push_back((taken, fate)),
                None => kept.push(taken),
            }
        }
        kept
    }

    async fn ack(&self, batch: &[Taken], deliveries: &mut dyn Deliveries) -> Result<(), End> {
        if batch.is_empty() {
            return Ok(());
        }
        let tags: Vec<DeliveryTag> = batch.iter().map(|taken| taken.tag).collect();
        Ok(deliveries.ack(&tags).await?)
    }

    /// Keeps the batch while the database is down, for a while.
    async fn hold(&self, hold: &mut Hold, why: &str, stop: &CancellationToken) -> Result<(), End> {
        warn!("the consumer pauses: {why}");
        self.pause(why.to_owned());
        if !self.wait_for_store(&mut hold.backoff, Some(hold.until), stop).await {
            return Err(if stop.is_cancelled() { End::Stopped } else { End::StoreAway });
        }
        self.running();
        info!("the database accepts writes again");
        Ok(())
    }

    /// Waits until the database takes a write; false when it is to stop or the time is over.
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

/// Reads one event; a handler that panics cannot read it.
fn read(handler: &dyn AnyHandler, event: &Event) -> Result<AnyFact, Permanent> {
    catch_unwind(AssertUnwindSafe(|| handler.read(event))).unwrap_or_else(|_| Err(Permanent::new(panicked())))
}

fn one_line(error: &dyn std::error::Error) -> String {
    Chain(error).to_string()
}
