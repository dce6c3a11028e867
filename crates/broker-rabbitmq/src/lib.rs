//! The broker traits over AMQP 0-9-1: RabbitMQ, 3.10 or later, a single node or a cluster.
//!
//! Place in the flow: the same as the embedded broker's, and the same laws hold. This is the only crate that names
//! lapin. Publishing and consuming use a connection each, made when first wanted and replaced when lost:
//! [`RabbitMq::connect`] never fails, and a handle lives through any outage of the server.
//!
//! The caller ensures three things before it creates a handle. A rustls crypto provider is installed, if the URL says
//! `amqps`; the metrics recorder is installed, as handles to metrics are taken once; and lapin's own log is off (target
//! `lapin`), because it writes returned messages whole.
//!
//! One thing RabbitMQ does not promise: a quorum queue is of no use after `kill -9` of a node within half a second of
//! the queue's first declaration. [`Broker::declare`] therefore returns a second late when it made a queue.
//!
//! ```no_run
//! use broker_rabbitmq::{Config, RabbitMq};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new("amqp://malote:secret@one:5672,two:5672/webhooks".parse()?);
//! let broker: broker::DynBroker = std::sync::Arc::new(RabbitMq::connect(config));
//! println!("{:?}", broker.check().await?);
//! # Ok(())
//! # }
//! ```

mod connection;
mod declare;
mod forbidden;
mod identity;
mod in_hand;
mod link;
mod message;
mod migration;
mod publisher;
mod subscriber;
mod tls;
mod turns;
mod url;
mod window;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use broker::{
    Binding, Broker, BrokerError, BrokerInfo, Deliveries, Destination, ExchangeName, PublishError, Queue,
    QueueName, QueueStatus, Topology,
};
use event::{ClientTls, Message};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::connection::Supervised;
pub use crate::migration::{Inspect, Inspection, MigrationError, Obstacle, Step, stand_in_of};
use crate::publisher::Publisher;
pub use crate::url::{AmqpUrl, AmqpUrlError};

/// How to reach RabbitMQ, and its time-outs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where RabbitMQ is, and who asks.
    pub url: AmqpUrl,
    /// How long one host may take to be connected to. An operation other than publishing and declaring may take as
    /// long again once every host was tried.
    pub connection_timeout_ms: u64,
    /// How long a publish may take, publishing again included.
    pub confirm_timeout_ms: u64,
    /// How many channels publish, each owned by a task.
    pub channels: usize,
    /// How many publishes one channel has in flight.
    pub window: usize,
    /// How often either side proves to be there; a peer that is silent for twice as long is gone. 0 turns it off.
    pub heartbeat_s: u16,
    /// What RabbitMQ shows as the connection's name, with `publish` or `consume` added.
    pub connection_name: String,
    /// The TLS settings of `amqps://`.
    pub tls: ClientTls,
    /// A file with the password, which replaces that of the URL. It is read for each connection.
    pub password_file: Option<PathBuf>,
}

impl Config {
    /// The defaults: 5 s to connect, 3 s to confirm, two channels with 256 in flight each, a heartbeat of 10 s.
    pub fn new(url: AmqpUrl) -> Self {
        Self {
            url,
            connection_timeout_ms: 5_000,
            confirm_timeout_ms: 3_000,
            channels: 2,
            window: 256,
            heartbeat_s: 10,
            connection_name: "malote".to_owned(),
            tls: ClientTls::default(),
            password_file: None,
        }
    }

    /// The credentials of a new connection. A trailing line break in the file is ignored.
    pub(crate) fn password(&self) -> io::Result<String> {
        let Some(file) = &self.password_file else { return Ok(self.url.password.clone()) };
        match fs::read_to_string(file) {
            Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", file.display()))),
        }
    }

    pub(crate) fn connection_timeout(&self) -> Duration {
        Duration::from_millis(self.connection_timeout_ms)
    }

    /// Every host once, then the operation.
    pub(crate) fn operation_timeout(&self) -> Duration {
        let hosts = u32::try_from(self.url.hosts.len()).unwrap_or(u32::MAX);
        self.connection_timeout().saturating_mul(hosts.saturating_add(1))
    }

    pub(crate) fn confirm_timeout(&self) -> Duration {
        Duration::from_millis(self.confirm_timeout_ms)
    }
}

/// How long a new quorum queue needs before it survives a crash of its node: RabbitMQ writes its directory of queues
/// every half second (`auto_save` in Ra's `ra_directory`), and no interface tells when.
const NEW_QUEUE_SETTLES: Duration = Duration::from_secs(1);

