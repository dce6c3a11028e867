//! The scenarios, each a file, and what they share.

mod build;
mod control;
mod drain;
mod end_to_end;
mod fan_out;
mod fetching;
mod growth;
mod idle;
mod ingress;
mod instructions;
mod pages;
mod pull;
mod push;
mod subscribed;

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use harness::Servers;
use store::{Row, Store, sql};
use tests::product::Product;
use tests::{consumer_command, consumers};

use crate::load::{Pace, post};
use crate::mix::{self, ROUND, TAKEN};
use crate::report::Section;

/// How much is done.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// Only to see that it works.
    pub quick: bool,
    /// How often everything is measured, unless it is only to see that it works.
    pub rounds: usize,
    /// What all scenarios use, if it is only to see that they work.
    pub servers: Option<&'a Servers>,
}

/// The servers of a scenario.
pub enum Held<'a> {
    /// Those of all.
    Shared(&'a Servers),
    /// Its own.
    Own(Box<Servers>),
}

impl Deref for Held<'_> {
    type Target = Servers;

    fn deref(&self) -> &Servers {
        match self {
            Self::Shared(servers) => servers,
            Self::Own(servers) => servers,
        }
    }
}

impl<'a> Bench<'a> {
    /// Servers for a scenario, which names its virtual hosts and databases as no other does.
    pub fn servers(self) -> Result<Held<'a>> {
        match self.servers {
            Some(servers) => Ok(Held::Shared(servers)),
            None => Ok(Held::Own(Box::new(Servers::start()?))),
        }
    }

    /// How often everything is measured.
    pub fn rounds(self) -> usize {
        if self.quick { 1 } else { self.rounds }
    }

    /// So many events, or a few; always whole rounds of the mix.
    pub fn events(self, events: usize) -> usize {
        if self.quick { (events / 100).min(400).next_multiple_of(ROUND) } else { events }
    }
}

type Run = for<'a> fn(Bench<'a>) -> Pin<Box<dyn Future<Output = Result<Section>> + 'a>>;

/// Something that is measured.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// It builds malote from nothing, which takes minutes however few the events are.
    pub builds: bool,
    /// Does it.
    pub run: Run,
}

const fn scenario(name: &'static str, run: Run) -> Scenario {
    Scenario { name, builds: false, run }
}

/// All of them.
pub const ALL: &[Scenario] = &[
    scenario("ingress-rabbitmq", |bench| Box::pin(ingress::rabbitmq(bench))),
    scenario("ingress-embedded", |bench| Box::pin(ingress::embedded(bench))),
    scenario("drain-rabbitmq", |bench| Box::pin(drain::scaled(bench))),
    scenario("drain-embedded", |bench| Box::pin(drain::embedded(bench))),
    scenario("fetching-rabbitmq", |bench| Box::pin(fetching::scaled(bench))),
    scenario("fetching-embedded", |bench| Box::pin(fetching::embedded(bench))),
    scenario("end-to-end-rabbitmq", |bench| Box::pin(end_to_end::scaled(bench))),
    scenario("end-to-end-embedded", |bench| Box::pin(end_to_end::embedded(bench))),
    scenario("growth-rabbitmq", |bench| Box::pin(growth::scaled(bench))),
    scenario("growth-embedded", |bench| Box::pin(growth::embedded(bench))),
    scenario("pages-rabbitmq", |bench| Box::pin(pages::scaled(bench))),
    scenario("pages-embedded", |bench| Box::pin(pages::embedded(bench))),
    scenario("fan-out", |bench| Box::pin(fan_out::run(bench))),
    scenario("pull-rabbitmq", |bench| Box::pin(pull::scaled(bench))),
    scenario("pull-embedded", |bench| Box::pin(pull::embedded(bench))),
    scenario("push", |bench| Box::pin(push::run(bench))),
    scenario("subscribed-rabbitmq", |bench| Box::pin(subscribed::scaled(bench))),
    scenario("subscribed-embedded", |bench| Box::pin(subscribed::embedded(bench))),
    scenario("idle", |bench| Box::pin(idle::run(bench))),
    Scenario { builds: true, ..scenario("build", |bench| Box::pin(build::run(bench))) },
    scenario("instructions", |bench| Box::pin(instructions::run(bench))),
];

/// An address at which no database answers: the consumers of such a product wait.
pub const NO_DATABASE: &str = "postgres://nobody@127.0.0.1:1/none";

