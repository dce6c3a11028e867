//! Laws of retry queues: a queue with a time to live that dead-letters to the default exchange.

use std::time::{Duration, Instant};

use super::{
    Declaration, Instance, Names, await_ready, drain, message, nothing_arrives, plain_queue, publish,
    subscribe, take,
};
use event::Message;

use crate::{Binding, Destination, DynBroker, ExchangeName, Queue, Topology};

/// A broker may count whole milliseconds: the start and the end of a wait each lose less than one.
const GRAIN: Duration = Duration::from_millis(2);

/// Declares exchange and queue `wait`, whose messages go to the queue that their routing key names after `delay`.
pub(super) async fn declare_wait(broker: &DynBroker, names: &Names, delay: Duration) {
    Declaration::new(names).fanout("wait").declare(broker).await;
    let queue = Queue {
        message_ttl: Some(delay),
        dead_letter_exchange: Some(ExchangeName::default_exchange()),
        ..plain_queue(names.queue("wait"))
    };
    let binding = Binding {
        exchange: names.exchange("wait"),
        destination: Destination::Queue(queue.name.clone()),
        routing_key: String::new(),
    };
    let topology = Topology { queues: vec![queue], bindings: vec![binding], ..Topology::default() };
    broker.declare(&topology).await.expect("the topology can be declared");
}

/// A message with an expiration of its own that is shorter than the delay of a retry queue leaves it after that, and has
/// none in the work queue.
pub async fn an_own_expiration_shortens_the_delay(instance: &dyn Instance) {
    const OWN: Duration = Duration::from_millis(150);
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    declare_wait(&broker, &names, Duration::from_secs(60)).await;
    let mut work = subscribe(&broker, &names.queue("work"), 10).await;
    let start = Instant::now();
    let hurried = Message { expiration: Some(OWN), ..message("hurried") };
    broker
        .publish(&names.exchange("wait"), names.queue("work").as_str(), hurried)
        .await
        .expect("the message is routed and stored");
    let delivery = take(&mut work).await;
    assert!(start.elapsed() + GRAIN >= OWN, "it came after {:?}", start.elapsed());
    assert_eq!(delivery.message.message_id, "hurried");
    assert_eq!(delivery.message.expiration, None, "it would leave the work queue, too");
}

/// A message comes out of a retry queue after the delay or later, in the work queue that its routing key names, with
/// its `type`, its headers and its body unchanged.
pub async fn a_delay_is_at_least_the_asked_one(instance: &dyn Instance) {
    const DELAY: Duration = Duration::from_millis(200);
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("one").queue("other").declare(&broker).await;
    declare_wait(&broker, &names, DELAY).await;
    let mut one = subscribe(&broker, &names.queue("one"), 10).await;
    let mut other = subscribe(&broker, &names.queue("other"), 10).await;

    for (name, deliveries) in [("one", &mut one), ("other", &mut other)] {
        let queue = names.queue(name);
        let mut sent = message(name);
        sent.body = vec![0, 159, 146, 150, b'\r', b'\n'].into();
        sent.r#type = "acordo.quitado".to_owned();
        sent.headers.insert("malote_attempt".to_owned(), 2.into());
        let start = Instant::now();
        broker
            .publish(&names.exchange("wait"), queue.as_str(), sent.clone())
            .await
            .expect("the message is routed and stored");
        let delivery = take(deliveries).await;
        let waited = start.elapsed();
        assert!(waited + GRAIN >= DELAY, "it came after {waited:?}");
        assert!(!delivery.redelivered, "nobody had it before");
        assert_eq!(delivery.routing_key, queue.as_str());
        assert_eq!(delivery.message.message_id, sent.message_id);
        assert_eq!(delivery.message.r#type, sent.r#type);
        assert_eq!(delivery.message.timestamp, sent.timestamp);
        assert_eq!(delivery.message.content_type, sent.content_type);
        assert_eq!(delivery.message.body, sent.body);
        assert_eq!(delivery.message.long("malote_attempt"), Some(2));
        deliveries.ack(&[delivery.tag]).await.expect("the subscription lives");
    }
    nothing_arrives(&mut one).await;
    nothing_arrives(&mut other).await;
    await_ready(&broker, &names.queue("wait"), 0).await;
}

/// A message that waits again comes again: the same event may pass one retry queue any number of times, and others
/// overtake it meanwhile.
pub async fn a_retried_message_takes_nothing_else_with_it(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    declare_wait(&broker, &names, Duration::from_millis(100)).await;
    let queue = names.queue("work");
    let mut work = subscribe(&broker, &queue, 10).await;
    for round in 0..3 {
        publish(&broker, &names.exchange("wait"), queue.as_str(), "late").await;
        let early = format!("early {round}");
        super::put(&broker, &queue, &early).await;
        assert_eq!(drain(&mut work, 2).await, [early.as_str(), "late"]);
    }
    nothing_arrives(&mut work).await;
}
