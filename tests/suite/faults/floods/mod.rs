//! Floods by strangers and by a misbehaving sender, while a genuine sender posts at a steady rate from its own address.
//! All its events must be answered 200 in time, and the process must stay small.
//!
//! Every flood is bounded in time and in what it has open. The goal of time holds for an optimised binary; a debug binary,
//! which the suite usually runs, is compared with [`DEBUG_P99`].

mod counts;
mod http2;
mod memory;
mod sender;
mod strangers;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::usage::rss_mb;

use self::memory::Written;
use self::sender::{Sender, Times};
use self::strangers::Flood;
use super::is_full;
use crate::product::Product;

/// The goal: 99 of 100 posts of the true sender are answered within this.
const P99: Duration = Duration::from_millis(50);
/// The same in front of RabbitMQ, which confirms nothing for 100 to 400 ms when it moves its write-ahead log into segments; large
/// bodies fill that within seconds.
const RABBITMQ_P99: Duration = Duration::from_millis(500);
/// The same for a debug binary, where signatures and JSON take twenty times as long and which shares the processors with the
/// flood: within this, in which the system sends a lost first packet again, or twenty times what the true sender waits
/// without a flood.
const DEBUG_P99: Duration = Duration::from_secs(3);
/// 256 MiB.
const RSS_LIMIT_MB: f64 = 256.0 * 1024.0 * 1024.0 / 1e6;

/// A source whose proof is in the body alone.
const SIGNED: &str = r#"
[[sources]]
name = "signed"
provider = "mercado-eletronico"
auth.hmac = { header = "x-signature", algorithm = "sha256", encoding = "hex", secrets = ["a-secret-of-the-flooded-source-0123456789"] }
"#;

struct Row {
    name: &'static str,
    flood: Option<Flood>,
    /// The limit of file descriptors of the process, soft and hard.
    descriptors: Option<u64>,
}

const ROWS: [Row; 9] = [
    Row { name: "no flood", flood: None, descriptors: None },
    Row {
        name: "1,200 slow unproved bodies, 250 clients",
        flood: Some(Flood::Slow { clients: 250 }),
        descriptors: None,
    },
    Row {
        name: "1,200 slow unproved bodies, one client",
        flood: Some(Flood::Slow { clients: 1 }),
        descriptors: None,
    },
    Row {
        name: "1,000 unproved bodies of 1 MiB, 250 clients",
        flood: Some(Flood::Fast { clients: 250 }),
        descriptors: None,
    },
    Row {
        name: "1,000 unproved bodies of 1 MiB, one client",
        flood: Some(Flood::Fast { clients: 1 }),
        descriptors: None,
    },
    Row { name: "300 proved bodies of 1 MiB, one client", flood: Some(Flood::Proved), descriptors: None },
    Row {
        name: "300 idle connections, one client",
        flood: Some(Flood::Idle { clients: 1, connections: 300 }),
        descriptors: Some(1024),
    },
    Row {
        name: "1,500 idle connections, 250 clients, 1,024 descriptors",
        flood: Some(Flood::Idle { clients: 250, connections: 1500 }),
        descriptors: Some(1024),
    },
    Row {
        name: "HTTP/2: 128 bodies on each of 20 connections",
        flood: Some(Flood::Streams),
        descriptors: None,
    },
];

/// A debug binary takes milliseconds for what a connection sends: of each flood of connections, and of the port, it gets an
/// eighth.
const DEBUG_PART: u32 = 8;
const DEBUG_DESCRIPTORS: u64 = 1024;

/// Those of many connections, most of which fill the port.
fn connection_rows(is_debug: bool) -> [Row; 6] {
    let part = if is_debug { DEBUG_PART } else { 1 };
    let row = |name, connections: u32, written| Row {
        name,
        flood: Some(Flood::Written { connections: connections / part, clients: 1000 / part, written }),
        descriptors: is_debug.then_some(DEBUG_DESCRIPTORS),
    };
    let head = |kib: usize, is_whole| Written::Head { bytes: kib * 1024, is_whole };
    [
        row("HTTP/2: 4,000 connections with their windows filled", 4000, Written::Windows),
        row("4,000 unfinished heads of 60 KiB", 4000, head(60, false)),
        row("4,000 unfinished heads of 15 KiB", 4000, head(15, false)),
        row("4,000 heads of 15 KiB without their bodies", 4000, head(15, true)),
        row("HTTP/2: 4,000 unfinished heads of 400 headers", 4000, Written::Headers),
        // More connections than a port has places.
        row("5,000 unfinished heads of 1 KiB", 5000, head(1, false)),
    ]
}

