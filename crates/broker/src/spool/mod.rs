//! The spool: where the ingress keeps what the broker does not take now.
//!
//! ```text
//! publish ──▶ broker ──confirm──▶ Ok
//!    │  (away, blocked, refusing, slow)
//!    └──▶ file, fsynced ──▶ Ok          drain ──in order──▶ broker ──confirm──▶ off the file
//! ```
//!
//! The file is an embedded broker with one queue, so what it promises is what the broker laws prove: a publish that
//! returned survives a crash. While the file holds anything, what is new goes behind it. It is drained in its order, a
//! bounded number at a time; when few are left, new publishes wait for a moment until the last one is through, so that
//! under a steady load, too, the way to the broker opens again.
//!
//! What was sent and not confirmed in time is stored and published again under the same id: consumers meet it twice.
//! This module knows messages and where they go; it does not know what they say.

mod drain;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use event::{Chain, Message};
use metrics::{Counter, Gauge, counter, gauge};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::embedded::{Embedded, OpenError};
use crate::{Broker, DynBroker, ExchangeName, PublishError, Publisher, Queue, QueueName, Topology};

/// The queue of what waits, and the one of what the broker never takes.
const QUEUE: &str = "spool";
const ASIDE: &str = "aside";

/// A queue that keeps nothing: written to find out whether the file takes writes.
const PROBE: &str = "probe";

/// Where a spooled message goes, on the message while it is in the file.
const EXCHANGE: &str = "malote_spool_exchange";
const ROUTING_KEY: &str = "malote_spool_routing_key";

/// What a message counts for beside its body: properties and headers.
const OVERHEAD_BYTES: u64 = 1_024;

/// How long a publish waits for the last spooled messages to be through before it is stored behind them.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(1);

/// How long nothing is stored after the file refused a write: every refused write ends the drain's subscription.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// How much is stored, and when.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file, in a folder that exists.
    pub file: PathBuf,
    /// The most bytes that wait: bodies, and 1 KiB beside each.
    pub limit_bytes: u64,
    /// How long the broker may take to confirm before the message is stored here.
    pub patience: Duration,
}

/// What the spool is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing waits: publishes go to the broker.
    Direct,
    /// Publishes are stored, because of this.
    Spooling(String),
    /// Publishes are refused, because of this.
    Refusing(String),
}

/// Why neither broker nor spool took a message.
#[derive(Debug, thiserror::Error)]
#[error("the broker takes nothing ({broker}), and the spool takes nothing ({spool})")]
struct NeitherTakes {
    broker: String,
    spool: String,
}

/// Why the spool does not take a message.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("it is full: {bytes} of {limit} bytes wait; raise ingress.spool.limit_bytes")]
    Full { bytes: u64, limit: u64 },
    #[error("its file is not open: {0}")]
    NotOpen(String),
    #[error("its file was not written a moment ago")]
    Pausing,
    #[error("its file cannot be written")]
    Failed(#[source] PublishError),
}

/// Which way a publish goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Direct,
    Spooling,
    /// Few are left: new publishes wait.
    HandingOver,
}

/// What changes together.
struct State {
    gate: Gate,
    /// Stored messages and those that are being stored, and their bytes.
    messages: u64,
    bytes: u64,
    /// Why the broker takes nothing.
    trouble: String,
    /// Until when nothing is stored.
    refusing_until: Option<Instant>,
    file: Result<Embedded, String>,
    since: Option<Instant>,
    /// Seconds since 1970 at which the oldest waiting message was made, as far as the drain has seen it.
    oldest: Option<u64>,
    drained: u64,
}

struct Metrics {
    events: Gauge,
    bytes: Gauge,
    oldest: Gauge,
    set_aside: Gauge,
    stored: Counter,
    drained: Counter,
    refused: Counter,
}

impl Metrics {
    fn new(limit_bytes: u64) -> Self {
        gauge!("spool_limit_bytes").set(limit_bytes as f64);
        Self {
            events: gauge!("spool_events"),
            bytes: gauge!("spool_bytes"),
            oldest: gauge!("spool_oldest_seconds"),
            set_aside: gauge!("spool_set_aside_events"),
            stored: counter!("spool_stored_total"),
            drained: counter!("spool_drained_total"),
            refused: counter!("spool_refused_total"),
        }
    }
}

/// A publisher that stores what the broker does not take. Clones share it. [`Spool::run`] has to run beside it.
#[derive(Clone)]
pub struct Spool(Arc<Inner>);

