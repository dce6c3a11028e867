//! What the fault table does not show: how soon a consumer is through after an outage, that one event that cannot be
//! handled holds up no other, and that a replay keeps to its rate, outlives its console and can be cancelled.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Postgres, RabbitMq};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::books::{Account, Books};
use super::load::{Load, Posted};
use super::{duplicates, is_full, rows};
use crate::product::{PATIENCE, Product};

/// These tests measure times, so they do not run side by side.
static ONE: Mutex<()> = Mutex::const_new(());

/// The database and the virtual host of a [`Stage`].
const DATABASE: &str = "acceptance";

/// One process per role, on servers of their own.
struct Stage {
    product: Product,
    postgres: Postgres,
    books: Books,
    /// Outlives the product.
    _rabbitmq: RabbitMq,
}

impl Stage {
    async fn start(configuration: &str) -> Result<Self> {
        let (rabbitmq, postgres) = (RabbitMq::start()?, Postgres::start()?);
        rabbitmq.create_vhost(DATABASE)?;
        postgres.create_database(DATABASE)?;
        let (broker, store) = (rabbitmq.url(DATABASE), postgres.url(DATABASE));
        let configuration = format!("{}{configuration}", rows::QUICK);
        let mut product = Product::configured(&broker, &store, &configuration)?;
        rows::start(&mut product).await?;
        let books = Books::open(&store, product.folder())?;
        books.watch_effects().await?;
        Ok(Self { product, postgres, books, _rabbitmq: rabbitmq })
    }

    fn load(&self, first: usize, count: usize, time: Duration) -> Load {
        let ingresses = [self.product.ingress.clone()];
        Load::start(&self.product.poster(), &ingresses, first, count, time)
    }

    /// Waits until everything is settled: nothing may be lost and nothing done twice.
    async fn settled(&self, posted: &Posted) -> Result<Account> {
        let account = self.books.account(posted).await?;
        ensure!((account.lost, account.twice) == (0, 0), "{account:?}");
        Ok(account)
    }

    /// How long the slowest hundredth of these events took at least, from receipt to their effect in `receivables`.
    fn p99(&self, first: usize, count: usize) -> Result<Duration> {
        let (from, to) = (format!("{first:010}"), format!("{:010}", first + count));
        let slowest = self.postgres.query(
            DATABASE,
            &format!(
                "SELECT coalesce(percentile_disc(0.99) WITHIN GROUP (ORDER BY i.handled_at - e.received_at), 0) \
                 FROM receivables r JOIN event e ON e.id = r.first_event \
                 JOIN inbox i ON i.event_id = e.id AND i.consumer = 'receivables' \
                 WHERE r.kind = 'order' AND r.external_id >= '{from}' AND r.external_id < '{to}'"
            ),
        )?;
        Ok(Duration::from_micros(slowest.trim().parse().context("microseconds")?))
    }

    /// The job that was asked for last.
    fn job(&self) -> Result<Value> {
        let jobs = self.product.json(&["jobs", "list", "--limit", "1"])?;
        jobs.into_iter().next().context("no job is on record")
    }

