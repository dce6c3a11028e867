//! Migrates what an earlier release declared to the current topology, without losing messages.
//!
//! The arguments of a queue cannot change, so two kinds of queues are replaced. Retry queues that dead-letter to the
//! default exchange are emptied into the current ones and deleted. A queue with another delivery limit is emptied into
//! a temporary one with the same bindings, deleted, declared again and refilled. Each step can be interrupted anywhere
//! and repeated. A message is acked in its old queue once it is confirmed in the new one.
//!
//! A queue is deleted only when it is certainly empty, which AMQP cannot show: it does not count a message that is
//! being dead-lettered. [`Inspect`] does; without it, such queues stay.

use std::time::Duration;

use async_trait::async_trait;
use broker::layout::RetryDelay;
use broker::{
    Binding, Broker, BrokerError, Delivery, Destination, ExchangeName, Layout, PublishError, Publisher,
    Queue, QueueName, QueueStatus, Subscriber, Topology,
};
use event::{Message, Timestamp, header};
use futures_util::future::try_join_all;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::declare::soft_error;
use crate::in_hand::InHand;
use crate::message::short;
use crate::{NEW_QUEUE_SETTLES, RabbitMq};

/// Messages moved at a time.
const BATCH: u16 = 256;

/// How long messages are gathered before they are moved together, and the interval of polling.
const QUIET: Duration = Duration::from_millis(300);

/// How long no dead-lettering must be reported before a queue counts as empty: RabbitMQ counts every 5 s and collects
/// the counts every 5 s.
const CERTAIN: Duration = Duration::from_secs(11);

/// How long to wait until a queue is certainly empty.
const PATIENCE: Duration = Duration::from_secs(25);

/// What a queue has that AMQP does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Messages that are being dead-lettered.
    pub dying: u64,
    /// Bindings, without that of the default exchange.
    pub bindings: usize,
}

/// Sees what AMQP does not show.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// The state of a queue now, or up to 10 s ago; `None` if it is unknown.
    async fn inspect(&self, queue: &QueueName) -> Option<Inspection>;
}

/// Why a queue stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Whether it is empty is unknown.
    Unseen,
    /// It holds messages that cannot be moved: they are being dead-lettered to a queue that does not exist.
    Stuck(u64),
    /// Consumers take from it.
    Consumed(u64),
    /// It has other bindings than ours.
    ForeignBindings,
}

/// A step that was done, or why it was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Messages were moved from an old retry queue to the current one.
    Moved {
        /// The old queue.
        queue: QueueName,
        /// How many.
        messages: u64,
    },
    /// An old retry queue is deleted.
    Deleted {
        /// The queue.
        queue: QueueName,
    },
    /// A queue has its new delivery limit and all its messages.
    Renewed {
        /// The queue.
        queue: QueueName,
        /// How many messages it had.
        messages: u64,
    },
    /// A queue stays as it is and continues to work.
    Kept {
        /// The queue.
        queue: QueueName,
        /// Why.
        obstacle: Obstacle,
    },
}

/// Why a migration stopped. It can be run again.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A request to the broker failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A message could not be moved and stays where it is.
    #[error("a message of queue {queue} cannot be moved: it stays there")]
    Publish {
        /// The queue.
        queue: QueueName,
        /// Why.
        #[source]
        source: PublishError,
    },
}

/// Where the messages of a queue are moved to.
#[derive(Clone)]
enum Way {
    /// To the current retry queue, for the rest of the wait.
    Wait(ExchangeName, RetryDelay),
    /// To another queue.
    Queue(QueueName),
}

/// A queue that is emptied to be deleted.
struct Emptied {
    queue: QueueName,
    way: Way,
    /// Whether it is declared again afterwards.
    is_renewed: bool,
    moved: u64,
    empty_since: Option<Instant>,
}

impl Emptied {
    fn new(queue: QueueName, way: Way, is_renewed: bool) -> Self {
        Self { queue, way, is_renewed, moved: 0, empty_since: None }
    }
}

