//! Laws of consuming: who gets a message, how often, in which order.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use event::Message;
use tokio::sync::mpsc;

use super::{
    Declaration, Instance, Names, PATIENCE, await_ready, drain, nothing_arrives, numbered, plain_queue, put,
    sorted, subscribe, take,
};
use crate::test_support::message;
use crate::{BrokerError, Deliveries, DynBroker, ExchangeName, Queue, QueueName, Topology};

/// One publisher's messages reach one consumer in the order they were published.
pub async fn one_publisher_and_one_consumer_keep_the_order(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let queue = names.queue("work");
    let mut deliveries = subscribe(&broker, &queue, 7).await;
    let ids = numbered(100);
    let publishing = async {
        for id in &ids {
            put(&broker, &queue, id).await;
        }
    };
    let (seen, ()) = tokio::join!(drain(&mut deliveries, ids.len()), publishing);
    assert_eq!(seen, ids);
}

/// An acked delivery comes to nobody again: not to its consumer, not to the next.
pub async fn an_acked_delivery_does_not_come_back(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let queue = names.queue("work");
    for id in numbered(3) {
        put(&broker, &queue, id).await;
    }
    let mut deliveries = subscribe(&broker, &queue, 10).await;
    let mut tags = Vec::new();
    for _ in 0..3 {
        tags.push(take(&mut deliveries).await.tag);
    }
    deliveries.ack(&tags).await.expect("the subscription lives");
    nothing_arrives(&mut deliveries).await;
    drop(deliveries);
    nothing_arrives(&mut subscribe(&broker, &queue, 10).await).await;
    await_ready(&broker, &queue, 0).await;
}

/// Dropping a consumer gives back what it has not settled, marked redelivered, and only that.
pub async fn a_dropped_consumer_gives_back_what_it_holds(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let queue = names.queue("work");
    for id in ["acked", "held", "held too"] {
        put(&broker, &queue, id).await;
    }
    let mut first = subscribe(&broker, &queue, 10).await;
    assert_eq!(drain(&mut first, 1).await, ["acked"]);
    for id in ["held", "held too"] {
        let delivery = take(&mut first).await;
        assert_eq!((delivery.message.message_id.as_str(), delivery.redelivered), (id, false));
    }
    drop(first);

    let other = instance.broker().await;
    let mut second = subscribe(&other, &queue, 10).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let delivery = take(&mut second).await;
        assert!(delivery.redelivered, "{}", delivery.message.message_id);
        seen.push(delivery.message.message_id);
    }
    assert_eq!(sorted(seen), ["held", "held too"]);
    nothing_arrives(&mut second).await;
}

/// Consumers of one queue, on several handles, get every message once between them; each gets some.
pub async fn competing_consumers_share_each_message_once(instance: &dyn Instance) {
    const CONSUMERS: usize = 3;
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let queue = names.queue("work");
    let ids = numbered(150);
    let (seen, mut all) = mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    for consumer in 0..CONSUMERS {
        let mut deliveries = subscribe(&instance.broker().await, &queue, 4).await;
        let seen = seen.clone();
        tasks.spawn(async move {
            while let Ok(delivery) = deliveries.next().await {
                seen.send((consumer, delivery.redelivered, delivery.message.message_id))
                    .expect("the law is still counting");
                // Holding it for a moment gives a second owner the time to show.
                tokio::time::sleep(Duration::from_millis(1)).await;
                deliveries.ack(&[delivery.tag]).await.expect("the subscription lives");
            }
        });
    }
    for id in &ids {
        put(&broker, &queue, id).await;
    }
    let mut taken = Vec::new();
    let mut by_consumer = [0; CONSUMERS];
    while taken.len() < ids.len() {
        let (consumer, redelivered, id) = tokio::time::timeout(PATIENCE, all.recv())
            .await
            .expect("every message is taken in time")
            .expect("the consumers are running");
        assert!(!redelivered, "{id}");
        by_consumer[consumer] += 1;
        taken.push(id);
    }
    assert_eq!(sorted(taken), ids);
    assert!(by_consumer.iter().all(|&count| count > 0), "{by_consumer:?}");
    assert!(tokio::time::timeout(super::ABSENCE, all.recv()).await.is_err(), "nothing is taken twice");
    tasks.shutdown().await;
}

