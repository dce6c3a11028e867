//! What people do to RabbitMQ by hand: queues of their own, and exchanges that are deleted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::Shared;
use lapin::options::{
    BasicGetOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio::time::sleep;

use crate::product::{PATIENCE, Product, example};

async fn channel(url: &str) -> Result<Channel> {
    Ok(Connection::connect(url, ConnectionProperties::default()).await?.create_channel().await?)
}

/// The id of the next message of a queue, which is acknowledged.
async fn next(channel: &Channel, queue: &str) -> Result<String> {
    let started = Instant::now();
    loop {
        let options = BasicGetOptions { no_ack: true };
        if let Some(message) = channel.basic_get(queue.into(), options).await? {
            let id = message.delivery.properties.message_id().as_ref().context("an id")?;
            return Ok(id.to_string());
        }
        ensure!(started.elapsed() < PATIENCE, "{queue} stays empty");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Services of the previous release have declared their queues by hand, also under a name that a subscription would give them.
/// An upgrade leaves queues, bindings and messages as they are.
#[tokio::test]
async fn an_upgrade_keeps_queues_that_were_declared_by_hand() -> Result<()> {
    let shared = Shared::from_env()?;
    let (url, database) = (shared.fresh_vhost()?, shared.fresh_database()?);
    let mut product = Product::configured(&url, &database, "")?;
    let new = harness::malote_binary()?;
    product.set_binary(harness::previous_binary()?);
    product.start("ingress", &["ingress"]).await?;
    product.start("ledger", &["ledger"]).await?;
    let channel = channel(&url).await?;
    let queues = ["crm-orders", "subscription.crm"];
    for queue in queues {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let quorum = AMQPValue::LongString("quorum".into());
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), quorum);
        channel.queue_declare(queue.into(), options, arguments).await?;
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        channel
            .queue_bind(queue.into(), "webhooks.gestao-online".into(), "THEIRS".into(), options, none)
            .await?;
    }
    let body = r#"{"event_id": "THEIRS", "data": {"code": "1"}}"#;
    let before = product.post("go", body).await?;

    product.set_binary(new);
    for role in ["ingress", "ledger"] {
        product.terminate(role).await?;
        product.start(role, &[role]).await?;
    }
    product.start("console", &["console"]).await?;
    product.start("subscriptions", &["subscriptions"]).await?;
    product.run(&["topology", "apply"])?;
    let after = product.post("go", body).await?;
    for queue in queues {
        ensure!(next(&channel, queue).await? == before, "{queue} lost what it held");
        ensure!(next(&channel, queue).await? == after, "{queue} lost its binding");
    }

    // Another subscription, which comes and goes, takes none of them with it.
    product.run(&["subscriptions", "add", "erp", "--queue", "--topics", "gestao-online:THEIRS"])?;
    product.run(&["subscriptions", "remove", "erp", "--yes"])?;
    let last = product.post("go", body).await?;
    for queue in queues {
        ensure!(next(&channel, queue).await? == last, "{queue} went with a subscription");
    }
    Ok(())
}

/// Exchanges that somebody deletes are declared again by the process that finds them gone: for the relay of domain events, and for an ingress.
#[tokio::test]
async fn an_exchange_that_was_deleted_by_hand_is_declared_again() -> Result<()> {
    let shared = Shared::from_env()?;
    let (url, database) = (shared.fresh_vhost()?, shared.fresh_database()?);
    let mut product = Product::configured(&url, &database, "")?;
    product.start("up", &["up"]).await?;
    let channel = channel(&url).await?;
    for exchange in ["received.malote", "received.gestao-online"] {
        channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await?;
    }
    let cause = product.post("go", example("gestao-online", "ORDER_CREATED")).await?;
    let started = Instant::now();
    loop {
        let events = product.rows(&["events", "list", "--caused-by", &cause])?;
        if events.iter().any(|event| event["topic"] == "receivable.opened") {
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "the domain event is not recorded:\n{}", product.output("up"));
        sleep(Duration::from_millis(100)).await;
    }
    for exchange in ["received.malote", "received.gestao-online"] {
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(exchange.into(), ExchangeKind::Fanout, passive, FieldTable::default())
            .await
            .with_context(|| format!("{exchange} is not there"))?;
    }
    Ok(())
}
