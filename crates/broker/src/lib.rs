//! What malote requires of a message broker: the traits, the topology values, and the laws that every implementation
//! passes.
//!
//! Place in the flow: the ingress publishes through [`Publisher`]; consumers take deliveries through
//! [`Subscriber`]; roles declare a [`Topology`] at start. Two implementations exist: `embedded` here, and
//! RabbitMQ in `broker-rabbitmq`. Everything above this crate is the same for both.
//!
//! This crate knows exchanges, queues and messages. It does not know providers, tables or HTTP.

pub mod backoff;
pub mod death;
mod disk;
pub mod embedded;
mod fixed_queue;
#[cfg(any(test, feature = "test-support"))]
pub mod laws;
pub mod layout;
pub mod spool;
#[cfg(any(test, feature = "test-support"))]
pub mod test_support;
pub mod topology;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use event::Message;
use tokio::time::timeout;

pub use backoff::Backoff;
pub use disk::{DiskAlarm, free_bytes};
pub use fixed_queue::FixedQueue;
pub use layout::Layout;
pub use topology::{Binding, Destination, Exchange, ExchangeKind, ExchangeName, Queue, QueueName, Topology};

/// A broker's error as it came from below, for the log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A broker, whichever it is.
pub type DynBroker = Arc<dyn Broker>;

/// The longest body of a small message, which waits for few bytes of larger ones, however many are being published.
pub const SMALL_BODY_BYTES: usize = 16 * 1024;

/// Why a message was not published. Nothing is known to be stored.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The exchange does not exist: the topology is not declared.
    #[error("exchange {exchange} does not exist: run `malote topology apply`")]
    MissingExchange {
        /// The exchange published to.
        exchange: ExchangeName,
    },
    /// The exchange took the message, but no queue is bound for its routing key (AMQP `basic.return`).
    #[error("no queue is bound to exchange {exchange} for routing key {routing_key:?}")]
    Unroutable {
        /// The exchange published to.
        exchange: ExchangeName,
        /// The routing key published with.
        routing_key: String,
    },
    /// The broker refused the message (AMQP `basic.nack`): a queue is full or has no leader.
    #[error("the broker refused the message")]
    Refused,
    /// The message is larger than the broker accepts. Publishing it again fails until the broker is configured
    /// otherwise; other messages are not affected.
    #[error(
        "the message is larger than the broker accepts; lower ingress.body_limit_bytes, or raise its max_message_size"
    )]
    TooLarge(#[source] Cause),
    /// The broker answered this message with another error, such as a missing permission for the exchange. It is not
    /// an outage: the broker accepts other messages.
    #[error("the broker does not accept the message")]
    Rejected(#[source] Cause),
    /// The broker cannot be reached, is blocked, or did not confirm in time.
    #[error("the broker is unavailable")]
    Unavailable(#[source] Cause),
}

/// Why a request to the broker other than a publish failed.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The queue does not exist: the topology is not declared.
    #[error("queue {queue} does not exist: run `malote topology apply`")]
    MissingQueue {
        /// The queue asked for.
        queue: QueueName,
    },
    /// An exchange or a queue exists with other properties than the declared ones.
    #[error(
        "{what} exists with other properties: delete it once it is empty, or choose another broker.prefix"
    )]
    Conflict {
        /// The kind and name of what exists, such as `queue ledger`.
        what: String,
        /// The broker's own text.
        #[source]
        cause: Cause,
    },
    /// The broker cannot be reached, or the connection was lost.
    #[error("the broker is unavailable")]
    Unavailable(#[source] Cause),
    /// A subscription received more than it may hold, and is over: what it held goes back to the queue.
    #[error("more than {bytes} bytes of bodies arrived at once")]
    Overfull {
        /// The most bytes that it may hold.
        bytes: usize,
    },
}

/// The sending half of a broker.
#[async_trait]
pub trait Publisher: Send + Sync + 'static {
    /// Publishes one message, persistent and mandatory.
    ///
    /// `Ok` means that every queue the message was routed to holds it durably: it survives a crash of the broker
    /// right after. At least one queue, an alternate exchange's included, holds it. A message whose publish failed
    /// may still have been stored. Publishes of one task are stored in the order they return; publishes that run at
    /// the same time have no order, and a small message ([`SMALL_BODY_BYTES`]) does not wait for all the larger ones before
    /// it. Dropping the future gives up waiting: the message may or may not be stored.
    ///
    /// The name of the default exchange is empty: its routing key is a queue's name.
    async fn publish(
        &self,
        exchange: &ExchangeName,
        routing_key: &str,
        message: Message,
    ) -> Result<(), PublishError> {
        self.publish_shared(exchange, routing_key, Arc::new(message)).await
    }

    /// [`Self::publish`] of a message that the caller may keep until it is stored.
    async fn publish_shared(
        &self,
        exchange: &ExchangeName,
        routing_key: &str,
        message: Arc<Message>,
    ) -> Result<(), PublishError>;

    /// [`Self::publish_shared`] that ends after this time at the latest: `None` if it has no result by then. A publisher that
    /// limits the time itself needs one timer for both.
    async fn publish_within(
        &self,
        patience: Duration,
        exchange: &ExchangeName,
        routing_key: &str,
        message: Arc<Message>,
    ) -> Option<Result<(), PublishError>> {
        timeout(patience, self.publish_shared(exchange, routing_key, message)).await.ok()
    }
}

