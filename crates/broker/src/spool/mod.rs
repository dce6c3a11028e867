//! The spool: where the ingress keeps what the broker does not confirm now.
//!
//! ```text
//! publish ──▶ broker ──confirm──▶ Ok
//!    │  (down, blocked, refusing, slow)
//!    └──▶ lane in the file, fsynced ──▶ Ok        drain ──in order──▶ broker ──confirm──▶ off the file
//!                                                   └─(alone refused)──▶ aside ──now and then──▶ broker
//! ```
//!
//! Up to 128 pairs of exchange and routing key have a lane of their own, further ones share one: a queue that refuses
//! blocks only its own messages. While a lane holds messages, new ones queue behind them. A lane is drained in order, a
//! bounded number at a time. When few are left, its new publishes wait until the last one is confirmed: this way the
//! lane empties under a steady load, too. While the broker itself is down, every publish goes straight to its lane.
//!
//! The file is an embedded broker with a queue for each lane, so the broker laws hold for it: a publish that returned
//! survives a crash.
//!
//! What was sent and not confirmed in time, and what one queue of several refused, is published again under the same
//! id: consumers may receive it twice. The number of copies is bounded: a refusing lane is probed by two messages at a
//! time, after pauses that double from 0.1 s to a minute. This module knows messages and their destinations, not their
//! contents.

mod aside;
mod drain;
mod lanes;
mod report;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use event::{Chain, Message};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use self::aside::Aside;
use self::lanes::{Gate, Lanes, Trouble, UNCONFIRMED};
use self::report::Metrics;
use crate::embedded::{Embedded, OpenError};
use crate::{
    Broker, DiskAlarm, DynBroker, ExchangeName, PublishError, Publisher, Queue, QueueName, Subscriber,
    Topology,
};

/// The queue of messages that the broker refuses although it accepts others of the same lane.
const ASIDE: &str = "aside";

/// A queue that keeps nothing: written to find out whether the file takes writes.
const PROBE: &str = "probe";

/// Headers of a message in the file: its destination, and why it was set aside.
const EXCHANGE: &str = "malote_spool_exchange";
const ROUTING_KEY: &str = "malote_spool_routing_key";
const REASON: &str = "malote_spool_reason";

/// What a message counts for beside its body: properties and headers.
const OVERHEAD_BYTES: u64 = 1_024;

/// How long a publish waits for the last spooled messages to be through before it is stored behind them.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(1);

/// How long nothing is stored after the file refused a write: after each refused write the drain starts to read the lane again.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// How long nothing must be refused before a broker that answers counts as one that accepts what it refused: that it
/// answers and accepts others says nothing about the queue that refused.
const CALM: Duration = Duration::from_secs(10);

/// Time-out of the deliveries of the file.
const READ_PATIENCE: Duration = Duration::from_secs(1);

/// How much is stored, and when.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file, in a folder that exists.
    pub file: PathBuf,
    /// The most bytes that wait: bodies, and 1 KiB beside each.
    pub limit_bytes: u64,
    /// How long the broker may take to confirm before the message is stored here.
    pub patience: Duration,
    /// While it is raised, nothing is spooled.
    pub disk: DiskAlarm,
}

/// What the spool is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing waits: publishes go to the broker.
    Direct,
    /// Publishes are stored, all or those of some exchanges and routing keys, for this reason.
    Spooling(String),
    /// Publishes are refused, because of this.
    Refusing(String),
}

/// Why neither broker nor spool took a message.
#[derive(Debug, thiserror::Error)]
#[error("the broker does not accept the event ({broker}), and neither does the spool ({spool})")]
struct NeitherTakes {
    broker: String,
    spool: String,
}

