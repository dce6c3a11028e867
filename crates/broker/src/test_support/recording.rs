//! A broker that records every publish, and fails on demand.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use event::Message;
use tokio::sync::Semaphore;

use crate::{
    Binding, Broker, BrokerError, BrokerInfo, Deliveries, Delivery, DeliveryTag, DynBroker, ExchangeName,
    PublishError, Publisher, QueueName, QueueStatus, Subscriber, Topology,
};

/// How a publish is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The message is stored and confirmed.
    Confirm,
    /// The same, after a while.
    ConfirmAfter(Duration),
    /// The message is stored; the confirm waits for [`RecordingBroker::confirm`].
    Hold,
    /// A negative confirm; nothing is stored.
    Refuse,
    /// The body is larger than the broker accepts; nothing is stored.
    TooLarge,
    /// No answer ever; nothing is stored.
    Hang,
    /// The broker is down.
    Unavailable,
    /// The exchange is not declared.
    MissingExchange,
}

/// One publish.
#[derive(Clone, Debug)]
pub struct Published {
    /// The exchange published to.
    pub exchange: ExchangeName,
    /// The routing key published with.
    pub routing_key: String,
    /// The message.
    pub message: Message,
    is_confirmed: bool,
}

type Refusal = Box<dyn FnMut(&Published) -> bool + Send>;

/// Stands in front of another broker, which stores and delivers; or alone, and then has no queue.
///
/// It confirms everything unless a test sets a fault. Faults that are counted happen that many times.
pub struct RecordingBroker {
    behind: Option<DynBroker>,
    answer: Mutex<Answer>,
    refusal: Mutex<Refusal>,
    body_limit_bytes: AtomicUsize,
    published: Mutex<Vec<Published>>,
    held: Semaphore,
    confirms: Semaphore,
    subscriptions: AtomicUsize,
    silent_subscriptions: AtomicUsize,
    overstatements: AtomicUsize,
    changes_left: AtomicUsize,
    stopped: Semaphore,
    lost_acks: Arc<AtomicUsize>,
}

impl RecordingBroker {
    /// A broker of its own.
    pub fn alone() -> Arc<Self> {
        Self::new(None)
    }

    /// In front of a broker, which it never closes.
    pub fn in_front_of(broker: DynBroker) -> Arc<Self> {
        Self::new(Some(broker))
    }

    fn new(behind: Option<DynBroker>) -> Arc<Self> {
        Arc::new(Self {
            behind,
            answer: Mutex::new(Answer::Confirm),
            refusal: Mutex::new(Box::new(|_| false)),
            body_limit_bytes: AtomicUsize::new(usize::MAX),
            published: Mutex::default(),
            held: Semaphore::new(0),
            confirms: Semaphore::new(0),
            subscriptions: AtomicUsize::new(0),
            silent_subscriptions: AtomicUsize::new(0),
            overstatements: AtomicUsize::new(0),
            changes_left: AtomicUsize::new(usize::MAX),
            stopped: Semaphore::new(0),
            lost_acks: Arc::default(),
        })
    }

    /// Answers every publish from now on like this. While it is down or hangs, checks fail too.
    pub fn answer(&self, answer: Answer) {
        *lock(&self.answer) = answer;
    }

    /// From now on refuses what `refuses` says, unless it is down or hangs.
    pub fn refuse(&self, refuses: impl FnMut(&Published) -> bool + Send + 'static) {
        *lock(&self.refusal) = Box::new(refuses);
    }

    /// From now on accepts no longer bodies than this, unless it is down or hangs.
    pub fn limit_bodies(&self, bytes: usize) {
        self.body_limit_bytes.store(bytes, Ordering::SeqCst);
    }

    /// Waits until so many more publishes are held.
    pub async fn held(&self, count: u32) {
        self.held.acquire_many(count).await.expect("the semaphore is never closed").forget();
    }

    /// Confirms so many publishes that are held, or will be.
    pub fn confirm(&self, count: usize) {
        self.confirms.add_permits(count);
    }

    /// The publishes that were confirmed, in the order in which they were asked for.
    pub fn published(&self) -> Vec<Published> {
        lock(&self.published).iter().filter(|published| published.is_confirmed).cloned().collect()
    }

    /// How many publishes of this kind there were, whatever the answer.
    pub fn tries(&self, is_meant: impl Fn(&Published) -> bool) -> usize {
        lock(&self.published).iter().filter(|published| is_meant(published)).count()
    }