struct Inner {
    config: Config,
    broker: DynBroker,
    state: Mutex<State>,
    /// Changes with the gate.
    changed: watch::Sender<()>,
    standing: watch::Sender<Standing>,
    metrics: Metrics,
}

/// How a publish goes on.
enum Way {
    Broker,
    /// Its bytes are counted already.
    File(Embedded),
}

impl Spool {
    /// Opens the file and counts what waits in it. A file that the disk does not give is opened later, by
    /// [`Self::run`]; one that is in use or is something else is an error.
    pub async fn open(config: Config, broker: DynBroker) -> Result<Self, OpenError> {
        let (standing, _) = watch::channel(Standing::Direct);
        let state = State {
            gate: Gate::Direct,
            messages: 0,
            bytes: 0,
            trouble: "it was away when this process ended last".to_owned(),
            refusing_until: None,
            file: Err("it was not opened yet".to_owned()),
            since: None,
            oldest: None,
            drained: 0,
        };
        let metrics = Metrics::new(config.limit_bytes);
        let spool = Self(Arc::new(Inner {
            config,
            broker,
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            standing,
            metrics,
        }));
        match spool.0.open().await {
            Ok(()) => {}
            Err(
                error @ (OpenError::InUse { .. } | OpenError::Version { .. } | OpenError::Foreign { .. }),
            ) => {
                return Err(error);
            }
            Err(error @ (OpenError::File { .. } | OpenError::Sqlite { .. })) => {
                tracing::error!("there is no spool until its file opens: {}", Chain(&error));
            }
        }
        Ok(spool)
    }

    /// What the spool is doing, now and whenever it changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.0.standing.subscribe()
    }
}

#[async_trait]
impl Publisher for Spool {
    async fn publish(
        &self,
        exchange: &ExchangeName,
        routing_key: &str,
        message: Message,
    ) -> Result<(), PublishError> {
        let inner = &*self.0;
        let bytes = size(&message);
        let file = match inner.way(bytes).await {
            Ok(Way::File(file)) => file,
            Err(refusal) => return Err(inner.refuse(&refusal)),
            Ok(Way::Broker) => {
                let publish = inner.broker.publish(exchange, routing_key, message.clone());
                let why = match timeout(inner.config.patience, publish).await {
                    Ok(Ok(())) => {
                        inner.takes_again();
                        return Ok(());
                    }
                    Ok(Err(error)) => Chain(&error).to_string(),
                    Err(_) => format!("it did not confirm within {:?}", inner.config.patience),
                };
                match inner.turn_to_file(bytes, &why) {
                    Ok(file) => file,
                    Err(refusal) => return Err(inner.refuse(&refusal)),
                }
            }
        };
        match file
            .publish(&ExchangeName::default_exchange(), QUEUE, wrapped(message, exchange, routing_key))
            .await
        {
            Ok(()) => {
                inner.metrics.stored.increment(1);
                inner.takes_again();
                Ok(())
            }
            Err(error) => {
                let mut state = inner.state();
                state.release(bytes);
                state.refusing_until = Some(Instant::now() + REFUSAL_PAUSE);
                drop(state);
                Err(inner.refuse(&Refusal::Failed(error)))
            }
        }
    }
}

impl State {
    fn reserve(&mut self, bytes: u64, limit: u64) -> Result<Embedded, Refusal> {
        if self.refusing_until.is_some_and(|until| Instant::now() < until) {
            return Err(Refusal::Pausing);
        }
        let file = self.file.clone().map_err(Refusal::NotOpen)?;
        if self.bytes + bytes > limit {
            return Err(Refusal::Full { bytes: self.bytes, limit });
        }
        self.messages += 1;
        self.bytes += bytes;
        Ok(file)
    }

    /// An acked message may come again after the file refused a write: it was counted then.
    fn release(&mut self, bytes: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = if self.messages == 0 { 0 } else { self.bytes.saturating_sub(bytes) };
    }
}

