//! Documents that the events of a product under load name, fetched from an API that fails: each is there in the end, and once.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Receiver, Reply};
use store::{Config, Row, Store, sql};
use tokio::time::{Instant, sleep};

use super::load::Posted;
use crate::product::{PATIENCE, Product};

/// How long the last document may take, once the API works: a lease has to end, or a probe of the breaker is due.
const SETTLING: Duration = Duration::from_secs(180);

/// The replicas of the role.
pub const REPLICAS: [&str; 2] = ["documents-1", "documents-2"];

/// Settings with which they reach the API, and notice within a second that it hangs.
pub const SETTINGS: &str = "[outbound]\nallow = [\"127.0.0.0/8\"]\n[documents]\ntimeout_ms = 1000\n";

/// The API of the orders of the load.
pub struct Fetches {
    api: Option<Receiver>,
    port: u16,
    store: Store,
}

/// The result of one fault.
#[derive(Debug)]
pub struct Account {
    /// Orders that accepted events name.
    named: usize,
    /// Those whose document is not there.
    missing: usize,
    /// Versions beyond the first, although the API answers the same.
    twice: i64,
    /// Documents that are announced.
    announced: i64,
}

impl Account {
    pub fn is_clean(&self) -> bool {
        (self.missing, self.twice) == (0, 0) && usize::try_from(self.announced) == Ok(self.named)
    }
}

/// What the API answers while it works: slowly enough that a kill cuts requests off.
fn document() -> Reply {
    let found = Reply::status(200).header("content-type", "application/json");
    found.body(r#"{"orderTotal": "395.00"}"#).after(Duration::from_millis(10))
}

impl Fetches {
    /// The API of a product that is configured and not started.
    pub fn prepare(product: &Product, store_url: &str) -> Result<Self> {
        let config = Config { max_connections: 2, acquire_timeout_ms: 10_000, ..Config::new(store_url) };
        let api = Receiver::start()?;
        api.answer(document());
        let url = api.url("");
        product.set_api("go", &format!("{{ base_url = \"{url}\", headers = {{ x-api-key = \"k\" }} }}"))?;
        Ok(Self { port: api.port(), api: Some(api), store: Store::open(&config, Path::new("."))? })
    }

    /// Has the API answer so from now on, and waits until it has: one that hangs, and one that is broken.
    pub async fn fail(&self, reply: Reply) -> Result<()> {
        let api = self.api.as_ref().context("the API is down")?;
        let before = api.count();
        api.answer(reply);
        let started = Instant::now();
        while api.count() == before {
            ensure!(started.elapsed() < PATIENCE, "nothing is fetched");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Refuses connections.
    pub fn stop(&mut self) {
        self.api = None;
    }

    /// Works again.
    pub fn restart(&mut self) -> Result<()> {
        let api = Receiver::start_at(self.port)?;
        api.answer(document());
        self.api = Some(api);
        Ok(())
    }

    /// The replica that fetches, once one does.
    pub async fn fetching(&self, product: &Product) -> Result<&'static str> {
        let started = Instant::now();
        loop {
            let fetches = |name: &&str| product.output(name).contains("fetches the documents of a source");
            if let Some(name) = REPLICAS.into_iter().find(fetches) {
                return Ok(name);
            }
            ensure!(started.elapsed() < PATIENCE, "no replica fetches");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The account, once every document is there and announced.
    pub async fn account(&self, posted: &Posted) -> Result<Account> {
        let of_orders =
            posted.accepted.iter().filter(|event| ["receivables", "invoices"].contains(&event.table));
        let named: BTreeSet<&str> = of_orders.map(|event| event.key.as_str()).collect();
        let started = Instant::now();
        loop {
            let now = self.count(&named).await?;
            if now.is_clean() || started.elapsed() > SETTLING {
                return Ok(now);
            }
            sleep(Duration::from_millis(250)).await;
        }
    }

    async fn count(&self, named: &BTreeSet<&str>) -> Result<Account> {
        let mut connection = self.store.read().await?;
        let fetched = "SELECT external_id FROM documents WHERE state = 'fetched'";
        let rows = sql::query(fetched).fetch_all(&mut *connection).await?;
        let fetched = rows.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<String>, _>>()?;
        let twice = "SELECT count(*) - count(DISTINCT document) FROM document_versions";
        let announced = "SELECT count(*) FROM events e JOIN origins o ON o.id = e.origin \
                         WHERE o.provider = 'malote' AND o.topic = 'order.fetched'";
        Ok(Account {
            named: named.len(),
            missing: named.iter().filter(|code| !fetched.contains(**code)).count(),
            twice: sql::scalar(twice).fetch_one(&mut *connection).await?,
            announced: sql::scalar(announced).fetch_one(&mut *connection).await?,
        })
    }
}

/// The table of these accounts.
pub fn table<'a>(lines: impl IntoIterator<Item = (&'a str, &'a Account)>) -> String {
    let mut text = String::from(
        "| what was done, under load | documents named | missing | kept twice | announced |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for (name, Account { named, missing, twice, announced }) in lines {
        writeln!(text, "| {name} | {named} | {missing} | {twice} | {announced} |")
            .expect("a string takes everything");
    }
    text
}
