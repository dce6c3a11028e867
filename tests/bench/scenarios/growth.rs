//! A ledger of two million events beside an empty one: lists, rates, size, and retention at work.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use store::{Dialect, Row, Store, sql};
use tests::consumers;
use tests::product::Product;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::control::Control;
use super::{Bench, Held, all_handled, rates, start_consumers};
use crate::limits::inserts;
use crate::load::{Pace, STEADY, percentile, post};
use crate::mix;
use crate::report::{Figures, Section, Table, grouped};

/// The token of the administration API here.
pub(super) const TOKEN: &str = "benchmarks-0123456789";

/// The tables of the record, and the column with the event's id.
const TABLES: [(&str, &str); 5] = [
    ("events", "id"),
    ("claims", "event_id"),
    ("unrouted_events", "event_id"),
    ("dead_letters", "event_id"),
    ("rejected_bodies", "id"),
];

/// The fifth scenario, on RabbitMQ and PostgreSQL.
pub async fn scaled(bench: Bench<'_>) -> Result<Section> {
    let servers = bench.servers()?;
    let pair =
        ["empty", "grown"].map(|name| Side::scaled(&servers, name)).into_iter().collect::<Result<_>>()?;
    let control = Control::on_rabbitmq(&servers.rabbitmq, "beside-growth").await?;
    measure(bench, pair, &control, "Growth, PostgreSQL").await
}

/// The fifth scenario, in one process.
pub async fn embedded(bench: Bench<'_>) -> Result<Section> {
    let control = Control::on_sqlite().await?;
    measure(bench, vec![Side::embedded()?, Side::embedded()?], &control, "Growth, SQLite").await
}

/// One installation at work.
pub(super) struct Side {
    pub(super) product: Product,
    pub(super) store: Store,
    posted: usize,
}

impl Side {
    /// One on RabbitMQ and PostgreSQL, in a virtual host and a database of this name.
    pub(super) fn scaled(servers: &Held<'_>, name: &str) -> Result<Self> {
        let (node, postgres) = (&servers.rabbitmq, &servers.postgres);
        node.create_vhost(name)?;
        postgres.create_database(name)?;
        let url = postgres.url(name);
        let product = Product::configured(&node.url(name), &url, "")?;
        Ok(Self { product, store: inserts::open(&url)?, posted: 0 })
    }

    /// One in one process.
    pub(super) fn embedded() -> Result<Self> {
        let product = Product::configured("embedded", "sqlite", "")?;
        let store = inserts::open(&format!("sqlite:{}", product.folder().join("data/store.db").display()))?;
        Ok(Self { product, store, posted: 0 })
    }

    /// Starts it with a ledger of two million events.
    pub(super) async fn start_grown(&mut self, bench: Bench<'_>) -> Result<()> {
        self.start().await?;
        self.rates(0, seed(bench)).await?;
        add_failures(self).await?;
        self.stop().await?;
        grow(&self.store, if bench.quick { 5 } else { 100 }).await?;
        self.start().await
    }

    pub(super) fn is_embedded(&self) -> bool {
        self.store.dialect() == Dialect::Sqlite
    }

    async fn start(&mut self) -> Result<()> {
        for name in ["up", "console", "ledger"] {
            self.product.set_environment(name, [("MALOTE__CONSOLE__TOKEN".to_owned(), TOKEN.to_owned())]);
        }
        if self.is_embedded() {
            return self.product.start("up", &["up"]).await;
        }
        self.product.start("console", &["console"]).await?;
        self.product.start("ingress", &["ingress"]).await?;
        start_consumers(&mut self.product).await
    }

    async fn stop(&mut self) -> Result<()> {
        for name in self.product.running() {
            self.product.terminate(&name).await?;
        }
        self.posted = 0;
        Ok(())
    }

