//! Operations on events, on both deployments: retry, discard and reconcile, as the command line shows them.

use anyhow::{Context, Result, ensure};
use event::EventId;
use serde_json::Value;
use store::many::{Value as Cell, fetch};
use store::{Config, Store, id_bound};
use tokio::time::Instant;

use crate::product::{PATIENCE, Product, example};

/// A command's exit status and what it says.
fn printed(product: &Product, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = product.command(arguments)?.stdin(std::process::Stdio::null()).output()?;
    Ok((output.status.code(), String::from_utf8([output.stdout, output.stderr].concat())?))
}

/// Waits until a list has so many rows.
async fn listed(product: &Product, list: &str, count: usize) -> Result<Vec<Value>> {
    let started = Instant::now();
    loop {
        let rows = product.rows(&[list, "list"])?;
        if rows.len() == count {
            return Ok(rows);
        }
        ensure!(started.elapsed() < PATIENCE, "{list}: {rows:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Posts what becomes a dead letter, what no queue is bound to and what cannot be read.
async fn post_trouble(product: &Product) -> Result<()> {
    let broken = example("recuperador", "acordo.cadastrado").replace("460.20", "\"abc\"");
    product.post("rec", broken).await?;
    product.post("me", ::tests::unrouted()).await?;
    let refused = product.request("go", "{").send().await?;
    ensure!(refused.status() == 400, "{}", refused.status());
    for list in ["dead", "unrouted", "rejected"] {
        listed(product, list, 1).await?;
    }
    Ok(())
}

async fn retry_and_discard(product: &Product) -> Result<()> {
    post_trouble(product).await?;
    let id = product.rows(&["dead", "list"])?[0]["id"].as_str().context("an id")?.to_owned();

    // It dies again, and its attempts are those in its history.
    let (_, text) = printed(product, &["dead", "retry", &id])?;
    assert!(text.contains("1 sent again."), "{text}");
    let started = Instant::now();
    let letter = loop {
        let letters = product.json(&["dead", "show", &id])?;
        let letter = letters.first().context("a letter")?.clone();
        if letter["history"].as_array().map(Vec::len) == Some(2) {
            break letter;
        }
        ensure!(started.elapsed() < PATIENCE, "{letter:#}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(letter["attempts"], 2, "{letter:#}");
    let (_, text) = printed(product, &["unrouted", "retry", "--everything"])?;
    assert!(text.contains("1 sent again."), "{text}");
    let (status, text) = printed(product, &["rejected", "retry", "--everything"])?;
    assert!(status == Some(1) && text.contains("Not all: 1 not sent: "), "{text}");
    for list in ["dead", "unrouted", "rejected"] {
        listed(product, list, 1).await?;
        let (status, text) = printed(product, &[list, "discard", "--everything", "--reason", "known"])?;
        assert!(status == Some(0) && text.contains("1 discarded."), "{list}: {text}");
        listed(product, list, 0).await?;
    }
    let events = product.received()?;
    assert!(events.iter().all(|event| event["state"] == "discarded"), "{events:#?}");
    let (status, text) = printed(product, &["reconcile"])?;
    assert!(status == Some(0) && text.contains("balance: received ="), "{text}");
    Ok(())
}

/// An event that only the ledger has, as a broker that was killed leaves it behind.
async fn a_lost_event_is_sent_again(product: &Product, store: &Store) -> Result<()> {
    let id = product.post("go", example("gestao-online", "ORDER_CREATED")).await?;
    // Booked, and on record.
    product.settled(1).await?;
    assert_eq!(product.rows(&["receivables", "list"])?.len(), 1);
    // A copy of it, received an hour ago, that is pending at its consumer.
    let time = event::now() - std::time::Duration::from_secs(3_600);
    let milliseconds = time.as_millisecond();
    let lost: EventId =
        format!("{:08x}-{:04x}-7000-8000-000000000001", milliseconds >> 16, milliseconds & 0xffff).parse()?;
    let mut tx = store.begin().await?;
    let copy = "INSERT INTO events (id, origin, subject, received_at, consumers, content_type, traceparent, replay_of, \
                repaired, headers, body) SELECT $1, origin, subject, CAST($2 AS BIGINT), consumers, content_type, \
                traceparent, replay_of, repaired, headers, body FROM events WHERE id = $3";
    let values = [Cell::from(lost), Cell::from(time), Cell::from(id.parse::<EventId>()?)];
    fetch(&mut tx, copy.to_owned(), values).await?;
    let owe = "INSERT INTO unsettled_events (event_id, consumer) VALUES ($1, 'receivables')";
    fetch(&mut tx, owe.to_owned(), [Cell::from(lost)]).await?;
    tx.commit().await?;
    let shown = |id: &EventId| product.run(&["events", "show", &id.to_string()]);
    assert!(shown(&lost)?.contains("pending"), "{}", shown(&lost)?);
    let day = event::Zone::default().day(time).to_string();
    let (status, text) = printed(product, &["reconcile", "--day", &day])?;
    assert!(status == Some(0), "{text}");
    assert!(text.contains("1 event was pending, in no queue: sent again"), "{text}");
    assert!(text.contains(&lost.to_string()), "{text}");
    let mut connection = store.read().await?;
    let handled = "SELECT 1 FROM claims WHERE event_id = $1 AND consumer = 'receivables'".to_owned();
    assert_eq!(fetch(&mut connection, handled, [Cell::from(lost)]).await?.len(), 1);
    let jobs = product.json(&["jobs", "list"])?;
    assert_eq!(
        (&jobs[0]["action"], &jobs[0]["state"], &jobs[0]["sent"]),
        (&"reconcile".into(), &"done".into(), &1.into())
    );
    Ok(())
}

/// What the record does not account for is listed event by event, whatever the number that is shown.
async fn every_difference_is_listed(product: &Product, store: &Store) -> Result<()> {
    const LOST: usize = 60;
    let mut tx = store.begin().await?;
    let day = "2026-10-20";
    let milliseconds = "2026-10-20T12:00:00Z".parse::<event::Timestamp>()?.as_millisecond();
    for number in 0..LOST {
        let id = format!("{:08x}-{:04x}-7000-8000-{number:012x}", milliseconds >> 16, milliseconds & 0xffff);
        let claim =
            "INSERT INTO claims (event_id, consumer, handled_at) VALUES ($1, 'invoices', 0)".to_owned();
        fetch(&mut tx, claim, [id_bound(&id)]).await?;
    }
    tx.commit().await?;
    let (status, text) = printed(product, &["reconcile", "--day", day])?;
    assert!(status == Some(1) && text.contains(&format!("do not balance: {LOST} differences.")), "{text}");
    assert_eq!(text.matches("handled, not recorded").count(), 50, "{text}");
    let output = product.command(&["reconcile", "--day", day, "--limit", "100000", "--json"])?.output()?;
    let books: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((&books["balanced"], &books["difference_count"]), (&false.into(), &LOST.into()));
    assert_eq!(books["differences"].as_array().map(Vec::len), Some(LOST));
    Ok(())
}

fn open(url: &str, product: &Product) -> Result<Store> {
    let config = Config { max_connections: 2, acquire_timeout_ms: 10_000, ..Config::new(url) };
    Ok(Store::open(&config, &product.folder().join("data"))?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_retried_and_discarded_embedded() -> Result<()> {
    retry_and_discard(&Product::embedded().await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_retried_and_discarded_scaled() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    retry_and_discard(&Product::scaled(&shared.fresh_vhost()?, &shared.fresh_database()?).await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconciliation_repairs_what_it_can_and_lists_the_rest_embedded() -> Result<()> {
    let product = Product::embedded().await?;
    let store = open("sqlite", &product)?;
    a_lost_event_is_sent_again(&product, &store).await?;
    every_difference_is_listed(&product, &store).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconciliation_repairs_what_it_can_and_lists_the_rest_scaled() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let url = shared.fresh_database()?;
    let product = Product::scaled(&shared.fresh_vhost()?, &url).await?;
    let store = open(&url, &product)?;
    a_lost_event_is_sent_again(&product, &store).await?;
    every_difference_is_listed(&product, &store).await
}
