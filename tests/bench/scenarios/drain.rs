//! Waiting events through the ledger and the domain consumers into the database, beside a bulk insert of the same rows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Postgres, RabbitMq};
use store::{Store, sql};
use tests::product::Product;
use tests::usage::{cpu, cpu_of_family};

use super::{Bench, CONSUMERS, NO_DATABASE, all_handled, per_event_us, start_consumers};
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
}

/// The third scenario, on RabbitMQ and PostgreSQL.
pub async fn scaled(bench: Bench) -> Result<Section> {
    let events = bench.events(200_000);
    let (node, postgres) = (RabbitMq::start()?, Postgres::start()?);
    let mut drained = Drained::default();
    for round in 0..bench.rounds() {
        let name = format!("round_{round}");
        node.create_vhost(&name)?;
        postgres.create_database(&name)?;
        postgres.create_database(&format!("{name}_limit"))?;
        on_rabbitmq(&mut drained, &node, &postgres, &name, events).await?;
        node.delete_vhost(&name)?;
    }
    Ok(section("Drain, RabbitMQ into PostgreSQL", &drained, events))
}

/// The third scenario, in one process.
pub async fn embedded(bench: Bench) -> Result<Section> {
    let events = bench.events(200_000);
    let mut drained = Drained::default();
    for _ in 0..bench.rounds() {
        in_one_process(&mut drained, events).await?;
    }
    Ok(section("Drain, embedded into SQLite", &drained, events))
}

fn section(title: &'static str, Drained { rate, limit, commits, cpu }: &Drained, events: usize) -> Section {
    let mut table = Table::new(&["events/s", "bulk insert, events/s", "of the bulk insert", "commits/event"]);
    table.row([rate.show(0), limit.show(0), rate.by(limit).show(2), commits.show(3)]);
    let mut times = Table::new(&["processor µs/event", "malote", "RabbitMQ", "PostgreSQL"]);
    times.row([String::new()].into_iter().chain(cpu.iter().map(|figures| figures.show(0))));
    let text = format!(
        "{events} events wait in their queues; then the ledger and the three domain consumers start, and the clock runs \
         until the last event is committed everywhere. Beside it the rows that this made, inserted into empty tables with \
         no queue and no handler: 256 to a statement as `VALUES`, 1,024 to a transaction, all tables at once. On RabbitMQ each \
         consumer is a process of its own."
    );
    Section { title, text, tables: vec![table, times] }
}

async fn on_rabbitmq(
    drained: &mut Drained,
    node: &RabbitMq,
    postgres: &Postgres,
    name: &str,
    events: usize,
) -> Result<()> {
    let mut product = Product::configured(&node.url(name), &postgres.url(name), "")?;
    product.start("ingress", &["ingress"]).await?;
    let requests = mix::requests(&product.poster(), 0..events)?;
    post(product.port("ingress"), requests, 64, Pace::Closed).await?;
    product.terminate("ingress").await?;
    let servers = || -> Result<[Duration; 2]> {
        Ok([cpu(node.pid().context("RabbitMQ")?)?, cpu_of_family(postgres.pid().context("PostgreSQL")?)?])
    };
    let (start, before) = (Instant::now(), servers()?);
    start_consumers(&mut product).await?;
    let batches = all_handled(&product, &CONSUMERS, events).await?;
    drained.rate.add(events as f64 / start.elapsed().as_secs_f64());
    let mut malote = Duration::ZERO;
    for consumer in CONSUMERS {
        malote += cpu(product.pid(consumer))?;
    }
    let [rabbitmq, database] = servers()?;
    let times = [malote, rabbitmq - before[0], database - before[1]];
    for (figures, time) in drained.cpu.iter_mut().zip(times) {
        figures.add(per_event_us(time, events));
    }
    drained.commits.add(batches as f64 / events as f64);
    for consumer in CONSUMERS {
        product.terminate(consumer).await?;
    }
    let written = inserts::open(&postgres.url(name))?;
    let empty = inserts::open(&postgres.url(&format!("{name}_limit")))?;
    drained.limit.add(events as f64 / limit(&written, &empty, events).await?);
    Ok(())
}

async fn in_one_process(drained: &mut Drained, events: usize) -> Result<()> {
    let mut product = Product::configured("embedded", "sqlite", "")?;
    product.set_environment("up", [("MALOTE__STORE__URL".to_owned(), NO_DATABASE.to_owned())]);
    product.start("up", &["up"]).await?;
    let requests = mix::requests(&product.poster(), 0..events)?;
    post(product.port("up"), requests, 64, Pace::Closed).await?;
    product.terminate("up").await?;
    product.set_environment("up", [("MALOTE__STORE__URL".to_owned(), "sqlite".to_owned())]);
    let start = Instant::now();
    product.start("up", &["up"]).await?;
    let batches = all_handled(&product, &["up"], events).await?;
    drained.cpu[0].add(per_event_us(cpu(product.pid("up"))?, events));
    drained.rate.add(events as f64 / start.elapsed().as_secs_f64());
    drained.commits.add(batches as f64 / events as f64);
    product.terminate("up").await?;
    let file = |name: &str| format!("sqlite:{}", product.folder().join(name).display());
    let (written, empty) = (inserts::open(&file("data/store.db"))?, inserts::open(&file("limit.db"))?);
    drained.limit.add(events as f64 / limit(&written, &empty, events).await?);
    Ok(())
}

/// Seconds of the bulk insert. What the consumers wrote must be complete.
async fn limit(written: &Store, empty: &Store, events: usize) -> Result<f64> {
    let count = async |text: &'static str| -> Result<i64> {
        Ok(sql::scalar(text).fetch_one(&mut *written.read().await?).await?)
    };
    let expected = |consumer: &str| {
        let share = TAKEN.iter().find(|(name, _)| *name == consumer).context("a consumer");
        share.map(|(_, share)| (events / ROUND * share) as i64)
    };
    ensure!(count("SELECT count(*) FROM events").await? == expected("ledger")?, "events are missing");
    let handled = expected("receivables")? + expected("invoices")? + expected("prescriptions")?;
    ensure!(count("SELECT count(*) FROM claims").await? == handled, "effects are missing");
    let copies = inserts::read(written).await?;
    let seconds = inserts::insert(empty, copies).await?;
    written.close().await;
    empty.close().await;
    Ok(seconds)
}
