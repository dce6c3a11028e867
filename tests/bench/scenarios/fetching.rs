//! The drain while documents of a provider's API are fetched, beside the same drain without an API.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Receiver, Reply};
use store::{Row, Store, sql};
use tests::consumers;
use tests::product::Product;

use super::{Bench, NO_DATABASE, handled, start_consumers, start_without_database};
use crate::limits::inserts;
use crate::load::{Pace, post};
use crate::mix::{self, ROUND, TAKEN};
use crate::report::{Figures, Section, Table};

/// The API is on this machine.
const SETTINGS: &str = "[outbound]\nallow = [\"127.0.0.0/8\"]\n";

/// An answer to everything that the APIs are asked for: an order, an invoice, and an access token.
const DOCUMENT: &str = r#"{"orderTotal": "395.00", "totalDue": 1234.50, "currency": "BRL",
    "accessToken": "token", "expiresIn": 3600}"#;

/// The limit that Mercado Eletrônico documents, for each minute. Gestão Online documents none.
const LIMIT: u64 = 240;

/// What documents are fetched from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Api {
    /// Nothing is fetched.
    None,
    /// One that allows as many requests as Mercado Eletrônico does.
    Limited,
    /// One that answers at once, however often it is asked.
    Unlimited,
}

/// In this order in each round.
const APIS: [Api; 3] = [Api::None, Api::Limited, Api::Unlimited];

/// The result of the drains beside one API.
#[derive(Clone, Default)]
struct Drained {
    rate: Figures,
    fetched: Figures,
}

/// On RabbitMQ and PostgreSQL, each consumer and the fetching a process of its own.
pub async fn scaled(bench: Bench<'_>) -> Result<Section> {
    let events = bench.events(100_000);
    let servers = bench.servers()?;
    let (node, postgres) = (&servers.rabbitmq, &servers.postgres);
    let mut drained: [Drained; 3] = Default::default();
    for round in 0..bench.rounds() {
        for (at, api) in APIS.into_iter().enumerate() {
            let name = format!("fetching_{round}_{at}");
            node.create_vhost(&name)?;
            postgres.create_database(&name)?;
            let mut product = Product::configured(&node.url(&name), &postgres.url(&name), SETTINGS)?;
            let store = inserts::open(&postgres.url(&name))?;
            let receiver = api.start(&product)?;
            // Makes the tables.
            product.start("ledger", &["ledger"]).await?;
            product.terminate("ledger").await?;
            product.start("ingress", &["ingress"]).await?;
            let requests = mix::requests(&product.poster(), 0..events)?;
            post(product.port("ingress"), requests, 64, Pace::Closed).await?;
            product.terminate("ingress").await?;
            let begun = Begun::now();
            if api != Api::None {
                product.start("documents", &["documents"]).await?;
            }
            start_consumers(&mut product).await?;
            let mut processes = consumers();
            processes.extend((api != Api::None).then_some("documents"));
            let elapsed = begun.until_drained(&product, &processes, &store, events).await?;
            drained[at].add(events, elapsed, &receiver);
            for process in processes {
                product.terminate(process).await?;
            }
            store.close().await;
            node.delete_vhost(&name)?;
        }
    }
    Ok(section("Drain while documents are fetched, RabbitMQ into PostgreSQL", &drained, events))
}

/// In one process.
pub async fn embedded(bench: Bench<'_>) -> Result<Section> {
    let events = bench.events(100_000);
    let mut drained: [Drained; 3] = Default::default();
    for _ in 0..bench.rounds() {
        for (at, api) in APIS.into_iter().enumerate() {
            let mut product = Product::configured("embedded", "sqlite", SETTINGS)?;
            let url = format!("sqlite:{}", product.folder().join("data/store.db").display());
            let receiver = api.start(&product)?;
            // Makes the tables.
            product.start("up", &["up"]).await?;
            product.terminate("up").await?;
            let store = inserts::open(&url)?;
            product.set_environment("up", [("MALOTE__STORE__URL".to_owned(), NO_DATABASE.to_owned())]);
            start_without_database(&mut product).await?;
            let requests = mix::requests(&product.poster(), 0..events)?;
            post(product.port("up"), requests, 64, Pace::Closed).await?;
            product.terminate("up").await?;
            product.set_environment("up", [("MALOTE__STORE__URL".to_owned(), "sqlite".to_owned())]);
            let begun = Begun::now();
            product.start("up", &["up"]).await?;
            let elapsed = begun.until_drained(&product, &["up"], &store, events).await?;
            drained[at].add(events, elapsed, &receiver);
            product.terminate("up").await?;
            store.close().await;
        }
    }
    Ok(section("Drain while documents are fetched, embedded into SQLite", &drained, events))
}

