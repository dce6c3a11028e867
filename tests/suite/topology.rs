//! The topology on RabbitMQ: that of an earlier release is migrated without loss, declarations wait for a majority, and
//! `malote doctor` reports differences.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use broker::layout::{RetryDelay, WorkQueue};
use broker::{
    Binding, Broker, BrokerError, Destination, ExchangeName, FixedQueue, Layout, Publisher, QueueName,
    Subscriber, Topology,
};
use broker_rabbitmq::{Config, RabbitMq};
use event::{Event, Message, ProviderName, header};
use tokio::time::{sleep, timeout};

use crate::product::{PATIENCE, Product};

/// What the consumers read.
fn work() -> Vec<WorkQueue> {
    domains::ALL.iter().map(|domain| domain.bindings.work_queue()).collect()
}

fn providers() -> [ProviderName; 4] {
    ["mercado-eletronico", "gestao-online", "recuperador", "beneficio-visao"]
        .map(|name| ProviderName::new(name).expect("a name"))
}

/// What an earlier release declared: retry queues that dead-letter to the default exchange, and low delivery limits.
fn earlier_topology() -> Topology {
    let layout = Layout::new("");
    let mut topology = layout.topology(&providers(), &work());
    let requeue = layout.requeue();
    topology.exchanges.retain(|exchange| exchange.name != requeue);
    topology.bindings.retain(|binding| binding.exchange != requeue);
    for queue in &mut topology.queues {
        let is_record = FixedQueue::ALL.iter().any(|fixed| fixed.name() == queue.name.as_str());
        queue.delivery_limit = if is_record { 1_000 } else { 20 };
    }
    for delay in RetryDelay::ALL {
        let (exchange, queue) = layout.former_retry(delay);
        let (new_exchange, new_queue) = (layout.retry_exchange(delay), layout.retry_queue(delay));
        for declared in topology.exchanges.iter_mut().filter(|declared| declared.name == new_exchange) {
            declared.name = exchange.clone();
        }
        for declared in topology.queues.iter_mut().filter(|declared| declared.name == new_queue) {
            declared.name = queue.clone();
            declared.dead_letter_exchange = Some(ExchangeName::default_exchange());
        }
        for binding in topology.bindings.iter_mut().filter(|binding| binding.exchange == new_exchange) {
            let destination = Destination::Queue(queue.clone());
            *binding = Binding { exchange: exchange.clone(), destination, routing_key: String::new() };
        }
    }
    topology
}

fn connect(url: &str) -> RabbitMq {
    RabbitMq::connect(Config { confirm_timeout_ms: 20_000, ..Config::new(url.parse().expect("a URL")) })
}

