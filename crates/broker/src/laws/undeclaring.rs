//! Laws of removing what was declared.

use std::time::Duration;

use event::header;

use super::waiting::declare_wait;
use super::{
    Declaration, Instance, Names, await_ready, drain, nothing_arrives, numbered, publish, put, sorted,
    subscribe, take,
};
use crate::death::MISSING_QUEUE;
use crate::{
    Binding, BrokerError, Destination, DynBroker, ExchangeKind, ExchangeName, PublishError, QueueName,
};

fn binding(exchange: ExchangeName, queue: QueueName, routing_key: &str) -> Binding {
    Binding { exchange, destination: Destination::Queue(queue), routing_key: routing_key.to_owned() }
}

async fn exists(broker: &DynBroker, queue: &QueueName) -> bool {
    match broker.queues(std::slice::from_ref(queue)).await {
        Ok(_) => true,
        Err(BrokerError::MissingQueue { .. }) => false,
        Err(error) => panic!("the queue cannot be asked for: {error:?}"),
    }
}

/// A queue gets nothing more by a binding that was removed, and keeps what it has and its other bindings. What no binding
/// takes any more goes to the alternate exchange.
pub async fn an_unbound_queue_keeps_what_it_has(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names)
        .fanout("unrouted")
        .queue("unrouted")
        .bind("unrouted", "unrouted", "")
        .exchange("topics", ExchangeKind::Topic, Some("unrouted"))
        .queue("work")
        .bind("topics", "work", "order.*")
        .bind("topics", "work", "invoice.*")
        .declare(&broker)
        .await;
    let (topics, work) = (names.exchange("topics"), names.queue("work"));
    publish(&broker, &topics, "order.created", "before").await;
    let orders = [binding(topics.clone(), work.clone(), "order.*")];
    broker.unbind(&orders).await.expect("it is bound");
    publish(&broker, &topics, "order.created", "after").await;
    publish(&broker, &topics, "invoice.created", "by the other binding").await;

    let mut unrouted = subscribe(&broker, &names.queue("unrouted"), 10).await;
    assert_eq!(drain(&mut unrouted, 1).await, ["after"]);
    let mut deliveries = subscribe(&broker, &work, 10).await;
    assert_eq!(drain(&mut deliveries, 2).await, ["before", "by the other binding"]);
    nothing_arrives(&mut deliveries).await;
}

/// A binding that does not exist, or of which not even the queue or the exchange does, can be removed like any other, by
/// any handle.
pub async fn removing_what_is_gone_is_no_error(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).fanout("exchange").queue("work").declare(&broker).await;
    let bindings = [
        binding(names.exchange("exchange"), names.queue("work"), "never bound"),
        binding(names.exchange("exchange"), names.queue("gone"), ""),
        binding(names.exchange("gone"), names.queue("work"), ""),
    ];
    for binding in &bindings {
        broker.unbind(std::slice::from_ref(binding)).await.expect("it is gone, as asked for");
    }
    let other = instance.broker().await;
    other.unbind(&bindings).await.expect("they are gone, as asked for");
    assert_eq!(other.delete_queue(&names.queue("gone")).await.expect("it is gone, as asked for"), 0);
    assert!(exists(&broker, &names.queue("work")).await);
}

/// A deleted queue is gone with its messages and its bindings; every other queue keeps its messages and gets new ones. A queue
/// that is declared under its name afterwards is new: empty and not bound.
pub async fn a_deleted_queue_takes_nothing_else_with_it(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    let declaration = || {
        let queues = Declaration::new(&names).fanout("all").queue("one").queue("gone").queue("other");
        queues.bind("all", "one", "").bind("all", "other", "")
    };
    declaration().bind("all", "gone", "").declare(&broker).await;
    let (all, gone) = (names.exchange("all"), names.queue("gone"));
    for id in numbered(5) {
        publish(&broker, &all, "", id).await;
    }
    await_ready(&broker, &gone, 5).await;
    assert_eq!(broker.delete_queue(&gone).await.expect("it is there"), 5);
    assert!(!exists(&broker, &gone).await);
    let missing = broker.subscribe(&gone, 1).await.err();
    assert!(matches!(missing, Some(BrokerError::MissingQueue { .. })), "{missing:?}");
    let published =
        broker.publish(&ExchangeName::default_exchange(), gone.as_str(), super::message("m")).await;
    assert!(matches!(published, Err(PublishError::Unroutable { .. })), "{published:?}");
    assert_eq!(broker.delete_queue(&gone).await.expect("it is gone, as asked for"), 0);

    declaration().declare(&broker).await;
    publish(&broker, &all, "", "m0005").await;
    for name in ["one", "other"] {
        let mut deliveries = subscribe(&broker, &names.queue(name), 10).await;
        assert_eq!(drain(&mut deliveries, 6).await, numbered(6), "{name}");
    }
    put(&broker, &gone, "new").await;
    let mut deliveries = subscribe(&broker, &gone, 10).await;
    assert_eq!(drain(&mut deliveries, 1).await, ["new"]);
    nothing_arrives(&mut deliveries).await;
}

