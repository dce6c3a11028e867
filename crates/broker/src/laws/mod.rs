//! The broker laws: what malote relies on, as tests that every broker passes.
//!
//! A law is written once, against the traits alone. [`broker_laws!`](crate::broker_laws) makes every one of them a
//! test of an [`Instance`]; leaving one out is not offered. Laws share no exchange and no queue, so that they may
//! run at the same time on one broker. They know no implementation.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use crate::test_support::message;
use crate::{
    Binding, Deliveries, Delivery, Destination, DynBroker, Exchange, ExchangeKind, ExchangeName, Queue,
    QueueName, Topology,
};

mod consuming;
mod crashing;
mod declaring;
mod routing;
mod undeclaring;
mod waiting;

pub use consuming::*;
pub use crashing::*;
pub use declaring::*;
pub use routing::*;
pub use undeclaring::*;
pub use waiting::*;

/// A broker under test.
#[async_trait]
pub trait Instance: Send + Sync {
    /// A new handle or connection to the broker.
    async fn broker(&self) -> DynBroker;

    /// Ends the broker as `kill -9` does and brings it back on the same data. Handles from before are dead.
    async fn crash(&self);
}

/// Makes every law a test.
///
/// Takes an expression that gives an [`Instance`](crate::laws::Instance) and may await; it is evaluated once per law.
/// Laws that crash the broker disturb the other users of it: a second expression, after `crashing:`, gives them an
/// instance of their own. The calling crate depends on tokio.
#[macro_export]
macro_rules! broker_laws {
    ($instance:expr) => {
        $crate::broker_laws!($instance, crashing: $instance);
    };
    ($instance:expr, crashing: $own:expr) => {
        $crate::broker_laws! { @on $instance =>
            a_topic_exchange_routes_as_amqp_says
            a_direct_exchange_routes_by_the_whole_key
            a_chain_of_exchanges_reaches_each_queue_once
            what_no_binding_takes_goes_to_the_alternate_exchange_only
            what_nothing_takes_is_unroutable
            the_default_exchange_routes_to_the_queue_named
            publishing_to_a_missing_exchange_is_an_error
            a_message_arrives_as_it_was_published
            every_concurrent_publish_that_returns_is_there
            a_small_message_overtakes_large_ones
            publishing_after_close_is_an_error
            one_publisher_and_one_consumer_keep_the_order
            an_acked_delivery_does_not_come_back
            a_dropped_consumer_gives_back_what_it_holds
            competing_consumers_share_each_message_once
            prefetch_bounds_what_a_consumer_holds
            a_changed_limit_holds_from_then_on_and_gives_nothing_back
            a_limit_in_bytes_bounds_what_a_consumer_holds
            a_cancelled_next_loses_nothing
            the_delivery_limit_dead_letters
            the_delivery_limit_counts_dropped_consumers
            subscribing_to_a_missing_queue_is_an_error
            an_own_expiration_shortens_the_delay
            a_delay_is_at_least_the_asked_one
            a_retried_message_takes_nothing_else_with_it
            retries_for_a_missing_queue_become_dead_letters_and_hold_up_no_other
            what_is_published_again_tells_of_no_earlier_death
            the_broker_tells_which_queue_gave_a_message_up
            declaring_twice_changes_nothing
            a_conflicting_declaration_is_refused
            another_delivery_limit_is_no_conflict
            an_unbound_queue_keeps_what_it_has
            removing_what_is_gone_is_no_error
            a_deleted_queue_takes_nothing_else_with_it
            the_consumer_of_a_deleted_queue_is_told
            bindings_are_replaced_without_losing_a_message
            retries_for_a_deleted_queue_become_dead_letters
            the_status_counts_what_is_ready
            the_broker_says_who_it_is
        }
        $crate::broker_laws! { @on $own =>
            what_was_confirmed_survives_a_crash
            what_was_unsettled_comes_back_after_a_crash
            a_subscription_that_is_over_says_so_for_good
            what_was_acked_stays_away_after_a_crash
            a_delayed_message_survives_a_crash
            what_was_removed_stays_away_after_a_crash
        }
    };
    (@on $instance:expr => $($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $law() {
                let instance = $instance;
                $crate::laws::$law(&instance).await;
            }
        )*
    };
}

