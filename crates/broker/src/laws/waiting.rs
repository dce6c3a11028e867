//! Laws of retry queues: queues with a time to live that dead-letter to a direct exchange. It routes to the work queues
//! by name, and its alternate exchange takes dead letters.

use std::time::{Duration, Instant};

use super::{
    Declaration, Instance, Names, await_ready, drain, message, nothing_arrives, numbered, plain_queue,
    publish, subscribe, take,
};
use event::{Message, header};

use crate::death::{self, MISSING_QUEUE};
use crate::{Binding, Destination, DynBroker, ExchangeKind, Queue, Topology};

/// A broker may count whole milliseconds: the start and the end of a wait each lose less than one.
const GRAIN: Duration = Duration::from_millis(2);

/// Declares exchange and queue `wait`. After `delay` its messages go to the one of these queues that their routing key
/// names, else to the queue `dead`.
pub(super) async fn declare_wait(broker: &DynBroker, names: &Names, delay: Duration, work: &[&str]) {
    let mut declaration = Declaration::new(names)
        .fanout("wait")
        .fanout("dead")
        .queue("dead")
        .bind("dead", "dead", "")
        .exchange("requeue", ExchangeKind::Direct, Some("dead"));
    for name in work {
        declaration = declaration.queue(name).bind("requeue", name, names.queue(name).as_str());
    }
    declaration.declare(broker).await;
    let queue = Queue {
        message_ttl: Some(delay),
        dead_letter_exchange: Some(names.exchange("requeue")),
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
    declare_wait(&broker, &names, Duration::from_secs(60), &["work"]).await;
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
    declare_wait(&broker, &names, DELAY, &["one", "other"]).await;
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
    declare_wait(&broker, &names, Duration::from_millis(100), &["work"]).await;
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

/// Any number of retries for a missing queue do not hold up those of other queues; they become dead letters that name
/// that queue.
pub async fn retries_for_a_missing_queue_become_dead_letters_and_hold_up_no_other(instance: &dyn Instance) {
    // RabbitMQ dead-letters at most 32 messages at a time, and the others wait behind them.
    const MISSING: usize = 70;
    let (broker, names) = (instance.broker().await, Names::new());
    declare_wait(&broker, &names, Duration::from_millis(100), &["work"]).await;
    let (work, gone) = (names.queue("work"), names.queue("gone"));
    for id in numbered(MISSING) {
        publish(&broker, &names.exchange("wait"), gone.as_str(), id).await;
    }
    for id in numbered(10) {
        publish(&broker, &names.exchange("wait"), work.as_str(), id).await;
    }
    let mut deliveries = subscribe(&broker, &work, 100).await;
    assert_eq!(drain(&mut deliveries, 10).await, numbered(10));
    let mut dead = subscribe(&broker, &names.queue("dead"), 100).await;
    for id in numbered(MISSING) {
        let delivery = take(&mut dead).await;
        assert_eq!(delivery.message.message_id, id);
        assert_eq!(delivery.message.text(header::DEATH_QUEUE), Some(gone.as_str()));
        assert_eq!(delivery.message.text(header::DEATH_REASON), Some(MISSING_QUEUE));
        dead.ack(&[delivery.tag]).await.expect("the subscription lives");
    }
    nothing_arrives(&mut deliveries).await;
    nothing_arrives(&mut dead).await;
}

/// A message from a retry queue that is published again with its headers also leaves the next retry queue, any number
/// of times: the broker's own headers are dropped, so its deaths are counted from the beginning.
pub async fn what_is_published_again_tells_of_no_earlier_death(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    declare_wait(&broker, &names, Duration::from_millis(50), &["one", "other"]).await;
    let mut sent = message("again");
    for name in
        ["x-death", "x-first-death-queue", "x-first-death-reason", death::LAST_QUEUE, death::LAST_REASON]
    {
        sent.headers.insert(name.to_owned(), "from elsewhere".into());
    }
    sent.headers.insert("malote_attempt".to_owned(), 1.into());
    broker
        .publish(&names.exchange("requeue"), names.queue("one").as_str(), sent)
        .await
        .expect("it is routed");
    let mut one = subscribe(&broker, &names.queue("one"), 10).await;
    let mut other = subscribe(&broker, &names.queue("other"), 10).await;
    let first = take(&mut one).await.message;
    assert_eq!(first.headers, [("malote_attempt".to_owned(), 1.into())].into());

    let mut again = first;
    for name in ["one", "other", "one"] {
        let deliveries = if name == "one" { &mut one } else { &mut other };
        broker
            .publish(&names.exchange("wait"), names.queue(name).as_str(), again)
            .await
            .expect("the message is routed and stored");
        let delivery = take(deliveries).await;
        assert_eq!(delivery.message.text("x-first-death-queue"), Some(names.queue("wait").as_str()));
        assert_eq!(delivery.message.text(header::DEATH_REASON), None, "its wait was over, and no more");
        deliveries.ack(&[delivery.tag]).await.expect("the subscription lives");
        again = delivery.message;
    }
    broker.publish(&names.exchange("dead"), "order.created", again).await.expect("it is routed");
    let mut dead = subscribe(&broker, &names.queue("dead"), 10).await;
    let delivery = take(&mut dead).await;
    assert_eq!(delivery.message.headers, [("malote_attempt".to_owned(), 1.into())].into());
}

/// A message beyond the delivery limit names its queue and the reason, also after another wait.
pub async fn the_broker_tells_which_queue_gave_a_message_up(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    declare_wait(&broker, &names, Duration::from_millis(50), &["dead"]).await;
    let work = Queue {
        delivery_limit: 1,
        dead_letter_exchange: Some(names.exchange("dead")),
        ..plain_queue(names.queue("work"))
    };
    let topology = Topology {
        bindings: vec![Binding {
            exchange: names.exchange("requeue"),
            destination: Destination::Queue(work.name.clone()),
            routing_key: work.name.to_string(),
        }],
        queues: vec![work],
        ..Topology::default()
    };
    broker.declare(&topology).await.expect("the topology can be declared");
    publish(&broker, &names.exchange("wait"), names.queue("work").as_str(), "deadly").await;
    for _ in 0..2 {
        let mut deliveries = subscribe(&broker, &names.queue("work"), 10).await;
        take(&mut deliveries).await;
    }
    let mut dead = subscribe(&broker, &names.queue("dead"), 10).await;
    let death = |message: &Message| {
        let text = |name| message.text(name).map(str::to_owned);
        (text(header::DEATH_QUEUE), text(header::DEATH_REASON))
    };
    let expected = (Some(names.queue("work").to_string()), Some("delivery_limit".to_owned()));
    let delivery = take(&mut dead).await;
    assert_eq!(death(&delivery.message), expected);
    // As the ledger does when it cannot file it at once.
    broker
        .publish(&names.exchange("wait"), names.queue("dead").as_str(), delivery.message)
        .await
        .expect("the message is routed and stored");
    dead.ack(&[delivery.tag]).await.expect("the subscription lives");
    assert_eq!(death(&take(&mut dead).await.message), expected);
}
