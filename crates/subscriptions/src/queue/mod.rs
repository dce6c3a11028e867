//! The queue door: a queue of the broker for each subscription, bound to its topics.
//!
//! Promises that the broker follows the store: a queue is on record, with every binding that it may have, before the broker is
//! asked for it, and until the broker has deleted it. A process may be killed anywhere; [`Queues::settle`] of any process
//! continues. New bindings are made before others are removed, so that no event is missing in a queue whose topics change.
//!
//! What waits in a queue is known to the broker alone: a queue has no position, and its events have no attempts.

mod record;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use broker::layout::WorkQueue;
use broker::{Binding, BrokerError, Cause, Destination, DynBroker, Layout, QueueName, QueueStatus};
use event::{ProviderName, SubscriptionName, Timestamp};
use ledger::feed::{Topics, oldest_of_last};
use store::{Store, StoreError};

pub(crate) use self::record::messages;
use self::record::{Change, Recorded, Wanted};
use crate::declaration::{BadDeclaration, Declaration, Door, QueueDoor};
use crate::table::{self, Subscription, SubscriptionError};

/// Providers, each with a pattern of topics.
type Patterns = BTreeSet<(ProviderName, String)>;

/// What changes of queues are called by [`Store::exclusive`]. RabbitMQ closes the connection of a process that declares a new
/// quorum queue while another one declares it, too, and may lose its bindings.
const CHANGES: i64 = 0x6d61_6c6f_7465_0001;

/// How often a change is begun again because another process changes the same queue.
const ATTEMPTS: usize = 8;

/// What only the management API of RabbitMQ can do.
#[async_trait]
pub trait Management: Send + Sync {
    /// Makes a user that may read this queue and nothing else, or gives the one that was made so a new password; returns the
    /// password. Any other user of this name is refused. The user may not even bind to these exchanges.
    async fn make_user(&self, user: &str, queue: &QueueName, exchanges: &[String]) -> Result<String, Cause>;

    /// Deletes a user that [`Management::make_user`] made for this queue; any other user stays.
    async fn delete_user(&self, user: &str, queue: &QueueName) -> Result<(), Cause>;

    /// How many bytes a queue has, if that is known.
    async fn bytes(&self, queue: &QueueName) -> Option<u64>;

    /// How many messages of a queue consumers hold unacknowledged, if that is known.
    async fn unacked(&self, queue: &QueueName) -> Option<u64>;
}

/// Why a queue was not changed.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The broker is the embedded one.
    #[error(
        "the embedded broker has no port where a service could read a queue: use --pull or --push, or set broker.url to a \
         RabbitMQ"
    )]
    Embedded,
    /// A user is asked for, and there is no management API.
    #[error(
        "a user is made through RabbitMQ's management API: set broker.management_url to it, and give the user of broker.url \
         the tag `administrator`"
    )]
    NoManagement,
    /// The subscription has another door.
    #[error("subscription {0} has no queue")]
    NoQueue(SubscriptionName),
    /// The subscription has no user of its own.
    #[error("subscription {0} has no user of its own, so it has no password")]
    NoUser(SubscriptionName),
    /// The management API did not do its part.
    #[error("RabbitMQ's management API refuses")]
    Management(#[source] Cause),
    /// The broker did not do its part.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The subscription cannot be read.
    #[error(transparent)]
    Subscription(#[from] SubscriptionError),
    /// The store did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Other processes changed the queue all the time.
    #[error("the queue of subscription {0} is changed by other processes at the same time; try again")]
    Contended(SubscriptionName),
}

impl From<BadDeclaration> for QueueError {
    fn from(error: BadDeclaration) -> Self {
        SubscriptionError::from(error).into()
    }
}

/// How a service gets at its queue. The password is shown once, and stored nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The queue that it may read.
    pub queue: QueueName,
}

/// What a queue holds, all of which is deleted with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Messages that are ready.
    pub ready: u64,
    /// Messages that consumers have taken and not acknowledged, if the broker shows it.
    pub unacked: Option<u64>,
    /// Consumers that take from it now.
    pub consumers: u64,
}

impl Contents {
    /// Whether it holds nothing, as far as that can be known.
    pub fn is_empty(&self) -> bool {
        let is_held = self.unacked.map_or(self.consumers > 0, |unacked| unacked > 0);
        self.ready == 0 && !is_held
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ready, unacked, consumers } = self;
        match unacked {
            Some(0) => write!(f, "{ready} messages"),
            Some(unacked) => write!(f, "{ready} messages, and {unacked} that consumers hold unacknowledged"),
            None if *consumers == 0 => write!(f, "{ready} messages"),
            None => {
                write!(f, "{ready} messages, and those that its consumers ({consumers}) hold unacknowledged")
            }
        }
    }
}

/// How a queue is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueReport {
    /// The subscription.
    pub name: SubscriptionName,
    /// Its queue.
    pub queue: QueueName,
    /// Messages that are ready.
    pub messages: Option<u64>,
    /// Consumers that take from it now.
    pub consumers: u64,
    /// When the oldest of these messages was received, as the record has it. Messages that came back or were sent again
    /// make it inexact.
    pub oldest: Option<Timestamp>,
    /// Bytes of the messages, if the broker shows them.
    pub bytes: Option<u64>,
    /// What is wrong.
    pub trouble: Option<String>,
}

