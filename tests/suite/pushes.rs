//! Push subscriptions, delivered by processes on PostgreSQL to endpoints that tests can break and heal.

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use event::EventId;
use harness::{Receiver, Reply};
use store::many::fetch;
use store::{Config, Row, Store};
use subscriptions::laws::{declaration, record, seal};
use subscriptions::{Order, Push, Secrets, Seek, Wait, add};
use tempfile::TempDir;

use crate::product::{PATIENCE, Product};

/// A receiver that keeps of each request only what tests ask about.
pub struct Endpoint {
    receiver: Receiver,
    log: Arc<Mutex<Vec<Came>>>,
}

/// A request that came.
#[derive(Clone, Copy)]
pub struct Came {
    /// Its event.
    pub id: EventId,
    /// When its last byte came.
    pub at: SystemTime,
    /// Whether it was answered 200.
    pub is_accepted: bool,
}

impl Endpoint {
    /// On a free port; answers 200 at once.
    pub fn start() -> Result<Self> {
        Ok(Self::logged(Receiver::start()?))
    }

    /// At the port of one that was dropped.
    pub fn start_at(port: u16) -> Result<Self> {
        Ok(Self::logged(Receiver::start_at(port)?))
    }

    fn logged(receiver: Receiver) -> Self {
        receiver.only_count();
        let endpoint = Self { receiver, log: Arc::default() };
        endpoint.answer(Duration::ZERO, |_| 200);
        endpoint
    }

    /// Answers from now on after this time, with the status for the number of each request.
    pub fn answer(&self, after: Duration, status: impl Fn(usize) -> u16 + Send + Sync + 'static) {
        let log = Arc::clone(&self.log);
        self.receiver.answer_with(move |received, number| {
            let status = status(number);
            let id = received.header("webhook-id").and_then(|id| id.parse().ok());
            let id = id.expect("every request has the id of its event");
            let came = Came { id, at: received.at, is_accepted: status == 200 };
            log.lock().unwrap_or_else(PoisonError::into_inner).push(came);
            Reply::status(status).after(after)
        });
    }

    pub fn port(&self) -> u16 {
        self.receiver.port()
    }

    pub fn url(&self) -> String {
        self.receiver.url("/")
    }

    pub fn count(&self) -> usize {
        self.receiver.count()
    }

    /// Every request so far.
    pub fn came(&self) -> MutexGuard<'_, Vec<Came>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many requests have come.
    pub async fn reached(&self, count: usize) -> Result<()> {
        let within = 2 * PATIENCE;
        ensure!(self.receiver.wait_for(count, within).await, "{} of {count} requests", self.count());
        Ok(())
    }