impl Inner {
    /// No lock is held across code that can panic, so a poisoned one still holds whole values.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn way(&self, bytes: u64) -> Result<Way, Refusal> {
        let mut changed = self.changed.subscribe();
        let until = Instant::now() + HANDOVER_PATIENCE;
        let mut waited = false;
        loop {
            {
                let mut state = self.state();
                match state.gate {
                    Gate::Direct => return Ok(Way::Broker),
                    Gate::HandingOver if !waited => {}
                    Gate::Spooling | Gate::HandingOver => {
                        return state.reserve(bytes, self.config.limit_bytes).map(Way::File);
                    }
                }
            }
            // An error is as good as a time-out: then nobody hands over any more.
            waited = !matches!(timeout_at(until, changed.changed()).await, Ok(Ok(())));
        }
    }

    /// From now on publishes are stored.
    fn turn_to_file(&self, bytes: u64, why: &str) -> Result<Embedded, Refusal> {
        let mut state = self.state();
        let file = state.reserve(bytes, self.config.limit_bytes)?;
        if state.gate == Gate::Direct {
            state.gate = Gate::Spooling;
            state.since = Some(Instant::now());
            state.drained = 0;
            tracing::warn!("the broker takes nothing, events go to the spool: {why}");
        }
        why.clone_into(&mut state.trouble);
        drop(state);
        self.standing.send_if_modified(|standing| match standing {
            Standing::Direct | Standing::Refusing(_) => {
                *standing = Standing::Spooling(why.to_owned());
                true
            }
            Standing::Spooling(_) => false,
        });
        Ok(file)
    }

    /// The error of a publish that nobody takes.
    fn refuse(&self, refusal: &Refusal) -> PublishError {
        self.metrics.refused.increment(1);
        let (broker, spool) = (self.state().trouble.clone(), Chain(refusal).to_string());
        let error = NeitherTakes { broker, spool };
        self.standing.send_if_modified(|standing| match standing {
            Standing::Refusing(_) => false,
            Standing::Direct | Standing::Spooling(_) => {
                tracing::error!("events are refused: {error}");
                *standing = Standing::Refusing(error.to_string());
                true
            }
        });
        PublishError::Unavailable(error.into())
    }

    /// Ends a refusal.
    fn takes_again(&self) {
        if !matches!(*self.standing.borrow(), Standing::Refusing(_)) {
            return;
        }
        let (gate, trouble) = {
            let state = self.state();
            (state.gate, state.trouble.clone())
        };
        tracing::info!("events are taken again");
        self.standing.send_replace(match gate {
            Gate::Direct => Standing::Direct,
            Gate::Spooling | Gate::HandingOver => Standing::Spooling(trouble),
        });
    }

    /// Opens the file, and counts what it holds.
    async fn open(&self) -> Result<(), OpenError> {
        let path = self.config.file.clone();
        let opened = tokio::task::spawn_blocking(move || Embedded::open(path)).await;
        let file = match opened.expect("opening does not panic") {
            Ok(file) => file,
            Err(error) => {
                self.state().file = Err(Chain(&error).to_string());
                return Err(error);
            }
        };
        // A file that cannot be declared on or read fails later, where it is tried again.
        let _ = file.declare(&topology()).await;
        let aside = file.contents(&QueueName::new(ASIDE)).await.unwrap_or_default();
        let waiting = file.contents(&QueueName::new(QUEUE)).await.unwrap_or_default();
        self.metrics.set_aside.set(aside.messages as f64);
        let mut state = self.state();
        state.messages = waiting.messages;
        state.bytes = waiting.body_bytes + waiting.messages * OVERHEAD_BYTES;
        state.file = Ok(file);
        if waiting.messages > 0 {
            state.gate = Gate::Spooling;
            state.since = Some(Instant::now());
            self.standing.send_replace(Standing::Spooling(state.trouble.clone()));
        }
        Ok(())
    }
}

/// What the file declares. No message is ever dropped: there is no limit to deliveries.
fn topology() -> Topology {
    let queue = |name, message_ttl| Queue {
        name: QueueName::new(name),
        delivery_limit: u32::MAX,
        message_ttl,
        dead_letter_exchange: None,
    };
    let probe = Some(Duration::from_millis(1));
    let queues = vec![queue(QUEUE, None), queue(ASIDE, None), queue(PROBE, probe)];
    Topology { queues, ..Topology::default() }
}

fn probe() -> Message {
    Message {
        message_id: String::new(),
        r#type: String::new(),
        timestamp: 0,
        content_type: String::new(),
        app_id: event::APP_ID.to_owned(),
        expiration: None,
        headers: Default::default(),
        body: Default::default(),
    }
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
    let (exchange, routing_key) = (take(EXCHANGE), take(ROUTING_KEY));
    (ExchangeName::new(exchange), routing_key, message)
}
