//! Floods by strangers and by a misbehaving sender, while a genuine sender posts at a steady rate from its own address.
//! All its events must be answered 200 in time, and the process must stay small.
//! A test program of its own, so that no other test takes the processors at the same time.
//!
//! Every flood is bounded in time and in what it has open. The goal of time holds for an optimised binary; a debug binary,
//! which the suite usually runs, is compared with [`DEBUG_P99`].

mod counts;
mod http2;
mod memory;
mod sender;
mod strangers;

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::product::{PATIENCE, Product};
use tests::usage::rss_mb;
use tokio::sync::Mutex;
use tokio::time::timeout;

use self::memory::Written;
use self::sender::{Sender, Times};
use self::strangers::Flood;

/// The goal: 99 of 100 posts of the true sender are answered within this, or on a slow machine within [`TIMES_CALM`].
const P99: Duration = Duration::from_millis(50);
/// The same where malote is not alone in deciding who waits. RabbitMQ confirms nothing for 100 to 400 ms when it moves its
/// write-ahead log into segments, and large bodies fill that within seconds. A new connection stands in the system's queue
/// behind those that thousands of strangers open, also that of a known client.
const SHARED_P99: Duration = Duration::from_millis(500);
/// The same for a debug binary, where signatures and JSON take twenty times as long and which shares the processors with the
/// flood: within this, in which the system sends a lost first packet again.
const DEBUG_P99: Duration = Duration::from_secs(3);
/// How many times longer than without a flood it may always take: flood and malote share the processors of a machine that
/// others may use as well.
const TIMES_CALM: u32 = 20;
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
const RABBITMQ_ROWS: [Row; 3] = [
    Row { name: "no flood", flood: None, descriptors: None },
    Row {
        name: "1,000 unproved bodies of 1 MiB, 250 clients",
        flood: Some(Flood::Fast { clients: 250 }),
        descriptors: None,
    },
    Row { name: "300 proved bodies of 1 MiB, one client", flood: Some(Flood::Proved), descriptors: None },
];

struct Line {
    name: &'static str,
    times: Times,
    rss_mb: f64,
    flood: String,
}

async fn run(row: &Row, broker_url: &str) -> Result<Line> {
    let mut product = Product::configured(broker_url, "sqlite", SIGNED)?;
    product.limit_descriptors(row.descriptors.map(|limit| (limit, limit)));
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
fn limit(broker: &str, row: &Row, calm: Duration) -> Result<Duration> {
    let limit = match row.flood {
        _ if is_debug()? => DEBUG_P99,
        Some(Flood::Written { .. }) => SHARED_P99,
        _ if broker != "embedded" => SHARED_P99,
        _ => P99,
    };
    Ok(limit.max(TIMES_CALM * calm))
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

/// One flood at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Runs the rows in front of a broker, and compares each with its limits. Returns their table.
async fn compare(broker: &str, rows: &[&Row]) -> Result<String> {
    memory::raise_descriptor_limit()?;
    let mut lines: Vec<Line> = Vec::new();
    for row in rows {
        let mut line = run(row, broker).await.with_context(|| row.name)?;
        eprint!("{}", row_of(&line));
        let calm = lines.first().unwrap_or(&line).times.quantile(0.99);
        if line.times.quantile(0.99) >= limit(broker, row, calm)? {
            eprintln!("measured once more, since something else may have used the processors:");
            line = run(row, broker).await.with_context(|| row.name)?;
            eprint!("{}", row_of(&line));
        }
        lines.push(line);
    }
    let table = table(&lines);
    let calm = lines[0].times.quantile(0.99);
    for (Line { name, times, rss_mb, .. }, row) in lines.iter().zip(rows) {
        let limit = limit(broker, row, calm)?;
        ensure!(times.refused.is_empty(), "{name}: {:?}\n{table}", times.refused);
        ensure!(times.quantile(0.99) < limit, "{name}: more than {limit:?}\n{table}");
        ensure!(*rss_mb < RSS_LIMIT_MB, "{name}: more than {RSS_LIMIT_MB:.0} MB\n{table}");
    }
    Ok(table)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_keep_no_known_sender_waiting_and_take_little_memory() -> Result<()> {
    let _alone = ALONE.lock().await;
    let connection_rows = connection_rows(is_debug()?);
    let rows: Vec<&Row> = ROWS.iter().chain(&connection_rows).collect();
    keep("embedded", &compare("embedded", &rows).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_in_front_of_rabbitmq_keep_no_known_sender_waiting_and_take_little_memory() -> Result<()> {
    let _alone = ALONE.lock().await;
    // Of its own, since a flood would raise the alarms of one that others use.
    let node = harness::RabbitMq::start()?;
    keep("rabbitmq", &compare(&node.url("/"), &RABBITMQ_ROWS.each_ref()).await?)
}

/// Shows a table, and writes it where the full form of the fault tests is asked for.
fn keep(broker: &str, table: &str) -> Result<()> {
    println!("{table}");
    if let Some(folder) = tests::full_faults() {
        std::fs::write(folder.join(format!("floods-{broker}.md")), table)?;
    }
    Ok(())
}

/// Clients of which none has authenticated a request yet, such as all true senders after a restart. A full port may close the
/// connection of any of them: what is not answered 200 is posted again, as a provider would do, and comes through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_is_not_known_gets_through_a_port_that_is_full_of_strangers() -> Result<()> {
    const SENDERS: u8 = 20;
    let _alone = ALONE.lock().await;
    memory::raise_descriptor_limit()?;
    let connection_rows = connection_rows(is_debug()?);
    for row in ROWS.iter().chain(&connection_rows) {
        let (flood, connections) = match row.flood {
            Some(flood @ Flood::Idle { connections, clients: 250 }) => (flood, connections),
            Some(flood @ Flood::Written { connections, .. }) => (flood, connections),
            _ => continue,
        };
        let mut product = Product::configured("embedded", "sqlite", SIGNED)?;
        product.limit_descriptors(row.descriptors.map(|limit| (limit, limit)));
        product.hurry("up");
        product.start("up", &["up"]).await?;
        let sender = Sender::new(&product)?;
        let flood = flood.start(&product)?;
        let full = async {
            while flood.connections() < connections as usize {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, full).await.context(row.name)?;
        let mut posts = tokio::task::JoinSet::new();
        for number in 1..=SENDERS {
            let sender = sender.at(Ipv4Addr::new(127, 9, 10, number));
            posts.spawn(timeout(PATIENCE, async move {
                let mut refused = 0;
                while sender.one().await.is_err() {
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                refused
            }));
        }
        let mut refused = 0;
        while let Some(post) = posts.join_next().await {
            refused += post?.with_context(|| format!("no answer; {}", row.name))?;
        }
        eprintln!(
            "{SENDERS} unknown senders answered after {refused} refusals; {}: {}",
            row.name,
            flood.end()?
        );
    }
    Ok(())
}
