//! From POST to the committed rows of the ledger and of a domain: the rate that is kept up with, and the latency below it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use store::{Store, sql};
use tests::consumers;
use tests::product::Product;

use super::control::Control;
use super::{Bench, all_handled, start_consumers};
use crate::limits::inserts;
use crate::load::{Connection, Pace, Posted, STEADY, percentile, post};
use crate::mix::{self, ROUND};
use crate::report::{Section, Table, grouped};

/// A rate is kept up with when the last event is committed this soon after its answer.
const BEHIND: Duration = Duration::from_millis(1_000);

/// The fourth scenario, on RabbitMQ and PostgreSQL.
pub async fn scaled(bench: Bench<'_>) -> Result<Section> {
    let servers = bench.servers()?;
    let (node, postgres) = (&servers.rabbitmq, &servers.postgres);
    node.create_vhost("all")?;
    postgres.create_database("all")?;
    let mut product = Product::configured(&node.url("all"), &postgres.url("all"), "")?;
    product.start("ingress", &["ingress"]).await?;
    start_consumers(&mut product).await?;
    let store = inserts::open(&postgres.url("all"))?;
    let control = Control::on_rabbitmq(node, "beside-all").await?;
    let table = measure(bench, &product, "ingress", &consumers(), &store, &control).await?;
    Ok(section("End to end, RabbitMQ and PostgreSQL", table))
}

/// The fourth scenario, in one process.
pub async fn embedded(bench: Bench<'_>) -> Result<Section> {
    let mut product = Product::configured("embedded", "sqlite", "")?;
    product.start("up", &["up"]).await?;
    let store = inserts::open(&format!("sqlite:{}", product.folder().join("data/store.db").display()))?;
    let control = Control::on_sqlite().await?;
    let table = measure(bench, &product, "up", &["up"], &store, &control).await?;
    Ok(section("End to end, embedded", table))
}

fn section(title: &'static str, table: Table) -> Section {
    let text = "All roles, broker, database and the load on the same machine. First 64 connections post without a pause; \
                then a steady rate is sought, in steps of a twentieth, at which the last event is committed everywhere \
                within a second of its answer after ten seconds of load. The latency is from the POST until the rows of \
                the ledger and of the domain can be read, of single events among the load. A twentieth as many events are \
                posted to the smallest handler meanwhile, in front of the same RabbitMQ or of a SQLite file of its own: what \
                makes its answers slow is not malote's."
        .to_owned();
    Section { title, text, tables: vec![table] }
}

/// Posts on, and counts what was posted so far.
struct Run<'a> {
    product: &'a Product,
    port: u16,
    processes: &'a [&'a str],
    posted: usize,
}

impl Run<'_> {
    /// Posts so many more. Gives how long it took until all are committed, and how much of that was after the last answer.
    async fn post(&mut self, events: usize, pace: Pace) -> Result<(Duration, Duration)> {
        let requests = mix::requests(&self.product.poster(), self.posted..self.posted + events)?;
        let connections = match pace {
            Pace::Closed => 64,
            Pace::PerSecond(_) => STEADY,
        };
        self.posted += events;
        let start = Instant::now();
        post(self.port, requests, connections, pace).await?;
        let answered = Instant::now();
        all_handled(self.product, self.processes, self.posted).await?;
        Ok((start.elapsed(), answered.elapsed()))
    }
}

async fn measure(
    bench: Bench<'_>,
    product: &Product,
    ingress: &str,
    processes: &[&str],
    store: &Store,
    control: &Control,
) -> Result<Table> {
    let mut run = Run { product, port: product.port(ingress), processes, posted: 0 };
    let events = bench.events(60_000);
    let (elapsed, _) = run.post(events, Pace::Closed).await?;
    let flat_out = events as f64 / elapsed.as_secs_f64();
    let seconds = if bench.quick { 0.2 } else { 10.0 };
    let mut step = 26;
    let kept = loop {
        let rate = flat_out * f64::from(step) / 20.0;
        let events = ((rate * seconds) as usize).next_multiple_of(ROUND);
        let (_, behind) = run.post(events, Pace::PerSecond(rate)).await?;
        eprintln!("    {rate:.0}/s: {behind:.1?} behind");
        // At a few events a second there is nothing to keep up with.
        if behind < BEHIND || step == 2 {
            break rate;
        }
        step -= 1;
    };
    let mut table = Table::new(&[
        "load",
        "events/s",
        "answer p50 ms",
        "answer p99 ms",
        "committed p50 ms",
        "committed p99 ms",
    ]);
    let dash = || "–".to_owned();
    for (name, rate) in [("without a pause", flat_out), ("kept up with", kept)] {
        table.row([name.to_owned(), grouped(rate, 0), dash(), dash(), dash(), dash()]);
    }
    for (name, share) in [("a quarter of what is kept up with", 0.25), ("half of it", 0.5)] {
        let (rate, seconds) = (kept * share, seconds * 2.0);
        let (measured, beside) =
            tokio::join!(latencies(&mut run, store, rate, seconds), control.post(rate, seconds));
        let ((answers, rows), beside) = (measured?, beside?);
        let answered = |posted: &Posted| [0.5, 0.99].map(|share| grouped(posted.percentile(share), 1));
        let mut row = vec![name.to_owned(), grouped(rate, 0)];
        row.extend(answered(&answers));
        row.extend([0.5, 0.99].map(|share| grouped(percentile(&rows, share), 1)));
        table.row(row);
        let mut row = vec!["the smallest handler meanwhile".to_owned(), grouped(beside.rate(), 0)];
        row.extend(answered(&beside));
        row.extend([dash(), dash()]);
        table.row(row);
    }
    Ok(table)
}

/// The answers to a load; and from POST to rows that can be read, of single events one after another beside it.
async fn latencies(
    run: &mut Run<'_>,
    store: &Store,
    rate: f64,
    seconds: f64,
) -> Result<(Posted, Vec<Duration>)> {
    let events = ((rate * seconds) as usize).next_multiple_of(ROUND);
    let poster = run.product.poster();
    let requests = mix::requests(&poster, run.posted..run.posted + events)?;
    run.posted += events;
    let load = tokio::spawn(post(run.port, requests, STEADY, Pace::PerSecond(rate)));
    let mut connection = Connection::open(run.port).await?;
    let mut rows = store.read().await?;
    let mut latencies = Vec::new();
    while !load.is_finished() || latencies.is_empty() {
        // A whole round, so that the counts stay those of the mix.
        for number in run.posted..run.posted + ROUND {
            let request = mix::requests(&poster, number..number + 1)?;
            let is_taken = run_takes(number);
            let start = Instant::now();
            let answer: Value = serde_json::from_slice(connection.exchange(&request[0]).await?)?;
            let id = answer["id"].as_str().context("an id")?.to_owned();
            let id: Vec<u8> = id.parse::<event::EventId>()?.as_bytes().to_vec();
            let text = "SELECT (SELECT count(*) FROM events WHERE id = $1) + (SELECT count(*) FROM claims \
                        WHERE event_id = $2)";
            loop {
                let found: i64 =
                    sql::scalar(text).bind(id.clone()).bind(id.clone()).fetch_one(&mut *rows).await?;
                if found == 1 + i64::from(is_taken) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            latencies.push(start.elapsed());
        }
        run.posted += ROUND;
    }
    let answers = load.await??;
    all_handled(run.product, run.processes, run.posted).await?;
    latencies.sort_unstable();
    Ok((answers, latencies))
}

/// Whether a domain takes the event of this number.
fn run_takes(number: usize) -> bool {
    !matches!(number % ROUND, 0 | 18 | 19)
}