/// Why the spool does not accept a message.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("it is full: {bytes} of {limit} bytes wait; raise ingress.spool.limit_bytes")]
    Full { bytes: u64, limit: u64 },
    #[error("the disk of its file is nearly full: make room, or lower data.disk_free_limit_bytes")]
    DiskFull,
    #[error("its file is not open")]
    NotOpen(#[source] NotOpen),
    #[error("its file was not written a moment ago")]
    Pausing,
    #[error("its file cannot be written")]
    Failed(#[source] PublishError),
}

/// Why the spool has no file.
#[derive(Clone, Debug, thiserror::Error)]
enum NotOpen {
    #[error("it was not opened yet")]
    Untried,
    #[error("it is closed")]
    Closed,
    #[error(transparent)]
    Failed(Arc<OpenError>),
}

/// What changes together.
struct SpoolState {
    lanes: Lanes,
    aside: Aside,
    /// Messages in lanes, including those that are being stored.
    messages: u64,
    /// Their bytes, and those of what is set aside.
    bytes: u64,
    /// Why the broker is down: publishes do not try it.
    outage: Option<Trouble>,
    /// Why the broker did not confirm last.
    trouble: String,
    /// Why publishes are refused.
    refusal: Option<String>,
    /// When the last publish was refused.
    refused_at: Option<Instant>,
    /// The size of the largest message that was refused.
    refused_bytes: u64,
    /// Until when nothing is stored.
    refusing_until: Option<Instant>,
    file: Result<Embedded, NotOpen>,
}

/// A publisher that stores what the broker does not accept. Clones share it. [`Spool::run`] has to run beside it.
#[derive(Clone)]
pub struct Spool(Arc<Inner>);

struct Inner {
    config: Config,
    broker: DynBroker,
    state: Mutex<SpoolState>,
    /// Nothing waits and nothing is refused: a publish checks nothing else.
    is_direct: AtomicBool,
    /// Changes when a lane is handed over or ends.
    changed: watch::Sender<()>,
    /// A lane has begun, and needs a drain.
    begun: Notify,
    /// Wakes everything that waits to retry.
    again: Notify,
    /// The broker did not answer: it has to be checked.
    doubted: AtomicBool,
    standing: watch::Sender<Standing>,
    set_aside: watch::Sender<Option<String>>,
    metrics: Metrics,
}

/// How a publish goes on.
enum Way {
    Broker,
    File(Reservation),
}

/// Reserved space in the file for one message of a lane. Released if it is dropped before the message is stored.
struct Reservation {
    inner: Arc<Inner>,
    lane: String,
    queue: QueueName,
    file: Embedded,
    bytes: u64,
    is_kept: bool,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.is_kept {
            self.inner.state().release(&self.lane, self.bytes);
        }
    }
}

impl Reservation {
    /// Stores the message.
    async fn store(mut self, message: Message) -> Result<(), PublishError> {
        self.file.publish(&ExchangeName::default_exchange(), self.queue.as_str(), message).await?;
        self.is_kept = true;
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("writing it was broken off")]
struct BrokenOff;

impl Spool {
    /// Opens the file and counts what waits in it. A file that the disk does not give is opened later, by
    /// [`Self::run`]; one that is in use or is something else is an error.
    pub async fn open(config: Config, broker: DynBroker) -> Result<Self, OpenError> {
        let state = SpoolState {
            lanes: Lanes::default(),
            aside: Aside::default(),
            messages: 0,
            bytes: 0,
            outage: None,
            trouble: "it was down when this process last ended".to_owned(),
            refusal: None,
            refused_at: None,
            refused_bytes: 0,
            refusing_until: None,
            file: Err(NotOpen::Untried),
        };
        let metrics = Metrics::new(config.limit_bytes);
        let spool = Self(Arc::new(Inner {
            config,
            broker,
            state: Mutex::new(state),
            is_direct: AtomicBool::new(true),
            changed: watch::Sender::new(()),
            begun: Notify::new(),
            again: Notify::new(),
            doubted: AtomicBool::new(false),
            standing: watch::Sender::new(Standing::Direct),
            set_aside: watch::Sender::new(None),
            metrics,
        }));
        match spool.0.open().await {
            Ok(()) => {}
            Err(
                error @ (OpenError::InUse { .. } | OpenError::Version { .. } | OpenError::Foreign { .. }),
            ) => {
                return Err(error);
            }
            Err(error @ (OpenError::File { .. } | OpenError::Room { .. } | OpenError::Sqlite { .. })) => {
                tracing::error!("there is no spool until its file opens: {}", Chain(&error));
                spool.0.state().file = Err(NotOpen::Failed(Arc::new(error)));
            }
        }
        Ok(spool)
    }

    /// What the spool is doing, now and whenever it changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.0.standing.subscribe()
    }

    /// What is set aside, and why, now and whenever it changes; `None` if nothing is.
    pub fn set_aside(&self) -> watch::Receiver<Option<String>> {
        self.0.set_aside.subscribe()
    }