/// Starts everything in one process, whose database does not answer, and waits until it can store events. Without its tables it
/// does not get ready.
pub async fn start_without_database(product: &mut Product) -> Result<()> {
    product.launch("up", &["up"])?;
    let begun = Instant::now();
    loop {
        if let Ok(reasons) = product.reasons("up").await
            && reasons["components"]["broker"]["status"] == "up"
        {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(60), "the broker is not up:\n{}", product.output("up"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Settings with which events are pushed to this machine.
pub const PUSHING: &str = "[outbound]\nallow = [\"127.0.0.0/8\"]\n[secrets]\nkey_file = \"secrets-key\"\n";

/// Everything that the mix posts, as the topics of a subscription.
pub const TOPICS: &str = "mercado-eletronico:#,gestao-online:#,recuperador:#,beneficio-visao:#";

/// Starts the consumers, each as a process.
pub async fn start_consumers(product: &mut Product) -> Result<()> {
    for consumer in consumers() {
        product.start(consumer, &consumer_command(consumer)).await?;
    }
    Ok(())
}

/// How many of the events that were posted each consumer of these processes has handled so far, and in how many transactions.
/// The ledger handles the domain events of the others, too.
pub async fn handled(product: &Product, processes: &[&str]) -> Result<Vec<(&'static str, u64, u64)>> {
    let mut text = String::new();
    for process in processes {
        text += &product.metrics(process).await?;
    }
    let sum = |name: &str, labels: &str| {
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    };
    let counts = |consumer: &'static str| {
        let handled = format!("{{consumer=\"{consumer}\",outcome=\"handled\"}}");
        let batches = format!("{{consumer=\"{consumer}\"}}");
        let announced = if consumer == "ledger" { sum("outbox_published_total", "") } else { 0 };
        let handled = sum("consumer_events_total", &handled).saturating_sub(announced);
        (consumer, handled, sum("consumer_batches_total", &batches))
    };
    Ok(TAKEN.keys().copied().map(counts).collect())
}

/// Waits until each consumer has handled its share of so many events. Gives the transactions that took.
pub async fn all_handled(product: &Product, processes: &[&str], events: usize) -> Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        let counts = handled(product, processes).await?;
        let is_done =
            counts.iter().all(|(consumer, handled, _)| *handled >= (events / ROUND * TAKEN[consumer]) as u64);
        if is_done {
            return Ok(counts.iter().map(|(_, _, batches)| batches).sum());
        }
        if Instant::now() > deadline {
            bail!("of {events} events the consumers have handled {counts:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the broker has confirmed every domain event.
pub async fn published(store: &Store) -> Result<()> {
    let begun = Instant::now();
    loop {
        let count = sql::query("SELECT count(*) FROM outbox");
        let waiting: i64 = count.fetch_one(&mut *store.read().await?).await?.try_get(0)?;
        if waiting == 0 {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(600), "{waiting} domain events wait");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Posts so many events, and waits until they are on record and nothing else works on them.
pub async fn record(product: &Product, ingress: &str, store: &Store, events: usize) -> Result<()> {
    let requests = mix::requests(&product.poster(), 0..events)?;
    post(product.port(ingress), requests, 64, Pace::Closed).await?;
    if ingress == "up" {
        all_handled(product, &["up"], events).await?;
        return published(store).await;
    }
    // The record alone: no other consumer runs on RabbitMQ.
    let begun = Instant::now();
    loop {
        let count = sql::query("SELECT count(*) FROM events");
        let recorded: i64 = count.fetch_one(&mut *store.read().await?).await?.try_get(0)?;
        if recorded >= events as i64 {
            break;
        }
        ensure!(begun.elapsed() < Duration::from_secs(600), "{recorded} of {events} events are recorded");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What autovacuum does within a minute of such growth.
    sql::query("ANALYZE events").execute(&mut *store.read().await?).await?;
    Ok(())
}

/// Posts events over 64 connections, the first of this number, and waits until all that were posted are handled. Gives the
/// answers and the committed events a second.
pub async fn rates(
    product: &Product,
    (ingress, consumers): (&str, &[&str]),
    posted: &mut usize,
    first: usize,
    events: usize,
) -> Result<(f64, f64)> {
    let requests = mix::requests(&product.poster(), first..first + events)?;
    *posted += events;
    let start = Instant::now();
    let answered = post(product.port(ingress), requests, 64, Pace::Closed).await?;
    all_handled(product, consumers, *posted).await?;
    Ok((answered.rate(), events as f64 / start.elapsed().as_secs_f64()))
}

/// Microseconds of processor time for each of so many events.
pub fn per_event_us(time: Duration, events: usize) -> f64 {
    time.as_secs_f64() * 1e6 / events as f64
}
