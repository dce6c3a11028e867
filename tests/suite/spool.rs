//! The spool in front of a RabbitMQ with one refusing queue.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::Value;
use tokio::time::sleep;

use crate::product::{PATIENCE, Product, example};

const EVENTS: usize = 30;

fn order(topic: &str, n: usize) -> String {
    format!(r#"{{"event_id": "{topic}", "data": {{"id": "{n}", "code": "{n:010}", "status": 1}}}}"#)
}

/// Declares a queue of somebody else's and binds it.
async fn bind(
    channel: &Channel,
    queue: &str,
    exchange: &str,
    topic: &str,
    arguments: FieldTable,
) -> Result<()> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, arguments).await?;
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), topic.into(), options, FieldTable::default()).await?;
    Ok(())
}

/// The value of a metric, its labels included in the name.
fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or(0.0)
}

/// Waits until the ingress's metrics are as they should be.
async fn until(product: &Product, what: &str, fits: impl Fn(&str) -> bool) -> Result<String> {
    let started = Instant::now();
    loop {
        let metrics = product.metrics("up").await?;
        if fits(&metrics) {
            return Ok(metrics);
        }
        ensure!(started.elapsed() < PATIENCE, "not {what}:\n{}", product.output("up"));
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_refuses_holds_up_its_topic_alone_and_few_copies_reach_the_ledger() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let broker = shared.fresh_vhost()?;
    let mut product = Product::configured(&broker, &shared.fresh_database()?, "")?;
    product.start("up", &["up"]).await?;
    let connection = Connection::connect(&broker, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut full = FieldTable::default();
    full.insert("x-max-length".into(), AMQPValue::LongInt(1));
    full.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    bind(&channel, "foreign", "webhooks.gestao-online", "ORDER_CREATED", full).await?;
    // Gets what the ledger gets.
    bind(&channel, "copies", "received.gestao-online", "", FieldTable::default()).await?;

    let started = Instant::now();
    for n in 0..EVENTS {
        product.post("go", order("ORDER_CREATED", n)).await?;
    }
    let others = [
        product.post("go", order("ORDER_CANCEL", 0)).await?,
        product.post("rec", example("recuperador", "acordo.cadastrado")).await?,
    ];
    let lane = r#"{exchange="received.gestao-online",routing_key="ORDER_CREATED",why="refused"}"#;
    // The queue took the first; the others wait, and are probed several times.
    let count = async |queue: &'static str| -> Result<usize> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
        Ok(queue.message_count() as usize)
    };
    let waiting = EVENTS - count("foreign").await?;
    assert!(waiting > EVENTS / 2, "{waiting} are refused");
    until(&product, "probed", |metrics| {
        value(metrics, "spool_refused_tries_total") >= 6.0
            && value(metrics, &format!("spool_lane_events{lane}")) == waiting as f64
            && value(metrics, "spool_lanes") == 1.0
    })
    .await?;
    let is_handled = |id: &String| -> Result<bool> {
        let events: Vec<Value> = product.rows(&["events", "list"])?;
        Ok(events.iter().any(|event| event["id"] == id.as_str() && event["state"] == "handled"))
    };
    while !(is_handled(&others[0])? && is_handled(&others[1])?) {
        ensure!(started.elapsed() < PATIENCE, "the others are held up:\n{}", product.output("up"));
        sleep(Duration::from_millis(100)).await;
    }
    let queues = product.json(&["queues"])?;
    let listed =
        queues.iter().find(|row| row["routing_key"] == "ORDER_CREATED").context("the lane is listed")?;
    assert_eq!((&listed["exchange"], &listed["why"]), (&"received.gestao-online".into(), &"refused".into()));
    assert_eq!(listed["events"], waiting);
    let printed = product.output("up");
    assert!(printed.contains("received.gestao-online ORDER_CREATED"), "{printed}");
    let doctor = product.command(&["doctor"])?.output()?;
    let findings = String::from_utf8_lossy(&doctor.stdout);
    let spooling = format!("! the ingress at {} continues with its spool: ", product.operations("up"));
    assert!(findings.contains(&spooling), "{findings}");

    channel.queue_delete("foreign".into(), QueueDeleteOptions::default()).await?;
    let events = product.settled(EVENTS + 2).await?;
    assert!(events.iter().all(|event| event["state"] == "handled"), "{events:#?}");
    assert_eq!(product.rows(&["receivables", "list"])?.len(), EVENTS + 3);
    let metrics = until(&product, "drained", |metrics| {
        value(metrics, "spool_lanes") == 0.0 && value(metrics, &format!("spool_lane_events{lane}")) == 0.0
    })
    .await?;

    // Each event once, the one whose publish was refused first once more, and two with each probe. The pauses between
    // probes double from 0.1 s, less up to a half.
    let tries = value(&metrics, "spool_refused_tries_total") as usize;
    let probes = (0..).take_while(|n| Duration::from_millis(50 << n) < started.elapsed()).count() + 1;
    assert!(tries <= 2 * probes, "{tries} tries in {probes} probes");
    // A try is refused before the other queues have stored their copy.
    let expect = EVENTS + 1 + 1 + tries;
    let refused = Instant::now();
    while count("copies").await? < expect && refused.elapsed() < PATIENCE {
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(count("copies").await?, expect, "{tries} tries were refused");
    Ok(())
}
