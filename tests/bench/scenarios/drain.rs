//! Waiting events through the ledger and the domain consumers into the database, beside a bulk insert of the same rows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Postgres, RabbitMq};
use store::{Dialect, Store, sql};
use tests::consumers;
use tests::product::Product;
use tests::usage::{cpu, cpu_of_family};

use super::{
    Bench, NO_DATABASE, all_handled, per_event_us, published, start_consumers, start_without_database,
};
use crate::limits::inserts;
use crate::load::{Pace, post};
use crate::mix::{self, ROUND, TAKEN};
use crate::report::{Figures, Section, Table};

/// The result of draining into one kind of database.
#[derive(Default)]
struct Drained {
    rate: Figures,
    limit: Figures,
    commits: Figures,
    /// Microseconds of processor time for each event: malote's, RabbitMQ's, PostgreSQL's.
    cpu: [Figures; 3],
    /// The rate without domain events, and that of a bulk insert of what is left.
    silent: Figures,
    silent_limit: Figures,
    /// The same as `cpu`, without domain events.
    silent_cpu: [Figures; 3],
    /// Domain events for each event.
    announced: Figures,
}

/// One drain.
struct Drain {
    elapsed: Duration,
    commits: u64,
    cpu: [Duration; 3],
    store: Store,
}

/// Whether the domain events of effects are written, published and recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Announcing {
    On,
    Off,
}

/// In this order in each round.
const WAYS: [Announcing; 2] = [Announcing::On, Announcing::Off];

/// The third scenario, on RabbitMQ and PostgreSQL.
pub async fn scaled(bench: Bench<'_>) -> Result<Section> {
    let events = bench.events(200_000);
    let servers = bench.servers()?;
    let (node, postgres) = (&servers.rabbitmq, &servers.postgres);
    let mut drained = Drained::default();
    for round in 0..bench.rounds() {
        for (at, announcing) in WAYS.into_iter().enumerate() {
            let name = format!("round_{round}_{at}");
            node.create_vhost(&name)?;
            postgres.create_database(&name)?;
            let drain = on_rabbitmq(node, postgres, &name, events, announcing).await?;
            let limit = format!("{name}_limit");
            postgres.create_database(&limit)?;
            drained.add(drain, &postgres.url(&limit), events, announcing).await?;
            node.delete_vhost(&name)?;
        }
    }
    Ok(section("Drain, RabbitMQ into PostgreSQL", &drained, events))
}

/// The third scenario, in one process.
pub async fn embedded(bench: Bench<'_>) -> Result<Section> {
    let events = bench.events(200_000);
    let mut drained = Drained::default();
    for _ in 0..bench.rounds() {
        for announcing in WAYS {
            let product = Product::configured("embedded", "sqlite", "")?;
            let limit = format!("sqlite:{}", product.folder().join("limit.db").display());
            // Its folder lasts until the end of the round.
            let (drain, _product) = in_one_process(product, events, announcing).await?;
            drained.add(drain, &limit, events, announcing).await?;
        }
    }
    Ok(section("Drain, embedded into SQLite", &drained, events))
}

impl Drained {
    /// Adds a drain, and measures the bulk insert of the same rows into an empty database.
    async fn add(&mut self, drain: Drain, limit: &str, events: usize, announcing: Announcing) -> Result<()> {
        let Drain { elapsed, commits, cpu, store } = drain;
        let rate = events as f64 / elapsed.as_secs_f64();
        let (rates, limits, times) = match announcing {
            Announcing::On => (&mut self.rate, &mut self.limit, &mut self.cpu),
            Announcing::Off => (&mut self.silent, &mut self.silent_limit, &mut self.silent_cpu),
        };
        rates.add(rate);
        // What did not run takes none.
        for (figures, time) in times.iter_mut().zip(cpu).filter(|(_, time)| !time.is_zero()) {
            figures.add(per_event_us(time, events));
        }
        let announced = complete(&store, events).await?;
        ensure!((announced > 0) == (announcing == Announcing::On), "{announced} domain events are recorded");
        if announcing == Announcing::On {
            self.announced.add(announced as f64 / events as f64);
            self.commits.add(commits as f64 / events as f64);
        }
        let empty = inserts::open(limit)?;
        let seconds = inserts::insert(&empty, inserts::read(&store).await?).await?;
        limits.add(events as f64 / seconds);
        empty.close().await;
        store.close().await;
        Ok(())
    }
}

fn section(title: &'static str, drained: &Drained, events: usize) -> Section {
    let Drained { rate, limit, commits, cpu, silent, silent_limit, silent_cpu, announced } = drained;
    let mut table = Table::new(&[
        "domain events",
        "events/s",
        "bulk insert, events/s",
        "of the bulk insert",
        "malote, processor µs/event",
        "RabbitMQ",
        "PostgreSQL",
    ]);
    for (name, rate, limit, cpu) in [
        (format!("{} for each event", announced.show(2)), rate, limit, cpu),
        ("none".to_owned(), silent, silent_limit, silent_cpu),
    ] {
        let rates = [name, rate.show(0), limit.show(0), rate.by(limit).show(2)];
        table.row(rates.into_iter().chain(cpu.iter().map(|figures| figures.show(0))));
    }
    let text = format!(
        "{events} events wait in their queues; then the ledger and the three domain consumers start, and the clock runs \
         until the last event is committed everywhere, and every domain event is on record. Beside it the rows that this made, \
         inserted into empty tables with no queue and no handler: 256 to a statement as `VALUES`, 1,024 to a transaction, all \
         tables at once; and the same drain where a trigger discards the domain events, so that none is published and recorded, \
         beside a bulk insert of what it made. There are {} commits for each event. On RabbitMQ each consumer is a process of its \
         own.",
        commits.show(3)
    );
    Section { title, text, tables: vec![table] }
}

