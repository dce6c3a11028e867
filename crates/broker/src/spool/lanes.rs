//! Lanes: for each exchange and routing key that the broker does not accept now, a queue in the file and its state.
//!
//! A refused message says nothing about messages to other queues. A lane begins with the first message that is stored, and
//! ends ([`Lanes::end`]) when the last one is confirmed: then publishes go to the broker again. When all lanes are in use,
//! further destinations share one.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{ExchangeName, PublishError, QueueName};

/// How many lanes there are beside the shared one.
pub(super) const LANES: usize = 128;

/// The name of the lane that several destinations share; in files of earlier releases it holds everything.
pub(super) const SHARED: &str = "";

/// The queue of the shared lane.
const SHARED_QUEUE: &str = "spool";

/// Every lane's queue.
pub(super) fn queues() -> impl Iterator<Item = QueueName> {
    [QueueName::new(SHARED_QUEUE)].into_iter().chain((0..LANES).map(numbered))
}

fn numbered(number: usize) -> QueueName {
    QueueName::new(format!("lane.{number}"))
}

/// The name of a lane. An exchange's name has no space.
pub(super) fn name(exchange: &ExchangeName, routing_key: &str) -> String {
    format!("{exchange} {routing_key}")
}

/// A lane's name for display.
pub(super) fn shown(name: &str) -> String {
    match name.split_once(' ') {
        None => "several topics".to_owned(),
        Some(("", queue)) => format!("queue {queue}"),
        Some(_) => name.to_owned(),
    }
}

/// Why the broker did not accept a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// One word, for metrics.
    pub kind: &'static str,
    pub text: String,
}

/// The broker did not answer in time.
pub(super) const UNCONFIRMED: &str = "unconfirmed";
const UNAVAILABLE: &str = "unavailable";
const TOO_LARGE: &str = "too_large";

impl Trouble {
    pub(super) fn new(error: &PublishError) -> Self {
        let kind = match error {
            PublishError::MissingExchange { .. } => "missing_exchange",
            PublishError::Unroutable { .. } => "unroutable",
            PublishError::Refused => "refused",
            PublishError::TooLarge(_) => TOO_LARGE,
            PublishError::Rejected(_) => "rejected",
            PublishError::Unavailable(_) => UNAVAILABLE,
        };
        Self { kind, text: event::Chain(error).to_string() }
    }

    /// The broker is down.
    pub(super) fn outage(text: String) -> Self {
        Self { kind: UNAVAILABLE, text }
    }

    /// Whether the broker itself is down: it did not answer.
    pub(super) fn is_outage(&self) -> bool {
        self.kind == UNAVAILABLE
    }

    /// Whether the message itself is why, so that it stays refused whatever else the broker accepts.
    pub(super) fn is_of_message(&self) -> bool {
        self.kind == TOO_LARGE
    }

    /// Whether the broker refused: each try leaves another copy in the queues that accept it.
    pub(super) fn is_answer(&self) -> bool {
        ![UNAVAILABLE, UNCONFIRMED].contains(&self.kind)
    }
}

/// What a publish into a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing: it is stored.
    Spooling,
    /// Until the last few are confirmed.
    HandingOver,
}

/// A lane in use: publishes are stored in it.
pub(super) struct Lane {
    pub queue: QueueName,
    pub gate: Gate,
    /// Stored messages, and those that are being stored.
    pub messages: u64,
    pub trouble: Trouble,
    pub since: Instant,
    /// When the oldest message was created, in seconds since 1970, as far as the drain has seen it.
    pub oldest: Option<u64>,
    pub drained: u64,
    pub has_drain: bool,
    /// Whatever made others succeed may make this one succeed.
    pub woken: Arc<Notify>,
}

/// The lanes that hold messages, by name.
pub(super) struct Lanes {
    pub in_use: BTreeMap<String, Lane>,
    free: Vec<QueueName>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { in_use: BTreeMap::new(), free: (0..LANES).rev().map(numbered).collect() }
    }
}

impl Lanes {
    /// The name of the lane of a message with this name, if it has one.
    pub(super) fn find<'a>(&self, name: &'a str) -> Option<&'a str> {
        [name, SHARED].into_iter().find(|name| self.in_use.contains_key(*name))
    }

    /// Begins the lane of this name, unless there is one. Returns the name of the lane in use.
    pub(super) fn begin<'a>(&mut self, name: &'a str, trouble: &Trouble) -> &'a str {
        if let Some(name) = self.find(name) {
            return name;
        }
        let (name, queue) = match self.free.pop() {
            Some(queue) => (name, queue),
            None => (SHARED, QueueName::new(SHARED_QUEUE)),
        };
        self.insert(name.to_owned(), queue, trouble.clone());
        name
    }

    /// The lane of this name itself, if it is in use or a free one is left.
    pub(super) fn own(&mut self, name: &str, trouble: &Trouble) -> Option<&mut Lane> {
        if !self.in_use.contains_key(name) {
            let queue = self.free.pop()?;
            self.insert(name.to_owned(), queue, trouble.clone());
        }
        self.in_use.get_mut(name)
    }

    /// Adds a lane of which the file holds messages.
    pub(super) fn recover(&mut self, name: String, queue: QueueName, messages: u64, trouble: Trouble) {
        self.free.retain(|free| *free != queue);
        self.insert(name.clone(), queue, trouble);
        if let Some(lane) = self.in_use.get_mut(&name) {
            lane.messages = messages;
        }
    }

    fn insert(&mut self, name: String, queue: QueueName, trouble: Trouble) {
        let lane = Lane {
            queue,
            gate: Gate::Spooling,
            messages: 0,
            trouble,
            since: Instant::now(),
            oldest: None,
            drained: 0,
            has_drain: false,
            woken: Arc::default(),
        };
        self.in_use.insert(name, lane);
    }

    /// Ends the lane of this name: publishes go to the broker again.
    pub(super) fn end(&mut self, name: &str) -> Option<Lane> {
        let lane = self.in_use.remove(name)?;
        if name != SHARED {
            self.free.push(lane.queue.clone());
        }
        Some(lane)
    }

    /// Makes the lanes of the same exchange retry.
    pub(super) fn wake_beside(&self, name: &str) {
        // The exchange's name with the space that ends it. The shared lane belongs to no exchange.
        let Some(exchange) = name.find(' ').map(|end| &name[..=end]) else { return };
        let beside = self.in_use.iter().filter(|(name, _)| name.starts_with(exchange));
        beside.for_each(|(_, lane)| lane.woken.notify_waiters());
    }

    /// Makes every lane retry.
    pub(super) fn wake_all(&self) {
        self.in_use.values().for_each(|lane| lane.woken.notify_waiters());
    }

    /// A few lanes with what waits and why, for readiness and the log.
    pub(super) fn summary(&self) -> Option<String> {
        const NAMED: usize = 3;
        let mut texts: Vec<_> = self
            .in_use
            .iter()
            .take(NAMED)
            .map(|(name, lane)| format!("{}: {}", shown(name), lane.trouble.text))
            .collect();
        if self.in_use.len() > NAMED {
            texts.push(format!("and {} more", self.in_use.len() - NAMED));
        }
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}