impl RabbitMq {
    /// Declares the topology and does what the module describes.
    pub async fn migrate(
        &self,
        layout: &Layout,
        topology: &Topology,
        inspect: &dyn Inspect,
    ) -> Result<Vec<Step>, MigrationError> {
        self.declare(topology).await?;
        let mut steps = Vec::new();
        let mut emptied = self.former_retries(layout).await?;
        emptied.extend(self.outdated(topology, inspect, &mut steps).await?);
        for one in &mut emptied {
            one.moved = self.drain(&one.queue, &one.way).await?;
        }
        self.await_certainly_empty(&mut emptied, inspect).await;
        for one in &mut emptied {
            self.finish(one, inspect, &mut steps).await?;
        }
        // Every queue that was deleted to be declared again, in this run or an interrupted one.
        self.declare(topology).await?;
        for queue in &topology.queues {
            if let Some(messages) = self.take_back(queue, topology).await? {
                let queue = queue.name.clone();
                let is_kept = |step: &Step| matches!(step, Step::Kept { queue: kept, .. } if *kept == queue);
                if !steps.iter().any(is_kept) {
                    steps.push(Step::Renewed { queue, messages });
                }
            }
        }
        Ok(steps)
    }

    /// The retry queues of an earlier release. They stay bound until they are deleted: an older malote may still run.
    async fn former_retries(&self, layout: &Layout) -> Result<Vec<Emptied>, BrokerError> {
        let mut found = Vec::new();
        for delay in RetryDelay::ALL {
            let (_, queue) = layout.former_retry(delay);
            if self.find(&queue).await?.is_some() {
                found.push(Emptied::new(queue, Way::Wait(layout.retry_exchange(delay), delay), false));
            }
        }
        Ok(found)
    }

    /// The queues with another delivery limit that can be replaced; from now on their stand-ins receive new messages.
    async fn outdated(
        &self,
        topology: &Topology,
        inspect: &dyn Inspect,
        steps: &mut Vec<Step>,
    ) -> Result<Vec<Emptied>, BrokerError> {
        let mut found = Vec::new();
        let deadline = Instant::now() + CERTAIN;
        for queue in &topology.queues {
            if self.existing_limit(queue).await? == queue.delivery_limit {
                continue;
            }
            if let Some(obstacle) = self.obstacle(queue, topology, inspect, deadline).await? {
                steps.push(Step::Kept { queue: queue.name.clone(), obstacle });
                continue;
            }
            // Not through `self.declare`, which would declare it again after a reconnection.
            let stand_in = stand_in(queue, topology);
            self.consuming.declare(&stand_in, self.deadline()).await?;
            found.push(Emptied::new(queue.name.clone(), Way::Queue(stand_in_of(&queue.name)), true));
        }
        if !found.is_empty() {
            sleep(NEW_QUEUE_SETTLES).await;
        }
        for queue in topology.queues.iter().filter(|queue| found.iter().any(|one| one.queue == queue.name)) {
            self.unbind(&bindings_of(queue, topology)).await?;
        }
        Ok(found)
    }

    /// Deletes a queue that is certainly empty, and returns what was done.
    async fn finish(
        &self,
        one: &mut Emptied,
        inspect: &dyn Inspect,
        steps: &mut Vec<Step>,
    ) -> Result<(), MigrationError> {
        let queue = one.queue.clone();
        let is_certain = one.empty_since.is_some_and(|since| since.elapsed() >= CERTAIN);
        let is_deleted = is_certain && self.delete(one).await?;
        if one.moved > 0 && !one.is_renewed {
            steps.push(Step::Moved { queue: queue.clone(), messages: one.moved });
        }
        match is_deleted {
            true if one.is_renewed => {}
            true => steps.push(Step::Deleted { queue }),
            false => {
                let obstacle = match inspect.inspect(&queue).await {
                    None => Obstacle::Unseen,
                    Some(Inspection { dying: 0, .. }) => {
                        Obstacle::Consumed(self.find(&queue).await?.map_or(0, |status| status.consumers))
                    }
                    Some(Inspection { dying, .. }) => Obstacle::Stuck(dying),
                };
                steps.push(Step::Kept { queue, obstacle });
            }
        }
        Ok(())
    }