/// Why the broker is unavailable, where lapin has no error of its own.
#[derive(Clone, Debug, thiserror::Error)]
enum Unavailable {
    #[error("there is no connection: {0}")]
    Down(Arc<str>),
    #[error("RabbitMQ has blocked the connection: a memory or disk alarm is raised")]
    Blocked,
    #[error("RabbitMQ did not answer {0} in time")]
    Silent(&'static str),
    #[error("RabbitMQ cancelled the consumer")]
    Cancelled,
    #[error("this handle is closed")]
    Closed,
}

/// A handle to RabbitMQ.
///
/// [`Broker::close`] finishes what is under way and ends the connections. Dropping it waits for nothing; deliveries
/// keep their connection until they are dropped too, but not a new one in its place.
pub struct RabbitMq {
    config: Arc<Config>,
    publishing: Supervised,
    /// Declaring and asking use it too: RabbitMQ stops reading from a connection that publishes when it is short of
    /// memory or disk.
    consuming: Supervised,
    publisher: Publisher,
    declared: Arc<Mutex<Topology>>,
    /// Held while what is gone is declared again.
    declaring: tokio::sync::Mutex<()>,
    closing: watch::Sender<bool>,
}

impl RabbitMq {
    /// A handle; connections are made when first wanted. Call it within a tokio runtime.
    pub fn connect(config: Config) -> Self {
        let config = Arc::new(config);
        let declared = Arc::default();
        let (closing, _) = watch::channel(false);
        let supervise =
            |role| Supervised::start(role, config.clone(), Arc::clone(&declared), closing.subscribe());
        let publishing = supervise(link::PUBLISHING);
        let consuming = supervise("consume");
        let publisher = Publisher::start(&config, publishing.clone());
        let declaring = tokio::sync::Mutex::default();
        Self { publisher, publishing, consuming, declared, declaring, closing, config }
    }

    /// Whether RabbitMQ has blocked publishing (`connection.blocked`): publishes wait, up to their deadline. The gauge
    /// `amqp_blocked` shows the same.
    pub fn is_blocked(&self) -> bool {
        self.publishing.blocked()
    }

