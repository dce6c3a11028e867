//! Lanes: for each exchange and routing key that the broker does not take now, a queue of the file and what is known of it.
//!
//! A message that the broker refuses says nothing about those that go elsewhere. A lane exists while it holds messages;
//! without one, publishes go to the broker. What has no lane left to itself shares one.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{ExchangeName, PublishError, QueueName};

/// How many lanes there are beside the shared one.
pub(super) const LANES: usize = 128;

/// The name of the lane that several ways share; files of before have everything in it.
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

/// A lane's name as people read it.
pub(super) fn shown(name: &str) -> String {
    match name.split_once(' ') {
        None => "several topics".to_owned(),
        Some(("", queue)) => format!("queue {queue}"),
        Some(_) => name.to_owned(),
    }
}

/// Why the broker did not take a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// One word, for metrics.
    pub kind: &'static str,
    pub text: String,
}

/// Nothing was heard of the broker in time.
pub(super) const UNCONFIRMED: &str = "unconfirmed";
const UNAVAILABLE: &str = "unavailable";

impl Trouble {
    pub(super) fn new(error: &PublishError) -> Self {
        let kind = match error {
            PublishError::MissingExchange { .. } => "missing_exchange",
            PublishError::Unroutable { .. } => "unroutable",
            PublishError::Refused => "refused",
            PublishError::Unavailable(_) => UNAVAILABLE,
        };
        Self { kind, text: event::Chain(error).to_string() }
    }

    /// The broker is down.
    pub(super) fn away(text: String) -> Self {
        Self { kind: UNAVAILABLE, text }
    }

    /// Whether the broker itself is down: it gave no answer about the message.
    pub(super) fn is_outage(&self) -> bool {
        self.kind == UNAVAILABLE
    }

    /// Whether the broker has said no: each try is another copy for the queues that take it.
    pub(super) fn is_answer(&self) -> bool {
        ![UNAVAILABLE, UNCONFIRMED].contains(&self.kind)
    }
}

/// What a publish into a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing: it is stored.
    Spooling,
    /// The last few to get through.
    HandingOver,
}

/// A way that is closed.
pub(super) struct Lane {
    pub queue: QueueName,
    pub gate: Gate,
    /// Stored messages, and those that are being stored.
    pub messages: u64,
    pub trouble: Trouble,
    pub since: Instant,
    /// Seconds since 1970 at which the oldest message was made, as far as the drain has seen it.
    pub oldest: Option<u64>,
    pub drained: u64,
    pub has_drain: bool,
    /// What let others through may let this one through.
    pub woken: Arc<Notify>,
}

/// The lanes that hold messages, by name.
pub(super) struct Lanes {
    pub open: BTreeMap<String, Lane>,
    free: Vec<QueueName>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { open: BTreeMap::new(), free: (0..LANES).rev().map(numbered).collect() }
    }
}

impl Lanes {
    /// The name of the lane that a message of this name is in, if its way is closed.
    pub(super) fn find<'a>(&self, name: &'a str) -> Option<&'a str> {
        [name, SHARED].into_iter().find(|name| self.open.contains_key(*name))
    }

    /// Closes the way of this name, unless it is. Gives the name of its lane.
    pub(super) fn close_way<'a>(&mut self, name: &'a str, trouble: &Trouble) -> &'a str {
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

    /// The lane of this name itself, where it is closed or there is one left.
    pub(super) fn own(&mut self, name: &str, trouble: &Trouble) -> Option<&mut Lane> {
        if !self.open.contains_key(name) {
            let queue = self.free.pop()?;
            self.insert(name.to_owned(), queue, trouble.clone());
        }
        self.open.get_mut(name)
    }

    /// Adds a lane that the file holds messages of.
    pub(super) fn recover(&mut self, name: String, queue: QueueName, messages: u64, trouble: Trouble) {
        self.free.retain(|free| *free != queue);
        self.insert(name.clone(), queue, trouble);
        if let Some(lane) = self.open.get_mut(&name) {
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
        self.open.insert(name, lane);
    }

    /// Opens the way of this name again.
    pub(super) fn open_way(&mut self, name: &str) -> Option<Lane> {
        let lane = self.open.remove(name)?;
        if name != SHARED {
            self.free.push(lane.queue.clone());
        }
        Some(lane)
    }

    /// Lets the lanes of the same exchange try again.
    pub(super) fn wake_beside(&self, name: &str) {
        // The exchange's name with the space that ends it. The shared lane is of no exchange.
        let Some(exchange) = name.find(' ').map(|end| &name[..=end]) else { return };
        let beside = self.open.iter().filter(|(name, _)| name.starts_with(exchange));
        beside.for_each(|(_, lane)| lane.woken.notify_waiters());
    }

    /// Lets every lane try again.
    pub(super) fn wake_all(&self) {
        self.open.values().for_each(|lane| lane.woken.notify_waiters());
    }

    /// What waits where, and why: a few of them, for readiness and the log.
    pub(super) fn summary(&self) -> Option<String> {
        const NAMED: usize = 3;
        let mut texts: Vec<_> = self
            .open
            .iter()
            .take(NAMED)
            .map(|(name, lane)| format!("{}: {}", shown(name), lane.trouble.text))
            .collect();
        if self.open.len() > NAMED {
            texts.push(format!("and {} more", self.open.len() - NAMED));
        }
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}