    /// Waits until the job that was asked for last is as wanted.
    async fn await_job(
        &self,
        what: &str,
        patience: Duration,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let started = Instant::now();
        loop {
            let job = self.job()?;
            if is_so(&job) {
                return Ok(job);
            }
            ensure!(started.elapsed() < patience, "the job is not {what}: {job}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn number(row: &Value, field: &str) -> u64 {
    row[field].as_u64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_of_the_database_everything_is_handled_within_a_minute() -> Result<()> {
    let _one = ONE.lock().await;
    let (count, outage) =
        if is_full() { (5_000, Duration::from_secs(60)) } else { (400, Duration::from_secs(4)) };
    let stage = Stage::start("").await?;
    stage.settled(&stage.load(0, 8, Duration::ZERO).end().await?).await?;
    stage.postgres.stop()?;
    let stopped = Instant::now();
    let posted = stage.load(1_000, count, outage.mul_f64(0.8)).end().await?;
    sleep(outage.saturating_sub(stopped.elapsed())).await;
    stage.postgres.restart()?;
    let returned = Instant::now();
    let account = stage.settled(&posted).await?;
    let took = returned.elapsed();
    println!("{count} events during {outage:?} without a database: handled {took:.1?} after its return");
    ensure!(account.dead == 0, "{account:?}");
    ensure!(took < Duration::from_secs(60), "handled only {took:?} after the database's return");
    for name in ["ledger", "invoices", "receivables", "prescriptions"] {
        ensure!(!stage.product.output(name).contains("tried again in"), "{name} spent an attempt");
    }
    Ok(())
}

/// The order that the database refuses, with an error that tells nothing of whether it lasts.
const POISON: &str = "poison";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_that_always_fails_ends_as_a_dead_letter_and_holds_up_no_other() -> Result<()> {
    let _one = ONE.lock().await;
    let (count, time) =
        if is_full() { (10_000, Duration::from_secs(50)) } else { (400, Duration::from_secs(4)) };
    let policy = "[consumer.policies.receivables]\nattempts = 4\ndelays = [\"1s\"]\n";
    let stage = Stage::start(policy).await?;
    stage.postgres.query(
        DATABASE,
        &format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'refused'; END $$; \
             CREATE TRIGGER refuse BEFORE INSERT ON receivables FOR EACH ROW \
             WHEN (NEW.external_id = '{POISON}') EXECUTE FUNCTION refuse()"
        ),
    )?;
    // Both loads in one run, so that the machine is the same for both.
    let posted = stage.load(0, count, time).end().await?;
    stage.settled(&posted).await?;
    let without = stage.p99(0, count)?;

    let second = 1_000_000;
    let load = stage.load(second, count, time);
    load.reached(0.2).await;
    let body =
        format!(r#"{{"event_id": "ORDER_CREATED", "data": {{"id": "1", "code": "{POISON}", "status": 1}}}}"#);
    let poison = stage.product.post("go", body).await?;
    let account = stage.settled(&load.end().await?).await?;
    let with = stage.p99(second, count)?;
    println!("p99 of the others: {with:.1?} with an event that always fails, {without:.1?} without");

    ensure!(account.dead == 1, "{account:?}");
    let dead = stage.product.json(&["dead", "list"])?;
    let letter = &dead[0];
    ensure!(letter["event_id"] == *poison && letter["consumer"] == "receivables", "{letter}");
    ensure!(letter["attempts"] == 4, "{letter}");
    // The shorter form runs beside other tests, where times say little.
    ensure!(!is_full() || with <= without * 2, "p99 {with:?} with it, {without:?} without");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_keeps_to_its_rate_outlives_its_console_and_can_be_cancelled() -> Result<()> {
    let _one = ONE.lock().await;
    let (count, time, rate) = if is_full() {
        (100_000, Duration::from_secs(300), 1_000)
    } else {
        (800, Duration::from_secs(6), 200)
    };
    let mut stage = Stage::start("").await?;
    let posted = stage.load(0, count, time).end().await?;
    let total = stage.settled(&posted).await?.ledger as u64;
    let said = stage.product.run(&["events", "replay", "--everything", "--dry-run"])?;
    ensure!(said.contains(&format!("This would replay {total} events.")), "{said}");

    let rate_text = rate.to_string();
    let asked = Instant::now();
    stage.product.run(&["events", "replay", "--everything", "--rate", &rate_text, "--yes", "--detach"])?;
    let share = total / 4;
    let job =
        stage.await_job("a quarter through", PATIENCE * 10, |job| number(job, "progress") >= share).await?;
    // A batch of 100 is sent at once, and the next one waits.
    let most = asked.elapsed().as_secs_f64() * f64::from(rate) + 100.0;
    let progress = number(&job, "progress");
    ensure!(progress as f64 <= most, "{progress} events after {:?} at {rate}/s", asked.elapsed());
    ensure!(
        !is_full() || progress as f64 >= most / 2.0,
        "only {progress} events after {:?} at {rate}/s",
        asked.elapsed()
    );
    stage.product.kill9("console")?;
    stage.product.start("console", &["console"]).await?;
    let job = stage.await_job("done", PATIENCE * 10, |job| job["state"] == "done").await?;
    let took = asked.elapsed();
    println!("{total} events replayed at {rate}/s in {took:.1?}, with a kill -9 of the console");
    ensure!(number(&job, "progress") == total && number(&job, "sent") == total, "{job}");
    ensure!(took.as_secs_f64() >= (total as f64 - 100.0) / f64::from(rate), "{total} events in {took:?}");
    // Every event has come once more, and none had its effect again.
    let started = Instant::now();
    while duplicates(&stage.product).await < total {
        ensure!(started.elapsed() < PATIENCE * 3, "the consumers do not see all of {total} events again");
        sleep(Duration::from_millis(200)).await;
    }
    let account = stage.settled(&posted).await?;
    ensure!(account.dead == 0, "{account:?}");

    stage.product.run(&["events", "replay", "--everything", "--rate", "100", "--yes", "--detach"])?;
    let job = stage.await_job("on its way", PATIENCE, |job| number(job, "progress") > 0).await?;
    let id = job["id"].as_str().context("an id")?.to_owned();
    stage.product.run(&["jobs", "cancel", &id])?;
    let job = stage.await_job("cancelled", PATIENCE, |job| job["state"] == "cancelled").await?;
    ensure!(number(&job, "progress") < total, "the job was through before it was cancelled: {job}");
    let account = stage.settled(&posted).await?;
    ensure!(account.dead == 0, "{account:?}");
    Ok(())
}
