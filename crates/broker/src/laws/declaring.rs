//! Laws of declaring and of what an operator asks.

use std::time::Duration;

use super::{
    Declaration, Instance, Names, PATIENCE, await_ready, drain, numbered, plain_queue, publish, put,
    subscribe, take,
};
use crate::{BrokerError, DynBroker, Exchange, ExchangeKind, Queue, Topology};

/// Declaring what exists changes nothing and harms no message; a later declaration may add to an earlier one.
pub async fn declaring_twice_changes_nothing(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    let declaration = || {
        Declaration::new(&names)
            .fanout("unrouted")
            .exchange("topics", ExchangeKind::Topic, Some("unrouted"))
            .queue("work")
            .bind("topics", "work", "order.*")
    };
    declaration().declare(&broker).await;
    publish(&broker, &names.exchange("topics"), "order.created", "m0").await;
    declaration().declare(&broker).await;
    declaration().queue("later").bind("topics", "later", "#").declare(&instance.broker().await).await;
    publish(&broker, &names.exchange("topics"), "order.created", "m1").await;

    let mut work = subscribe(&broker, &names.queue("work"), 10).await;
    assert_eq!(drain(&mut work, 2).await, ["m0", "m1"]);
    let mut later = subscribe(&broker, &names.queue("later"), 10).await;
    assert_eq!(drain(&mut later, 1).await, ["m1"]);
}

/// An exchange or a queue that exists with other properties is a conflict that names it; it stays as it was.
pub async fn a_conflicting_declaration_is_refused(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names)
        .fanout("exchange")
        .queue("queue")
        .bind("exchange", "queue", "")
        .declare(&broker)
        .await;

    let queue = Queue { message_ttl: Some(Duration::from_secs(1)), ..plain_queue(names.queue("queue")) };
    let exchange = Exchange { name: names.exchange("exchange"), kind: ExchangeKind::Topic, alternate: None };
    for (name, topology) in [
        (queue.name.to_string(), Topology { queues: vec![queue.clone()], ..Topology::default() }),
        (exchange.name.to_string(), Topology { exchanges: vec![exchange.clone()], ..Topology::default() }),
    ] {
        match broker.declare(&topology).await {
            Err(BrokerError::Conflict { what, .. }) => assert!(what.contains(&name), "{what}"),
            other => panic!("expected Conflict, got {other:?}"),
        }
    }
    publish(&broker, &names.exchange("exchange"), "order.created", "m0").await;
    let mut deliveries = subscribe(&broker, &names.queue("queue"), 10).await;
    assert_eq!(drain(&mut deliveries, 1).await, ["m0"]);
}

/// An existing queue with another delivery limit is not a conflict, whichever limit is in force afterwards: two
/// releases may declare it in turn, and no message is lost.
pub async fn another_delivery_limit_is_no_conflict(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    let declare = async |broker: &DynBroker, delivery_limit| {
        let queue = |name| Queue { delivery_limit, ..plain_queue(names.queue(name)) };
        let topology = Topology { queues: vec![queue("one"), queue("other")], ..Topology::default() };
        broker.declare(&topology).await.expect("it is no conflict");
    };
    declare(&broker, 20).await;
    put(&broker, &names.queue("one"), "m0").await;
    let newer = instance.broker().await;
    declare(&newer, 30).await;
    declare(&newer, 30).await;
    put(&newer, &names.queue("one"), "m1").await;
    declare(&broker, 20).await;
    let mut deliveries = subscribe(&broker, &names.queue("one"), 10).await;
    assert_eq!(drain(&mut deliveries, 2).await, ["m0", "m1"]);
}

/// The status of a queue counts its consumers and what is ready, not what is with a consumer.
pub async fn the_status_counts_what_is_ready(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").queue("empty").declare(&broker).await;
    let (work, empty) = (names.queue("work"), names.queue("empty"));
    for id in numbered(5) {
        put(&broker, &work, id).await;
    }
    await_ready(&broker, &work, 5).await;

    let mut deliveries = subscribe(&broker, &work, 2).await;
    let first = take(&mut deliveries).await;
    await_ready(&broker, &work, 3).await;
    let status = broker.queues(&[empty.clone(), work.clone()]).await.expect("the queues are declared");
    assert_eq!((&status[0].queue, status[0].ready, status[0].consumers), (&empty, 0, 0));
    assert_eq!((&status[1].queue, status[1].ready, status[1].consumers), (&work, 3, 1));

    deliveries.ack(&[first.tag]).await.expect("the subscription lives");
    drop(deliveries);
    await_ready(&broker, &work, 4).await;
    let gone = async {
        while broker.queues(std::slice::from_ref(&work)).await.expect("the queue is declared")[0].consumers
            > 0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("a dropped consumer is not counted for long");
}

/// A check reaches the broker and gives its product, its version and an address without credentials.
pub async fn the_broker_says_who_it_is(instance: &dyn Instance) {
    let info = instance.broker().await.check().await.expect("the broker is there");
    assert!(!info.product.is_empty());
    assert!(info.version.starts_with(|c: char| c.is_ascii_digit()), "{}", info.version);
    assert!(!info.address.is_empty() && !info.address.contains('@'), "{}", info.address);
}
