//! The fault suite: every part is broken under load, and then everything that was answered 2xx is counted.
//!
//! Rows run one after another. In its short form each posts some hundred events; `cargo xtask test --faults` posts 10,000
//! in each and writes the table of `docs/reliability.md`.

mod books;
mod endpoints;
mod fetches;
mod load;
mod pushes;
mod recovery;
mod rows;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::books::{Account, Books};
use self::fetches::Fetches;
use self::load::{Load, Posted};
use self::pushes::Pushes;
use crate::product::Product;

/// Whether the suite runs in its full form.
fn is_full() -> bool {
    tests::full_faults().is_some()
}

/// How many events a row posts, and over which time.
fn size() -> (usize, Duration) {
    if is_full() { (10_000, Duration::from_secs(15)) } else { (600, Duration::from_secs(3)) }
}

/// How often a consumer was handed an event that it had handled, as far as processes that still run tell.
async fn duplicates(product: &Product) -> u64 {
    let mut sum = 0.0;
    for name in product.running() {
        let text = product.metrics(&name).await.unwrap_or_default();
        let lines = text.lines().filter(|line| {
            line.starts_with("consumer_events_total{") && line.contains("outcome=\"duplicate\"")
        });
        sum += lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
    }
    sum as u64
}

/// The columns of the table.
struct Line {
    name: &'static str,
    account: Account,
    duplicates: u64,
    /// Of a row that pushes.
    pushed: Option<pushes::Account>,
    /// Of a row that fetches documents.
    fetched: Option<fetches::Account>,
}

impl Line {
    fn is_clean(&self) -> bool {
        self.account.is_clean()
            && self.pushed.as_ref().is_none_or(pushes::Account::is_clean)
            && self.fetched.as_ref().is_none_or(fetches::Account::is_clean)
    }
}

/// A product under load, in one row.
struct Trial {
    product: Product,
    books: Books,
    load: Load,
    /// Every ingress that is posted to.
    ingresses: Vec<String>,
    /// What is pushed meanwhile.
    pushes: Option<Pushes>,
    /// What is fetched meanwhile.
    fetches: Option<Fetches>,
    /// What has to outlive the row.
    kept: Option<Box<dyn std::any::Any>>,
}

impl Trial {
    /// Puts a product under load whose tables are there.
    async fn start(product: Product, store_url: &str) -> Result<Self> {
        let ingresses = vec![product.ingress.clone()];
        Self::start_at(product, store_url, ingresses).await
    }

    async fn start_at(product: Product, store_url: &str, ingresses: Vec<String>) -> Result<Self> {
        let books = Books::open(store_url, &product.folder().join("data"))?;
        books.watch_effects().await?;
        let (count, time) = size();
        let load = Load::start(&product.poster(), &ingresses, 0, count, time);
        Ok(Self { product, books, load, ingresses, pushes: None, fetches: None, kept: None })
    }

    /// Waits for the load, posts a little more to see that everything is back, and counts.
    async fn account(self, name: &'static str) -> Result<Line> {
        let Self { product, books, load, ingresses, pushes, fetches, kept: _kept } = self;
        let mut posted = load.end().await?;
        let after = Load::start(&product.poster(), &ingresses, 1_000_000, 40, Duration::from_millis(200));
        let Posted { accepted, sent } = after.end().await?;
        posted.accepted.extend(accepted);
        posted.sent += sent;
        // First: each document that comes is booked, and announces what that changes.
        let fetched = match &fetches {
            Some(fetches) => Some(fetches.account(&posted).await?),
            None => None,
        };
        let account = books.account(&posted).await?;
        let pushed = match &pushes {
            Some(pushes) => Some(pushes.account(&posted).await?),
            None => None,
        };
        let duplicates = duplicates(&product).await;
        let line = Line { name, account, duplicates, pushed, fetched };
        if !line.is_clean() {
            eprintln!("{}", product.run(&["queues"]).unwrap_or_else(|error| format!("{error:#}")));
            for name in product.running() {
                let output = product.output(&name);
                let tail: Vec<&str> = output.lines().rev().take(15).collect();
                eprintln!("--- {name}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
        balanced(&product).await?;
        Ok(line)
    }
}

/// The books must balance, as an operator would see it.
async fn balanced(product: &Product) -> Result<()> {
    let output = product.command(&["reconcile"])?.output()?;
    let printed = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&printed));
    Ok(())
}

fn table(lines: &[Line]) -> String {
    let mut text = String::from(
        "| what was done, under load | sent | answered 2xx | in the ledger | booked | lost | came twice | effects twice | domain events | missing or twice |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for Line { name, account, duplicates, .. } in lines {
        let Account { sent, accepted, ledger, domain, lost, twice, announced, misannounced, .. } = account;
        writeln!(
            text,
            "| {name} | {sent} | {accepted} | {ledger} | {domain} | {lost} | {duplicates} | {twice} | {announced} | {misannounced} |"
        )
        .expect("a string takes everything");
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_lose_nothing_and_do_nothing_twice() -> Result<()> {
    let servers = rows::Servers::start()?;
    let mut lines = Vec::new();
    let mut failures = BTreeMap::new();
    for row in rows::ALL {
        let started = std::time::Instant::now();
        match (row.run)(&servers).await.with_context(|| row.name) {
            Ok(line) => {
                if !line.is_clean() {
                    failures
                        .insert(row.name, format!("{:?} {:?} {:?}", line.account, line.pushed, line.fetched));
                }
                lines.push(line);
            }
            Err(error) => drop(failures.insert(row.name, format!("{error:#}"))),
        }
        eprintln!("{:>5.1} s  {}", started.elapsed().as_secs_f64(), row.name);
    }
    let table = table(&lines);
    let pushed = pushes::table(lines.iter().filter_map(|line| Some((line.name, line.pushed.as_ref()?))));
    let fetched = fetches::table(lines.iter().filter_map(|line| Some((line.name, line.fetched.as_ref()?))));
    println!("{table}\n{pushed}\n{fetched}");
    if let Some(folder) = tests::full_faults() {
        std::fs::write(folder.join("faults.md"), &table)?;
        std::fs::write(folder.join("pushes.md"), &pushed)?;
        std::fs::write(folder.join("fetches.md"), &fetched)?;
    }
    ensure!(failures.is_empty(), "{failures:#?}\n{table}\n{pushed}\n{fetched}");
    ensure!(lines.len() == rows::ALL.len(), "a row is missing");
    Ok(())
}