    /// Posts events, and gives the answers and the committed events a second.
    async fn rates(&mut self, first: usize, events: usize) -> Result<(f64, f64)> {
        let (ingress, consumers) =
            if self.is_embedded() { ("up", vec!["up"]) } else { ("ingress", consumers()) };
        rates(&self.product, (ingress, &consumers), &mut self.posted, first, events).await
    }

    pub(super) fn console(&self) -> Result<u16> {
        let port = self.product.console.rsplit(':').next().context("a port")?;
        Ok(port.parse()?)
    }
}

async fn measure(
    bench: Bench<'_>,
    mut sides: Vec<Side>,
    control: &Control,
    title: &'static str,
) -> Result<Section> {
    let seed = seed(bench);
    let mut next = seed;
    sides[0].start().await?;
    sides[0].rates(0, seed).await?;
    sides[1].start_grown(bench).await?;

    let (mut posts, mut commits) =
        ([Figures::default(), Figures::default()], [Figures::default(), Figures::default()]);
    let events = bench.events(40_000);
    for _ in 0..bench.rounds() {
        for (at, side) in sides.iter_mut().enumerate() {
            let (posted, committed) = side.rates(next, events).await?;
            posts[at].add(posted);
            commits[at].add(committed);
        }
        next += events;
    }
    let mut rates = Table::new(&["while everything runs", "empty at first", "grown", "grown by empty"]);
    for (name, [empty, grown]) in [("answers/s", &posts), ("committed events/s", &commits)] {
        rates.row([name.to_owned(), empty.show(0), grown.show(0), grown.by(empty).show(2)]);
    }
    let lists = lists(bench, &sides[1]).await?;
    let grown = &mut sides[1];
    let rows = count(&grown.store, "events").await?;
    let bytes = size(&grown.store).await?;
    let retention = retention(bench, grown, control, next).await?;
    let text = format!(
        "A ledger of {} events, made of {} real ones by moving them back in time, the oldest first; {} bytes on disk for each, indexes and \
         inbox included. Beside it one that was empty at first. {retention}",
        grouped(rows as f64, 0),
        grouped(seed as f64, 0),
        grouped(bytes / rows as f64, 0),
    );
    Ok(Section { title, text, tables: vec![rates, lists] })
}

/// How many real events a grown ledger is made of.
pub(super) fn seed(bench: Bench<'_>) -> usize {
    bench.events(20_000)
}