async fn on_rabbitmq(
    node: &RabbitMq,
    postgres: &Postgres,
    name: &str,
    events: usize,
    announcing: Announcing,
) -> Result<Drain> {
    let mut product = Product::configured(&node.url(name), &postgres.url(name), "")?;
    let store = inserts::open(&postgres.url(name))?;
    // Makes the tables.
    product.start("ledger", &["ledger"]).await?;
    product.terminate("ledger").await?;
    announce(&store, announcing).await?;
    product.start("ingress", &["ingress"]).await?;
    let requests = mix::requests(&product.poster(), 0..events)?;
    post(product.port("ingress"), requests, 64, Pace::Closed).await?;
    product.terminate("ingress").await?;
    let servers = || -> Result<[Duration; 2]> {
        Ok([cpu(node.pid().context("RabbitMQ")?)?, cpu_of_family(postgres.pid().context("PostgreSQL")?)?])
    };
    let (start, before) = (Instant::now(), servers()?);
    start_consumers(&mut product).await?;
    let commits = settled(&product, &consumers(), &store, events).await?;
    let elapsed = start.elapsed();
    let mut malote = Duration::ZERO;
    for consumer in consumers() {
        malote += cpu(product.pid(consumer))?;
    }
    let [rabbitmq, database] = servers()?;
    for consumer in consumers() {
        product.terminate(consumer).await?;
    }
    let cpu = [malote, rabbitmq.saturating_sub(before[0]), database.saturating_sub(before[1])];
    Ok(Drain { elapsed, commits, cpu, store })
}

async fn in_one_process(
    mut product: Product,
    events: usize,
    announcing: Announcing,
) -> Result<(Drain, Product)> {
    let store = inserts::open(&format!("sqlite:{}", product.folder().join("data/store.db").display()))?;
    // Makes the tables.
    product.start("up", &["up"]).await?;
    product.terminate("up").await?;
    announce(&store, announcing).await?;
    product.set_environment("up", [("MALOTE__STORE__URL".to_owned(), NO_DATABASE.to_owned())]);
    start_without_database(&mut product).await?;
    let requests = mix::requests(&product.poster(), 0..events)?;
    post(product.port("up"), requests, 64, Pace::Closed).await?;
    product.terminate("up").await?;
    product.set_environment("up", [("MALOTE__STORE__URL".to_owned(), "sqlite".to_owned())]);
    let start = Instant::now();
    product.start("up", &["up"]).await?;
    let commits = settled(&product, &["up"], &store, events).await?;
    let (elapsed, malote) = (start.elapsed(), cpu(product.pid("up"))?);
    product.terminate("up").await?;
    let cpu = [malote, Duration::ZERO, Duration::ZERO];
    Ok((Drain { elapsed, commits, cpu, store }, product))
}

/// Discards what is announced, unless it is to be recorded.
async fn announce(store: &Store, announcing: Announcing) -> Result<()> {
    if announcing == Announcing::On {
        return Ok(());
    }
    let statements: &[&'static str] = match store.dialect() {
        Dialect::Sqlite => {
            &["CREATE TRIGGER discard BEFORE INSERT ON outbox BEGIN SELECT RAISE(IGNORE); END"]
        }
        Dialect::Postgres => &[
            "CREATE FUNCTION discard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
            "CREATE TRIGGER discard BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION discard()",
        ],
    };
    let mut tx = store.begin().await?;
    for statement in statements {
        sql::query(statement).execute(&mut *tx).await?;
    }
    Ok(tx.commit().await?)
}

/// Waits until all events are handled and all domain events are on record. Gives the transactions that took.
async fn settled(product: &Product, processes: &[&str], store: &Store, events: usize) -> Result<u64> {
    all_handled(product, processes, events).await?;
    published(store).await?;
    all_handled(product, processes, events).await
}

/// What the consumers wrote must be complete. Gives the domain events on record.
async fn complete(store: &Store, events: usize) -> Result<i64> {
    let count = async |text: &'static str| -> Result<i64> {
        Ok(sql::scalar(text).fetch_one(&mut *store.read().await?).await?)
    };
    let expected = |consumer: &str| (events / ROUND * TAKEN[consumer]) as i64;
    let received =
        "SELECT count(*) FROM events e JOIN origins o ON o.id = e.origin WHERE o.provider <> 'malote'";
    // The last domain event may be on record before its publisher has counted it.
    let begun = Instant::now();
    while count(received).await? != expected("ledger") {
        ensure!(begun.elapsed() < Duration::from_secs(10), "events are missing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let of_domains = TAKEN.keys().filter(|name| !["ledger", mix::UNROUTED].contains(name));
    let handled = of_domains.map(|name| expected(name)).sum::<i64>();
    ensure!(count("SELECT count(*) FROM claims").await? == handled, "effects are missing");
    Ok(count("SELECT count(*) FROM events").await? - expected("ledger"))
}
