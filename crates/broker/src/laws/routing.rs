//! Laws of publishing: where a message goes, and what a publish that returns means.

use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use event::{HeaderValue, Message};
use tokio::task::JoinSet;

use super::{
    Declaration, Instance, Names, drain, message, nothing_arrives, publish, put, sorted, subscribe, take,
};
use crate::{ExchangeKind, ExchangeName, PublishError};

/// A topic exchange takes the routing key's words between dots: `*` is one word, `#` any number, everything else
/// itself, underscores and capitals included. A word may be empty, and in a key `*` and `#` are words like others.
pub async fn a_topic_exchange_routes_as_amqp_says(instance: &dyn Instance) {
    const PATTERNS: [&str; 8] = [
        "order.created",
        "order.*",
        "invoice.#",
        "#",
        "*.status",
        "ORDER_CANCEL",
        "ORDER_*",
        "#.attachment.#",
    ];
    const KEYS: [(&str, &[&str]); 24] = [
        ("order.created", &["order.created", "order.*", "#"]),
        ("order.created.late", &["#"]),
        ("order", &["#"]),
        ("invoice", &["invoice.#", "#"]),
        ("invoice.status", &["invoice.#", "#", "*.status"]),
        ("invoice.attachment.created", &["invoice.#", "#", "#.attachment.#"]),
        ("ORDER_CANCEL", &["#", "ORDER_CANCEL"]),
        ("order_cancel", &["#"]),
        ("attachment", &["#", "#.attachment.#"]),
        // What senders write at the edges of the rule.
        ("invoice.", &["invoice.#", "#"]),
        ("invoice..status", &["invoice.#", "#"]),
        (".invoice.status", &["#"]),
        (".status", &["#", "*.status"]),
        ("order.", &["order.*", "#"]),
        ("invoice.#", &["invoice.#", "#"]),
        ("invoice.*", &["invoice.#", "#"]),
        ("*.created", &["#"]),
        ("*.status", &["#", "*.status"]),
        ("#", &["#"]),
        ("invoice/created", &["#"]),
        ("Invoice.created", &["#"]),
        ("invoice .created", &["#"]),
        ("x.invoice.created", &["#"]),
        ("invoice.a.b.c.d", &["invoice.#", "#"]),
    ];
    let (broker, names) = (instance.broker().await, Names::new());
    let mut declaration = Declaration::new(&names).exchange("topics", ExchangeKind::Topic, None);
    for pattern in PATTERNS {
        declaration = declaration.queue(pattern).bind("topics", pattern, pattern);
    }
    declaration.declare(&broker).await;

    for (key, _) in KEYS {
        publish(&broker, &names.exchange("topics"), key, key).await;
    }
    for pattern in PATTERNS {
        let expected: Vec<_> =
            KEYS.iter().filter(|(_, takes)| takes.contains(&pattern)).map(|(key, _)| *key).collect();
        let mut deliveries = subscribe(&broker, &names.queue(pattern), 100).await;
        assert_eq!(drain(&mut deliveries, expected.len()).await, expected, "bound with {pattern}");
        nothing_arrives(&mut deliveries).await;
    }
}

/// A direct exchange compares the whole routing key, without patterns; what matches no binding goes to its alternate
/// exchange.
pub async fn a_direct_exchange_routes_by_the_whole_key(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names)
        .fanout("other")
        .exchange("requeue", ExchangeKind::Direct, Some("other"))
        .queue("work")
        .queue("other")
        .bind("requeue", "work", "work.one")
        .bind("requeue", "work", "work.*")
        .bind("other", "other", "")
        .declare(&broker)
        .await;
    for key in ["work.one", "work.two", "work", "work.*"] {
        publish(&broker, &names.exchange("requeue"), key, key).await;
    }
    let mut work = subscribe(&broker, &names.queue("work"), 10).await;
    let mut other = subscribe(&broker, &names.queue("other"), 10).await;
    assert_eq!(drain(&mut work, 2).await, ["work.one", "work.*"]);
    assert_eq!(drain(&mut other, 2).await, ["work.two", "work"]);
    nothing_arrives(&mut work).await;
    nothing_arrives(&mut other).await;
}

/// A fanout exchange and a topic exchange bound to it route on with the same routing key, and a queue gets a message
/// once however many bindings lead there.
pub async fn a_chain_of_exchanges_reaches_each_queue_once(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names)
        .exchange("webhooks", ExchangeKind::Topic, None)
        .fanout("received")
        .queue("ledger")
        .queue("work")
        .bind("received", "ledger", "")
        .chain("received", "webhooks", "")
        .bind("webhooks", "work", "order.*")
        .bind("webhooks", "work", "order.created")
        .bind("webhooks", "ledger", "order.created")
        // A cycle of exchanges must not loop forever.
        .chain("webhooks", "received", "order.#")
        .declare(&broker)
        .await;

    publish(&broker, &names.exchange("received"), "order.created", "taken").await;
    publish(&broker, &names.exchange("received"), "invoice.created", "not taken").await;

    let mut ledger = subscribe(&broker, &names.queue("ledger"), 10).await;
    let mut work = subscribe(&broker, &names.queue("work"), 10).await;
    assert_eq!(drain(&mut ledger, 2).await, ["taken", "not taken"]);
    assert_eq!(drain(&mut work, 1).await, ["taken"]);
    nothing_arrives(&mut ledger).await;
    nothing_arrives(&mut work).await;
}