/// The queues of subscriptions. Clones share everything.
#[derive(Clone)]
pub struct Queues {
    /// Where the subscriptions are.
    pub store: Store,
    /// Where the queues are.
    pub broker: DynBroker,
    /// Their names.
    pub layout: Layout,
    /// What makes users, if there is one.
    pub management: Option<Arc<dyn Management>>,
    /// Whether services can read queues at the broker. The embedded one has no port for that.
    pub is_amqp: bool,
}

impl Queues {
    /// The queue of a subscription.
    pub fn queue(&self, name: &SubscriptionName) -> QueueName {
        self.layout.queue(Layout::subscriber(name))
    }

    /// The name that the user of a subscription has unless another one is asked for: that of the queue.
    pub fn user(&self, name: &SubscriptionName) -> String {
        self.queue(name).to_string()
    }

    /// Whether what is asked for is possible here. Other doors are.
    pub fn check(&self, declaration: &Declaration) -> Result<(), QueueError> {
        match declaration.door()? {
            Door::Queue(_) if !self.is_amqp => Err(QueueError::Embedded),
            Door::Queue(QueueDoor { user: Some(_) }) if self.management.is_none() => {
                Err(QueueError::NoManagement)
            }
            Door::Queue(_) | Door::Push(_) | Door::Pull(_) => Ok(()),
        }
    }

    /// Makes the broker have what the store asks for under this name: the queue with its bindings, and no others, or no
    /// queue. What a removed queue held is gone. Can be interrupted anywhere and repeated, by any number of processes at once.
    pub async fn settle(&self, name: &SubscriptionName) -> Result<(), QueueError> {
        if !self.is_amqp {
            return Ok(());
        }
        let _turn = self.store.exclusive(CHANGES).await?;
        // What this call may have bound and other processes do not know of, if they have concluded meanwhile.
        let mut bound = Patterns::new();
        for _ in 0..ATTEMPTS {
            let Some(Change { recorded, wanted }) = record::begin(&self.store, name, &bound).await? else {
                return Ok(());
            };
            let is_settled = match &wanted {
                Some(wanted) if wanted.id == recorded.id => {
                    bound.extend(wanted.patterns.iter().cloned());
                    self.follow(name, &recorded, wanted).await?;
                    record::conclude(&self.store, name, recorded.round, Some(wanted)).await?
                }
                // The queue of one that was removed, even if there is another one of its name now.
                _ => {
                    self.delete(name, &recorded).await?;
                    bound.clear();
                    record::conclude(&self.store, name, recorded.round, None).await? && wanted.is_none()
                }
            };
            if is_settled {
                return Ok(());
            }
        }
        Err(QueueError::Contended(name.clone()))
    }

    /// Declares the queue with the wanted bindings, then removes the others.
    async fn follow(
        &self,
        name: &SubscriptionName,
        recorded: &Recorded,
        wanted: &Wanted,
    ) -> Result<(), QueueError> {
        self.broker.declare_once(&self.layout.work_topology(&work_queue(name, &wanted.patterns))).await?;
        let queue = self.queue(name);
        let others = recorded.patterns.difference(&wanted.patterns);
        let others: Vec<Binding> = others.map(|pattern| self.binding(&queue, pattern)).collect();
        if !others.is_empty() {
            self.broker.unbind(&others).await?;
        }
        match &recorded.user {
            user if *user == wanted.user => Ok(()),
            user => self.delete_user(user.as_deref(), &queue).await,
        }
    }

    fn binding(&self, queue: &QueueName, (provider, pattern): &(ProviderName, String)) -> Binding {
        Binding {
            exchange: self.layout.webhooks(provider),
            destination: Destination::Queue(queue.clone()),
            routing_key: pattern.clone(),
        }
    }

    async fn delete(&self, name: &SubscriptionName, recorded: &Recorded) -> Result<(), QueueError> {
        let queue = self.queue(name);
        self.delete_user(recorded.user.as_deref(), &queue).await?;
        let messages = self.broker.delete_queue(&queue).await?;
        tracing::info!(%queue, messages, "the queue of a removed subscription is deleted, with its messages");
        Ok(())
    }

    async fn delete_user(&self, user: Option<&str>, queue: &QueueName) -> Result<(), QueueError> {
        match (user, &self.management) {
            (None, _) => Ok(()),
            (Some(user), Some(management)) => {
                management.delete_user(user, queue).await.map_err(QueueError::Management)
            }
            (Some(user), None) => {
                tracing::warn!(
                    user,
                    "a user of RabbitMQ stays, since broker.management_url is not set: delete it"
                );
                Ok(())
            }
        }
    }

