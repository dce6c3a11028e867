//! A service that reads a backlog through a pull subscription, beside the database alone.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use store::many::{Value as Stored, fetch};
use store::{Row, Store};
use tests::product::Product;

use super::{Bench, TOPICS, record};
use crate::limits::inserts;
use crate::report::{Figures, Section, Table};

/// What is asked of the figures.
const LEAST: f64 = 20_000.0;

/// The most events of an answer.
const PART: usize = 1_000;

/// What was measured, in events per second.
#[derive(Default)]
struct Pulled {
    rate: Figures,
    limit: Figures,
}

/// On RabbitMQ and PostgreSQL.
pub async fn scaled(bench: Bench<'_>) -> Result<Section> {
    let servers = bench.servers()?;
    let (node, postgres) = (&servers.rabbitmq, &servers.postgres);
    let (events, mut pulled) = (bench.events(100_000), Pulled::default());
    node.create_vhost("pull")?;
    postgres.create_database("pull")?;
    let mut product = Product::configured(&node.url("pull"), &postgres.url("pull"), "")?;
    for role in ["console", "ingress", "ledger"] {
        product.start(role, &[role]).await?;
    }
    let store = inserts::open(&postgres.url("pull"))?;
    measure(bench, &product, "ingress", &store, events, &mut pulled).await?;
    Ok(section("Pull, PostgreSQL", &pulled, events))
}

/// In one process.
pub async fn embedded(bench: Bench<'_>) -> Result<Section> {
    let (events, mut pulled) = (bench.events(100_000), Pulled::default());
    let product = Product::embedded().await?;
    let store = inserts::open(&format!("sqlite:{}", product.folder().join("data/store.db").display()))?;
    measure(bench, &product, "up", &store, events, &mut pulled).await?;
    Ok(section("Pull, SQLite", &pulled, events))
}

fn section(title: &'static str, Pulled { rate, limit }: &Pulled, events: usize) -> Section {
    let mut table =
        Table::new(&["events/s", "rows read from the database, events/s", "of that", "goal, events/s"]);
    table.row([rate.show(0), limit.show(0), rate.by(limit).show(2), format!("{LEAST:.0}")]);
    let text = format!(
        "{events} events on record are read through a pull subscription, {PART} to a request, each answer acknowledged before the \
         next request. Beside it the ids and bodies of the same rows, {PART} to a statement."
    );
    Section { title, text, tables: vec![table] }
}

async fn measure(
    bench: Bench<'_>,
    product: &Product,
    ingress: &str,
    store: &Store,
    events: usize,
    pulled: &mut Pulled,
) -> Result<()> {
    record(product, ingress, store, events).await?;
    let command =
        ["subscriptions", "add", "reader", "--pull", "--topics", TOPICS, "--begin", "beginning", "--json"];
    let added: Value = serde_json::from_str(&product.run(&command)?)?;
    let token = added["token"].as_str().context("no token")?;
    for _ in 0..bench.rounds() {
        product.run(&["subscriptions", "seek", "reader", "--to", "beginning", "--yes"])?;
        let start = Instant::now();
        pull(&product.console, token, events).await?;
        pulled.rate.add(events as f64 / start.elapsed().as_secs_f64());
        let start = Instant::now();
        select(store, events).await?;
        pulled.limit.add(events as f64 / start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Reads and acknowledges everything.
async fn pull(console: &str, token: &str, events: usize) -> Result<()> {
    let client = reqwest::Client::new();
    let url = |rest: &str| format!("{console}/api/v1/subscriptions/reader/{rest}");
    let mut got = 0;
    while got < events {
        let asked = client.get(url(&format!("events?limit={PART}"))).bearer_auth(token).send().await?;
        let answer = asked.error_for_status()?;
        let position = answer.headers().get("malote-position").context("no position")?.to_str()?.to_owned();
        let lines = answer.bytes().await?.iter().filter(|byte| **byte == b'\n').count();
        ensure!(lines > 0, "{got} of {events} events");
        got += lines;
        let body = json!({"position": position}).to_string();
        client.put(url("cursor")).bearer_auth(token).body(body).send().await?.error_for_status()?;
    }
    ensure!(got == events, "{got} of {events} events");
    Ok(())
}

/// Reads ids and bodies.
async fn select(store: &Store, events: usize) -> Result<()> {
    let (mut last, mut got) = (event::EventId::from_bytes([0; 16]), 0);
    let text = format!("SELECT id, body FROM events WHERE id > $1 ORDER BY id LIMIT {PART}");
    while got < events {
        let rows = fetch(&mut *store.read().await?, text.clone(), [Stored::from(last)]).await?;
        for row in &rows {
            last = store::id(row, 0)?;
            std::hint::black_box(row.try_get::<Vec<u8>, _>(1)?);
        }
        ensure!(!rows.is_empty(), "{got} of {events} events");
        got += rows.len();
    }
    Ok(())
}
