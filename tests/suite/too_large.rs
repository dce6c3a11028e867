//! What RabbitMQ answers by closing the channel is an answer to one message: one that is too large, or that its user may not
//! publish. Nothing else waits for it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use broker::{Broker, Exchange, ExchangeKind, ExchangeName, PublishError, Publisher, Topology};
use broker_rabbitmq::{Config, RabbitMq};
use event::{HeaderValue, Message};
use harness::NodeOptions;
use serde_json::Value;
use tokio::time::sleep;

use crate::product::{PATIENCE, Product};

/// What the nodes take.
const LIMIT_BYTES: usize = 20_000;

fn order(id: &str, padding: usize) -> String {
    let padding = "x".repeat(padding);
    format!(
        r#"{{"event_id": "ORDER_CREATED", "data": {{"id": "{id}", "code": "{id:0>10}", "status": 1}}, "p": "{padding}"}}"#
    )
}

fn node() -> Result<harness::RabbitMq> {
    let options = NodeOptions::configured(vec![format!("max_message_size = {LIMIT_BYTES}")]);
    tokio::task::block_in_place(|| harness::RabbitMq::start_node(&options))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_rabbitmq_does_not_take_is_set_aside_and_the_next_one_of_its_topic_is_booked()
-> Result<()> {
    let node = node()?;
    let mut product = Product::configured(&node.url("/"), "sqlite", "")?;
    product.start("up", &["up"]).await?;
    let large = product.post("go", order("1", 2 * LIMIT_BYTES)).await?;
    let next = product.post("go", order("2", 0)).await?;
    let events = product.settled(1).await?;
    ensure!(events[0]["id"] == next.as_str() && events[0]["state"] == "handled", "{events:#?}");
    let started = Instant::now();
    let metrics = loop {
        let metrics = product.metrics("up").await?;
        if metrics.contains("spool_lanes 0") && metrics.contains("spool_set_aside_events 1") {
            break metrics;
        }
        ensure!(started.elapsed() < PATIENCE, "it is not set aside alone:\n{metrics}");
        sleep(Duration::from_millis(50)).await;
    };
    ensure!(metrics.contains("amqp_publishes_total{outcome=\"too_large\"}"), "{metrics}");
    let printed = product.output("up");
    ensure!(printed.contains(&large) && printed.contains("larger than the broker accepts"), "{printed}");
    ensure!(!printed.contains("the broker is down"), "{printed}");

    let doctor = product.command(&["doctor"])?.output()?;
    let findings = String::from_utf8_lossy(&doctor.stdout);
    ensure!(!doctor.status.success(), "{findings}");
    ensure!(findings.contains("✗ the broker does not accept a body of 1048576 bytes"), "{findings}");
    ensure!(findings.contains("max_message_size"), "{findings}");
    let spool = format!("✗ the spool of the ingress at {} has events", product.operations("up"));
    ensure!(
        findings.contains(&spool) && findings.contains("`malote queues` shows their queues"),
        "{findings}"
    );

    let reasons: Value = product.reasons("up").await?;
    let set_aside = &reasons["components"]["spool.set_aside"];
    ensure!(set_aside["status"] == "degraded", "{reasons:#}");
    ensure!(
        set_aside["trouble"].as_str().is_some_and(|trouble| trouble.starts_with("1 set aside")),
        "{reasons:#}"
    );
    Ok(())
}

fn message(id: usize, body_bytes: usize) -> Message {
    Message {
        message_id: id.to_string(),
        r#type: "good".to_owned(),
        timestamp: 1_790_000_000,
        content_type: "application/json".to_owned(),
        app_id: event::APP_ID.to_owned(),
        expiration: None,
        headers: [("cloudEvents_id".to_owned(), HeaderValue::from(id.to_string()))].into(),
        body: vec![b' '; body_bytes].into(),
    }
}

fn exchange(name: &str) -> ExchangeName {
    ExchangeName::new(name)
}

/// Two exchanges that route to a queue, of which a user may write to one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_closes_the_channel_is_answered_with_its_reason_and_the_rest_is_confirmed() -> Result<()> {
    let node = node()?;
    let connect = |url: &str| -> Result<RabbitMq> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(RabbitMq::connect(Config { channels: 1, ..Config::new(url.parse()?) }))
    };
    let admin = connect(&node.url("/"))?;
    let named = |name| Exchange { name: exchange(name), kind: ExchangeKind::Fanout, alternate: None };
    admin
        .declare(&Topology { exchanges: vec![named("open"), named("closed")], ..Topology::default() })
        .await?;
    admin.close().await;
    node.rabbitmqctl("add_user", &["sender", "of-this-test"])?;
    node.rabbitmqctl("set_permissions", &["-p", "/", "sender", "", "^open$", ""])?;
    let url = node.url("/").replacen("guest:guest", "sender:of-this-test", 1);
    let sender = connect(&url)?;
    // All at once, on one channel: the innocent are published again.
    let publishes = (0..60).map(|n| {
        let (name, bytes) = match n % 20 {
            7 => ("closed", 2),
            13 => ("open", LIMIT_BYTES + 1),
            _ => ("open", LIMIT_BYTES),
        };
        let (sender, name) = (&sender, exchange(name));
        let mut message = message(n, bytes);
        if n % 20 == 17 {
            // Longer than RabbitMQ's frames.
            message.headers.insert("http_x", "x".repeat(200_000).into());
        }
        async move { (n % 20, sender.publish(&name, "", message).await) }
    });
    for (kind, result) in futures_util::future::join_all(publishes).await {
        let text = result.as_ref().err().map(|error| event::Chain(error).to_string()).unwrap_or_default();
        match (kind, result) {
            (7, Err(PublishError::Rejected(_))) => {
                ensure!(text.contains("access to exchange 'closed'"), "{text}")
            }
            (13, Err(PublishError::TooLarge(_))) => ensure!(text.contains("message size"), "{text}"),
            (17, Err(PublishError::Rejected(_))) => {
                ensure!(text.contains("fit into a frame"), "{text}")
            }
            // No queue is bound.
            (_, Err(PublishError::Unroutable { .. })) => {}
            (kind, result) => anyhow::bail!("{kind}: {result:?}"),
        }
    }
    // Each refusal costs a channel: the next ones are answered without asking.
    for n in 60..80 {
        let result = sender.publish(&exchange("closed"), "", message(n, 2)).await;
        ensure!(matches!(result, Err(PublishError::Rejected(_))), "{result:?}");
    }
    let log = std::fs::read_to_string(node.folder().join("output.log"))?;
    let refusals = log.lines().filter(|line| line.contains("access to exchange 'closed'")).count();
    ensure!((1..10).contains(&refusals), "{refusals} channels were closed:\n{log}");
    sender.close().await;
    Ok(())
}