/// How long a law waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a law waits to see that something does not happen.
const ABSENCE: Duration = Duration::from_millis(150);

/// Names that no other law and no other run uses.
struct Names {
    prefix: String,
}

impl Names {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_micros());
        let law = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { prefix: format!("law-{}-{now:x}-{law}.", std::process::id()) }
    }

    fn exchange(&self, name: &str) -> ExchangeName {
        ExchangeName::new(format!("{}{name}", self.prefix))
    }

    fn queue(&self, name: &str) -> QueueName {
        QueueName::new(format!("{}{name}", self.prefix))
    }
}

/// A topology, built up line by line.
struct Declaration<'a> {
    names: &'a Names,
    topology: Topology,
}

impl<'a> Declaration<'a> {
    fn new(names: &'a Names) -> Self {
        Self { names, topology: Topology::default() }
    }

    fn exchange(mut self, name: &str, kind: ExchangeKind, alternate: Option<&str>) -> Self {
        let alternate = alternate.map(|name| self.names.exchange(name));
        self.topology.exchanges.push(Exchange { name: self.names.exchange(name), kind, alternate });
        self
    }

    fn fanout(self, name: &str) -> Self {
        self.exchange(name, ExchangeKind::Fanout, None)
    }

    fn queue(mut self, name: &str) -> Self {
        self.topology.queues.push(plain_queue(self.names.queue(name)));
        self
    }

    fn bind(mut self, exchange: &str, queue: &str, routing_key: &str) -> Self {
        self.topology.bindings.push(Binding {
            exchange: self.names.exchange(exchange),
            destination: Destination::Queue(self.names.queue(queue)),
            routing_key: routing_key.to_owned(),
        });
        self
    }

    fn chain(mut self, exchange: &str, to: &str, routing_key: &str) -> Self {
        self.topology.bindings.push(Binding {
            exchange: self.names.exchange(exchange),
            destination: Destination::Exchange(self.names.exchange(to)),
            routing_key: routing_key.to_owned(),
        });
        self
    }

    async fn declare(self, broker: &DynBroker) {
        broker.declare(&self.topology).await.expect("the topology can be declared");
    }
}

fn plain_queue(name: QueueName) -> Queue {
    Queue { name, delivery_limit: 20, message_ttl: None, dead_letter_exchange: None }
}

async fn publish(broker: &DynBroker, exchange: &ExchangeName, routing_key: &str, id: impl ToString) {
    broker.publish(exchange, routing_key, message(id)).await.expect("the message is routed and stored");
}

/// Publishes to the default exchange, straight into a queue.
async fn put(broker: &DynBroker, queue: &QueueName, id: impl ToString) {
    publish(broker, &ExchangeName::default_exchange(), queue.as_str(), id).await;
}

async fn subscribe(broker: &DynBroker, queue: &QueueName, prefetch: u16) -> Box<dyn Deliveries> {
    broker.subscribe(queue, prefetch).await.expect("the queue is declared")
}

async fn take(deliveries: &mut Box<dyn Deliveries>) -> Delivery {
    tokio::time::timeout(PATIENCE, deliveries.next())
        .await
        .expect("a delivery arrives in time")
        .expect("the subscription lives")
}

/// Takes and acks `count` deliveries; their message ids, in order.
async fn drain(deliveries: &mut Box<dyn Deliveries>, count: usize) -> Vec<String> {
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        let delivery = take(deliveries).await;
        deliveries.ack(&[delivery.tag]).await.expect("the subscription lives");
        ids.push(delivery.message.message_id);
    }
    ids
}

async fn nothing_arrives(deliveries: &mut Box<dyn Deliveries>) {
    if let Ok(delivery) = tokio::time::timeout(ABSENCE, deliveries.next()).await {
        let delivery = delivery.expect("the subscription lives");
        panic!("{} arrived, which nobody expects", delivery.message.message_id);
    }
}

/// Waits until a queue has this many messages ready.
async fn await_ready(broker: &DynBroker, queue: &QueueName, ready: u64) {
    let asked = std::slice::from_ref(queue);
    let reached = async {
        while broker.queues(asked).await.expect("the queue is declared")[0].ready != ready {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the queue reaches the expected length in time");
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("m{n:04}")).collect()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}