    /// Waits until each of these events was accepted; gives when the last one came first.
    pub async fn wait_for(&self, wanted: &[EventId]) -> Result<SystemTime> {
        let (mut accepted, mut seen) = (HashMap::new(), 0);
        let mut since = Instant::now();
        loop {
            {
                let came = self.came();
                if came.len() > seen {
                    since = Instant::now();
                }
                for came in came[seen..].iter().filter(|came| came.is_accepted) {
                    accepted.entry(came.id).or_insert(came.at);
                }
                seen = came.len();
            }
            let times: Option<Vec<_>> = wanted.iter().map(|id| accepted.get(id).copied()).collect();
            if let Some(times) = times {
                return times.into_iter().max().context("events to wait for");
            }
            ensure!(
                since.elapsed() < 2 * PATIENCE,
                "{} of {} events were accepted",
                accepted.len(),
                wanted.len()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Two replicas of the role alone, on a vhost and a database of their own.
pub struct Pushes {
    pub product: Product,
    pub store: Store,
    _key: TempDir,
}

impl Pushes {
    async fn start() -> Result<Self> {
        Self::prepare()?.with_replicas().await
    }

    /// Before a replica is started.
    fn prepare() -> Result<Self> {
        let shared = harness::Shared::from_env()?;
        Self::on(&shared.fresh_vhost()?, &shared.fresh_database()?)
    }

    /// The same on these servers.
    pub fn on(broker: &str, database: &str) -> Result<Self> {
        let key = tempfile::tempdir()?;
        let file = key.path().join("key");
        // That of the laws' seal.
        let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
        writeln!(written, "{}", "07".repeat(32))?;
        let extra = format!(
            "[secrets]\nkey_file = {file:?}\n[outbound]\nallow = [\"127.0.0.0/8\"]\n[subscriptions]\norder_wait_ms = 200\n"
        );
        let product = Product::configured(broker, database, &extra)?;
        let store = Store::open(&Config { max_connections: 4, ..Config::new(database) }, Path::new("."))?;
        Ok(Self { product, store, _key: key })
    }

    pub async fn with_replicas(mut self) -> Result<Self> {
        for replica in ["subscriptions-1", "subscriptions-2"] {
            self.product.start(replica, &["subscriptions"]).await?;
        }
        Ok(self)
    }

    pub async fn add(&self, name: &str, url: String, order: Order) -> Result<()> {
        let mut declaration = declaration(name, &url);
        let retry = vec![Wait(Duration::from_millis(50)); 30];
        declaration.push = Some(Push { order, retry, timeout_ms: 5_000, ..Push::new(url) });
        add(&self.store, &seal(), &declaration, &Secrets::default(), Seek::Now).await?;
        Ok(())
    }

    async fn count(&self, text: &str) -> Result<i64> {
        Ok(fetch(&mut *self.store.read().await?, text.to_owned(), []).await?[0].try_get(0)?)
    }

    /// Waits until a query gives this number.
    pub async fn wait_for(&self, text: &str, expect: i64) -> Result<()> {
        let begun = Instant::now();
        loop {
            let count = self.count(text).await?;
            if count == expect {
                return Ok(());
            }
            ensure!(begun.elapsed() < 2 * PATIENCE, "{text}: {count}, not {expect}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Records so many events, of so many subjects in turn.
    pub async fn record(&self, count: usize, subjects: usize) -> Vec<EventId> {
        let subjects: Vec<String> = (0..count).map(|number| format!("order/{}", number % subjects)).collect();
        record(&self.store, &subjects.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// The replica that delivers the only subscription.
    async fn owner(&self) -> Result<Option<String>> {
        let text = "SELECT lease_owner FROM subscriptions".to_owned();
        Ok(fetch(&mut *self.store.read().await?, text, []).await?[0].try_get(0)?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_killed_loses_nothing_and_records_every_attempt_but_those_in_flight() -> Result<()>
{
    let mut pushes = Pushes::start().await?;
    let endpoint = Endpoint::start()?;
    endpoint.answer(Duration::from_millis(5), |_| 200);
    pushes.add("crm", endpoint.url(), Order::None).await?;
    pushes.wait_for("SELECT count(*) FROM subscriptions WHERE lease_owner IS NOT NULL", 1).await?;
    let events = pushes.record(2_000, 10).await;
    endpoint.reached(400).await?;
    let (owner, begun) = (pushes.owner().await?, Instant::now());
    let delivers = |name: &&str| pushes.product.output(name).contains("delivers a push subscription");
    let name =
        ["subscriptions-1", "subscriptions-2"].into_iter().find(delivers).context("nobody delivers")?;
    pushes.product.kill9(name)?;
    let sent = endpoint.count();
    endpoint.wait_for(&events).await?;
    ensure!(pushes.owner().await? != owner, "another replica has it now, {:?} later", begun.elapsed());
    pushes
        .wait_for("SELECT count(DISTINCT event_id) FROM delivery_attempts WHERE status = 200", 2_000)
        .await?;
    // What was under way, and what was not written yet: a write every 25 ms, with eight requests of 5 ms.
    let (attempts, received) =
        (pushes.count("SELECT count(*) FROM delivery_attempts").await?, endpoint.count());
    let lost = i64::try_from(received)? - attempts;
    ensure!((0..=400).contains(&lost), "{attempts} attempts, {received} requests, {sent} before the end");
    let ids: HashSet<_> = endpoint.came().iter().map(|came| came.id).collect();
    ensure!(ids.len() == events.len(), "{} events came, {} were recorded", ids.len(), events.len());
    Ok(())
}

/// Leases are kept by one clock, that of the database: otherwise the first replica's would last for an hour after its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_clock_is_an_hour_ahead_keeps_no_subscription_after_its_end() -> Result<()> {
    let mut pushes = Pushes::prepare()?;
    let folder = pushes.product.folder().to_owned();
    let variables = harness::shifted_clock(&folder, 3_600)?.map(|(name, value)| (name.to_owned(), value));
    pushes.product.set_environment("ahead", variables);
    pushes.product.start("ahead", &["subscriptions"]).await?;
    let endpoint = Endpoint::start()?;
    pushes.add("crm", endpoint.url(), Order::None).await?;
    let first = pushes.record(10, 10).await;
    endpoint.wait_for(&first).await?;
    pushes.product.kill9("ahead")?;
    pushes.product.start("subscriptions-1", &["subscriptions"]).await?;
    let later = pushes.record(10, 10).await;
    endpoint.wait_for(&later).await?;
    Ok(())
}

/// The default installation delivers, too: everything in one process, on the embedded broker and SQLite.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_posted_is_pushed_by_the_embedded_installation() -> Result<()> {
    let mut product = Product::configured("embedded", "sqlite", "[outbound]\nallow = [\"127.0.0.0/8\"]\n")?;
    product.start("up", &["up"]).await?;
    let store = Store::open(&Config::new("sqlite"), &product.folder().join("data"))?;
    let receiver = Receiver::start()?;
    let mut declaration = declaration("crm", &receiver.url("/events"));
    declaration.topics = vec!["gestao-online:#".to_owned()];
    let key = fs::read_to_string(product.folder().join("data/secrets-key"))?;
    let key: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&key[2 * at..2 * at + 2], 16)).collect::<Result<_, _>>()?;
    let seal = subscriptions::Seal::new(&key.try_into().ok().context("32 bytes")?);
    add(&store, &seal, &declaration, &Secrets::default(), Seek::Now).await?;
    let body = r#"{"event_id": "ORDER_CREATED", "data": {"id": "7", "code": "0000000007", "status": 1}}"#;
    let id = product.post("go", body).await?;
    ensure!(receiver.wait_for(1, PATIENCE).await, "nothing comes:\n{}", product.output("up"));
    let received = receiver.requests().remove(0);
    ensure!(received.header("webhook-id") == Some(id.as_str()) && received.body == body.as_bytes());
    ensure!(received.header("ce-source") == Some("/gestao-online/go"));
    Ok(())
}

/// One process has everything, and is killed while it pushes to an endpoint that closes every third connection in the middle of its
/// answer: what was answered is unknown then, and the event is sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_installation_that_is_killed_while_it_pushes_loses_no_event() -> Result<()> {
    let mut product = Product::configured("embedded", "sqlite", "[outbound]\nallow = [\"127.0.0.0/8\"]\n")?;
    product.start("up", &["up"]).await?;
    let receiver = Receiver::start()?;
    let reply = |_: &harness::Received, number: usize| {
        let reply = Reply::status(200).body("taken").after(Duration::from_millis(20));
        if number % 3 == 1 { reply.midway() } else { reply }
    };
    receiver.answer_with(reply);
    let (url, retry) = (receiver.url("/"), ["200ms"; 30].join(","));
    let add =
        ["subscriptions", "add", "crm", "--push", &url, "--topics", "gestao-online:#", "--retry", &retry];
    product.run(&add)?;
    let mut ids = HashSet::new();
    for number in 0..40 {
        let body =
            format!(r#"{{"event_id": "ORDER_CREATED", "data": {{"id": "{number}", "code": "{number}"}}}}"#);
        ids.insert(product.post("go", body).await?);
    }
    ensure!(receiver.wait_for(20, PATIENCE).await, "nothing comes:\n{}", product.output("up"));
    product.kill9("up")?;
    product.start("up", &["up"]).await?;
    let begun = Instant::now();
    let is_delivered = |attempt: &serde_json::Value| attempt["error"].is_null();
    loop {
        let rows = product.rows(&["attempts", "list", "--subscription", "crm"])?;
        let delivered: HashSet<_> =
            rows.iter().filter(|row| is_delivered(row)).filter_map(|row| row["id"].as_str()).collect();
        if ids.iter().all(|id| delivered.contains(id.as_str())) {
            let lost = receiver.count().checked_sub(rows.len()).context("attempts without a request")?;
            // Those under way, and those of the last moments before the end: a write every 25 ms, with eight requests of 20 ms.
            ensure!(lost <= 40, "{} requests, {} attempts", receiver.count(), rows.len());
            return Ok(());
        }
        ensure!(begun.elapsed() < 2 * PATIENCE, "{} of {} events came", delivered.len(), ids.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