/// What no binding of an exchange takes goes to its alternate exchange, even when an exchange before it routed the
/// message somewhere else too; what a binding takes does not.
pub async fn what_no_binding_takes_goes_to_the_alternate_exchange_only(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names)
        .fanout("unrouted")
        .exchange("webhooks", ExchangeKind::Topic, Some("unrouted"))
        .fanout("received")
        .queue("unrouted")
        .queue("ledger")
        .queue("work")
        .bind("unrouted", "unrouted", "")
        .bind("received", "ledger", "")
        .chain("received", "webhooks", "")
        .bind("webhooks", "work", "order.*")
        .declare(&broker)
        .await;

    publish(&broker, &names.exchange("received"), "order.created", "taken").await;
    publish(&broker, &names.exchange("received"), "new.topic", "first").await;
    publish(&broker, &names.exchange("webhooks"), "new.topic", "second").await;

    let mut unrouted = subscribe(&broker, &names.queue("unrouted"), 10).await;
    let mut work = subscribe(&broker, &names.queue("work"), 10).await;
    let mut ledger = subscribe(&broker, &names.queue("ledger"), 10).await;
    assert_eq!(drain(&mut unrouted, 2).await, ["first", "second"]);
    assert_eq!(drain(&mut work, 1).await, ["taken"]);
    assert_eq!(drain(&mut ledger, 2).await, ["taken", "first"]);
    nothing_arrives(&mut unrouted).await;
    nothing_arrives(&mut work).await;
}

/// Nothing bound and no alternate exchange is an error, never a silent loss; the handle goes on working.
pub async fn what_nothing_takes_is_unroutable(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names)
        .fanout("empty")
        .exchange("topics", ExchangeKind::Topic, None)
        .queue("work")
        .bind("topics", "work", "order.*")
        .declare(&broker)
        .await;

    for (exchange, key) in [("empty", "order.created"), ("topics", "order")] {
        let result = broker.publish(&names.exchange(exchange), key, message("lost")).await;
        match result {
            Err(PublishError::Unroutable { exchange: named, routing_key }) => {
                assert_eq!((named, routing_key.as_str()), (names.exchange(exchange), key));
            }
            other => panic!("expected Unroutable from {exchange}, got {other:?}"),
        }
    }
    publish(&broker, &names.exchange("topics"), "order.created", "next").await;
    let mut work = subscribe(&broker, &names.queue("work"), 10).await;
    assert_eq!(drain(&mut work, 1).await, ["next"]);
}

/// The default exchange routes to the queue whose name is the routing key, and to nothing else.
pub async fn the_default_exchange_routes_to_the_queue_named(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("one").queue("other").declare(&broker).await;

    put(&broker, &names.queue("one"), "for one").await;
    let missing = names.queue("missing");
    let result =
        broker.publish(&ExchangeName::default_exchange(), missing.as_str(), message("for nobody")).await;
    assert!(matches!(result, Err(PublishError::Unroutable { .. })), "{result:?}");

    let mut one = subscribe(&broker, &names.queue("one"), 10).await;
    let delivery = take(&mut one).await;
    assert_eq!(delivery.message.message_id, "for one");
    assert_eq!(delivery.routing_key, names.queue("one").as_str());
    nothing_arrives(&mut subscribe(&broker, &names.queue("other"), 10).await).await;
}

/// Publishing to an exchange that does not exist is an error that names it; publishes at the same time and after are
/// not harmed.
pub async fn publishing_to_a_missing_exchange_is_an_error(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let (missing, work) = (names.exchange("missing"), names.queue("work"));

    for round in 0..3 {
        let (result, ()) = tokio::join!(
            broker.publish(&missing, "order.created", message("lost")),
            put(&broker, &work, format!("m{round}")),
        );
        match result {
            Err(PublishError::MissingExchange { exchange }) => assert_eq!(exchange, missing),
            other => panic!("expected MissingExchange, got {other:?}"),
        }
    }
    let mut deliveries = subscribe(&broker, &work, 10).await;
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("m2") {
        seen.append(&mut drain(&mut deliveries, 1).await);
    }
    // At least once: what was in flight beside the failed publish may have been sent again.
    seen.dedup();
    assert_eq!(seen, ["m0", "m1", "m2"]);
}