    /// Retries at once what waits for a retry: the topology has changed.
    pub fn try_again(&self) {
        self.0.again.notify_waiters();
    }
}

#[async_trait]
impl Publisher for Spool {
    async fn publish_shared(
        &self,
        exchange: &ExchangeName,
        routing_key: &str,
        message: Arc<Message>,
    ) -> Result<(), PublishError> {
        let inner = &self.0;
        let bytes = size(&message);
        let way = match inner.is_direct.load(Ordering::Acquire) {
            true => Ok(Way::Broker),
            false => inner.way(exchange, routing_key, bytes).await,
        };
        let way = match way {
            Ok(Way::Broker) => {
                let patience = inner.config.patience;
                let message = Arc::clone(&message);
                let published = inner.broker.publish_within(patience, exchange, routing_key, message).await;
                let trouble = match published {
                    Some(Ok(())) => {
                        inner.direct_works();
                        return Ok(());
                    }
                    Some(Err(error)) => Trouble::new(&error),
                    None => {
                        let text = format!("it did not confirm within {patience:?}");
                        Trouble { kind: UNCONFIRMED, text }
                    }
                };
                inner.turn_to_file(exchange, routing_key, bytes, &trouble)
            }
            Ok(Way::File(reservation)) => Ok(reservation),
            Err(refusal) => Err(refusal),
        };
        let reservation = way.map_err(|refusal| inner.refuse(&refusal, bytes))?;
        // A copy, if the broker still has it.
        let message = wrapped(Arc::unwrap_or_clone(message), exchange, routing_key);
        // A task of its own, so that a cancelled caller leaves no uncounted message in the file.
        let stored = tokio::spawn(reservation.store(message)).await;
        match stored.unwrap_or_else(|_| Err(PublishError::Unavailable(BrokenOff.into()))) {
            Ok(()) => {
                inner.metrics.stored.increment(1);
                let has_room = inner.has_room(&inner.state());
                if has_room {
                    inner.takes_again();
                }
                Ok(())
            }
            Err(error) => {
                inner.state().refusing_until = Some(Instant::now() + REFUSAL_PAUSE);
                Err(inner.refuse(&Refusal::Failed(error), bytes))
            }
        }
    }
}

impl SpoolState {
    /// Reserves space for a message in the lane of this name, and begins the lane if there is none.
    fn reserve(
        &mut self,
        inner: &Arc<Inner>,
        name: &str,
        trouble: &Trouble,
        bytes: u64,
    ) -> Result<Reservation, Refusal> {
        if self.refusing_until.is_some_and(|until| Instant::now() < until) {
            return Err(Refusal::Pausing);
        }
        if inner.config.disk.is_raised() {
            return Err(Refusal::DiskFull);
        }
        let file = self.file.clone().map_err(Refusal::NotOpen)?;
        let limit = inner.config.limit_bytes;
        if self.bytes + bytes > limit {
            return Err(Refusal::Full { bytes: self.bytes, limit });
        }
        let name = self.lanes.begin(name, trouble);
        let lane = self.lanes.in_use.get_mut(name).expect("it is in use");
        lane.messages += 1;
        self.messages += 1;
        self.bytes += bytes;
        let queue = lane.queue.clone();
        Ok(Reservation { inner: inner.clone(), lane: name.to_owned(), queue, file, bytes, is_kept: false })
    }

    /// A message has left its lane. An acked message may come again after a failed write: it was counted then.
    fn release(&mut self, lane: &str, bytes: u64) {
        if let Some(lane) = self.lanes.in_use.get_mut(lane) {
            lane.messages = lane.messages.saturating_sub(1);
        }
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.messages == 0 && self.aside.is_empty() {
            self.bytes = 0;
        }
    }

    /// Whether nothing was refused for a while.
    fn is_calm(&self) -> bool {
        self.refused_at.is_none_or(|at| at.elapsed() >= CALM)
    }

    fn standing(&self) -> Standing {
        let waiting =
            || self.outage.as_ref().map(|trouble| trouble.text.clone()).or_else(|| self.lanes.summary());
        match &self.refusal {
            Some(why) => Standing::Refusing(why.clone()),
            None => waiting().map_or(Standing::Direct, Standing::Spooling),
        }
    }
}