/// Names a delivery within its [`Deliveries`].
pub type DeliveryTag = u64;

/// A message handed to one consumer, until it is settled.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What [`Deliveries::ack`] and the others take.
    pub tag: DeliveryTag,
    /// Whether the message was handed out before and came back unsettled. False does not prove the opposite.
    pub redelivered: bool,
    /// The routing key it was routed with last.
    pub routing_key: String,
    /// The message.
    pub message: Message,
}

/// The receiving half of a broker.
#[async_trait]
pub trait Subscriber: Send + Sync + 'static {
    /// Starts taking messages from a queue: at most `prefetch` (1 or more) are handed out and unsettled at any time.
    ///
    /// Consumers of one queue compete: a message is with one of them at a time.
    async fn subscribe(&self, queue: &QueueName, prefetch: u16) -> Result<Box<dyn Deliveries>, BrokerError>;
}

/// The deliveries of one consumer on one queue.
///
/// Dropping it gives back unsettled deliveries: the queue delivers them again, marked redelivered. That is the only way
/// to give a delivery back, and it counts towards the delivery limit of the queue.
///
/// After an error from any method the subscription is over: every later call of any method returns an error at once.
/// The broker gives back what was not settled; the caller subscribes again. A subscription is over when the connection
/// is lost, when the broker cancels it, and when its queue is deleted.
#[async_trait]
pub trait Deliveries: Send {
    /// The next delivery; waits for one without limit. Cancel safe: no delivery is lost when the future is dropped.
    async fn next(&mut self) -> Result<Delivery, BrokerError>;

    /// Removes deliveries from the queue; without tags, fails only if the subscription is over. `Ok` means that the ack
    /// was sent; after a crash they may come again, marked redelivered. Notices the end of a subscription even if
    /// deliveries in front of it are not taken yet.
    async fn ack(&mut self, tags: &[DeliveryTag]) -> Result<(), BrokerError>;

    /// Changes how many deliveries are handed out and unsettled at any time: at most `prefetch` (1 or more) of those
    /// that arrive from now on. Earlier ones come first, can be settled as before, and may or may not count.
    ///
    /// Their bodies have at most `bytes` together, or one more than fits. Where the broker delivers more than that, the
    /// subscription ends with [`BrokerError::Overfull`] and gives everything back; what is in memory stays bounded.
    async fn limit(&mut self, prefetch: u16, bytes: usize) -> Result<(), BrokerError>;
}

/// How full a queue is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// The queue.
    pub queue: QueueName,
    /// Messages ready to be handed out; those that are with a consumer are not counted.
    pub ready: u64,
    /// Messages that consumers hold and have not settled; `None` if the broker does not show it.
    pub unacked: Option<u64>,
    /// Consumers that take from it now.
    pub consumers: u64,
}

/// Which broker this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Its name, such as `RabbitMQ`.
    pub product: String,
    /// Its version.
    pub version: String,
    /// Where it is, without credentials.
    pub address: String,
}

/// A broker: both halves, and what an operator asks of it.
#[async_trait]
pub trait Broker: Publisher + Subscriber {
    /// Declares exchanges, queues and bindings, and again on every new connection: the broker may have lost them.
    /// Declaring what exists changes nothing; nothing is ever deleted.
    ///
    /// An existing queue with another delivery limit is not a conflict: a release that changes the limit runs beside
    /// its predecessor. The queue takes the new limit, or keeps its own where the broker cannot change it.
    async fn declare(&self, topology: &Topology) -> Result<(), BrokerError>;

    /// Declares, like [`Broker::declare`], but once: a new connection does not declare it again. For what another process
    /// may unbind or delete meanwhile.
    async fn declare_once(&self, topology: &Topology) -> Result<(), BrokerError>;

    /// Removes bindings. A binding that does not exist, or whose exchange or queue does not, is no error. What a queue
    /// holds stays there. To replace bindings without losing a message, declare the new ones before.
    async fn unbind(&self, bindings: &[Binding]) -> Result<(), BrokerError>;

    /// Deletes a queue with its bindings and the messages in it; returns how many of them were ready. A queue that does
    /// not exist is no error, and had none. Other queues keep their messages, and every subscription to it is over.
    async fn delete_queue(&self, queue: &QueueName) -> Result<u64, BrokerError>;

    /// The status of each queue, in the order asked.
    async fn queues(&self, queues: &[QueueName]) -> Result<Vec<QueueStatus>, BrokerError>;

    /// Contacts the broker and returns what it is: shown by readiness and `malote doctor`.
    async fn check(&self) -> Result<BrokerInfo, BrokerError>;

    /// Finishes running operations and closes. Publishing afterwards is an error.
    async fn close(&self);
}
