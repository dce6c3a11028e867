//! malote's own topology: which exchange carries what, which queue each consumer reads.
//!
//! One value, [`Layout`], holds the configurable prefix and knows every name. The path of an event, left to right:
//!
//! ```text
//! received.<provider> ──▶ ledger                                   every event
//!        └──▶ webhooks.<provider> ──▶ invoices, receivables, …     by topic
//!                    └─(nobody bound)─▶ unrouted
//! ```
//!
//! malote is a provider, too: its consumers' domain events go the same way. It is normal that no queue is bound to one of
//! them, so `webhooks.malote` alone has no alternate exchange, and such an event is in the ledger only.
//!
//! The two hops give the ledger its copy and still detect topics that no queue is bound to. A retry waits in the queue
//! of its delay and comes back by the name of its work queue:
//!
//! ```text
//! wait.<delay> ──(time to live)──▶ requeue ──▶ the work queue
//!                                     └─(it does not exist)─▶ dead
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use event::{ProviderName, SubscriptionName};
use serde::Deserialize;

use crate::FixedQueue;
use crate::topology::{
    Binding, DELIVERY_LIMIT, Destination, Exchange, ExchangeKind, ExchangeName, Queue, QueueName, Topology,
};

/// One of the eight waits before a message is tried again. One queue serves each, for every consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum RetryDelay {
    /// 1 second.
    S1,
    /// 5 seconds.
    S5,
    /// 30 seconds.
    S30,
    /// 2 minutes.
    M2,
    /// 10 minutes.
    M10,
    /// 1 hour.
    H1,
    /// 6 hours.
    H6,
    /// 24 hours.
    H24,
}

impl RetryDelay {
    /// All of them, shortest first.
    pub const ALL: [Self; 8] =
        [Self::S1, Self::S5, Self::S30, Self::M2, Self::M10, Self::H1, Self::H6, Self::H24];

    /// How long it is.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::S1 => 1,
            Self::S5 => 5,
            Self::S30 => 30,
            Self::M2 => 2 * 60,
            Self::M10 => 10 * 60,
            Self::H1 => 60 * 60,
            Self::H6 => 6 * 60 * 60,
            Self::H24 => 24 * 60 * 60,
        })
    }
}

impl fmt::Display for RetryDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S1 => "1s",
            Self::S5 => "5s",
            Self::S30 => "30s",
            Self::M2 => "2m",
            Self::M10 => "10m",
            Self::H1 => "1h",
            Self::H6 => "6h",
            Self::H24 => "24h",
        })
    }
}

/// The text is not one of the delays that have a queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}, got {given:?}", RetryDelay::ALL.map(|delay| delay.to_string()).join(", "))]
pub struct NotARetryDelay {
    given: String,
}

impl FromStr for RetryDelay {
    type Err = NotARetryDelay;

    fn from_str(text: &str) -> Result<Self, NotARetryDelay> {
        let is_it = |delay: &Self| delay.to_string() == text;
        Self::ALL.into_iter().find(is_it).ok_or_else(|| NotARetryDelay { given: text.to_owned() })
    }
}

impl TryFrom<String> for RetryDelay {
    type Error = NotARetryDelay;

    fn try_from(text: String) -> Result<Self, NotARetryDelay> {
        text.parse()
    }
}

/// A consumer's queue and what it is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkQueue {
    /// The consumer's name: the queue's name without prefix.
    pub consumer: String,
    /// Provider and topic pattern, for each binding to `webhooks.<provider>`.
    pub topics: Vec<(ProviderName, String)>,
}

/// Names everything that malote declares, with the configured prefix before each name.
#[derive(Clone, Debug)]
pub struct Layout {
    prefix: String,
}

impl Layout {
    /// A layout whose names all start with `prefix` (which may be empty).
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    fn exchange(&self, name: impl fmt::Display) -> ExchangeName {
        ExchangeName::new(format!("{}{name}", self.prefix))
    }

