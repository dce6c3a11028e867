//! Pushes to a receiver on loopback, beside the same HTTP client that sends the same requests from memory.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Postgres, RabbitMq, Received, Receiver};
use outbound::{Client, Config, Credentials, Request};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName};
use store::{Row, Store, sql};
use tests::product::Product;
use tests::usage::{cpu, cpu_of_family};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Bench, PUSHING, TOPICS, per_event_us, record};
use crate::limits::inserts;
use crate::report::{Figures, Section, Table};

/// How many requests are under way at once.
const CONCURRENCY: usize = 64;

/// What is asked of the figures.
const GOALS: &str = "5,000 pushes/s, and 0.60 of the client";

/// The longest time without a request.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured of an installation.
#[derive(Default)]
struct Pushed {
    rate: Figures,
    limit: Figures,
    /// Microseconds of processor time for each push: malote's, PostgreSQL's.
    cpu: [Figures; 2],
}

/// An installation that has events on record.
struct Side {
    product: Product,
    /// The process that pushes.
    pusher: &'static str,
    store: Store,
    postgres: Option<u32>,
}

/// On PostgreSQL, in a process of its own; and in one process with everything else.
pub async fn run(bench: Bench<'_>) -> Result<Section> {
    let events = bench.events(40_000);
    let mut table = Table::new(&[
        "installation",
        "pushes/s",
        "client from memory, requests/s",
        "of that",
        "malote, processor µs/push",
        "PostgreSQL, processor µs/push",
    ]);
    let servers = bench.servers()?;
    let (node, postgres) = (&servers.rabbitmq, &servers.postgres);
    for (name, side) in [
        ("PostgreSQL", scaled(node, postgres, events).await?),
        ("SQLite, all in one process", embedded(events).await?),
    ] {
        let Pushed { rate, limit, cpu } = side.measure(bench, events).await?;
        let [malote, database] = cpu.map(|figures| figures.show(0));
        table.row([name.to_owned(), rate.show(0), limit.show(0), rate.by(&limit).show(2), malote, database]);
    }
    let text = format!(
        "{events} events on record are pushed to a receiver on the same machine, which answers 200 at once: signed, each in a \
         request of its own, {CONCURRENCY} at a time, every attempt recorded. The rate is that between the first and the last \
         request. Beside it the client that malote pushes with, which sends what was pushed before from memory, as many at a \
         time, to the same receiver. Goals: {GOALS}."
    );
    Ok(Section { title: "Push", text, tables: vec![table] })
}

async fn scaled(node: &RabbitMq, postgres: &Postgres, events: usize) -> Result<Side> {
    node.create_vhost("push")?;
    postgres.create_database("push")?;
    let mut product = Product::configured(&node.url("push"), &postgres.url("push"), PUSHING)?;
    for role in ["console", "ingress", "ledger"] {
        product.start(role, &[role]).await?;
    }
    let store = inserts::open(&postgres.url("push"))?;
    record(&product, "ingress", &store, events).await?;
    for role in ["ingress", "ledger"] {
        product.terminate(role).await?;
    }
    product.start("subscriptions", &["subscriptions"]).await?;
    Ok(Side { product, pusher: "subscriptions", store, postgres: postgres.pid() })
}

async fn embedded(events: usize) -> Result<Side> {
    let mut product = Product::configured("embedded", "sqlite", PUSHING)?;
    product.start("up", &["up"]).await?;
    let store = inserts::open(&format!("sqlite:{}", product.folder().join("data/store.db").display()))?;
    record(&product, "up", &store, events).await?;
    Ok(Side { product, pusher: "up", store, postgres: None })
}