    /// How an existing queue differs from this declaration, in words; `None` if it does not. A missing queue is
    /// declared.
    pub async fn difference(&self, queue: &Queue) -> Result<Option<String>, BrokerError> {
        let topology = Topology { queues: vec![queue.clone()], ..Topology::default() };
        match self.consuming.declare(&topology, self.deadline()).await {
            Ok(in_force) => {
                let (limit, wanted) = (in_force.queues[0].delivery_limit, queue.delivery_limit);
                Ok((limit != wanted).then(|| format!("x-delivery-limit is {limit}, not {wanted}")))
            }
            Err(BrokerError::Conflict { cause, .. }) => Ok(Some(cause.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Declares a topology; returns what is in force.
    async fn declare_now(&self, topology: &Topology) -> Result<Topology, BrokerError> {
        let queues: Vec<QueueName> = topology.queues.iter().map(|queue| queue.name.clone()).collect();
        let asked = self.queues(&queues).await;
        let in_force = self.consuming.declare(topology, self.deadline()).await?;
        if matches!(asked, Err(BrokerError::MissingQueue { .. })) {
            sleep(NEW_QUEUE_SETTLES).await;
        }
        for (queue, existing) in topology.queues.iter().zip(&in_force.queues) {
            if queue.delivery_limit != existing.delivery_limit {
                warn!(
                    queue = %queue.name, limit = existing.delivery_limit, wanted = queue.delivery_limit,
                    "a queue keeps the delivery limit that it was declared with: run `malote topology apply` once no \
                     older malote runs",
                );
            }
        }
        Ok(in_force)
    }

    /// If this exchange was declared, somebody has deleted it: everything is declared again, and the next publish finds it.
    async fn declare_again(&self, exchange: &ExchangeName) {
        // Many publishes find it gone, and one of them declares.
        let Ok(_declaring) = self.declaring.try_lock() else { return };
        let topology = self.declared().clone();
        if !topology.exchanges.iter().any(|known| known.name == *exchange) {
            return;
        }
        warn!(%exchange, "an exchange is gone: the topology is declared again");
        if let Err(error) = self.consuming.declare(&topology, self.deadline()).await {
            warn!("the topology is not declared again: {}", event::Chain(&error));
        }
    }

    /// What is declared again after a reconnection.
    fn declared(&self) -> MutexGuard<'_, Topology> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.config.operation_timeout()
    }
}

#[async_trait]
impl broker::Publisher for RabbitMq {
    async fn publish_shared(
        &self,
        exchange: &ExchangeName,
        routing_key: &str,
        message: Arc<Message>,
    ) -> Result<(), PublishError> {
        let published = self.publish_within(Duration::MAX, exchange, routing_key, message).await;
        published.expect("its own time-out is shorter")
    }

    async fn publish_within(
        &self,
        patience: Duration,
        exchange: &ExchangeName,
        routing_key: &str,
        message: Arc<Message>,
    ) -> Option<Result<(), PublishError>> {
        let confirm_timeout = self.config.confirm_timeout();
        let until = Instant::now() + patience.min(confirm_timeout);
        let published = self.publisher.publish(until, exchange, routing_key, message).await;
        match published {
            None if patience >= confirm_timeout => return Some(self.publisher.unconfirmed()),
            Some(Err(PublishError::MissingExchange { ref exchange })) => {
                // On the heap, since it is rare, and every publish has room for what is not.
                let _ = Box::pin(timeout_at(until, self.declare_again(exchange))).await;
            }
            None | Some(_) => {}
        }
        published
    }
}

#[async_trait]
impl broker::Subscriber for RabbitMq {
    async fn subscribe(&self, queue: &QueueName, prefetch: u16) -> Result<Box<dyn Deliveries>, BrokerError> {
        let deliveries = subscriber::subscribe(&self.consuming, queue, prefetch, self.deadline()).await?;
        Ok(Box::new(deliveries))
    }
}

#[async_trait]
impl Broker for RabbitMq {
    async fn declare(&self, topology: &Topology) -> Result<(), BrokerError> {
        let in_force = self.declare_now(topology).await?;
        remember(&mut self.declared(), &in_force);
        Ok(())
    }

    async fn declare_once(&self, topology: &Topology) -> Result<(), BrokerError> {
        self.declare_now(topology).await.map(drop)
    }

    async fn unbind(&self, bindings: &[Binding]) -> Result<(), BrokerError> {
        // First, so that a reconnection in the meantime does not bind again.
        self.declared().bindings.retain(|known| !bindings.contains(known));
        let deadline = self.deadline();
        let (_link, channel) = self.consuming.channel(deadline).await.map_err(BrokerError::Unavailable)?;
        declare::unbind(&channel, bindings, deadline).await
    }

    async fn delete_queue(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        forget(&mut self.declared(), queue);
        let deadline = self.deadline();
        let (_link, channel) = self.consuming.channel(deadline).await.map_err(BrokerError::Unavailable)?;
        declare::delete_queue(&channel, queue, deadline).await
    }

    async fn queues(&self, queues: &[QueueName]) -> Result<Vec<QueueStatus>, BrokerError> {
        let deadline = self.deadline();
        let (_link, channel) = self.consuming.channel(deadline).await.map_err(BrokerError::Unavailable)?;
        declare::statuses(&channel, queues, deadline).await
    }

    async fn check(&self) -> Result<BrokerInfo, BrokerError> {
        if self.is_blocked() {
            return Err(BrokerError::Unavailable(Unavailable::Blocked.into()));
        }
        // Opening the channel is the round trip that shows that the server answers.
        let (link, _channel) =
            self.consuming.channel(self.deadline()).await.map_err(BrokerError::Unavailable)?;
        let identity = link.identity(&self.config).await.map_err(BrokerError::Unavailable)?;
        Ok(BrokerInfo {
            product: identity.product.clone(),
            version: identity.version.clone(),
            address: self.config.url.address(std::slice::from_ref(&link.host)),
        })
    }

    async fn close(&self) {
        self.publisher.close().await;
        self.closing.send_replace(true);
        self.publishing.ended().await;
        self.consuming.ended().await;
    }
}

/// Removes a queue and its bindings from what is declared again after a reconnection.
fn forget(declared: &mut Topology, queue: &QueueName) {
    declared.queues.retain(|known| known.name != *queue);
    declared.bindings.retain(|known| known.destination != Destination::Queue(queue.clone()));
}

/// Adds to what is declared again after a reconnection; what has the same name is replaced.
fn remember(declared: &mut Topology, topology: &Topology) {
    for exchange in &topology.exchanges {
        declared.exchanges.retain(|known| known.name != exchange.name);
        declared.exchanges.push(exchange.clone());
    }
    for queue in &topology.queues {
        declared.queues.retain(|known| known.name != queue.name);
        declared.queues.push(queue.clone());
    }
    for binding in &topology.bindings {
        if !declared.bindings.contains(binding) {
            declared.bindings.push(binding.clone());
        }
    }
}