    /// The status of a queue that may not exist.
    async fn find(&self, queue: &QueueName) -> Result<Option<QueueStatus>, BrokerError> {
        match self.queues(std::slice::from_ref(queue)).await {
            Ok(mut statuses) => Ok(statuses.pop()),
            Err(BrokerError::MissingQueue { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many consumers a queue has at the deadline; 0 as soon as it has none. The consumers of a process that has
    /// just ended, such as a killed migration, are counted a moment longer.
    async fn lasting_consumers(&self, queue: &QueueName, deadline: Instant) -> Result<u64, BrokerError> {
        loop {
            let consumers = self.find(queue).await?.map_or(0, |status| status.consumers);
            if consumers == 0 || Instant::now() >= deadline {
                return Ok(consumers);
            }
            sleep(QUIET).await;
        }
    }

    async fn existing_limit(&self, queue: &Queue) -> Result<u32, BrokerError> {
        let topology = Topology { queues: vec![queue.clone()], ..Topology::default() };
        let in_force = self.consuming.declare(&topology, self.deadline()).await?;
        Ok(in_force.queues[0].delivery_limit)
    }

    /// What prevents a queue from being deleted and declared again; checked before anything is changed.
    async fn obstacle(
        &self,
        queue: &Queue,
        topology: &Topology,
        inspect: &dyn Inspect,
        deadline: Instant,
    ) -> Result<Option<Obstacle>, BrokerError> {
        let consumers = self.lasting_consumers(&queue.name, deadline).await?;
        Ok(match inspect.inspect(&queue.name).await {
            _ if consumers > 0 => Some(Obstacle::Consumed(consumers)),
            None => Some(Obstacle::Unseen),
            Some(seen) if seen.bindings > bindings_of(queue, topology).len() => {
                Some(Obstacle::ForeignBindings)
            }
            Some(_) => None,
        })
    }

    /// Moves the messages that a queue delivers until it is empty for a moment; returns their number. What it does not
    /// deliver stays.
    async fn drain(&self, queue: &QueueName, way: &Way) -> Result<u64, MigrationError> {
        let mut deliveries = self.subscribe(queue, BATCH).await?;
        let mut moved = 0;
        loop {
            let mut batch = Vec::new();
            let gathered = Instant::now() + QUIET;
            while batch.len() < usize::from(BATCH)
                && let Ok(delivery) = timeout_at(gathered, deliveries.next()).await
            {
                batch.push(delivery?);
            }
            let tags: Vec<_> = batch.iter().map(|delivery| delivery.tag).collect();
            try_join_all(batch.into_iter().map(|delivery| self.send_on(queue, way, delivery))).await?;
            deliveries.ack(&tags).await?;
            moved += tags.len() as u64;
            let is_over = tags.len() < usize::from(BATCH)
                && self.find(queue).await?.is_none_or(|status| status.ready == 0);
            if is_over {
                return Ok(moved);
            }
        }
    }

    async fn send_on(&self, from: &QueueName, way: &Way, delivery: Delivery) -> Result<(), MigrationError> {
        let (exchange, key, message) = onward(way, delivery);
        let published = self.publish(&exchange, &key, message).await;
        published.map_err(|source| MigrationError::Publish { queue: from.clone(), source })
    }

    /// Waits until no queue holds undelivered messages, or until that can no longer be expected.
    async fn await_certainly_empty(&self, emptied: &mut [Emptied], inspect: &dyn Inspect) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let mut is_waiting = false;
            for one in &mut *emptied {
                let Some(seen) = inspect.inspect(&one.queue).await else { continue };
                match seen.dying {
                    0 => _ = one.empty_since.get_or_insert_with(Instant::now),
                    _ => one.empty_since = None,
                }
                is_waiting |= one.empty_since.is_none_or(|since| since.elapsed() < CERTAIN);
            }
            if !is_waiting {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Deletes a queue without undelivered messages. Its messages are moved first; what arrives meanwhile is delivered
    /// to this process and moved afterwards. False if it has other consumers.
    async fn delete(&self, one: &mut Emptied) -> Result<bool, MigrationError> {
        if self.find(&one.queue).await?.is_none() {
            return Ok(true);
        }
        // Our own consumer that emptied it may be counted for a moment.
        if self.lasting_consumers(&one.queue, Instant::now() + CERTAIN).await? > 0 {
            return Ok(false);
        }
        one.moved += self.drain(&one.queue, &one.way).await?;
        let mut deliveries = self.subscribe(&one.queue, u16::MAX).await?;
        let (_link, channel) =
            self.consuming.channel(self.deadline()).await.map_err(BrokerError::Unavailable)?;
        let unavailable = |error: lapin::Error| BrokerError::Unavailable(error.into());
        let name = short(one.queue.as_str()).map_err(|error| BrokerError::Unavailable(error.into()))?;
        let deleted = channel.queue_delete(name.clone(), QueueDeleteOptions::default()).await;
        // If the broker refused, the queue keeps its messages. Without an answer it may be deleted.
        let deleted = match deleted {
            Err(error) if soft_error(&error).is_some() => return Err(unavailable(error).into()),
            deleted => deleted,
        };
        let mut in_hand = InHand::new(one.queue.clone());
        while let Ok(Ok(delivery)) = timeout(QUIET, deliveries.next()).await {
            in_hand.push(onward(&one.way, delivery));
        }
        one.moved += in_hand.publish(self).await;
        deleted.map_err(unavailable)?;
        if !one.is_renewed {
            // The exchange of an old retry queue has its name. An older malote that still runs may have bound it again.
            let options = ExchangeDeleteOptions { if_unused: true, ..ExchangeDeleteOptions::default() };
            match channel.exchange_delete(name, options).await {
                Err(error) if soft_error(&error).is_none() => return Err(unavailable(error).into()),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(true)
    }

    /// Moves back what the stand-in of a queue holds, if there is one, and deletes it.
    async fn take_back(&self, queue: &Queue, topology: &Topology) -> Result<Option<u64>, MigrationError> {
        let stand_in = stand_in(queue, topology);
        let name = &stand_in.queues[0].name;
        if self.find(name).await?.is_none() {
            return Ok(None);
        }
        self.unbind(&stand_in.bindings).await?;
        let way = Way::Queue(queue.name.clone());
        let mut one = Emptied::new(name.clone(), way, true);
        self.delete(&mut one).await?;
        Ok(Some(one.moved))
    }
}

/// Where a message is moved to, and the message as it is published there.
fn onward(way: &Way, delivery: Delivery) -> (ExchangeName, String, Message) {
    let Delivery { routing_key, mut message, .. } = delivery;
    match way {
        Way::Wait(exchange, delay) => {
            message.expiration = Some(rest(&message, *delay, event::now()));
            (exchange.clone(), routing_key, message)
        }
        Way::Queue(queue) => (ExchangeName::default_exchange(), queue.to_string(), message),
    }
}

fn bindings_of(queue: &Queue, topology: &Topology) -> Vec<Binding> {
    let is_its = |binding: &&Binding| binding.destination == Destination::Queue(queue.name.clone());
    topology.bindings.iter().filter(is_its).cloned().collect()
}

/// The name of the stand-in for a queue that is declared again.
pub fn stand_in_of(queue: &QueueName) -> QueueName {
    QueueName::new(format!("{queue}.moving"))
}

/// The stand-in for a queue, with the same bindings.
fn stand_in(queue: &Queue, topology: &Topology) -> Topology {
    let name = stand_in_of(&queue.name);
    let bind = |binding| Binding { destination: Destination::Queue(name.clone()), ..binding };
    Topology {
        exchanges: Vec::new(),
        bindings: bindings_of(queue, topology).into_iter().map(bind).collect(),
        queues: vec![Queue { name, ..queue.clone() }],
    }
}

/// An attempt of a consumer that failed, in the history that a retry carries.
#[derive(Deserialize)]
struct FailedAttempt {
    at: Timestamp,
}

/// The rest of the wait of a message that has waited since its last attempt failed.
fn rest(message: &Message, delay: RetryDelay, now: Timestamp) -> Duration {
    let whole = message.expiration.unwrap_or(delay.duration()).min(delay.duration());
    let history: Option<Vec<FailedAttempt>> =
        message.text(header::HISTORY).and_then(|text| serde_json::from_str(text).ok());
    let waited = history
        .and_then(|attempts| attempts.last().map(|last| now.duration_since(last.at)))
        .map_or(Duration::ZERO, |waited| waited.try_into().unwrap_or(Duration::ZERO));
    whole.saturating_sub(waited)
}
