//! The feed while many write: eight transactions of two processes, open for random times, one of the processes killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use event::EventId;
use ledger::feed::{Feed, Reader};
use ledger::laws::{event, record_in};
use serde_json::Value;
use store::many::fetch;
use store::{Config, Dialect, Row, Store};
use tokio_util::sync::CancellationToken;

use crate::product::{PATIENCE, Product};

/// The store that a process of writers writes to, and its folder.
const STORE: &str = "MALOTE_LAW_STORE";
const FOLDER: &str = "MALOTE_LAW_FOLDER";

/// How many events are read while both write, and again after one was killed.
const EACH: usize = 600;

fn open(url: &str, folder: &Path, max_connections: u32) -> Result<Store> {
    Ok(Store::open(&Config { max_connections, acquire_timeout_ms: 20_000, ..Config::new(url) }, folder)?)
}

/// A number below `limit` (at most 256).
fn random(limit: u16) -> u16 {
    u16::from(EventId::generate().as_bytes()[15]) % limit
}

/// The process of the writers; nothing where nobody asks for it. It lives until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_another_process() -> Result<()> {
    let Some(url) = std::env::var_os(STORE) else { return Ok(()) };
    let folder = std::env::var_os(FOLDER).context("no folder")?;
    let store = open(url.to_str().context("no text")?, Path::new(&folder), 4)?;
    let begun = Instant::now();
    let writer = async || {
        while begun.elapsed() < 2 * PATIENCE {
            let mut tx = store.begin().await?;
            let events: Vec<_> = (0..=random(4)).map(|_| event()).collect();
            record_in(&mut tx, &events).await.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
            let held_ms = random(if store.dialect() == Dialect::Sqlite { 3 } else { 60 });
            tokio::time::sleep(Duration::from_millis(held_ms.into())).await;
            match random(8) {
                0 => drop(tx),
                _ => tx.commit().await?,
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::try_join!(writer(), writer(), writer(), writer())?;
    Ok(())
}

/// Killed when it is dropped.
struct Writers(Child);

impl Writers {
    fn start(url: &str, folder: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["feed::writers_of_another_process", "--exact"]).env(STORE, url).env(FOLDER, folder);
        Ok(Self(command.stdout(Stdio::null()).spawn()?))
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the next events; whether there were any within a second.
async fn more_of(reader: &mut Reader, seen: &mut Vec<EventId>, limit: usize) -> Result<bool> {
    let items = reader.next(limit, Duration::from_secs(1)).await?;
    for item in &items {
        let event: Value = serde_json::from_str(&item.json())?;
        seen.push(event["id"].as_str().context("no id")?.parse()?);
    }
    Ok(!items.is_empty())
}

/// Reads until there are so many.
async fn read(reader: &mut Reader, seen: &mut Vec<EventId>, until: usize, limit: usize) -> Result<()> {
    let begun = Instant::now();
    while seen.len() < until {
        ensure!(begun.elapsed() < PATIENCE, "{} of {until} events in {PATIENCE:?}", seen.len());
        more_of(reader, seen, limit).await?;
    }
    Ok(())
}

async fn law(url: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = open(url, folder.path(), 8)?;
    store.migrate(&[ledger::COMPONENT]).await?;
    let feed = Feed::new(store.clone(), CancellationToken::new());
    let running = tokio::spawn(feed.clone().run());
    let beginning = || feed.reader("beginning".parse().expect("a cursor"), "".parse().expect("topics"));
    let (mut fast, mut slow) = (beginning().await?, beginning().await?);
    let (mut seen, mut seen_slowly) = (Vec::new(), Vec::new());

    let killed = Writers::start(url, folder.path())?;
    let others = Writers::start(url, folder.path())?;
    read(&mut fast, &mut seen, EACH, 1_000).await?;
    read(&mut slow, &mut seen_slowly, EACH / 4, 3).await?;
    drop(killed);
    let more = Writers::start(url, folder.path())?;
    read(&mut fast, &mut seen, 2 * EACH, 1_000).await?;
    read(&mut slow, &mut seen_slowly, EACH, 3).await?;
    drop((more, others));

    let begun = Instant::now();
    // The server may commit a last transaction a moment after it has lost the client.
    let written = loop {
        let rows = fetch(&mut *store.read().await?, order(store.dialect()).to_owned(), []).await?;
        let written = rows.iter().map(|row| Ok(store::id(row, 0)?)).collect::<Result<Vec<_>>>()?;
        read(&mut fast, &mut seen, written.len(), 1_000).await?;
        if !more_of(&mut fast, &mut seen, 1_000).await? && seen.len() == written.len() {
            break written;
        }
        ensure!(begun.elapsed() < PATIENCE, "{} of {} events were seen", seen.len(), written.len());
    };
    read(&mut slow, &mut seen_slowly, written.len(), 100).await?;
    ensure!(
        seen == written,
        "the reader saw {} of {} events, or in another order",
        seen.len(),
        written.len()
    );
    ensure!(seen_slowly == written, "the slow reader saw {} of {} events", seen_slowly.len(), written.len());
    // Else the order of ids would do.
    ensure!(store.dialect() == Dialect::Sqlite || !written.is_sorted(), "nobody committed late");
    running.abort();
    Ok(())
}

fn order(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "SELECT id FROM events ORDER BY rowid",
        Dialect::Postgres => "SELECT id FROM events ORDER BY written_in, id",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_each_event_once_and_in_order_while_many_write_on_sqlite() -> Result<()> {
    law("sqlite").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_each_event_once_and_in_order_while_many_write_on_postgresql() -> Result<()> {
    law(&harness::Shared::from_env()?.fresh_database()?).await
}

fn order_created(number: usize) -> String {
    format!(
        r#"{{"event_id": "ORDER_CREATED", "data": {{"id": "{number}", "code": "{number:010}", "status": 1}}}}"#
    )
}

/// The ids of the lines of a command or an answer.
fn ids(lines: &str) -> Result<Vec<String>> {
    let id = |line: &str| {
        let event: Value = serde_json::from_str(line)?;
        Ok(event["id"].as_str().context("no id")?.to_owned())
    };
    lines.lines().map(id).collect()
}

#[tokio::test]
async fn a_waiting_request_is_answered_once_an_event_is_recorded() -> Result<()> {
    let product = Product::embedded().await?;
    let first = product.post("go", order_created(1)).await?;
    product.settled(1).await?;
    let received = product.run(&["feed", "--json", "--topics", "gestao-online:#"])?;
    assert_eq!(ids(&received)?, std::slice::from_ref(&first));
    let refused = product.command(&["feed", "--topics", "gestao-online:ORDER_*,recuperador:#"])?.output()?;
    let printed = String::from_utf8(refused.stderr)?;
    let is_explained = printed.contains("\"ORDER_*\" matches no topic");
    ensure!(!refused.status.success() && is_explained, "a pattern has words between dots: {printed}");
    let table = product.run(&["feed", "--topics", "gestao-online:ORDER_CREATED"])?;
    ensure!(table.contains(&format!("{first}  /gestao-online/go  ORDER_CREATED  order/")), "{table}");

    let token = std::fs::read_to_string(product.folder().join("data/token"))?;
    let (client, url) = (
        reqwest::Client::new(),
        format!("{}/api/v1/feed?after=now&wait=60&topics=gestao-online:%23", product.console),
    );
    let asked = client.get(url).bearer_auth(token.trim()).send();
    let asked = tokio::spawn(async move { asked.await?.error_for_status()?.text().await });
    // Recorded before or after the request has got there: one of them is after it.
    let begun = Instant::now();
    let mut posted = Vec::new();
    while !asked.is_finished() {
        ensure!(begun.elapsed() < PATIENCE, "the request still waits");
        posted.push(product.post("go", order_created(2 + posted.len())).await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answered = ids(&asked.await??)?;
    ensure!(!answered.is_empty() && answered.iter().all(|id| posted.contains(id)), "{answered:?} {posted:?}");
    Ok(())
}

#[tokio::test]
async fn doctor_and_a_metric_show_the_transaction_that_holds_back_the_feed() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let url = shared.fresh_database()?;
    let mut product = Product::configured(&shared.fresh_vhost()?, &url, "")?;
    for role in ["console", "ledger", "ingress"] {
        product.start(role, &[role]).await?;
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    let other = open(&format!("{url}{separator}application_name=nightly-export"), product.folder(), 2)?;
    let mut tx = other.begin().await?;
    let rows =
        fetch(&mut tx, "SELECT pg_backend_pid()::BIGINT, pg_current_xact_id()::text".to_owned(), []).await?;
    let pid: i64 = rows[0].try_get(0)?;
    let event = product.post("go", order_created(1)).await?;
    let begun = Instant::now();
    while product.rows(&["events", "list"])?.is_empty() {
        ensure!(begun.elapsed() < PATIENCE, "the event is not recorded");
    }
    assert_eq!(ids(&product.run(&["feed", "--json"])?)?, [""; 0]);
    let holder = format!("process {pid} of PostgreSQL");
    let (mut said, mut metrics) = (String::new(), String::new());
    let lag = |metrics: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix("feed_lag_seconds "));
        line.and_then(|value| value.parse::<f64>().ok())
    };
    while !said.contains(&holder) || lag(&metrics).is_none_or(|seconds| seconds < 5.0) {
        ensure!(begun.elapsed() < PATIENCE, "{said}\n{metrics}");
        said = String::from_utf8(product.command(&["doctor"])?.output()?.stdout)?;
        metrics = product.metrics("console").await?;
    }
    for part in ["the feed is held back", "nightly-export", "\"SELECT\"", "pg_terminate_backend"] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    tx.rollback().await?;
    while ids(&product.run(&["feed", "--json"])?)? != std::slice::from_ref(&event) {
        ensure!(begun.elapsed() < 2 * PATIENCE, "the feed is still held back");
    }
    Ok(())
}