    /// Gives the user of a subscription a new password, and makes the user if there is none.
    pub async fn new_password(&self, name: &SubscriptionName) -> Result<Credentials, QueueError> {
        let subscription = self.get(name).await?;
        let Door::Queue(QueueDoor { user }) = subscription.door()? else {
            return Err(QueueError::NoQueue(name.clone()));
        };
        let user = user.clone().ok_or_else(|| QueueError::NoUser(name.clone()))?;
        let management = self.management.as_ref().ok_or(QueueError::NoManagement)?;
        self.settle(name).await?;
        record::set_user(&self.store, name, &user).await?;
        let queue = self.queue(name);
        let topics = subscription.declaration.topics()?;
        let exchanges: BTreeSet<String> =
            topics.providers().map(|provider| self.layout.webhooks(provider).to_string()).collect();
        let exchanges: Vec<String> = exchanges.into_iter().collect();
        let made = management.make_user(&user, &queue, &exchanges).await;
        Ok(Credentials { password: made.map_err(QueueError::Management)?, user, queue })
    }

    /// What the queue of a subscription holds, which removing it would delete; `None` if there is no queue.
    pub async fn contents(&self, name: &SubscriptionName) -> Result<Option<Contents>, QueueError> {
        let status = match self.broker.queues(&[self.queue(name)]).await {
            Ok(statuses) => statuses.into_iter().next(),
            Err(BrokerError::MissingQueue { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let Some(QueueStatus { queue, ready, unacked, consumers }) = status else { return Ok(None) };
        let unacked = match (unacked, &self.management) {
            (None, Some(management)) => management.unacked(&queue).await,
            (known, _) => known,
        };
        Ok(Some(Contents { ready, unacked, consumers }))
    }

    /// The status of every queue that the broker has, with what its subscription asks for.
    pub async fn statuses(&self) -> Result<Vec<(Declaration, QueueStatus)>, QueueError> {
        let mut statuses = Vec::new();
        if !self.is_amqp {
            return Ok(statuses);
        }
        for Subscription { declaration, .. } in table::list(&self.store).await? {
            if !matches!(declaration.door()?, Door::Queue(_)) {
                continue;
            }
            match self.broker.queues(&[self.queue(&declaration.name)]).await {
                Ok(found) => statuses.extend(found.into_iter().map(|status| (declaration.clone(), status))),
                Err(BrokerError::MissingQueue { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(statuses)
    }

    /// How the queues of these subscriptions are doing; nothing about other doors.
    pub async fn report(&self, subscriptions: &[Subscription]) -> Result<Vec<QueueReport>, QueueError> {
        let mut reports = Vec::new();
        for subscription in subscriptions {
            if matches!(subscription.door()?, Door::Queue(_)) {
                reports.push(self.report_one(subscription).await?);
            }
        }
        Ok(reports)
    }

    async fn report_one(&self, subscription: &Subscription) -> Result<QueueReport, QueueError> {
        let name = subscription.name().clone();
        let queue = self.queue(&name);
        let mut report = QueueReport {
            name,
            queue: queue.clone(),
            messages: None,
            consumers: 0,
            oldest: None,
            bytes: None,
            trouble: None,
        };
        if !self.is_amqp {
            report.trouble = Some(QueueError::Embedded.to_string());
            return Ok(report);
        }
        match self.broker.queues(std::slice::from_ref(&queue)).await {
            Ok(statuses) => {
                for status in statuses {
                    report.messages = Some(status.ready);
                    report.consumers = status.consumers;
                    report.trouble = unread(&status);
                }
            }
            Err(BrokerError::MissingQueue { .. }) => {
                report.trouble = Some(format!("queue {queue} is not declared yet"));
                return Ok(report);
            }
            Err(error) => {
                report.trouble = Some(event::Chain(&error).to_string());
                return Ok(report);
            }
        }
        let messages = report.messages.unwrap_or_default();
        if messages > 0 {
            let topics: Topics = subscription.declaration.topics()?;
            report.oldest = oldest_of_last(&self.store, &topics, messages).await?;
            if let Some(management) = &self.management {
                report.bytes = management.bytes(&queue).await;
            }
        }
        Ok(report)
    }

    async fn get(&self, name: &SubscriptionName) -> Result<Subscription, QueueError> {
        let found = table::get(&self.store, name).await?;
        Ok(found.ok_or_else(|| SubscriptionError::Unknown(name.clone()))?)
    }
}

/// What is wrong with a queue that holds messages for nobody.
fn unread(status: &QueueStatus) -> Option<String> {
    (status.ready > 0 && status.consumers == 0).then(|| format!("nobody reads queue {}", status.queue))
}

fn work_queue(name: &SubscriptionName, patterns: &Patterns) -> WorkQueue {
    WorkQueue { consumer: Layout::subscriber(name), topics: patterns.iter().cloned().collect() }
}

fn patterns(declaration: &Declaration) -> Result<Patterns, BadDeclaration> {
    Ok(declaration.topics()?.patterns().cloned().collect())
}

/// What is declared at the broker for the subscriptions of a store, for the topology that is shown and applied.
pub async fn work_queues(store: &Store) -> Result<Vec<WorkQueue>, QueueError> {
    let mut queues = Vec::new();
    for subscription in table::list(store).await? {
        if matches!(subscription.door()?, Door::Queue(_)) {
            queues.push(work_queue(subscription.name(), &patterns(&subscription.declaration)?));
        }
    }
    Ok(queues)
}