    /// The consumer's name of a subscription that has a queue: the queue's name without prefix.
    pub fn subscriber(name: &SubscriptionName) -> String {
        format!("subscription.{name}")
    }

    /// The queue of a consumer, or one of the fixed queues, by its name without prefix.
    pub fn queue(&self, name: impl fmt::Display) -> QueueName {
        QueueName::new(format!("{}{name}", self.prefix))
    }

    /// Where the ingress publishes: every accepted webhook of a provider.
    pub fn received(&self, provider: &ProviderName) -> ExchangeName {
        self.exchange(format_args!("received.{provider}"))
    }

    /// What consumers bind to: the webhooks of a provider, by topic.
    pub fn webhooks(&self, provider: &ProviderName) -> ExchangeName {
        self.exchange(format_args!("webhooks.{provider}"))
    }

    /// Where a topic goes that no queue is bound to.
    pub fn unrouted(&self) -> ExchangeName {
        self.exchange(FixedQueue::Unrouted)
    }

    /// Where authenticated bodies go that are not usable.
    pub fn rejected(&self) -> ExchangeName {
        self.exchange(FixedQueue::Rejected)
    }

    /// Where dead letters go.
    pub fn dead(&self) -> ExchangeName {
        self.exchange(FixedQueue::Dead)
    }

    /// Where each ingress reports how many requests it has answered, for the reconciliation.
    pub fn tallies(&self) -> ExchangeName {
        self.exchange(FixedQueue::Tallies)
    }

    /// Where the record's own dead letters go: nobody reads them, an operator sees them in `malote queues`.
    pub fn parked(&self) -> ExchangeName {
        self.exchange(FixedQueue::Parked)
    }

    /// The exchange of the retry queue with this delay, where a message waits before it is tried again. Publish with the work
    /// queue's name as routing key.
    pub fn retry_exchange(&self, delay: RetryDelay) -> ExchangeName {
        self.exchange(format_args!("wait.{delay}"))
    }

    /// The retry queue with this delay: `wait.<delay>`.
    pub fn retry_queue(&self, delay: RetryDelay) -> QueueName {
        self.queue(format_args!("wait.{delay}"))
    }

    /// Exchange and retry queue of a delay that dead-letters to the default exchange, as in earlier releases: for migrations
    /// only.
    pub fn former_retry(&self, delay: RetryDelay) -> (ExchangeName, QueueName) {
        let name = format!("retry.{delay}");
        (self.exchange(&name), self.queue(&name))
    }

    /// Where a message goes after its wait: to the queue that its routing key names, else to the dead letters.
    ///
    /// Not the default exchange: a queue with at-least-once dead-lettering keeps messages without a destination, and 32
    /// of them block the queue.
    pub fn requeue(&self) -> ExchangeName {
        self.exchange("requeue")
    }

    /// Every exchange, queue and binding for these providers, malote's own domain events and these consumers.
    pub fn topology(&self, providers: &[ProviderName], work: &[WorkQueue]) -> Topology {
        let mut topology = Topology::default();
        let fanout = |name: ExchangeName| Exchange { name, kind: ExchangeKind::Fanout, alternate: None };
        let requeue = self.requeue();

        for fixed in FixedQueue::ALL {
            let queue = self.queue(fixed);
            // The ledger's queue is bound below, once per provider.
            if fixed != FixedQueue::Ledger {
                topology.exchanges.push(fanout(self.exchange(fixed)));
                topology.bindings.push(bind(self.exchange(fixed), &queue, ""));
            }
            topology.bindings.push(bind(requeue.clone(), &queue, queue.as_str()));
            topology.queues.push(Queue {
                name: queue,
                delivery_limit: fixed.delivery_limit(),
                message_ttl: None,
                dead_letter_exchange: fixed.dead_letters_to().map(|other| self.exchange(other)),
            });
        }

        topology.exchanges.push(self.requeue_exchange());
        for delay in RetryDelay::ALL {
            let queue = self.retry_queue(delay);
            topology.exchanges.push(fanout(self.retry_exchange(delay)));
            topology.bindings.push(bind(self.retry_exchange(delay), &queue, ""));
            topology.queues.push(Queue {
                name: queue,
                delivery_limit: DELIVERY_LIMIT,
                message_ttl: Some(delay.duration()),
                dead_letter_exchange: Some(requeue.clone()),
            });
        }

        for provider in providers.iter().chain([&ProviderName::own()]) {
            topology.exchanges.push(self.webhooks_exchange(provider));
            topology.exchanges.push(fanout(self.received(provider)));
            topology.bindings.push(bind(self.received(provider), &self.queue(FixedQueue::Ledger), ""));
            topology.bindings.push(Binding {
                exchange: self.received(provider),
                destination: Destination::Exchange(self.webhooks(provider)),
                routing_key: String::new(),
            });
        }

        work.iter().for_each(|work| self.add_work(work, &mut topology));
        topology
    }