/// Properties, headers and the body arrive unchanged: empty, binary and 1 MiB bodies too.
pub async fn a_message_arrives_as_it_was_published(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names)
        .exchange("topics", ExchangeKind::Topic, None)
        .queue("work")
        .bind("topics", "work", "#")
        .declare(&broker)
        .await;

    let every_byte: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
    let bodies =
        [Bytes::new(), Bytes::from(every_byte), Bytes::from_static(b"{ \"a\" : 1.0 }\n"), "ção 💶".into()];
    let mut deliveries = subscribe(&broker, &names.queue("work"), 10).await;
    for (n, body) in bodies.into_iter().enumerate() {
        let mut sent = message(format!("m{n}"));
        sent.body = body;
        sent.r#type = "ORDER_CREATED".to_owned();
        sent.content_type = "application/octet-stream".to_owned();
        sent.timestamp = 1_753_180_800 + n as u64;
        for (name, value) in [
            ("cloudEvents_subject", HeaderValue::from("order/0000593098 — ação")),
            ("empty", HeaderValue::from("")),
            ("malote_attempt", HeaderValue::from(3)),
            ("lowest", HeaderValue::from(i64::MIN)),
            ("highest", HeaderValue::from(i64::MAX)),
        ] {
            sent.headers.insert(name.to_owned(), value);
        }
        broker
            .publish(&names.exchange("topics"), "ORDER_CREATED", sent.clone())
            .await
            .expect("the message is routed and stored");

        let delivery = take(&mut deliveries).await;
        assert!(!delivery.redelivered);
        assert_eq!(delivery.routing_key, "ORDER_CREATED");
        assert!(delivery.message == sent, "message {n} changed in flight");
        deliveries.ack(&[delivery.tag]).await.expect("the subscription lives");
    }
}

/// 64 tasks publish at once through one handle: each publish that returns is in the queue, once.
pub async fn every_concurrent_publish_that_returns_is_there(instance: &dyn Instance) {
    const TASKS: usize = 64;
    const EACH: usize = 10;
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names)
        .fanout("all")
        .queue("one")
        .queue("other")
        .bind("all", "one", "")
        .bind("all", "other", "")
        .declare(&broker)
        .await;

    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (broker, exchange) = (broker.clone(), names.exchange("all"));
        tasks.spawn(async move {
            for n in 0..EACH {
                publish(&broker, &exchange, "order.created", format!("{task:02}-{n:02}")).await;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("every publish is confirmed");
    }
    let expected: Vec<_> =
        (0..TASKS).flat_map(|task| (0..EACH).map(move |n| format!("{task:02}-{n:02}"))).collect();
    for queue in ["one", "other"] {
        let mut deliveries = subscribe(&broker, &names.queue(queue), 200).await;
        let ids = drain(&mut deliveries, expected.len()).await;
        for task in 0..TASKS {
            let own: Vec<_> = ids.iter().filter(|id| id.starts_with(&format!("{task:02}-"))).collect();
            assert!(own.is_sorted(), "the publishes of one task are in the order they returned: {own:?}");
        }
        assert_eq!(sorted(ids), expected);
        nothing_arrives(&mut deliveries).await;
    }
}

/// A small message is stored before most of the large ones that were published just before it. One that is larger than
/// all others is confirmed as well, and those that are given up hold up nothing.
pub async fn a_small_message_overtakes_large_ones(instance: &dyn Instance) {
    const LARGE: usize = 64;
    const BYTES: usize = 256 * 1024;
    let (broker, names) = (instance.broker().await, Names::new());
    let queue = names.queue("work");
    Declaration::new(&names).queue("work").declare(&broker).await;
    put(&broker, &queue, "the first takes a connection").await;

    let body = Bytes::from(vec![b' '; 12 * BYTES]);
    // A publish that has begun.
    let begin = |id: String, bytes: usize| {
        let (broker, queue) = (broker.clone(), queue.clone());
        let message = Message { body: body.slice(..bytes), ..message(id) };
        let mut publish: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
            broker.publish(&ExchangeName::default_exchange(), queue.as_str(), message).await
        });
        match publish.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            // Seldom, where this thread had to wait for a processor.
            Poll::Ready(published) => Box::pin(ready(published)),
            Poll::Pending => publish,
        }
    };
    let mut publishes: Vec<_> = (0..LARGE)
        .map(|n| begin(format!("large {n}"), if n == LARGE / 2 { 12 * BYTES } else { BYTES }))
        .collect();
    (0..LARGE).for_each(|n| drop(begin(format!("given up {n}"), BYTES)));
    publishes.push(begin("small".to_owned(), 2));
    let mut tasks: JoinSet<_> = publishes.into_iter().collect();
    while let Some(task) = tasks.join_next().await {
        task.expect("the task ends").expect("every publish is confirmed");
    }

    let mut deliveries = subscribe(&broker, &queue, 1).await;
    let mut before = 0;
    loop {
        let id = drain(&mut deliveries, 1).await.remove(0);
        match id.as_str() {
            "small" => break,
            id => before += usize::from(id.starts_with("large")),
        }
    }
    assert!(before < LARGE / 2, "{before} large ones are before it");
}

/// A closed broker confirms nothing.
pub async fn publishing_after_close_is_an_error(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    put(&broker, &names.queue("work"), "before").await;
    broker.close().await;
    let result = broker
        .publish(&ExchangeName::default_exchange(), names.queue("work").as_str(), message("after"))
        .await;
    assert!(matches!(result, Err(PublishError::Unavailable(_))), "{result:?}");
}