impl Side {
    async fn measure(&self, bench: Bench<'_>, events: usize) -> Result<Pushed> {
        let receiver = Receiver::start()?;
        let (url, concurrency) = (receiver.url("/events"), CONCURRENCY.to_string());
        let command =
            ["subscriptions", "add", "receiver", "--push", &url, "--topics", TOPICS, "--begin", "beginning"];
        self.product.run(&[&command[..], &["--concurrency", &concurrency]].concat())?;
        received(&receiver, events).await?;
        let requests = receiver.requests();
        let ids: HashSet<_> = requests.iter().filter_map(|request| request.header("webhook-id")).collect();
        ensure!(ids.len() == events, "{} of {events} events were pushed", ids.len());
        let requests = requests.iter().map(|received| request(&receiver, received));
        let requests = Arc::new(requests.collect::<Result<Vec<_>>>()?);
        receiver.only_count();
        let mut pushed = Pushed::default();
        for _ in 0..bench.rounds() {
            self.push(&receiver, events, &mut pushed).await?;
            pushed.limit.add(send(&requests).await?);
        }
        // The last attempts are written a moment after their answers.
        let (begun, pushes) = (Instant::now(), (1 + bench.rounds()) * events);
        while self.attempts().await? != i64::try_from(pushes)? {
            ensure!(begun.elapsed() < PATIENCE, "{} of {pushes} attempts", self.attempts().await?);
            sleep(Duration::from_millis(50)).await;
        }
        Ok(pushed)
    }

    /// Pushes everything once more.
    async fn push(&self, receiver: &Receiver, events: usize, pushed: &mut Pushed) -> Result<()> {
        let before = receiver.count();
        let usage = || -> Result<[Duration; 2]> {
            let database = self.postgres.map(cpu_of_family).transpose()?.unwrap_or_default();
            Ok([cpu(self.product.pid(self.pusher))?, database])
        };
        let used = usage()?;
        self.product.run(&["subscriptions", "seek", "receiver", "--to", "beginning", "--yes"])?;
        received(receiver, before + 1).await?;
        let (first, start) = (receiver.count(), Instant::now());
        received(receiver, before + events).await?;
        pushed.rate.add((before + events - first) as f64 / start.elapsed().as_secs_f64());
        let times = usage()?.into_iter().zip(used).map(|(now, before)| now - before);
        // What did not run takes none.
        for (figures, time) in pushed.cpu.iter_mut().zip(times).filter(|(_, time)| !time.is_zero()) {
            figures.add(per_event_us(time, events));
        }
        Ok(())
    }

    async fn attempts(&self) -> Result<i64> {
        let count = sql::query("SELECT count(*) FROM delivery_attempts");
        Ok(count.fetch_one(&mut *self.store.read().await?).await?.try_get(0)?)
    }
}

/// Waits until so many requests have come.
async fn received(receiver: &Receiver, count: usize) -> Result<()> {
    let (mut last, mut since) = (receiver.count(), Instant::now());
    while last < count {
        // A waiter that is woken by each request would take part of the processors.
        sleep(Duration::from_millis(1)).await;
        let now = receiver.count();
        if now > last {
            (last, since) = (now, Instant::now());
        }
        ensure!(since.elapsed() < PATIENCE, "{last} of {count} requests have come");
    }
    Ok(())
}

/// The request that was received, to be sent again.
fn request(receiver: &Receiver, received: &Received) -> Result<Request> {
    let mut headers = HeaderMap::new();
    let own = |name: &str| !matches!(name, "host" | "content-length");
    for (name, value) in received.headers.iter().filter(|(name, _)| own(name)) {
        headers.append(name.parse::<HeaderName>()?, value.parse()?);
    }
    Ok(Request {
        method: Method::POST,
        url: receiver.url(&received.target).parse().context("the receiver's address")?,
        headers,
        body: received.body.clone().into(),
        timeout: PATIENCE,
        max_answer: 4 << 10,
    })
}

/// Sends every request once. Gives the requests per second.
async fn send(requests: &Arc<Vec<Request>>) -> Result<f64> {
    let client = Client::new(&Config { allow: vec!["127.0.0.0/8".parse()?], ..Config::default() });
    let (start, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut senders = JoinSet::new();
    for _ in 0..CONCURRENCY {
        let (client, requests, next) = (client.clone(), Arc::clone(requests), Arc::clone(&next));
        senders.spawn(async move {
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let answer = client.send(request.clone(), &Credentials::None).await?;
                ensure!(answer.status.is_success(), "{}", answer.status);
            }
            Ok(())
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    Ok(requests.len() as f64 / start.elapsed().as_secs_f64())
}