/// A consumer never holds more than its prefetch; settling one makes room for one.
pub async fn prefetch_bounds_what_a_consumer_holds(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let queue = names.queue("work");
    for id in numbered(5) {
        put(&broker, &queue, id).await;
    }
    let mut first = subscribe(&broker, &queue, 2).await;
    let held = [take(&mut first).await, take(&mut first).await];
    nothing_arrives(&mut first).await;
    await_ready(&broker, &queue, 3).await;

    first.ack(&[held[1].tag]).await.expect("the subscription lives");
    assert_eq!(take(&mut first).await.message.message_id, "m0002");
    nothing_arrives(&mut first).await;

    // What the first cannot hold is there for a second.
    let mut second = subscribe(&broker, &queue, 10).await;
    assert_eq!(drain(&mut second, 2).await, ["m0003", "m0004"]);
    nothing_arrives(&mut second).await;
}

/// A changed prefetch bounds later deliveries; earlier ones do not come again and can be settled.
pub async fn a_changed_limit_holds_from_then_on_and_gives_nothing_back(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let queue = names.queue("work");
    for id in numbered(12) {
        put(&broker, &queue, id).await;
    }
    let mut deliveries = subscribe(&broker, &queue, 1).await;
    let mut taken = vec![take(&mut deliveries).await];
    nothing_arrives(&mut deliveries).await;
    // The first is held across the change and settled afterwards.
    deliveries.limit(4, usize::MAX).await.expect("the subscription lives");
    deliveries.ack(&[taken[0].tag]).await.expect("the subscription lives");
    for _ in 0..4 {
        taken.push(take(&mut deliveries).await);
    }
    nothing_arrives(&mut deliveries).await;
    deliveries.limit(2, usize::MAX).await.expect("the subscription lives");
    let held: Vec<_> = taken[1..].iter().map(|delivery| delivery.tag).collect();
    deliveries.ack(&held).await.expect("the subscription lives");
    for _ in 0..2 {
        taken.push(take(&mut deliveries).await);
    }
    nothing_arrives(&mut deliveries).await;
    assert!(taken.iter().all(|delivery| !delivery.redelivered));
    let ids: Vec<_> = taken.iter().map(|delivery| delivery.message.message_id.as_str()).collect();
    assert_eq!(ids, numbered(7));
    await_ready(&broker, &queue, 5).await;
    drop(deliveries);
    await_ready(&broker, &queue, 7).await;
}

