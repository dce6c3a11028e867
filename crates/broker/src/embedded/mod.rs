//! The embedded broker: exchanges and queues in one SQLite file, for a malote that is a single process.
//!
//! It promises what the traits promise: a publish that returned is on the disk (`fsync`). It implements AMQP's model
//! as far as [`Topology`] goes and refuses to know the protocol. Delivery order, redelivery, expiry and the delivery
//! limit follow RabbitMQ's quorum queues. The file belongs to one process; a second one is turned away.
//!
//! `writer` is the thread that does everything, `state` what an operation means, `queue` and `routes` what is
//! in memory, `file` what is on the disk, `checkpointer` the thread that keeps its log short.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use event::Message;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use self::file::File;
use self::queue::{Consumer, ConsumerId, Handed, Limit};
use self::state::BrokerState;
use self::writer::{Clock, Command, Writer};
use crate::{
    Binding, Broker, BrokerError, BrokerInfo, Cause, Deliveries, Delivery, DeliveryTag, ExchangeName,
    PublishError, Publisher, QueueName, QueueStatus, Subscriber, Topology, death,
};

mod checkpointer;
mod file;
mod messages;
mod properties;
mod queue;
mod routes;
mod schema;
mod state;
#[cfg(test)]
mod tests;
mod upgrade;
mod writer;

/// Why the embedded broker did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path} is in use by another malote process: stop that one first")]
    InUse {
        /// The broker's file.
        path: PathBuf,
    },
    /// A version of malote wrote it that this one does not know.
    #[error(
        "{path} has version {found}, this malote reads version {supported}: use the malote that wrote it"
    )]
    Version {
        /// The broker's file.
        path: PathBuf,
        /// The version of its schema.
        found: i64,
        /// The version this build reads.
        supported: i64,
    },
    /// It is something else.
    #[error("{path} is not a file of the embedded broker")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened or created.
    #[error("cannot open {path}")]
    File {
        /// The broker's file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// It is of an earlier version, and the disk has no room for the copy that upgrades it. Nothing was written.
    #[error(
        "upgrading {path} needs {needed} bytes of free disk space, and {available} are available: make room on that disk, or \
         move the file to a larger one"
    )]
    Room {
        /// The broker's file.
        path: PathBuf,
        /// How many bytes the upgrade needs.
        needed: u64,
        /// How many bytes are free.
        available: u64,
    },
    /// SQLite cannot read or write it.
    #[error("cannot use {path}")]
    Sqlite {
        /// The broker's file.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: rusqlite::Error,
    },
}

#[derive(Debug, thiserror::Error)]
#[error("the embedded broker is closed")]
struct Closed;

#[derive(Debug, thiserror::Error)]
#[error(
    "the subscription is over: its queue was deleted, or the embedded broker was closed or could not write its file"
)]
struct Ended;

#[derive(Debug, thiserror::Error)]
#[error("delivery tag {0} is not held")]
struct NotHeld(DeliveryTag);

fn unavailable(cause: impl Into<Cause>) -> BrokerError {
    BrokerError::Unavailable(cause.into())
}

/// What a queue of the embedded broker holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Messages, those that consumers hold included.
    pub messages: u64,
    /// The length of their bodies, in bytes.
    pub body_bytes: u64,
}

/// A handle to the embedded broker. Clones share it; it closes when the last one and the last subscription are gone.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    /// Unbounded: each command has a caller who waits, or settles what a prefetch bounds.
    commands: mpsc::Sender<Command>,
    next_consumer: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    /// Opens the broker's file, or creates it in a directory that exists, and starts its thread. Blocks for a moment.
    ///
    /// A metrics recorder that is to see this broker is installed before.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let file = File::open(&path)?;
        let clock = Clock::new();
        let state = BrokerState::load(&file, clock.now())
            .map_err(|source| OpenError::Sqlite { path: path.clone(), source })?;
        let (commands, receiver) = mpsc::channel();
        let writer = Writer::new(file, state, clock, receiver);
        let thread = std::thread::Builder::new()
            .name("broker".to_owned())
            .spawn(|| writer.run())
            .map_err(|source| OpenError::File { path: path.clone(), source })?;
        Ok(Self {
            shared: Arc::new(Shared {
                path,
                commands,
                next_consumer: AtomicU64::new(0),
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// What a queue holds, including what consumers hold. Scans the whole queue.
    pub async fn contents(&self, queue: &QueueName) -> Result<Contents, BrokerError> {
        let queue = queue.clone();
        self.ask(|reply| Command::Contents { queue, reply }).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, BrokerError>>) -> Command,
    ) -> Result<T, BrokerError> {
        let (reply, answer) = oneshot::channel();
        self.shared.commands.send(command(reply)).map_err(|_| unavailable(Closed))?;
        answer.await.map_err(|_| unavailable(Closed))?
    }
}

impl Shared {
    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the embedded broker's thread panicked: what was under way counts as a crash");
        }
    }
}

impl Drop for Shared {
    /// Waits for the thread, so that the file is free and all is on the disk afterwards.
    fn drop(&mut self) {
        let (reply, _) = oneshot::channel();
        // Fails only when it is closed already.
        let _ = self.commands.send(Command::Close { reply });
        self.join();
    }
}