/// An event that failed once, a while ago.
fn failed_event(topic: &str) -> Message {
    let mut message = event(topic).to_message();
    let at = event::now() - Duration::from_secs(60);
    let history = format!(r#"[{{"attempt":1,"at":"{at}","error":"the first attempt failed"}}]"#);
    message.headers.insert(header::HISTORY.to_owned(), history.into());
    message.headers.insert(header::ATTEMPT.to_owned(), 1.into());
    message
}

fn event(topic: &str) -> Event {
    broker::test_support::event("/gestao-online/go", topic, "{}")
}

async fn exists(broker: &RabbitMq, queue: &str) -> Result<bool> {
    match broker.queues(&[QueueName::new(queue)]).await {
        Ok(_) => Ok(true),
        Err(BrokerError::MissingQueue { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn ready(broker: &RabbitMq, queue: &str) -> Option<u64> {
    broker.queues(&[QueueName::new(queue)]).await.ok().map(|status| status[0].ready)
}

/// Declares what an earlier release did. The handle ends with that: it would declare it again after every reconnection.
async fn declare_earlier(url: &str, topology: &Topology) -> Result<()> {
    let earlier = connect(url);
    earlier.declare(topology).await?;
    earlier.close().await;
    Ok(())
}

async fn await_that(what: &str, mut condition: impl AsyncFnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !condition().await {
        ensure!(started.elapsed() < PATIENCE, "{what} does not come about");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Takes messages from a queue until these ids have come. Others may be among them: a publish that was not confirmed may
/// have been stored all the same.
async fn take_all(broker: &RabbitMq, queue: &str, mut expected: BTreeSet<String>) -> Result<()> {
    let mut deliveries = broker.subscribe(&QueueName::new(queue), 500).await?;
    while !expected.is_empty() {
        let delivery = timeout(PATIENCE, deliveries.next()).await;
        let delivery = delivery.with_context(|| format!("{queue} lacks {expected:?}"))??;
        deliveries.ack(&[delivery.tag]).await?;
        expected.remove(&delivery.message.message_id);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_topology_serves_until_it_is_migrated_and_loses_nothing_by_it() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let (url, store) = (shared.fresh_vhost()?, shared.fresh_database()?);
    let mut product = Product::configured(&url, &store, "")?;
    let broker = Arc::new(connect(&url));
    declare_earlier(&url, &earlier_topology()).await?;

    // What is due for a queue that is gone stands still there, and AMQP does not show it.
    let (exchange, _) = Layout::new("").former_retry(RetryDelay::S1);
    for _ in 0..3 {
        broker.publish(&exchange, "gone", failed_event("ORDER_CREATED")).await?;
    }
    let mut waiting = BTreeSet::new();
    let (exchange, _) = Layout::new("").former_retry(RetryDelay::H1);
    for n in 0..300 {
        let message = failed_event("ORDER_CREATED");
        waiting.insert(message.message_id.clone());
        let queue = if n % 100 == 0 { "gone" } else { "receivables" };
        broker.publish(&exchange, queue, message).await?;
    }

    // A role of this release and one of the earlier release run side by side on it.
    product.start("invoices", &["consume", "invoices"]).await?;
    // The log is written in the background.
    await_that("advice in the log", async || product.output("invoices").contains("malote topology apply"))
        .await
        .with_context(|| product.output("invoices"))?;
    declare_earlier(&url, &earlier_topology()).await?;
    product.terminate("invoices").await?;

    // Without the management API nothing is deleted that may not be empty.
    let printed = product.run(&["topology", "apply"])?;
    for expect in ["Moved 300 messages from retry.1h", "broker.management_url"] {
        ensure!(printed.contains(expect), "{expect}: {printed}");
    }
    for (queue, expect) in [("retry.1h", 0), ("wait.1h", 300)] {
        await_that(&format!("{expect} messages in {queue}"), async || {
            ready(&broker, queue).await == Some(expect)
        })
        .await?;
    }

    // What is confirmed to a queue while it is replaced is there afterwards.
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = {
        let (broker, stop) = (broker.clone(), stop.clone());
        tokio::spawn(async move {
            let mut confirmed = BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                let message = event("ORDER_CREATED").to_message();
                let id = message.message_id.clone();
                let exchange = ExchangeName::new(["webhooks.gestao-online", ""][confirmed.len() % 2]);
                let key = if exchange.as_str().is_empty() { "receivables" } else { "ORDER_CREATED" };
                if broker.publish(&exchange, key, message).await.is_ok() {
                    confirmed.insert(id);
                }
                sleep(Duration::from_millis(20)).await;
            }
            confirmed
        })
    };
    let mut apply = product.command(&["topology", "apply"])?;
    apply
        .env("MALOTE__BROKER__MANAGEMENT_URL", shared.admin_url())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Killed in its midst, it is run again. A stand-in stays for the 11 s that it takes to be sure that a queue is empty.
    let mut killed = apply.spawn()?;
    while ready(&broker, "receivables.moving").await.is_none_or(|ready| ready == 0) {
        if killed.try_wait()?.is_some() {
            let Output { stdout, stderr, .. } = killed.wait_with_output()?;
            bail!("it ended before: {}", String::from_utf8_lossy(&[stdout, stderr].concat()));
        }
    }
    killed.kill()?;
    killed.wait()?;
    let printed = String::from_utf8(product.command(&["doctor"])?.output()?.stdout)?;
    ensure!(
        printed.contains("was interrupted and left") && printed.contains("receivables.moving"),
        "{printed}"
    );
    let output = tokio::task::block_in_place(|| apply.output())?;
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{printed}");
    stop.store(true, Ordering::Relaxed);
    let confirmed = publishing.await?;
    for expect in ["queue receivables", "queue ledger", "retry.24h"] {
        ensure!(printed.contains(expect), "{expect}: {printed}");
    }
    take_all(&broker, "receivables", confirmed).await?;
    for gone in ["retry.1h", "retry.24h", "receivables.moving", "ledger.moving"] {
        await_that(&format!("the end of {gone} after\n{printed}"), async || {
            matches!(exists(&broker, gone).await, Ok(false))
        })
        .await?;
    }
    // Messages that do not move stay, and are reported.
    assert!(exists(&broker, "retry.1s").await?, "{printed}");
    ensure!(printed.contains("retry.1s") && printed.contains("3 messages"), "{printed}");

    // Queues have the current limits, and waiting messages wait for the rest of their time.
    for queue in &Layout::new("").topology(&providers(), &work()).queues {
        assert_eq!(broker.difference(queue).await?, None, "{}", queue.name);
    }
    let mut deliveries = broker.subscribe(&QueueName::new("wait.1h"), 500).await?;
    for _ in 0..300 {
        let message = timeout(PATIENCE, deliveries.next()).await??.message;
        let rest = message.expiration.context("the rest of the wait")?;
        ensure!(rest < Duration::from_secs(3_541), "{rest:?}");
        ensure!(rest > Duration::from_secs(3_000), "{rest:?}");
        ensure!(waiting.remove(&message.message_id), "twice");
    }
    // Once more changes nothing.
    let again = product.run(&["topology", "apply"])?;
    ensure!(!again.contains("Moved") && !again.contains("Replaced"), "{again}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_starts_without_a_majority_waits_and_declares_once_there_is_one() -> Result<()> {
    let nodes = tokio::task::block_in_place(harness::RabbitMq::start_cluster)?;
    let store = harness::Shared::from_env()?.fresh_database()?;
    nodes[0].create_vhost("malote")?;
    let hosts: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.amqp_port())).collect();
    let mut product =
        Product::configured(&format!("amqp://guest:guest@{}/malote", hosts.join(",")), &store, "")?;
    for node in &nodes[1..] {
        node.kill9()?;
    }
    product.launch("invoices", &["consume", "invoices"])?;
    let ready_at = format!("{}/readyz", product.address("invoices"));
    let client = reqwest::Client::new();
    let readiness = async || {
        let answer = client.get(&ready_at).timeout(Duration::from_secs(5)).send().await.ok()?;
        let status = answer.status();
        Some((status, answer.text().await.ok()?))
    };
    await_that("readiness that says what is missing", async || {
        readiness()
            .await
            .is_some_and(|(status, text)| status == 503 && text.contains("the broker is unavailable"))
    })
    .await?;
    for node in &nodes[1..] {
        node.restart()?;
    }
    await_that("readiness", async || readiness().await.is_some_and(|(status, _)| status == 200))
        .await
        .with_context(|| product.output("invoices"))?;
    let broker = connect(&nodes[0].url("malote"));
    assert!(exists(&broker, "invoices").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_what_a_broker_does_otherwise_than_asked() -> Result<()> {
    let node = tokio::task::block_in_place(harness::RabbitMq::start)?;
    let store = harness::Shared::from_env()?.fresh_database()?;
    let product = Product::configured(&node.url("/"), &store, "")?;
    product.run(&["topology", "apply"])?;
    let doctor = |management: &str| -> Result<String> {
        let mut command = product.command(&["doctor"])?;
        command.env("MALOTE__BROKER__MANAGEMENT_URL", management);
        Ok(String::from_utf8(command.output()?.stdout)?)
    };
    let check = |printed: &str, expect: &[&str]| -> Result<()> {
        for expect in expect {
            ensure!(printed.contains(expect), "{expect:?} is missing:\n{printed}");
        }
        Ok(())
    };
    let sound = [
        "every queue has the arguments",
        "every feature flag is on",
        "1 of 1 nodes run",
        "no policy changes",
    ];
    // RabbitMQ collects what its management API shows every few seconds.
    await_that("a sound broker", async || {
        doctor(&node.admin_url()).is_ok_and(|printed| check(&printed, &sound).is_ok())
    })
    .await
    .or_else(|_| check(&doctor(&node.admin_url())?, &sound))?;
    check(&doctor("")?, &["not checked", "set broker.management_url"])?;

    node.rabbitmqctl("set_policy", &["short", "^ledger$", r#"{"message-ttl":60000}"#])?;
    node.rabbitmqctl("delete_queue", &["invoices"])?;
    node.rabbitmqctl("delete_queue", &["receivables"])?;
    let mut earlier = earlier_topology();
    earlier.queues.retain(|queue| ["invoices", "retry.5s"].contains(&queue.name.as_str()));
    earlier.exchanges.clear();
    earlier.bindings.clear();
    declare_earlier(&node.url("/"), &earlier).await?;
    // The policy shows once RabbitMQ has looked at the queue again.
    await_that("what is wrong", async || {
        doctor(&node.admin_url())
            .is_ok_and(|printed| printed.contains("a policy changes queue ledger: message-ttl = 60000"))
    })
    .await?;
    check(
        &doctor(&node.admin_url())?,
        &[
            "queue invoices was declared with other arguments: x-delivery-limit is 20, not 50000",
            "not declared: receivables",
            "an earlier release left retry.5s",
        ],
    )
}