/// A consumer holds no more bytes than its limit and one body, however many messages it takes. All come in the end.
pub async fn a_limit_in_bytes_bounds_what_a_consumer_holds(instance: &dyn Instance) {
    const MESSAGES: usize = 40;
    const SIZE: usize = 100_000;
    const FIT: usize = 10;
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let queue = names.queue("work");
    for id in numbered(MESSAGES) {
        let large = Message { body: vec![b' '; SIZE].into(), ..message(id) };
        let published = broker.publish(&ExchangeName::default_exchange(), queue.as_str(), large).await;
        published.expect("the message is routed and stored");
    }
    let mut deliveries = subscribe(&broker, &queue, 1).await;
    let mut left: BTreeSet<String> = numbered(MESSAGES).into_iter().collect();
    let mut handle = async |deliveries: &mut Box<dyn Deliveries>| {
        let delivery = take(deliveries).await;
        deliveries.ack(&[delivery.tag]).await.expect("the subscription lives");
        assert!(left.remove(&delivery.message.message_id), "it comes again after an ack");
        left.len()
    };
    handle(&mut deliveries).await;
    deliveries.limit(MESSAGES as u16, FIT * SIZE).await.expect("the subscription lives");
    let mut held = Vec::new();
    let waiting = async {
        let least = (MESSAGES - 1 - FIT - 1) as u64;
        while broker.queues(std::slice::from_ref(&queue)).await.expect("the queue is declared")[0].ready
            < least
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // RabbitMQ sends them all, so that the subscription ends; the embedded broker keeps the others.
    let over = loop {
        match tokio::time::timeout(super::ABSENCE, deliveries.next()).await {
            Ok(Ok(delivery)) => held.push(delivery.tag),
            Ok(Err(error)) => break Some(error),
            Err(_) => break None,
        }
        assert!(held.len() <= FIT + 1, "{} bodies are held", held.len());
    };
    tokio::time::timeout(super::PATIENCE, waiting).await.expect("the others are in the queue");
    match over {
        None => deliveries.ack(&[]).await.expect("the subscription lives"),
        Some(BrokerError::Overfull { bytes }) => {
            assert_eq!(bytes, FIT * SIZE);
            assert!(deliveries.next().await.is_err() && deliveries.ack(&[]).await.is_err(), "it is over");
        }
        Some(error) => panic!("{error:?}"),
    }
    drop(deliveries);
    let mut deliveries = subscribe(&broker, &queue, 1).await;
    while handle(&mut deliveries).await > 0 {}
}

/// Giving up waiting for the next delivery, again and again, loses none and changes no order.
pub async fn a_cancelled_next_loses_nothing(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let queue = names.queue("work");
    let ids = numbered(30);
    let mut deliveries = subscribe(&broker, &queue, 5).await;
    let publishing = async {
        for id in &ids {
            put(&broker, &queue, id).await;
        }
    };
    let taking = async {
        let start = Instant::now();
        let mut seen = Vec::new();
        while seen.len() < ids.len() && start.elapsed() < PATIENCE {
            tokio::select! {
                biased;
                // Gives up at the first poll that finds nothing.
                delivery = deliveries.next() => {
                    let delivery = delivery.expect("the subscription lives");
                    deliveries.ack(&[delivery.tag]).await.expect("the subscription lives");
                    seen.push(delivery.message.message_id);
                }
                () = tokio::task::yield_now() => {}
            }
        }
        seen
    };
    let (seen, ()) = tokio::join!(taking, publishing);
    assert_eq!(seen, ids);
}

async fn declare_limited(broker: &DynBroker, names: &Names, delivery_limit: u32) -> QueueName {
    Declaration::new(names).fanout("dead").queue("dead").bind("dead", "dead", "").declare(broker).await;
    let queue = Queue {
        delivery_limit,
        dead_letter_exchange: Some(names.exchange("dead")),
        ..plain_queue(names.queue("work"))
    };
    let name = queue.name.clone();
    let topology = Topology { queues: vec![queue], ..Topology::default() };
    broker.declare(&topology).await.expect("the queue can be declared");
    name
}

/// A message given back more often than the delivery limit goes to the dead letter exchange, unchanged, once.
pub async fn the_delivery_limit_dead_letters(instance: &dyn Instance) {
    const LIMIT: u32 = 2;
    let (broker, names) = (instance.broker().await, Names::new());
    let queue = declare_limited(&broker, &names, LIMIT).await;
    put(&broker, &queue, "poison").await;
    let mut dead = subscribe(&broker, &names.queue("dead"), 10).await;

    for round in 0..=LIMIT {
        let mut work = subscribe(&broker, &queue, 10).await;
        assert_eq!(take(&mut work).await.redelivered, round > 0);
    }
    let letter = take(&mut dead).await;
    assert_eq!(letter.message.message_id, "poison");
    assert_eq!(letter.message.body, "body of poison");
    assert_eq!(letter.message.r#type, "order.created");
    assert_eq!(letter.routing_key, queue.as_str());
    nothing_arrives(&mut subscribe(&broker, &queue, 10).await).await;
    nothing_arrives(&mut dead).await;
}

/// A message whose consumers keep going away goes to the dead letter exchange too, and no other message does.
pub async fn the_delivery_limit_counts_dropped_consumers(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    let queue = declare_limited(&broker, &names, 1).await;
    let mut dead = subscribe(&broker, &names.queue("dead"), 10).await;
    put(&broker, &queue, "deadly").await;
    for _ in 0..2 {
        let mut work = subscribe(&broker, &queue, 1).await;
        assert_eq!(take(&mut work).await.message.message_id, "deadly");
    }
    assert_eq!(take(&mut dead).await.message.message_id, "deadly");
    put(&broker, &queue, "harmless").await;
    let mut work = subscribe(&broker, &queue, 1).await;
    assert_eq!(drain(&mut work, 1).await, ["harmless"]);
    nothing_arrives(&mut dead).await;
}

/// Subscribing to a queue that does not exist is an error that names it; so is asking for its status.
pub async fn subscribing_to_a_missing_queue_is_an_error(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let missing = names.queue("missing");
    match broker.subscribe(&missing, 1).await.map(|_| ()) {
        Err(BrokerError::MissingQueue { queue }) => assert_eq!(queue, missing),
        other => panic!("expected MissingQueue, got {other:?}"),
    }
    match broker.queues(&[names.queue("work"), missing.clone()]).await {
        Err(BrokerError::MissingQueue { queue }) => assert_eq!(queue, missing),
        other => panic!("expected MissingQueue, got {other:?}"),
    }
    put(&broker, &names.queue("work"), "next").await;
    let mut work = subscribe(&broker, &names.queue("work"), 1).await;
    assert_eq!(drain(&mut work, 1).await, ["next"]);
}
