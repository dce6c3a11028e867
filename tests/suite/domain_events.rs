//! Domain events as those who use them see them: on record with their causes, in the feed, in a queue of their own, in the
//! books, and sent again. That a kill loses none and makes none twice is counted by every row of the fault suite.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use broker::{Binding, Broker, Destination, ExchangeName, Queue, QueueName, Subscriber, Topology};
use broker_rabbitmq::{Config, RabbitMq};
use event::{Event, EventId};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::product::{PATIENCE, Product, example};

/// The domain events on record, once there are so many, oldest first.
async fn announced(product: &Product, count: usize) -> Result<Vec<Value>> {
    let started = Instant::now();
    loop {
        let events = product.rows(&["events", "list", "--provider", "malote"])?;
        if events.len() == count {
            return Ok(events);
        }
        ensure!(started.elapsed() < PATIENCE, "{} of {count} domain events: {events:#?}", events.len());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn shown(product: &Product, id: &str) -> Result<Value> {
    Ok(serde_json::from_str(&product.run(&["events", "show", id, "--json"])?)?)
}

/// Posts an order and its payment. Returns the ids of the two.
async fn order_paid(product: &Product) -> Result<[String; 2]> {
    let created = product.post("go", example("gestao-online", "ORDER_CREATED")).await?;
    announced(product, 1).await?;
    let paid = product.post("go", example("gestao-online", "FINANCIAL_PAYMENT_DISCHARGE")).await?;
    Ok([created, paid])
}

async fn an_effect_is_announced_on_record(product: &Product) -> Result<()> {
    let causes = order_paid(product).await?;
    let events = announced(product, 2).await?;
    for (event, (cause, topic)) in events.iter().zip(causes.iter().zip(["opened", "paid"])) {
        let expect = json!({
            "source": "receivables", "provider": "malote", "topic": format!("receivable.{topic}"),
            "subject": "receivable/0000593098", "state": "routed", "consumers": {},
        });
        for (name, value) in expect.as_object().context("an object")? {
            assert_eq!(event[name], *value, "{name} of {event:#}");
        }
        let id = event["id"].as_str().context("an id")?;
        assert_eq!(shown(product, id)?["caused_by"], **cause);
        let of_cause = shown(product, cause)?;
        let caused = json!([{"id": id, "topic": event["topic"], "subject": event["subject"]}]);
        assert_eq!(of_cause["caused"], caused, "{of_cause:#}");
        assert_eq!(product.rows(&["events", "list", "--caused-by", cause])?, std::slice::from_ref(event));
    }
    let [opened, paid] = events.as_slice() else { panic!("two events") };
    let body: Value = serde_json::from_str(
        shown(product, paid["id"].as_str().context("an id")?)?["body"].as_str().context("a text")?,
    )?;
    let data = json!({
        "source": "go", "external_id": "0000593098", "kind": "order", "agreement_id": null, "order_id": null, "due_date": null,
        "amount_centavos": null, "paid_date": body["paid_date"], "state": "paid", "provider_status": null,
        "previous_state": "open",
    });
    assert_eq!(body, data);
    let feed = product.run(&["feed", "--json", "--topics", "malote:receivable.*"])?;
    let feed: Vec<Value> = feed.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(feed.len(), 2, "{feed:#?}");
    let line = &feed[1];
    assert_eq!(
        (&line["id"], &line["type"], &line["source"]),
        (&paid["id"], &json!("receivable.paid"), &json!("/malote/receivables"))
    );
    assert_eq!(
        (&line["subject"], &line["causedby"], &line["data"]),
        (&paid["subject"], &json!(causes[1]), &data)
    );

    // A repetition changes nothing, and announces nothing; neither does a replay of what caused it.
    let again = product.post("go", example("gestao-online", "ORDER_CREATED")).await?;
    product.run(&["events", "replay", &causes[1], "--again", "--yes"])?;
    product.settled(4).await?;
    assert!(shown(product, &again)?["caused"] == json!([]));
    // It is sent again like every other event, under its id.
    let (id, other) = (paid["id"].as_str().context("an id")?, opened["id"].as_str().context("an id")?);
    product.run(&["events", "replay", id, other, "--yes"])?;
    assert_eq!(announced(product, 2).await?, events);
    assert!(product.rows(&["unrouted", "list"])?.is_empty(), "nobody has to be bound to a domain event");

    let books: Value = serde_json::from_str(&product.run(&["reconcile", "--json"])?)?;
    let sources = books["sources"].as_array().context("sources")?;
    let own =
        sources.iter().find(|books| books["source"] == "/malote/receivables").context("books of its own")?;
    assert_eq!((&own["received"], &own["routed"], &books["balanced"]), (&json!(2), &json!(2), &json!(true)));
    Ok(())
}

#[tokio::test]
async fn an_effect_is_announced_on_record_embedded() -> Result<()> {
    an_effect_is_announced_on_record(&Product::embedded().await?).await
}

#[tokio::test]
async fn an_effect_is_announced_on_record_by_one_of_two_replicas() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    an_effect_is_announced_on_record(
        &Product::scaled(&shared.fresh_vhost()?, &shared.fresh_database()?).await?,
    )
    .await
}

#[tokio::test]
async fn a_queue_that_is_bound_to_domain_events_gets_them_also_after_the_relay_is_killed() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let url = shared.fresh_vhost()?;
    let mut product = Product::scaled(&url, &shared.fresh_database()?).await?;
    let broker = RabbitMq::connect(Config::new(url.parse()?));
    let queue = QueueName::new("accounting");
    let topology = Topology {
        queues: vec![Queue {
            name: queue.clone(),
            delivery_limit: 20,
            message_ttl: None,
            dead_letter_exchange: None,
        }],
        bindings: vec![Binding {
            exchange: ExchangeName::new("webhooks.malote"),
            destination: Destination::Queue(queue.clone()),
            routing_key: "receivable.paid".to_owned(),
        }],
        ..Topology::default()
    };
    broker.declare(&topology).await?;
    let mut deliveries = broker.subscribe(&queue, 10).await?;
    let [_, paid] = order_paid(&product).await?;
    let delivery = timeout(PATIENCE, deliveries.next()).await??;
    let event = Event::from_message(&delivery.message)?;
    assert_eq!((event.topic.as_str(), event.caused_by), ("receivable.paid", Some(paid.parse::<EventId>()?)));
    assert_eq!(announced(&product, 2).await?[1]["id"], event.id.to_string());

    // Whichever process publishes, it is killed at some time.
    let names: Vec<String> = product.running().into_iter().filter(|name| name.ends_with("-1")).collect();
    for name in &names {
        product.kill9(name)?;
    }
    let paid =
        product.post("go", r#"{"event_id": "FINANCIAL_PAYMENT_DISCHARGE", "data": {"code": "2"}}"#).await?;
    let delivery = timeout(PATIENCE, deliveries.next()).await??;
    let event = Event::from_message(&delivery.message)?;
    assert_eq!(event.caused_by, Some(paid.parse::<EventId>()?));
    assert_eq!(announced(&product, 3).await?[2]["id"], event.id.to_string());
    broker.close().await;
    Ok(())
}