impl Inner {
    /// No lock is held across code that can panic, so a poisoned one still holds whole values.
    fn state(&self) -> MutexGuard<'_, SpoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes what has changed: everything that others see of the state is derived here.
    fn show_change(&self, state: &SpoolState) {
        let standing = state.standing();
        self.is_direct.store(standing == Standing::Direct, Ordering::Release);
        self.standing.send_if_modified(|shown| {
            let is_new = *shown != standing;
            *shown = standing;
            is_new
        });
        let set_aside = state.aside.summary();
        self.set_aside.send_if_modified(|shown| {
            let is_new = *shown != set_aside;
            *shown = set_aside;
            is_new
        });
    }

    async fn way(
        self: &Arc<Self>,
        exchange: &ExchangeName,
        routing_key: &str,
        bytes: u64,
    ) -> Result<Way, Refusal> {
        let name = lanes::name(exchange, routing_key);
        let mut changed = self.changed.subscribe();
        let until = Instant::now() + HANDOVER_PATIENCE;
        let mut waited = false;
        loop {
            {
                let mut state = self.state();
                let lane = state.lanes.find(&name).and_then(|name| state.lanes.in_use.get(name));
                let trouble = match lane {
                    Some(lane) if lane.gate == Gate::HandingOver && !waited => None,
                    Some(lane) => Some(lane.trouble.clone()),
                    None if state.outage.is_some() => state.outage.clone(),
                    None => return Ok(Way::Broker),
                };
                if let Some(trouble) = trouble {
                    return self.reserve(&mut state, &name, bytes, &trouble).map(Way::File);
                }
            }
            // An error is as good as a time-out: then nobody hands over any more.
            waited = !matches!(timeout_at(until, changed.changed()).await, Ok(Ok(())));
        }
    }

    fn reserve(
        self: &Arc<Self>,
        state: &mut SpoolState,
        name: &str,
        bytes: u64,
        trouble: &Trouble,
    ) -> Result<Reservation, Refusal> {
        let before = state.lanes.in_use.len();
        let reservation = state.reserve(self, name, trouble, bytes)?;
        if state.lanes.in_use.len() > before {
            self.begun.notify_one();
            self.show_change(state);
        }
        Ok(reservation)
    }

    /// From now on publishes of this name are stored; if the broker is down, all are.
    fn turn_to_file(
        self: &Arc<Self>,
        exchange: &ExchangeName,
        routing_key: &str,
        bytes: u64,
        trouble: &Trouble,
    ) -> Result<Reservation, Refusal> {
        let name = lanes::name(exchange, routing_key);
        let mut state = self.state();
        if !trouble.is_answer() {
            self.doubted.store(true, Ordering::Release);
        }
        if trouble.is_outage() && state.outage.is_none() {
            tracing::warn!("the broker is down, events go to the spool: {}", trouble.text);
            state.outage = Some(trouble.clone());
            self.show_change(&state);
        } else if state.lanes.find(&name).is_none() {
            let lane = lanes::shown(&name);
            tracing::warn!(lane, "the broker does not accept these, they go to the spool: {}", trouble.text);
        }
        state.trouble.clone_from(&trouble.text);
        self.reserve(&mut state, &name, bytes, trouble)
    }

    /// The error of a publish that nobody takes.
    fn refuse(&self, refusal: &Refusal, bytes: u64) -> PublishError {
        self.metrics.refused.increment(1);
        let mut state = self.state();
        state.refused_bytes = state.refused_bytes.max(bytes);
        state.refused_at = Some(Instant::now());
        let error = NeitherTakes { broker: state.trouble.clone(), spool: Chain(refusal).to_string() };
        if state.refusal.is_none() {
            tracing::error!("events are refused: {error}");
            state.refusal = Some(error.to_string());
            self.show_change(&state);
        }
        PublishError::Unavailable(error.into())
    }

    /// A publish to the broker was confirmed: if nothing waits, refusals end after a while.
    fn direct_works(&self) {
        if !self.is_direct.load(Ordering::Acquire) {
            let state = self.state();
            let is_free = state.lanes.in_use.is_empty() && state.outage.is_none() && state.is_calm();
            drop(state);
            if is_free {
                self.takes_again();
            }
        }
    }

    /// Whether what was refused could be stored now.
    fn has_room(&self, state: &SpoolState) -> bool {
        let needed = state.refused_bytes.max(OVERHEAD_BYTES);
        !self.config.disk.is_raised() && state.bytes + needed <= self.config.limit_bytes
    }

