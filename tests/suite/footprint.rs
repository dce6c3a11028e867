//! Resources of an idle installation, and memory with a backlog of the largest bodies. Memory and processor time are
//! counted, not timed.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::usage::{allocated_mb, cpu, peak_rss_mb};

use crate::product::{Product, example};

/// 24 MiB.
const ALLOCATED_LIMIT_MB: f64 = 24.0 * 1024.0 * 1024.0 / 1e6;
/// Processor time that an idle process may take in three seconds.
const CPU_LIMIT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn an_idle_product_takes_little_memory_and_no_processor_time() -> Result<()> {
    let product = Product::embedded().await?;
    product.post("go", example("gestao-online", "ORDER_CREATED")).await?;
    product.settled(1).await?;
    let pid = product.pid("up");
    let allocated = allocated_mb(pid)?;
    assert!(allocated < ALLOCATED_LIMIT_MB, "{allocated} MB");
    let before = cpu(pid)?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let taken = cpu(pid)? - before;
    assert!(taken <= CPU_LIMIT, "{taken:?} in 3 s");
    Ok(())
}

#[tokio::test]
async fn a_process_raises_its_limit_of_file_descriptors_to_what_it_may_have() -> Result<()> {
    let mut product = Product::configured("embedded", "sqlite", "")?;
    product.limit_descriptors(Some((256, 4096)));
    product.start("up", &["up"]).await?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", product.pid("up")))?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("the limit")?;
    let columns: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(columns, ["Max", "open", "files", "4096", "4096", "files"]);
    Ok(())
}

/// `ingress.body_limit_bytes`.
const BODY_LIMIT: usize = 1 << 20;

/// How many of them wait: together more than a process may take.
const EVENTS: usize = 192;

/// 16 MiB held (`consumer.prefetch_bytes`), a batch of 4 MiB that is copied into the statement, and the process itself.
const PEAK_MB: f64 = 150.0;

/// An order whose body is as long as it may be.
fn order(n: usize) -> String {
    let text = |padding: &str| {
        format!(
            r#"{{"event_id": "ORDER_CREATED", "data": {{"id": "{n}", "code": "{n:010}", "status": 1, "x": "{padding}"}}}}"#
        )
    };
    let body = text(&"x".repeat(BODY_LIMIT - text("").len()));
    assert_eq!(body.len(), BODY_LIMIT);
    body
}

/// Every event is handled; the last one's body is recorded as it was posted.
fn are_whole(product: &Product, events: &[Value], last: usize) -> Result<()> {
    assert!(events.iter().all(|event| event["state"] == "handled"), "{events:#?}");
    let id = events.last().context("there are events")?["id"].as_str().context("an id")?;
    let event: Value = serde_json::from_str(&product.run(&["events", "show", id, "--json"])?)?;
    assert_eq!(event["size"].as_u64(), Some(BODY_LIMIT as u64));
    assert!(event["body"] == order(last), "the body is not the one that was posted");
    Ok(())
}

#[tokio::test]
async fn a_backlog_of_large_bodies_is_worked_off_in_bounded_memory_by_several_replicas() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let mut product = Product::configured(&shared.fresh_vhost()?, &shared.fresh_database()?, "")?;
    product.start("console", &["console"]).await?;
    product.start("ingress", &["ingress"]).await?;
    for n in 0..EVENTS {
        product.post("go", order(n)).await?;
    }
    let replicas = ["receivables-1", "receivables-2"];
    product.start("ledger", &["ledger"]).await?;
    for name in replicas {
        product.start(name, &["consume", "receivables"]).await?;
    }
    are_whole(&product, &product.settled(EVENTS).await?, EVENTS - 1)?;
    assert_eq!(product.rows(&["receivables", "list"])?.len(), EVENTS);
    for name in ["ledger", "receivables-1", "receivables-2"] {
        let peak = peak_rss_mb(product.pid(name))?;
        assert!(peak < PEAK_MB, "{name} took {peak} MB");
    }
    for name in replicas {
        let metrics = product.metrics(name).await?;
        let handled = |line: &&str| line.starts_with("consumer_events_total") && line.contains("\"handled\"");
        assert!(metrics.lines().any(|line| handled(&line) && !line.ends_with(" 0")), "{name}:\n{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn large_bodies_come_through_the_embedded_broker() -> Result<()> {
    let product = Product::embedded().await?;
    for n in 0..32 {
        product.post("go", order(n)).await?;
    }
    are_whole(&product, &product.settled(32).await?, 31)?;
    assert_eq!(product.rows(&["receivables", "list"])?.len(), 32);
    Ok(())
}