#[async_trait]
impl Publisher for Embedded {
    async fn publish_shared(
        &self,
        exchange: &ExchangeName,
        routing_key: &str,
        message: Arc<Message>,
    ) -> Result<(), PublishError> {
        let closed = || PublishError::Unavailable(Closed.into());
        let (reply, answer) = oneshot::channel();
        let command = Command::Publish {
            exchange: exchange.clone(),
            routing_key: routing_key.to_owned(),
            properties: properties::write(&message),
            expiration: message.expiration,
            body: message.body.clone(),
            reply,
        };
        self.shared.commands.send(command).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

#[async_trait]
impl Subscriber for Embedded {
    async fn subscribe(&self, queue: &QueueName, prefetch: u16) -> Result<Box<dyn Deliveries>, BrokerError> {
        let (sender, deliveries) = unbounded_channel();
        let id = self.shared.next_consumer.fetch_add(1, Ordering::Relaxed);
        // Before the question: a future dropped while it waits must end the subscription that it asked for.
        let subscription = EmbeddedDeliveries {
            shared: self.shared.clone(),
            queue: queue.clone(),
            id,
            deliveries,
            held: HashSet::new(),
        };
        let queue = queue.clone();
        let consumer = Consumer::new(id, Limit::new(prefetch, usize::MAX), sender);
        self.ask(|reply| Command::Subscribe { queue, consumer, reply }).await?;
        Ok(Box::new(subscription))
    }
}

#[async_trait]
impl Broker for Embedded {
    async fn declare(&self, topology: &Topology) -> Result<(), BrokerError> {
        let topology = topology.clone();
        self.ask(|reply| Command::Declare { topology, reply }).await
    }

    async fn declare_once(&self, topology: &Topology) -> Result<(), BrokerError> {
        self.declare(topology).await
    }

    async fn unbind(&self, bindings: &[Binding]) -> Result<(), BrokerError> {
        let bindings = bindings.to_owned();
        self.ask(|reply| Command::Unbind { bindings, reply }).await
    }

    async fn delete_queue(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        let queue = queue.clone();
        self.ask(|reply| Command::DeleteQueue { queue, reply }).await
    }

    async fn queues(&self, queues: &[QueueName]) -> Result<Vec<QueueStatus>, BrokerError> {
        let queues = queues.to_owned();
        self.ask(|reply| Command::Status { queues, reply }).await
    }

    async fn check(&self) -> Result<BrokerInfo, BrokerError> {
        self.ask(|reply| Command::Check { reply }).await?;
        Ok(BrokerInfo {
            product: "malote embedded broker".to_owned(),
            version: rusqlite::version().to_owned(),
            address: self.shared.path.display().to_string(),
        })
    }

    async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.shared.commands.send(Command::Close { reply }).is_ok() {
            // An error is an answer too: the thread has ended.
            let _ = answer.await;
        }
        self.shared.join();
    }
}

/// A consumer's side: reads stored messages and keeps which of them it holds.
struct EmbeddedDeliveries {
    shared: Arc<Shared>,
    queue: QueueName,
    id: ConsumerId,
    deliveries: UnboundedReceiver<Handed>,
    held: HashSet<DeliveryTag>,
}

impl EmbeddedDeliveries {
    fn end(&mut self) {
        self.deliveries.close();
        while self.deliveries.try_recv().is_ok() {}
        // Fails only when the broker is closed, which gave everything back.
        let _ =
            self.shared.commands.send(Command::Unsubscribe { queue: self.queue.clone(), consumer: self.id });
    }
}

impl Drop for EmbeddedDeliveries {
    fn drop(&mut self) {
        self.end();
    }
}

#[async_trait]
impl Deliveries for EmbeddedDeliveries {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        let Handed { id, redelivered, routing_key, properties, body } =
            self.deliveries.recv().await.ok_or_else(|| unavailable(Ended))?;
        let mut message = properties::read(&properties, body).map_err(unavailable)?;
        death::mark(&mut message, &self.queue, &routing_key);
        let tag = id.cast_unsigned();
        self.held.insert(tag);
        Ok(Delivery { tag, redelivered, routing_key, message })
    }

    async fn ack(&mut self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        if self.deliveries.is_closed() {
            self.end();
            return Err(unavailable(Ended));
        }
        let mut ids = Vec::with_capacity(tags.len());
        for &tag in tags {
            if !self.held.remove(&tag) {
                // Like a channel error.
                self.end();
                return Err(unavailable(NotHeld(tag)));
            }
            ids.push(tag.cast_signed());
        }
        let command = Command::Ack { queue: self.queue.clone(), consumer: self.id, ids };
        self.shared.commands.send(command).map_err(|_| unavailable(Closed))
    }

    async fn limit(&mut self, prefetch: u16, bytes: usize) -> Result<(), BrokerError> {
        self.ack(&[]).await?;
        let limit = Limit::new(prefetch, bytes);
        let command = Command::Limit { queue: self.queue.clone(), consumer: self.id, limit };
        self.shared.commands.send(command).map_err(|_| unavailable(Closed))
    }
}