/// A consumer whose queue is deleted is told: `next` and `ack` fail. What it held is gone with the queue, even for the
/// next queue of that name.
pub async fn the_consumer_of_a_deleted_queue_is_told(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let queue = names.queue("work");
    put(&broker, &queue, "held").await;
    let mut deliveries = subscribe(&broker, &queue, 10).await;
    let held = take(&mut deliveries).await;
    assert_eq!(instance.broker().await.delete_queue(&queue).await.expect("it is there"), 0);
    let next = tokio::time::timeout(super::PATIENCE, deliveries.next()).await.expect("in time");
    assert!(next.is_err(), "{next:?}");
    assert!(deliveries.ack(&[held.tag]).await.is_err());

    Declaration::new(&names).queue("work").declare(&broker).await;
    put(&broker, &queue, "new").await;
    let mut deliveries = subscribe(&broker, &queue, 10).await;
    assert_eq!(drain(&mut deliveries, 1).await, ["new"]);
    nothing_arrives(&mut deliveries).await;
}

/// Bindings that are declared before others are removed lose no message and deliver none twice, whatever is published
/// meanwhile.
pub async fn bindings_are_replaced_without_losing_a_message(instance: &dyn Instance) {
    const ROUNDS: usize = 4;
    let (broker, names) = (instance.broker().await, Names::new());
    let bound = |pattern: &str| {
        Declaration::new(&names)
            .exchange("topics", ExchangeKind::Topic, None)
            .queue("work")
            .bind("topics", "work", pattern)
    };
    let (topics, work) = (names.exchange("topics"), names.queue("work"));
    bound("order.*").declare(&broker).await;
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let publishing = tokio::spawn({
        let (broker, topics) = (broker.clone(), topics.clone());
        async move {
            let mut count = 0;
            while !*stopped.borrow_and_update() {
                publish(&broker, &topics, "order.created", format!("m{count:04}")).await;
                count += 1;
            }
            count
        }
    });
    for round in 0..ROUNDS {
        let (new, old) = if round % 2 == 0 { ("#", "order.*") } else { ("order.*", "#") };
        broker.declare_once(&bound(new).topology).await.expect("it can be declared");
        broker.unbind(&[binding(topics.clone(), work.clone(), old)]).await.expect("it is bound");
    }
    stop.send_replace(true);
    let count = publishing.await.expect("every message is routed");
    let mut deliveries = subscribe(&broker, &work, 100).await;
    assert_eq!(sorted(drain(&mut deliveries, count).await), numbered(count));
    nothing_arrives(&mut deliveries).await;
}

/// A message that waits for another try when its queue is deleted becomes a dead letter that names the queue.
pub async fn retries_for_a_deleted_queue_become_dead_letters(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    declare_wait(&broker, &names, Duration::from_secs(2), &["work"]).await;
    let work = names.queue("work");
    publish(&broker, &names.exchange("wait"), work.as_str(), "late").await;
    broker.delete_queue(&work).await.expect("it is there");
    let mut dead = subscribe(&broker, &names.queue("dead"), 10).await;
    let letter = take(&mut dead).await.message;
    assert_eq!(letter.message_id, "late");
    assert_eq!(letter.text(header::DEATH_QUEUE), Some(work.as_str()));
    assert_eq!(letter.text(header::DEATH_REASON), Some(MISSING_QUEUE));
}

/// What was removed stays away after a crash of the broker, and what was not is there.
pub async fn what_was_removed_stays_away_after_a_crash(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    let declaration = Declaration::new(&names).fanout("all").queue("bound").queue("unbound").queue("gone");
    let declaration = declaration.bind("all", "bound", "").bind("all", "unbound", "").bind("all", "gone", "");
    declaration.declare(&broker).await;
    publish(&broker, &names.exchange("all"), "", "before").await;
    broker.unbind(&[binding(names.exchange("all"), names.queue("unbound"), "")]).await.expect("it is bound");
    broker.delete_queue(&names.queue("gone")).await.expect("it is there");
    instance.crash().await;

    let broker = instance.broker().await;
    assert!(!exists(&broker, &names.queue("gone")).await);
    publish(&broker, &names.exchange("all"), "", "after").await;
    let mut unbound = subscribe(&broker, &names.queue("unbound"), 10).await;
    assert_eq!(drain(&mut unbound, 1).await, ["before"]);
    nothing_arrives(&mut unbound).await;
    let mut bound = subscribe(&broker, &names.queue("bound"), 10).await;
    assert_eq!(drain(&mut bound, 2).await, ["before", "after"]);
}