    /// The queue and the bindings of one consumer, with the exchanges that it is bound to: what is added to the topology of an
    /// installation while it runs.
    pub fn work_topology(&self, work: &WorkQueue) -> Topology {
        let mut topology = Topology::default();
        topology.exchanges.push(self.requeue_exchange());
        let providers: BTreeSet<&ProviderName> = work.topics.iter().map(|(provider, _)| provider).collect();
        topology.exchanges.extend(providers.into_iter().map(|provider| self.webhooks_exchange(provider)));
        self.add_work(work, &mut topology);
        topology
    }

    fn add_work(&self, WorkQueue { consumer, topics }: &WorkQueue, topology: &mut Topology) {
        let queue = self.queue(consumer);
        topology.bindings.push(bind(self.requeue(), &queue, queue.as_str()));
        for (provider, pattern) in topics {
            topology.bindings.push(bind(self.webhooks(provider), &queue, pattern));
        }
        topology.queues.push(Queue {
            name: queue,
            delivery_limit: DELIVERY_LIMIT,
            message_ttl: None,
            dead_letter_exchange: Some(self.dead()),
        });
    }

    fn requeue_exchange(&self) -> Exchange {
        Exchange { name: self.requeue(), kind: ExchangeKind::Direct, alternate: Some(self.dead()) }
    }

    fn webhooks_exchange(&self, provider: &ProviderName) -> Exchange {
        let alternate = (!provider.is_own()).then(|| self.unrouted());
        Exchange { name: self.webhooks(provider), kind: ExchangeKind::Topic, alternate }
    }
}

