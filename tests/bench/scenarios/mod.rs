//! The scenarios, each a file, and what they share.

mod build;
mod drain;
mod end_to_end;
mod fan_out;
mod growth;
mod idle;
mod ingress;
mod instructions;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tests::product::Product;

use crate::mix::{ROUND, TAKEN};
use crate::report::Section;

/// How much is done.
#[derive(Clone, Copy)]
pub struct Bench {
    /// Only to see that it works.
    pub quick: bool,
    /// How often everything is measured, unless it is only to see that it works.
    pub rounds: usize,
}

impl Bench {
    /// How often everything is measured.
    pub fn rounds(self) -> usize {
        if self.quick { 1 } else { self.rounds }
    }

    /// So many events, or a few; always whole rounds of the mix.
    pub fn events(self, events: usize) -> usize {
        if self.quick { (events / 100).min(400).next_multiple_of(ROUND) } else { events }
    }
}

type Run = fn(Bench) -> Pin<Box<dyn Future<Output = Result<Section>>>>;

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
    scenario("end-to-end-rabbitmq", |bench| Box::pin(end_to_end::scaled(bench))),
    scenario("end-to-end-embedded", |bench| Box::pin(end_to_end::embedded(bench))),
    scenario("growth-rabbitmq", |bench| Box::pin(growth::scaled(bench))),
    scenario("growth-embedded", |bench| Box::pin(growth::embedded(bench))),
    scenario("fan-out", |bench| Box::pin(fan_out::run(bench))),
    scenario("idle", |bench| Box::pin(idle::run(bench))),
    Scenario { builds: true, ..scenario("build", |bench| Box::pin(build::run(bench))) },
    scenario("instructions", |bench| Box::pin(instructions::run(bench))),
];

/// An address at which no database answers: the consumers of such a product wait.
pub const NO_DATABASE: &str = "postgres://nobody@127.0.0.1:1/none";

/// The consumers of a scaled product, each a process.
pub const CONSUMERS: [&str; 4] = ["ledger", "receivables", "invoices", "prescriptions"];

/// Starts the consumers, each as a process.
pub async fn start_consumers(product: &mut Product) -> Result<()> {
    for consumer in CONSUMERS {
        match consumer {
            "ledger" => product.start(consumer, &["ledger"]).await?,
            _ => product.start(consumer, &["consume", consumer]).await?,
        }
    }
    Ok(())
}

/// How many events each consumer of these processes has handled so far, and in how many transactions.
pub async fn handled(product: &Product, processes: &[&str]) -> Result<Vec<(&'static str, u64, u64)>> {
    let mut text = String::new();
    for process in processes {
        text += &product.metrics(process).await?;
    }
    let sum = |name: &str, labels: &str| {
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    };
    let of = |(consumer, _): &(&'static str, usize)| {
        let handled = format!("{{consumer=\"{consumer}\",outcome=\"handled\"}}");
        let batches = format!("{{consumer=\"{consumer}\"}}");
        (*consumer, sum("consumer_events_total", &handled), sum("consumer_batches_total", &batches))
    };
    Ok(TAKEN.iter().map(of).collect())
}

/// Waits until each consumer has handled its share of so many events. Gives the transactions that took.
pub async fn all_handled(product: &Product, processes: &[&str], events: usize) -> Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        let counts = handled(product, processes).await?;
        let is_done = counts
            .iter()
            .zip(TAKEN)
            .all(|((_, handled, _), (_, share))| *handled >= (events / ROUND * share) as u64);
        if is_done {
            return Ok(counts.iter().map(|(_, _, batches)| batches).sum());
        }
        if Instant::now() > deadline {
            bail!("of {events} events the consumers have handled {counts:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Microseconds of processor time for each of so many events.
pub fn per_event_us(time: Duration, events: usize) -> f64 {
    time.as_secs_f64() * 1e6 / events as f64
}