/// Those whose bodies reach the broker, in front of RabbitMQ.
const RABBITMQ_ROWS: [Row; 2] = [
    Row {
        name: "1,000 unproved bodies of 1 MiB, 250 clients; RabbitMQ",
        flood: Some(Flood::Fast { clients: 250 }),
        descriptors: None,
    },
    Row {
        name: "300 proved bodies of 1 MiB, one client; RabbitMQ",
        flood: Some(Flood::Proved),
        descriptors: None,
    },
];

struct Line {
    name: &'static str,
    times: Times,
    rss_mb: f64,
    flood: String,
}

async fn run(row: &Row, broker_url: &str) -> Result<Line> {
    let mut product = Product::configured(broker_url, "sqlite", SIGNED)?;
    product.limit_descriptors(row.descriptors);
    product.hurry("up");
    product.start("up", &["up"]).await?;
    let pid = product.pid("up");
    let sender = Sender::new(&product)?;
    // The first requests open files and fill caches, and are no part of the measurement.
    sender.post(20).await?;
    let flood = row.flood.map(|flood| flood.start(&product)).transpose()?;
    let posting = tokio::task::spawn_blocking(move || sender.run());
    let mut rss: f64 = 0.0;
    while !posting.is_finished() {
        rss = rss.max(rss_mb(pid)?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut times = posting.await??;
    if row.flood.is_some_and(Flood::holds_connections)
        && let Err(error) = console_answers(&product)
    {
        times.refused.push(format!("the console: {error:#}"));
    }
    let flood = match flood {
        Some(flood) => flood.end()?,
        None => String::new(),
    };
    Ok(Line { name: row.name, times, rss_mb: rss, flood })
}

/// What 99 of 100 posts have to be answered within. `calm`: what they take without a flood.
fn limit(broker: &str, calm: Duration) -> Result<Duration> {
    Ok(match broker {
        _ if is_debug()? => DEBUG_P99.max(20 * calm),
        "embedded" => P99,
        _ => RABBITMQ_P99,
    })
}

fn is_debug() -> Result<bool> {
    Ok(harness::malote_binary()?.components().any(|part| part.as_os_str() == "debug"))
}

/// The console has descriptors of its own.
fn console_answers(product: &Product) -> Result<()> {
    let listed = product.command(&["events", "list", "--limit", "1"])?.output()?;
    ensure!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    Ok(())
}

fn table(lines: &[Line]) -> String {
    let mut text = String::from(
        "| flood | true sender: posted | answered 200 | median | p99 | memory | result of the flood |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    text.extend(lines.iter().map(row_of));
    text
}

fn row_of(Line { name, times, rss_mb, flood }: &Line) -> String {
    format!(
        "| {name} | {} | {} | {:.1} ms | {:.1} ms | {rss_mb:.0} MB | {flood} |\n",
        times.posted,
        times.accepted.len(),
        times.quantile(0.5).as_secs_f64() * 1e3,
        times.quantile(0.99).as_secs_f64() * 1e3,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_keep_no_known_sender_waiting_and_take_little_memory() -> Result<()> {
    memory::raise_descriptor_limit()?;
    let mut lines: Vec<Line> = Vec::new();
    // Of its own, since a flood would raise the alarms of one that others use.
    let node = harness::RabbitMq::start()?;
    let rabbitmq = node.url("/");
    let connection_rows = connection_rows(is_debug()?);
    let embedded = ROWS.iter().chain(&connection_rows).map(|row| ("embedded", row));
    let rows = embedded.chain(RABBITMQ_ROWS.iter().map(|row| (rabbitmq.as_str(), row)));
    for (broker, row) in rows.clone() {
        let mut line = run(row, broker).await.with_context(|| row.name)?;
        eprint!("{}", row_of(&line));
        let calm = lines.first().unwrap_or(&line).times.quantile(0.99);
        if line.times.quantile(0.99) >= limit(broker, calm)? {
            eprintln!("measured once more, since something else may have used the processors:");
            line = run(row, broker).await.with_context(|| row.name)?;
            eprint!("{}", row_of(&line));
        }
        lines.push(line);
    }
    let table = table(&lines);
    println!("{table}");
    if let Some(file) = std::env::var_os("MALOTE_TEST_FAULTS_TABLE") {
        // Behind the table of the faults, which is written first: tests run in the order of their names.
        let mut file = std::fs::File::options().append(true).create(true).open(file)?;
        write!(file, "\n{}\n{table}", include_str!("head.md"))?;
    }
    let calm = lines[0].times.quantile(0.99);
    for (Line { name, times, rss_mb, .. }, (broker, _)) in lines.iter().zip(rows) {
        let limit = limit(broker, calm)?;
        ensure!(times.refused.is_empty(), "{name}: {:?}\n{table}", times.refused);
        ensure!(times.quantile(0.99) < limit, "{name}: more than {limit:?}\n{table}");
        ensure!(*rss_mb < RSS_LIMIT_MB, "{name}: more than {RSS_LIMIT_MB:.0} MB\n{table}");
    }
    Ok(())
}