    /// How many subscriptions there were.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.load(Ordering::SeqCst)
    }

    /// The next `count` subscriptions never hand out anything.
    pub fn silence_subscriptions(&self, count: usize) {
        self.silent_subscriptions.store(count, Ordering::SeqCst);
    }

    /// The next `count` acks are lost, and each ends its subscription.
    pub fn lose_acks(&self, count: usize) {
        self.lost_acks.store(count, Ordering::SeqCst);
    }

    /// The next `count` statuses of queues show one message too many.
    pub fn overstate_queues(&self, count: usize) {
        self.overstatements.store(count, Ordering::SeqCst);
    }

    /// How many statuses will still show one message too many.
    pub fn overstatements(&self) -> usize {
        self.overstatements.load(Ordering::SeqCst)
    }

    /// After `count` more changes of queues and bindings that may be undone, the next one never returns and changes nothing,
    /// as if the process were killed there.
    pub fn stop_after_changes(&self, count: usize) {
        self.changes_left.store(count, Ordering::SeqCst);
    }

    /// Waits until a change does not return.
    pub async fn stopped(&self) {
        self.stopped.acquire().await.expect("the semaphore is never closed").forget();
    }

    /// A change of queues or bindings that may happen.
    async fn may_change(&self) {
        if !happens(&self.changes_left) {
            self.stopped.add_permits(1);
            std::future::pending::<()>().await;
        }
    }

    fn answer_to(&self, published: &Published) -> Answer {
        match *lock(&self.answer) {
            silent @ (Answer::Unavailable | Answer::Hang) => silent,
            _ if published.message.body.len() > self.body_limit_bytes.load(Ordering::SeqCst) => {
                Answer::TooLarge
            }
            _ if lock(&self.refusal)(published) => Answer::Refuse,
            answer => answer,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds the lock")
}

fn unavailable() -> crate::Cause {
    "connection refused".into()
}

/// Whether a fault was left, which now has happened.
fn happens(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[async_trait]
impl Publisher for RecordingBroker {
    async fn publish_shared(
        &self,
        exchange: &ExchangeName,
        routing_key: &str,
        message: Arc<Message>,
    ) -> Result<(), PublishError> {
        let published = Published {
            exchange: exchange.clone(),
            routing_key: routing_key.to_owned(),
            message: message.as_ref().clone(),
            is_confirmed: false,
        };
        let answer = self.answer_to(&published);
        let index = {
            let mut all = lock(&self.published);
            all.push(published);
            all.len() - 1
        };
        match answer {
            Answer::Confirm | Answer::Hold => {}
            Answer::ConfirmAfter(time) => tokio::time::sleep(time).await,
            Answer::Refuse => return Err(PublishError::Refused),
            Answer::TooLarge => return Err(PublishError::TooLarge("larger than the limit".into())),
            Answer::Hang => std::future::pending().await,
            Answer::Unavailable => return Err(PublishError::Unavailable(unavailable())),
            Answer::MissingExchange => {
                return Err(PublishError::MissingExchange { exchange: exchange.clone() });
            }
        }
        if let Some(behind) = &self.behind {
            behind.publish_shared(exchange, routing_key, message).await?;
        }
        if answer == Answer::Hold {
            self.held.add_permits(1);
            self.confirms.acquire().await.expect("the semaphore is never closed").forget();
        }
        lock(&self.published)[index].is_confirmed = true;
        Ok(())
    }
}

#[async_trait]
impl Subscriber for RecordingBroker {
    async fn subscribe(&self, queue: &QueueName, prefetch: u16) -> Result<Box<dyn Deliveries>, BrokerError> {
        self.subscriptions.fetch_add(1, Ordering::SeqCst);
        let Some(behind) = &self.behind else {
            return Err(BrokerError::MissingQueue { queue: queue.clone() });
        };
        if happens(&self.silent_subscriptions) {
            return Ok(Box::new(Silent));
        }
        let inner = Some(behind.subscribe(queue, prefetch).await?);
        Ok(Box::new(Forgetful { inner, lost_acks: self.lost_acks.clone() }))
    }
}

#[async_trait]
impl Broker for RecordingBroker {
    async fn declare(&self, topology: &Topology) -> Result<(), BrokerError> {
        match &self.behind {
            Some(behind) => behind.declare(topology).await,
            None => Ok(()),
        }
    }

    async fn declare_once(&self, topology: &Topology) -> Result<(), BrokerError> {
        self.may_change().await;
        self.declare(topology).await
    }

    async fn unbind(&self, bindings: &[Binding]) -> Result<(), BrokerError> {
        self.may_change().await;
        match &self.behind {
            Some(behind) => behind.unbind(bindings).await,
            None => Ok(()),
        }
    }

    async fn delete_queue(&self, queue: &QueueName) -> Result<u64, BrokerError> {
        self.may_change().await;
        match &self.behind {
            Some(behind) => behind.delete_queue(queue).await,
            None => Ok(0),
        }
    }

    async fn queues(&self, queues: &[QueueName]) -> Result<Vec<QueueStatus>, BrokerError> {
        let Some(behind) = &self.behind else { return Ok(Vec::new()) };
        let mut statuses = behind.queues(queues).await?;
        if happens(&self.overstatements) {
            statuses.iter_mut().for_each(|status| status.ready += 1);
        }
        Ok(statuses)
    }

    async fn check(&self) -> Result<BrokerInfo, BrokerError> {
        if matches!(*lock(&self.answer), Answer::Unavailable | Answer::Hang) {
            return Err(BrokerError::Unavailable(unavailable()));
        }
        match &self.behind {
            Some(behind) => behind.check().await,
            None => {
                Ok(BrokerInfo { product: "recording".into(), version: "1".into(), address: "memory".into() })
            }
        }
    }

    async fn close(&self) {}
}

/// A subscription whose acks may be lost, and which then is over.
struct Forgetful {
    inner: Option<Box<dyn Deliveries>>,
    lost_acks: Arc<AtomicUsize>,
}

impl Forgetful {
    fn inner(&mut self) -> Result<&mut Box<dyn Deliveries>, BrokerError> {
        self.inner.as_mut().ok_or_else(|| BrokerError::Unavailable("the subscription is over".into()))
    }
}

#[async_trait]
impl Deliveries for Forgetful {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        self.inner()?.next().await
    }

    async fn ack(&mut self, tags: &[DeliveryTag]) -> Result<(), BrokerError> {
        if !tags.is_empty() && happens(&self.lost_acks) {
            self.inner = None;
        }
        self.inner()?.ack(tags).await
    }

    async fn limit(&mut self, prefetch: u16, bytes: usize) -> Result<(), BrokerError> {
        self.inner()?.limit(prefetch, bytes).await
    }
}

/// A subscription that its queue has forgotten.
struct Silent;

#[async_trait]
impl Deliveries for Silent {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        std::future::pending().await
    }

    async fn ack(&mut self, _: &[DeliveryTag]) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn limit(&mut self, _: u16, _: usize) -> Result<(), BrokerError> {
        Ok(())
    }
}