fn bind(exchange: ExchangeName, queue: &QueueName, routing_key: &str) -> Binding {
    let destination = Destination::Queue(queue.clone());
    Binding { exchange, destination, routing_key: routing_key.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        let provider = ProviderName::new("gestao-online").unwrap();
        let work = WorkQueue {
            consumer: "receivables".to_owned(),
            topics: vec![(provider.clone(), "ORDER_*".into())],
        };
        Layout::new("test.").topology(&[provider], &[work])
    }

    #[test]
    fn whatever_a_value_names_is_declared_with_the_prefix() {
        let topology = topology();
        let exchanges: BTreeSet<_> = topology.exchanges.iter().map(|e| &e.name).collect();
        let queues: BTreeSet<_> = topology.queues.iter().map(|q| &q.name).collect();
        for Binding { exchange, destination, .. } in &topology.bindings {
            assert!(exchanges.contains(exchange), "{exchange}");
            match destination {
                Destination::Queue(name) => assert!(queues.contains(name), "{name}"),
                Destination::Exchange(name) => assert!(exchanges.contains(name), "{name}"),
            }
        }
        for alternate in topology.exchanges.iter().filter_map(|e| e.alternate.as_ref()) {
            assert!(exchanges.contains(alternate));
        }
        for dead in topology.queues.iter().filter_map(|q| q.dead_letter_exchange.as_ref()) {
            assert!(exchanges.contains(dead), "{dead}");
        }
        assert!(queues.iter().all(|name| name.as_str().starts_with("test.")));
    }

    #[test]
    fn domain_events_are_recorded_and_never_unrouted() {
        let topology = topology();
        let exchange =
            |name: &str| topology.exchanges.iter().find(|exchange| exchange.name.as_str() == name).unwrap();
        assert_eq!(exchange("test.webhooks.malote").alternate, None);
        assert_eq!(
            exchange("test.webhooks.gestao-online").alternate,
            Some(ExchangeName::new("test.unrouted"))
        );
        let of_malote = topology.bindings.iter().filter(|b| b.exchange.as_str() == "test.received.malote");
        let destinations: Vec<_> = of_malote.map(|binding| binding.destination.clone()).collect();
        assert_eq!(
            destinations,
            [
                Destination::Queue(QueueName::new("test.ledger")),
                Destination::Exchange(ExchangeName::new("test.webhooks.malote")),
            ]
        );
    }

    #[test]
    fn every_queue_with_a_consumer_gets_its_retries_back() {
        let topology = topology();
        let requeue = ExchangeName::new("test.requeue");
        for queue in topology.queues.iter().filter(|queue| queue.message_ttl.is_none()) {
            let binding = Binding {
                exchange: requeue.clone(),
                destination: Destination::Queue(queue.name.clone()),
                routing_key: queue.name.to_string(),
            };
            assert!(topology.bindings.contains(&binding), "{}", queue.name);
        }
        for queue in topology.queues.iter().filter(|queue| queue.message_ttl.is_some()) {
            assert_eq!(queue.dead_letter_exchange.as_ref(), Some(&requeue));
        }
    }

    #[test]
    fn a_queue_that_is_added_later_is_declared_as_from_the_start() {
        let layout = Layout::new("test.");
        let provider = ProviderName::new("gestao-online").unwrap();
        let consumer = Layout::subscriber(&SubscriptionName::new("crm").unwrap());
        let topics = ["ORDER_*", "TAX_#"].map(|pattern| (provider.clone(), pattern.to_owned()));
        let work = WorkQueue { consumer, topics: topics.to_vec() };
        let (mut whole, later) =
            (layout.topology(&[provider], std::slice::from_ref(&work)), layout.work_topology(&work));
        assert!(later.exchanges.iter().all(|exchange| whole.exchanges.contains(exchange)));
        let name = QueueName::new("test.subscription.crm");
        whole.queues.retain(|queue| queue.name == name);
        whole.bindings.retain(|binding| binding.destination == Destination::Queue(name.clone()));
        assert!(later.bindings.iter().all(|bound| later.exchanges.iter().any(|e| e.name == bound.exchange)));
        assert_eq!((later.queues, later.bindings), (whole.queues, whole.bindings));
    }

    #[test]
    fn only_the_parking_queue_drops_what_passes_its_delivery_limit() {
        let without: Vec<_> =
            topology().queues.into_iter().filter(|q| q.dead_letter_exchange.is_none()).collect();
        assert_eq!(without.iter().map(|q| q.name.as_str()).collect::<Vec<_>>(), ["test.parked"]);
    }

    #[test]
    fn a_topology_without_consumers_and_waits_is_the_fixed_queues() {
        let topology = Layout::new("test.").topology(&[], &[]);
        let queues = topology.queues.into_iter().filter(|queue| queue.message_ttl.is_none());
        let limits = |fixed: FixedQueue| {
            let exchange = fixed.dead_letters_to().map(|other| ExchangeName::new(format!("test.{other}")));
            (format!("test.{fixed}"), fixed.delivery_limit(), exchange)
        };
        assert_eq!(
            queues
                .map(|q| (q.name.to_string(), q.delivery_limit, q.dead_letter_exchange))
                .collect::<Vec<_>>(),
            FixedQueue::ALL.map(limits)
        );
        let names = FixedQueue::ALL.map(FixedQueue::name);
        assert_eq!(names, ["ledger", "unrouted", "rejected", "dead", "tallies", "parked"]);
    }
}