impl Api {
    fn name(self) -> &'static str {
        match self {
            Self::None => "no API",
            Self::Limited => "240 requests a minute are allowed",
            Self::Unlimited => "answers at once, without a limit",
        }
    }

    /// Starts it, and gives it to the sources that name documents.
    fn start(self, product: &Product) -> Result<Receiver> {
        let receiver = Receiver::start()?;
        receiver.only_count();
        if self == Self::None {
            return Ok(receiver);
        }
        let url = receiver.url("");
        product.set_api("go", &format!("{{ base_url = \"{url}\", headers = {{ x-api-key = \"k\" }} }}"))?;
        product.set_api(
            "me",
            &format!("{{ base_url = \"{url}\", client_id = \"c\", client_secret = \"s\" }}"),
        )?;
        let found = Reply::status(200).header("content-type", "application/json").body(DOCUMENT);
        if self == Self::Unlimited {
            receiver.answer(found);
            return Ok(receiver);
        }
        let (start, window) = (Instant::now(), Mutex::new((0, LIMIT)));
        receiver.answer_with(move |_, _| {
            let seconds = start.elapsed().as_secs();
            let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
            if window.0 != seconds / 60 {
                *window = (seconds / 60, LIMIT);
            }
            let headers = |reply: Reply, left: u64| {
                reply
                    .header("ratelimit-remaining", &left.to_string())
                    .header("ratelimit-reset", &(60 - seconds % 60).to_string())
            };
            match window.1.checked_sub(1) {
                Some(left) => {
                    window.1 = left;
                    headers(found.clone(), left)
                }
                None => headers(Reply::status(429), 0),
            }
        });
        Ok(receiver)
    }
}

impl Drained {
    fn add(&mut self, events: usize, elapsed: Duration, receiver: &Receiver) {
        self.rate.add(events as f64 / elapsed.as_secs_f64());
        self.fetched.add(receiver.count() as f64);
    }
}

/// When a drain began.
struct Begun {
    at: Instant,
    on_the_clock: event::Timestamp,
}

impl Begun {
    fn now() -> Self {
        Self { at: Instant::now(), on_the_clock: event::now() }
    }

    /// Waits until everything that was posted is on record and handled. Gives how long that took: the domain events of documents
    /// are handled meanwhile and go on afterwards, and are left out.
    async fn until_drained(
        &self,
        product: &Product,
        processes: &[&str],
        store: &Store,
        events: usize,
    ) -> Result<Duration> {
        let patience = Duration::from_secs(600);
        loop {
            let counts = handled(product, processes).await?;
            if counts.iter().any(|(name, handled, _)| *name == "ledger" && *handled >= events as u64) {
                break;
            }
            ensure!(self.at.elapsed() < patience, "of {events} events the consumers have handled {counts:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let recorded = self.at.elapsed();
        let of_domains = TAKEN.iter().filter(|(name, _)| !["ledger", mix::UNROUTED].contains(name));
        let expected = of_domains.map(|(_, taken)| (events / ROUND * taken) as i64).sum::<i64>();
        loop {
            let (count, last) = claimed(store).await?;
            if count == expected {
                let last = last.context("claims")? - self.on_the_clock.as_microsecond();
                return Ok(recorded.max(Duration::from_micros(u64::try_from(last)?)));
            }
            ensure!(self.at.elapsed() < patience, "{count} of {expected} effects are there");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// How many effects of posted events there are, and when the last one was committed, in microseconds.
async fn claimed(store: &Store) -> Result<(i64, Option<i64>)> {
    let text = "SELECT count(*), max(c.handled_at) FROM claims c JOIN events e ON e.id = c.event_id \
                JOIN origins o ON o.id = e.origin WHERE o.provider <> 'malote'";
    let row = sql::query(text).fetch_one(&mut *store.read().await?).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn section(title: &'static str, drained: &[Drained; 3], events: usize) -> Section {
    let mut table = Table::new(&["API", "events/s", "of the drain without an API", "requests meanwhile"]);
    for (api, each) in APIS.into_iter().zip(drained) {
        let Drained { rate, fetched } = each;
        table.row([api.name().to_owned(), rate.show(0), rate.by(&drained[0].rate).show(2), fetched.show(0)]);
    }
    let text = format!(
        "{events} events wait in their queues, and name a document for each order and invoice, all of which are fetched. The clock \
         runs until the last event that was posted is on record and handled everywhere; fetching goes on afterwards. The API is on \
         the same machine, too. Goal: 0.90."
    );
    Section { title, text, tables: vec![table] }
}