/// Dead letters and rejected bodies, a few.
async fn add_failures(side: &mut Side) -> Result<()> {
    let bodies = [r#"{"event_id": "FINANCIAL_PAYMENT_STATUS", "data": {"code": "7"}}"#, "no JSON"];
    for number in 0..40 {
        let answer = side.product.request("go", bodies[number % 2]).send().await?;
        ensure!([200, 400].contains(&answer.status().as_u16()), "{}", answer.status());
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while count(&side.store, "dead_letters").await? < 20 || count(&side.store, "rejected_bodies").await? < 20
    {
        ensure!(Instant::now() < deadline, "no dead letters");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

pub(super) async fn count(store: &Store, table: &str) -> Result<i64> {
    let row =
        sql::assembled(format!("SELECT count(*) FROM {table}")).fetch_one(&mut *store.read().await?).await?;
    Ok(row.try_get(0)?)
}

/// Bytes on disk.
async fn size(store: &Store) -> Result<f64> {
    let question = match store.dialect() {
        Dialect::Postgres => "SELECT pg_database_size(current_database())",
        Dialect::Sqlite => "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    };
    Ok(sql::scalar::<i64>(question).fetch_one(&mut *store.read().await?).await? as f64)
}

/// Makes of every row so many, some 18 hours apart, the oldest first, as they would have come in: the first 32 bits of an
/// id (RFC 9562, section 5.7) are units of 65.536 s.
async fn grow(store: &Store, copies: usize) -> Result<()> {
    let text = "SELECT id FROM events ORDER BY id LIMIT 1";
    let first = store::id(&sql::query(text).fetch_one(&mut *store.read().await?).await?, 0)?;
    let base = i64::try_from(first.milliseconds() >> 16)?;
    let from = match store.dialect() {
        Dialect::Sqlite => format!("x'{base:08x}'"),
        Dialect::Postgres => format!("'\\x{base:08x}'::bytea"),
    };
    for (table, id) in TABLES {
        let columns = inserts::columns(store, table).await?;
        let columns: Vec<String> = columns.into_iter().map(|(name, _)| name).collect();
        let moved = |column: &String| match (column.as_str(), store.dialect()) {
            (name, Dialect::Sqlite) if name == id => {
                format!("unhex(printf('%08x', {base} - n * 1000) || hex(substr({id}, 5)))")
            }
            (name, Dialect::Postgres) if name == id => {
                format!("decode(lpad(to_hex({base} - n * 1000), 8, '0'), 'hex') || substr({id}, 5)")
            }
            ("received_at" | "failed_at" | "first_failed_at" | "marked_at" | "handled_at", _) => {
                format!("{column} - n * 65536000000")
            }
            _ => column.clone(),
        };
        let values: Vec<_> = columns.iter().map(moved).collect();
        // A hundred times at once would be one transaction of gigabytes.
        for n in (1..copies).rev() {
            let values = values.join(", ").replace("n * ", &format!("{n}::bigint * "));
            let values = match store.dialect() {
                Dialect::Sqlite => values.replace("::bigint", ""),
                Dialect::Postgres => values,
            };
            let text = format!(
                "INSERT INTO {table} ({}) SELECT {values} FROM {table} WHERE {id} >= {from} ON CONFLICT DO NOTHING",
                columns.join(", ")
            );
            let mut tx = store.begin().await?;
            sql::assembled(text).execute(&mut *tx).await?;
            tx.commit().await?;
        }
    }
    if store.dialect() == Dialect::Postgres {
        // What autovacuum does within minutes of such growth.
        sql::query("ANALYZE").execute(&mut *store.read().await?).await?;
    }
    Ok(())
}

/// What lists are asked for: each filter, and what stands for the values that differ from run to run.
pub(super) async fn filters(side: &Side) -> Result<(Vec<String>, [String; 4])> {
    let (id, subject): (String, String) = {
        let text = "SELECT id, subject FROM events WHERE subject IS NOT NULL ORDER BY id DESC LIMIT 1";
        let row = sql::query(text).fetch_one(&mut *side.store.read().await?).await?;
        (store::id(&row, 0)?.to_string(), row.try_get(1)?)
    };
    let week_ago = event::now() - Duration::from_secs(7 * 24 * 60 * 60);
    let days_ago = event::now() - Duration::from_secs(6 * 24 * 60 * 60);
    let filters = vec![
        "events?".to_owned(),
        format!("events?id={id}"),
        "events?source=go".to_owned(),
        "events?provider=recuperador".to_owned(),
        "events?topic=ORDER_CANCEL".to_owned(),
        "events?topic=no.such.topic".to_owned(),
        format!("events?subject={subject}"),
        "events?state=pending".to_owned(),
        "events?state=handled".to_owned(),
        "events?state=dead".to_owned(),
        "events?state=unrouted".to_owned(),
        "events?state=discarded".to_owned(),
        "events?state=duplicate".to_owned(),
        format!("events?from={week_ago}&to={days_ago}"),
        format!("events?source=me&topic={}&from={week_ago}", tests::UNROUTED),
        "unrouted?".to_owned(),
        "unrouted?source=me".to_owned(),
        "rejected?".to_owned(),
        "rejected?source=go".to_owned(),
        "dead?".to_owned(),
        "dead?consumer=receivables".to_owned(),
        "dead?source=go".to_owned(),
    ];
    Ok((filters, [id, subject, week_ago.to_string(), days_ago.to_string()]))
}

/// How often everything is asked for.
pub(super) fn times(bench: Bench<'_>) -> usize {
    if bench.quick { 3 } else { 100 }
}

/// A row with the times that answers took.
pub(super) fn timed(mut latencies: Vec<Duration>, asked: &str, hidden: &[String]) -> [String; 3] {
    latencies.sort_unstable();
    let shown = hidden.iter().fold(asked.to_owned(), |shown, value| shown.replace(value.as_str(), "…"));
    let [p50, p99] = [0.5, 0.99].map(|share| grouped(percentile(&latencies, share), 1));
    [format!("`{shown}`"), p50, p99]
}

/// The time of a page of every list by each filter.
async fn lists(bench: Bench<'_>, side: &Side) -> Result<Table> {
    let (filters, hidden) = filters(side).await?;
    let mut table = Table::new(&["page of 50", "p50 ms", "p99 ms"]);
    let (port, times) = (side.console()?, times(bench));
    for filter in filters {
        let mut latencies = Vec::new();
        let mut cursor = String::new();
        for time in 0..times {
            let begun = Instant::now();
            let answer = get(port, &format!("/api/v1/{filter}&limit=50{cursor}")).await?;
            latencies.push(begun.elapsed());
            // Every other time the page after.
            let next = answer["next"].as_str().filter(|_| time % 2 == 0);
            cursor = next.map(|next| format!("&cursor={next}")).unwrap_or_default();
            if latencies.iter().sum::<Duration>() > Duration::from_secs(60) {
                break;
            }
        }
        table.row(timed(latencies, filter.trim_end_matches('?'), &hidden));
    }
    Ok(table)
}

/// What the administration API answers.
async fn get(port: u16, path: &str) -> Result<serde_json::Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    let (_, body) = answer.split_once("\r\n\r\n").context("a body")?;
    Ok(serde_json::from_str(body)?)
}

/// Deletes half of the record in the background, and reports the effect.
async fn retention(bench: Bench<'_>, side: &mut Side, control: &Control, first: usize) -> Result<String> {
    let days = if bench.quick { 1 } else { 38 };
    side.stop().await?;
    // Without what is posted from here on, and its domain events.
    let old = format!("events WHERE received_at < {}", event::now().as_microsecond());
    let before = count(&side.store, &old).await?;
    for name in ["up", "ledger"] {
        side.product.set_environment(name, [("MALOTE__LEDGER__KEEP_DAYS".to_owned(), days.to_string())]);
    }
    side.start().await?;
    let begun = Instant::now();
    let events = bench.events(40_000);
    let ingress = if side.is_embedded() { "up" } else { "ingress" };
    let requests = mix::requests(&side.product.poster(), first..first + events)?;
    side.posted = events;
    let rate = 1_000.0;
    let (posted, beside) = tokio::join!(
        post(side.product.port(ingress), requests, STEADY, Pace::PerSecond(rate)),
        control.post(rate, events as f64 / rate)
    );
    let (posted, beside) = (posted?, beside?);
    let consumers = if side.is_embedded() { vec!["up"] } else { consumers() };
    all_handled(&side.product, &consumers, side.posted).await?;
    let elapsed = begun.elapsed();
    let deadline = Instant::now() + Duration::from_secs(60);
    let gone = loop {
        let gone = before - count(&side.store, &old).await?;
        if gone > 0 {
            break gone;
        }
        ensure!(Instant::now() < deadline, "there were {before} events, and retention deleted none");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    Ok(format!(
        "Then {days} days are kept and no more: in {} s of 1,000 posts a second retention deleted {} events, and the posts \
         were answered in {} ms (p50) and {} ms (p99) meanwhile; a twentieth as many to the smallest handler beside it, in front \
         of the same RabbitMQ or of a SQLite file of its own, in {} and {} ms.",
        grouped(elapsed.as_secs_f64(), 0),
        grouped(gone as f64, 0),
        grouped(posted.percentile(0.5), 1),
        grouped(posted.percentile(0.99), 1),
        grouped(beside.percentile(0.5), 1),
        grouped(beside.percentile(0.99), 1)
    ))
}
