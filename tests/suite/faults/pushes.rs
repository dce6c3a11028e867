//! Push subscriptions of a product under load: what came to their endpoints, and what is on record of it.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use event::EventId;
use store::{Config, Row, Store, sql};
use tokio::time::{Instant, sleep};

use super::load::Posted;
use crate::product::Product;
use crate::pushes::Endpoint;

/// How long the last event may take to come, once what was broken is back.
const SETTLING: Duration = Duration::from_secs(180);

/// The replicas of the role.
pub const REPLICAS: [&str; 2] = ["subscriptions-1", "subscriptions-2"];

/// Settings with which they reach the endpoints.
pub const SETTINGS: &str = "[outbound]\nallow = [\"127.0.0.0/8\"]\n[secrets]\nkey_file = \"secrets-key\"\n";

/// Every event that is posted.
const TOPICS: &str = "gestao-online:#,recuperador:#,beneficio-visao:#,mercado-eletronico:#";

/// The subscriptions, and what they ask for besides; the last one's endpoint refuses one request in seven.
const SUBSCRIPTIONS: [(&str, &[&str]); 3] =
    [("plain", &[]), ("ordered", &["--order", "subject"]), ("refusing", &[])];

/// What a request that was under way is cut off by: the time from just before it until requests are sent again.
type Cut = (SystemTime, SystemTime);

/// What is pushed while something is broken.
pub struct Pushes {
    endpoints: Vec<(&'static str, Endpoint)>,
    store: Store,
    cuts: Vec<Cut>,
}

/// The result of one fault.
#[derive(Debug)]
pub struct Account {
    /// Events that were answered 2xx, once for each subscription.
    due: usize,
    /// Those that no endpoint has accepted.
    missing: usize,
    requests: usize,
    attempts: usize,
    /// Requests that are not on record since they were under way when something ended.
    cut_off: usize,
    /// Requests that are not on record for no such reason, and attempts without a request.
    unexplained: usize,
}

impl Account {
    pub fn is_clean(&self) -> bool {
        (self.missing, self.unexplained) == (0, 0)
    }
}

impl Pushes {
    /// Starts the endpoints, subscribes them, and starts the replicas. The console runs.
    pub async fn start(product: &mut Product, store_url: &str) -> Result<Self> {
        let config = Config { max_connections: 2, acquire_timeout_ms: 10_000, ..Config::new(store_url) };
        let store = Store::open(&config, Path::new("."))?;
        let retry = ["200ms"; 30].join(",");
        let mut endpoints = Vec::new();
        for (name, options) in SUBSCRIPTIONS {
            let endpoint = Endpoint::start()?;
            let url = endpoint.url();
            let command =
                ["subscriptions", "add", name, "--push", &url, "--topics", TOPICS, "--retry", &retry];
            product.run(&[&command[..], options].concat())?;
            endpoints.push((name, endpoint));
        }
        let (_, refusing) = endpoints.last().context("there are three")?;
        refusing.answer(Duration::ZERO, |number| if number % 7 == 3 { 500 } else { 200 });
        for replica in REPLICAS {
            product.start(replica, &["subscriptions"]).await?;
        }
        Ok(Self { endpoints, store, cuts: Vec::new() })
    }

    /// Requests that were under way at a time, and what was not written yet, are not on record.
    pub fn cut(&mut self, from: SystemTime, until: SystemTime) {
        // Attempts wait for 25 ms, and then for a transaction under load.
        self.cuts.push((from - Duration::from_secs(2), until + Duration::from_secs(1)));
    }

    /// The account, once every event has come and every attempt is written.
    pub async fn account(&self, posted: &Posted) -> Result<Account> {
        let due: Vec<EventId> =
            posted.accepted.iter().map(|event| Ok(event.id.parse()?)).collect::<Result<_>>()?;
        let begun = Instant::now();
        let mut before = None;
        loop {
            let now = self.count(&due).await?;
            // Twice in a row: a request that has come may not be on record yet.
            if now.missing == 0 && before == Some(now.requests) && now.unexplained == 0 {
                return Ok(now);
            }
            if begun.elapsed() > SETTLING {
                return Ok(now);
            }
            before = Some(now.requests);
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// How many attempts of a subscription are on record for each event.
    async fn attempts(&self, subscription: &str) -> Result<BTreeMap<EventId, usize>> {
        let statement = "SELECT a.event_id, count(*) FROM delivery_attempts a JOIN subscriptions s ON s.id = a.subscription \
                         WHERE s.name = $1 GROUP BY a.event_id";
        let query = sql::query(statement).bind(subscription.to_owned());
        let rows = query.fetch_all(&mut *self.store.read().await?).await?;
        let row = |row| Ok((store::id(row, 0)?, usize::try_from(row.try_get::<i64, _>(1)?)?));
        rows.iter().map(row).collect()
    }

    async fn count(&self, due: &[EventId]) -> Result<Account> {
        let mut account = Account {
            due: due.len() * self.endpoints.len(),
            missing: 0,
            requests: 0,
            attempts: 0,
            cut_off: 0,
            unexplained: 0,
        };
        for (name, endpoint) in &self.endpoints {
            let attempts = self.attempts(name).await?;
            account.attempts += attempts.values().sum::<usize>();
            let mut requests: BTreeMap<EventId, Requests> = BTreeMap::new();
            let mut accepted = HashSet::new();
            for came in endpoint.came().iter() {
                let is_cut = self.cuts.iter().any(|(from, until)| (*from..*until).contains(&came.at));
                let of_event = requests.entry(came.id).or_default();
                of_event.all += 1;
                of_event.cut += usize::from(is_cut);
                if came.is_accepted {
                    accepted.insert(came.id);
                }
                account.requests += 1;
            }
            account.missing += due.iter().filter(|id| !accepted.contains(*id)).count();
            for (id, Requests { all, cut }) in &requests {
                let recorded = attempts.get(id).copied().unwrap_or(0);
                let (lost, more) = (all.saturating_sub(recorded), recorded.saturating_sub(*all));
                account.cut_off += lost.min(*cut);
                account.unexplained += lost.saturating_sub(*cut) + more;
            }
            let without = attempts.iter().filter(|(id, _)| !requests.contains_key(id));
            account.unexplained += without.map(|(_, count)| count).sum::<usize>();
        }
        let Account { requests, attempts, cut_off, unexplained, .. } = account;
        ensure!(
            unexplained > 0 || requests == attempts + cut_off,
            "{requests} requests, {attempts} attempts, {cut_off} cut off"
        );
        Ok(account)
    }
}

/// The requests with one event to one endpoint.
#[derive(Default)]
struct Requests {
    all: usize,
    /// Those that came when something cut requests off.
    cut: usize,
}

/// The table of these accounts.
pub fn table<'a>(lines: impl IntoIterator<Item = (&'a str, &'a Account)>) -> String {
    let mut text = String::from(
        "| what was done, under load | pushes due | missing | requests | attempts on record | cut off | unexplained |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (name, Account { due, missing, requests, attempts, cut_off, unexplained }) in lines {
        writeln!(
            text,
            "| {name} | {due} | {missing} | {requests} | {attempts} | {cut_off} | {unexplained} |"
        )
        .expect("a string takes everything");
    }
    text
}
