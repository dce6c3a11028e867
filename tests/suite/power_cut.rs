//! `kill -9` of the all-in-one process while events are being posted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::product::Product;

const EVENTS: usize = 5_000;
const AT_ONCE: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_got_a_200_is_booked_once_after_a_kill_9() -> Result<()> {
    let mut product = Product::embedded().await?;
    let next = Arc::new(AtomicUsize::new(0));
    let mut posters = JoinSet::new();
    for _ in 0..AT_ONCE {
        let next = next.clone();
        let (client, url) = product.target("go");
        posters.spawn(async move {
            let mut accepted = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= EVENTS {
                    return accepted;
                }
                let body = format!(
                    r#"{{"event_id": "ORDER_CREATED", "data": {{"id": "{n}", "code": "{n:010}", "status": 1}}}}"#
                );
                let request = client.post(&url).header("content-type", "application/json").body(body);
                let Ok(answer) = request.send().await else { continue };
                if answer.status() == 200
                    && let Ok(text) = answer.text().await
                    && let Ok(answer) = serde_json::from_str::<Value>(&text)
                {
                    accepted.push((answer["id"].as_str().expect("an id").to_owned(), format!("{n:010}")));
                }
            }
        });
    }
    while next.load(Ordering::Relaxed) < EVENTS / 2 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    product.kill9("up")?;
    let mut accepted = Vec::new();
    while let Some(part) = posters.join_next().await {
        accepted.extend(part?);
    }
    assert!(accepted.len() > EVENTS / 4, "only {} were accepted before the cut", accepted.len());
    product.start("up", &["up"]).await?;
    // Events that were stored but not answered for are there too: at least what was accepted, at most what was sent.
    let events = settled_at_least(&product, accepted.len()).await?;
    let ledger: BTreeSet<&str> = events.iter().filter_map(|event| event["id"].as_str()).collect();
    assert_eq!(ledger.len(), events.len(), "an event is in the ledger twice");
    let mut booked: BTreeMap<String, usize> = BTreeMap::new();
    for row in product.rows(&["receivables", "list"])? {
        *booked.entry(row["external_id"].as_str().expect("an id").to_owned()).or_default() += 1;
    }
    for (id, code) in &accepted {
        assert!(ledger.contains(id.as_str()), "event {id} got its 200 and is not in the ledger");
        assert_eq!(booked.get(code), Some(&1), "order {code} got its 200");
    }
    assert!(booked.values().all(|count| *count == 1), "an order is booked twice");
    Ok(())
}

/// Waits until nothing is pending, at least `count` events are there, and their number has come to rest.
async fn settled_at_least(product: &Product, count: usize) -> Result<Vec<Value>> {
    let started = std::time::Instant::now();
    let mut before = 0;
    loop {
        let events = product.received()?;
        let pending = events.iter().filter(|event| event["state"] == "pending").count();
        let queued: u64 = product.json(&["queues"])?.iter().filter_map(|queue| queue["ready"].as_u64()).sum();
        if events.len() >= count && events.len() == before && pending == 0 && queued == 0 {
            return Ok(events);
        }
        before = events.len();
        anyhow::ensure!(
            started.elapsed() < crate::product::PATIENCE * 2,
            "{} events, {pending} pending, {queued} queued; {count} were accepted",
            events.len()
        );
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
