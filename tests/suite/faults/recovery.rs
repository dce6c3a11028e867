//! What operators count on when something is back: consumers that catch up, an event that cannot be handled, a replay
//! whose console is killed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use event::EventId;
use serde_json::Value;
use store::many::fetch;
use store::{Row, Store, id_bound, sql};
use tokio::time::sleep;

use super::books::Books;
use super::load::Load;
use super::rows::{QUICK, Servers, start};
use super::{duplicates, is_full};
use crate::product::{PATIENCE, Product};

/// The full number with `--faults`, the short one otherwise.
fn count(full: usize, short: usize) -> usize {
    if is_full() { full } else { short }
}

/// The product on servers of its own, with the effects of its consumers watched.
async fn started() -> Result<(Servers, Product, Books)> {
    let servers = Servers::start()?;
    let (broker, store) = servers.urls()?;
    let mut product = Product::configured(&broker, &store, QUICK)?;
    start(&mut product).await?;
    let books = Books::open(&store, product.folder())?;
    books.watch_effects().await?;
    Ok((servers, product, books))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_a_minute_without_the_database_costs_no_dead_letter() -> Result<()> {
    let (servers, product, books) = started().await?;
    servers.postgres.stop()?;
    let (events, outage) = (count(5_000, 500), Duration::from_secs(if is_full() { 60 } else { 5 }));
    let load = Load::start(&product.poster(), std::slice::from_ref(&product.ingress), 0, events, outage);
    let posted = load.end().await?;
    servers.postgres.restart()?;
    let back = Instant::now();
    let account = books.account(&posted).await?;
    let caught_up = back.elapsed();
    println!(
        "{events} events in {outage:?} without PostgreSQL: all handled {caught_up:.1?} after its return"
    );
    assert!(account.is_clean(), "{account:?}");
    assert!(caught_up < Duration::from_secs(60), "{caught_up:?}");
    for name in tests::consumers() {
        assert!(!product.output(name).contains("tried again in"), "{name} spent an attempt");
    }
    Ok(())
}

/// The 99th percentile of the time from receipt to the effect, of the events whose id is in between.
async fn p99(store: &Store, from: EventId, to: EventId) -> Result<Duration> {
    let text = "SELECT i.handled_at - e.received_at FROM events e JOIN claims i ON i.event_id = e.id \
                WHERE e.id >= $1 AND e.id < $2";
    let mut connection = store.read().await?;
    let rows = fetch(&mut connection, text.to_owned(), [from.into(), to.into()]).await?;
    let mut latencies = rows.iter().map(|row| row.try_get::<i64, _>(0)).collect::<Result<Vec<_>, _>>()?;
    latencies.sort_unstable();
    let at = latencies.get(latencies.len() * 99 / 100).context("events")?;
    Ok(Duration::from_micros(u64::try_from(*at).unwrap_or(0)))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The same number of good events in each round.
fn poison_load(product: &Product, round: usize) -> Load {
    let (events, time) = (count(4_000, 1_000), Duration::from_secs(if is_full() { 8 } else { 4 }));
    Load::start(&product.poster(), std::slice::from_ref(&product.ingress), round * 1_000_000, events, time)
}

/// Posts the poison among other events, and waits until it is a dead letter and nothing is pending. Returns its id.
async fn poisoned_round(product: &Product, round: usize) -> Result<String> {
    let load = poison_load(product, round);
    load.reached(0.2).await;
    let body = r#"{"event_id": "ORDER_CREATED", "data": {"id": "1", "code": "poison", "status": 1}}"#;
    let id = product.post("go", body).await?;
    load.end().await?;
    let started = Instant::now();
    let letter = loop {
        if let Some(letter) = product.rows(&["dead", "list"])?.into_iter().find(|row| row["id"] == id) {
            break letter;
        }
        ensure!(started.elapsed() < PATIENCE, "the event does not become a dead letter");
        sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(letter["attempts"], 3);
    let shown: Vec<Value> = product.json(&["dead", "show", &id])?;
    assert_eq!(shown[0]["history"].as_array().map(Vec::len), Some(3));
    assert!(letter["error"].as_str().unwrap_or_default().contains("this order cannot be booked"), "{letter}");
    while product.rows(&["events", "list", "--state", "pending"])?.pop().is_some() {
        ensure!(started.elapsed() < PATIENCE, "events stay pending");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_one_poison_event_ends_in_the_dead_letters_and_delays_no_other() -> Result<()> {
    let policy = "[consumer.policies.receivables]\nattempts = 3\ndelays = [\"1s\"]\njitter_percent = 0\n";
    let mut product = Product::configured("embedded", "sqlite", policy)?;
    product.start("up", &["up"]).await?;
    let config =
        store::Config { max_connections: 2, acquire_timeout_ms: 10_000, ..store::Config::new("sqlite") };
    let store = Store::open(&config, &product.folder().join("data"))?;
    let mut tx = store.begin().await?;
    let poison = "CREATE TRIGGER poison BEFORE INSERT ON receivable_items WHEN NEW.external_id = 'poison' \
                  BEGIN SELECT RAISE(ABORT, 'this order cannot be booked'); END";
    sql::query(poison).execute(&mut *tx).await?;
    tx.commit().await?;

    let rounds = count(5, 1);
    let (mut without, mut with, mut letters) = (Vec::new(), Vec::new(), Vec::new());
    // Warm, then in turn without and with it: what else the machine does meets both.
    poison_load(&product, 0).end().await?;
    for round in 0..rounds {
        let begin = EventId::generate();
        poison_load(&product, 2 * round + 1).end().await?;
        let middle = EventId::generate();
        letters.push(poisoned_round(&product, 2 * round + 2).await?);
        let end = EventId::generate();
        without.push(p99(&store, begin, middle).await?);
        with.push(p99(&store, middle, end).await?);
    }
    println!("p99 from receipt to effect: {without:.1?} without the poison, {with:.1?} with it");
    let (without, with) = (median(without), median(with));
    assert!(!is_full() || with < without * 2, "{with:?} is more than twice {without:?}");

    // Fixed, it goes back and has its effect.
    let mut tx = store.begin().await?;
    sql::query("DROP TRIGGER poison").execute(&mut *tx).await?;
    tx.commit().await?;
    for id in &letters {
        product.run(&["dead", "retry", id])?;
    }
    let started = Instant::now();
    while product
        .rows(&["receivables", "list", "--where", "state=open"])?
        .iter()
        .all(|row| row["external_id"] != "poison")
    {
        ensure!(started.elapsed() < PATIENCE, "the retried event has no effect");
        sleep(Duration::from_millis(100)).await;
    }
    assert!(product.rows(&["dead", "list"])?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_a_replay_keeps_its_rate_survives_its_console_and_can_be_cancelled() -> Result<()> {
    let (_servers, mut product, books) = started().await?;
    let (events, rate) = (count(100_000, 1_500), count(2_000, 250));
    let load = Load::start(&product.poster(), &[product.ingress.clone()], 0, events, Duration::from_secs(1));
    let posted = load.end().await?;
    let account = books.account(&posted).await?;
    // A replay of a day sends its domain events, too.
    let on_record = account.ledger + usize::try_from(account.announced)?;

    let day = event::Zone::default().day(event::now()).to_string();
    let job = |product: &Product| -> Result<Value> {
        let mut jobs = product.json(&["jobs", "list", "--limit", "1"])?;
        jobs.pop().context("a job")
    };
    let progress = |job: &Value| job["progress"].as_i64().unwrap_or(0);
    let rate_text = rate.to_string();
    let replay = ["events", "replay", "--from", &day, "--rate", &rate_text, "--detach"];
    // Nobody can be asked here.
    let refused = product.command(&replay)?.stdin(std::process::Stdio::null()).output()?;
    let printed = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && printed.contains("--yes"), "{printed}");
    let known = duplicates(&product).await;
    let begun = Instant::now();
    product.run(&[&replay[..], &["--yes"]].concat())?;
    let half = i64::try_from(on_record / 2)?;
    while progress(&job(&product)?) < half / 2 {
        ensure!(begun.elapsed() < PATIENCE * 3, "{}", job(&product)?);
        sleep(Duration::from_millis(100)).await;
    }
    product.kill9("console")?;
    product.start("console", &["console"]).await?;
    let before = progress(&job(&product)?);
    assert!((half / 2..i64::try_from(on_record)?).contains(&before), "{before}");
    while job(&product)?["state"] == "running" {
        ensure!(begun.elapsed() < PATIENCE * 5, "{}", job(&product)?);
        sleep(Duration::from_millis(100)).await;
    }
    let took = begun.elapsed();
    let done = job(&product)?;
    assert_eq!((&done["state"], progress(&done)), (&Value::from("done"), i64::try_from(on_record)?));
    assert_eq!(done["sent"], done["total"]);
    let least = Duration::from_secs_f64(on_record as f64 / rate as f64 * 0.9);
    assert!(took > least, "{on_record} events at {rate}/s in {took:?}");
    println!(
        "{on_record} events replayed at {rate}/s in {took:.1?}, a kill -9 of the console and its lease included"
    );
    // Each event has come to its consumer once more.
    while duplicates(&product).await < known + u64::try_from(events)? {
        ensure!(begun.elapsed() < PATIENCE * 5, "the consumers do not see all of {events} events again");
        sleep(Duration::from_millis(100)).await;
    }

    product.run(&[&replay[..], &["--yes"]].concat())?;
    let second = job(&product)?;
    let id = second["id"].as_str().context("an id")?.to_owned();
    while progress(&job(&product)?) == 0 {
        ensure!(begun.elapsed() < PATIENCE * 5, "{}", job(&product)?);
        sleep(Duration::from_millis(50)).await;
    }
    let printed = product.run(&["jobs", "cancel", &id])?;
    assert!(printed.starts_with("The job is cancelled: "), "{printed}");
    let cancelled = job(&product)?;
    assert_eq!(cancelled["state"], "cancelled");
    assert!(progress(&cancelled) < i64::try_from(on_record)?, "{cancelled}");

    // What was replayed had its effect before, and has it once.
    let account = books.account(&posted).await?;
    assert_eq!((account.lost, account.dead, account.twice), (0, 0, 0), "{account:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_record_lost_is_told_by_the_reconciliation() -> Result<()> {
    let product = Product::embedded().await?;
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(product.post("go", super::load::fact(number * super::load::KINDS).body).await?);
    }
    product.settled(3).await?;
    // The ingress tells its counts every few seconds.
    let started = Instant::now();
    loop {
        let books: Value = serde_json::from_str(&product.run(&["reconcile", "--json"])?)?;
        if books["sources"][0]["counted_accepted"] == 3 {
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "{books}");
        sleep(Duration::from_millis(200)).await;
    }
    let config =
        store::Config { max_connections: 2, acquire_timeout_ms: 10_000, ..store::Config::new("sqlite") };
    let store = Store::open(&config, &product.folder().join("data"))?;
    let mut tx = store.begin().await?;
    let [missing, unaccounted] = [1, 2].map(|number: usize| id_bound(&ids[number]));
    fetch(&mut tx, "DELETE FROM events WHERE id = $1".to_owned(), [missing.clone()]).await?;
    // Of the first, too: without its event it would be a difference of its own once it is a minute old.
    let forget = "DELETE FROM claims WHERE event_id IN ($1, $2)".to_owned();
    fetch(&mut tx, forget, [missing, unaccounted]).await?;
    sql::query("DELETE FROM unsettled_events").execute(&mut *tx).await?;
    tx.commit().await?;
    let output = product.command(&["reconcile"])?.output()?;
    let printed = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("the ingresses answered 3, the ledger has 2: 1 are missing"), "{printed}");
    assert!(printed.contains("unaccounted") && printed.contains(&ids[2]), "{printed}");
    assert!(printed.contains("do not balance: 2 differences."), "{printed}");
    Ok(())
}