    /// Ends a refusal.
    fn takes_again(&self) {
        let mut state = self.state();
        state.refused_bytes = 0;
        if state.refusal.take().is_some() {
            tracing::info!("events are taken again");
            self.show_change(&state);
        }
    }

    /// Ends an outage: the broker has answered.
    fn broker_is_back(&self) {
        let mut state = self.state();
        if state.outage.take().is_some() {
            tracing::info!("the broker is back");
            self.show_change(&state);
            drop(state);
            self.again.notify_waiters();
        }
    }

    /// Opens the file, and counts what it holds.
    async fn open(&self) -> Result<(), OpenError> {
        let path = self.config.file.clone();
        let opened = tokio::task::spawn_blocking(move || Embedded::open(path)).await;
        let file = opened.expect("opening does not panic")?;
        // A file that cannot be declared on or read fails later, where it is tried again.
        let _ = file.declare(&topology()).await;
        let mut found = Vec::new();
        for queue in lanes::queues() {
            let waiting = file.contents(&queue).await.unwrap_or_default();
            if waiting.messages > 0 {
                let head = peek(&file, &queue, 1).await.pop().map(unwrapped);
                let name = head.map_or_else(String::new, |(exchange, key, _)| lanes::name(&exchange, &key));
                found.push((name, queue, waiting));
            }
        }
        let (aside, aside_bytes) = Aside::read(&file).await;
        let mut state = self.state();
        let trouble = Trouble { kind: UNCONFIRMED, text: state.trouble.clone() };
        state.bytes = aside_bytes;
        state.aside = aside;
        for (name, queue, waiting) in found {
            state.messages += waiting.messages;
            state.bytes += waiting.body_bytes + waiting.messages * OVERHEAD_BYTES;
            let is_shared = lanes::queues().next().as_ref() == Some(&queue);
            let name = match state.lanes.in_use.contains_key(&name) {
                _ if is_shared => lanes::SHARED.to_owned(),
                // Two lanes of one name: new messages go behind the first.
                true => format!("{name} ({queue})"),
                false => name,
            };
            state.lanes.recover(name, queue, waiting.messages, trouble.clone());
        }
        state.file = Ok(file);
        self.show_change(&state);
        self.begun.notify_one();
        Ok(())
    }
}

/// The first messages of a queue, which stay there.
async fn peek(file: &Embedded, queue: &QueueName, count: u16) -> Vec<Message> {
    let mut messages = Vec::new();
    if let Ok(mut deliveries) = file.subscribe(queue, count).await {
        while messages.len() < usize::from(count)
            && let Ok(Ok(delivery)) = timeout(READ_PATIENCE, deliveries.next()).await
        {
            messages.push(delivery.message);
        }
    }
    messages
}

/// What the file declares. No message is ever dropped: there is no limit to deliveries.
fn topology() -> Topology {
    let queue =
        |name, message_ttl| Queue { name, delivery_limit: u32::MAX, message_ttl, dead_letter_exchange: None };
    let probe = queue(QueueName::new(PROBE), Some(Duration::from_millis(1)));
    let lanes = lanes::queues().chain([QueueName::new(ASIDE)]).map(|name| queue(name, None));
    Topology { queues: lanes.chain([probe]).collect(), ..Topology::default() }
}

fn probe() -> Message {
    Message { app_id: event::APP_ID.to_owned(), ..Message::default() }
}

fn size(message: &Message) -> u64 {
    message.body.len() as u64 + OVERHEAD_BYTES
}

/// The message with where it goes.
fn wrapped(mut message: Message, exchange: &ExchangeName, routing_key: &str) -> Message {
    message.headers.insert(EXCHANGE.to_owned(), exchange.as_str().into());
    message.headers.insert(ROUTING_KEY.to_owned(), routing_key.into());
    message
}

/// Where it goes, and the message as it was.
fn unwrapped(mut message: Message) -> (ExchangeName, String, Message) {
    let mut take = |name| match message.headers.remove(name) {
        Some(event::HeaderValue::Text(text)) => text,
        Some(event::HeaderValue::Long(_)) | None => String::new(),
    };
    let (exchange, routing_key, _) = (take(EXCHANGE), take(ROUTING_KEY), take(REASON));
    (ExchangeName::new(exchange), routing_key, message)
}
