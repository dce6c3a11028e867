//! The queue door on RabbitMQ: queues that are added and removed while malote runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use broker::{Broker, BrokerError, QueueName, Subscriber};
use broker_rabbitmq::{Config, RabbitMq};
use event::SubscriptionName;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ConnectionProperties};
use serde_json::Value;
use store::Store;
use subscriptions::{Declaration, Seal, Secrets, Seek};
use tokio::time::{sleep, timeout};

use crate::product::{PATIENCE, Product};

/// An installation, its broker and its store.
struct Setting {
    url: String,
    product: Product,
    broker: Arc<RabbitMq>,
    store: Store,
}

impl Setting {
    /// With the management API, and everything in one process.
    async fn start() -> Result<Self> {
        Self::with("up", "").await
    }

    /// The same with this role alone, and these settings.
    async fn with(role: &str, settings: &str) -> Result<Self> {
        let shared = harness::Shared::from_env()?;
        let (url, database) = (shared.fresh_vhost()?, shared.fresh_database()?);
        let mut product = Product::configured(&url, &database, settings)?;
        product.set_environment(
            role,
            [("MALOTE__BROKER__MANAGEMENT_URL".to_owned(), shared.admin_url().to_owned())],
        );
        product.start(role, &[role]).await?;
        let broker = Arc::new(RabbitMq::connect(Config::new(url.parse()?)));
        let store = Store::open(&store::Config::new(database), product.folder())?;
        Ok(Self { url, product, broker, store })
    }

    /// Saves a subscription as a console does that is killed before it declares the queue.
    async fn save(&self, topics: &[&str]) -> Result<()> {
        let asked = serde_json::json!({"name": "crm", "topics": topics, "queue": {}});
        let declaration: Declaration = serde_json::from_value(asked)?;
        let seal = Seal::new(&[1; 32]);
        subscriptions::add(&self.store, &seal, &declaration, &Secrets::default(), Seek::Now).await?;
        Ok(())
    }

    async fn ready(&self, queue: &str) -> Result<Option<u64>> {
        match self.broker.queues(&[QueueName::new(queue)]).await {
            Ok(statuses) => Ok(statuses.first().map(|status| status.ready)),
            Err(BrokerError::MissingQueue { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn await_ready(&self, queue: &str, expected: Option<u64>) -> Result<()> {
        let started = Instant::now();
        while self.ready(queue).await? != expected {
            ensure!(started.elapsed() < PATIENCE, "{queue} has {:?}", self.ready(queue).await?);
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Posts an event that no consumer of ours takes.
    async fn post(&self) -> Result<String> {
        self.product.post("go", r#"{"event_id": "THEIRS", "data": {"code": "1"}}"#).await
    }

    async fn await_state(&self, id: &str, expected: &str) -> Result<()> {
        let started = Instant::now();
        loop {
            let events = self.product.rows(&["events", "list"])?;
            let found = events.iter().find(|event| event["id"] == id).map(|event| &event["state"]);
            if found.is_some_and(|state| state == expected) {
                return Ok(());
            }
            ensure!(started.elapsed() < PATIENCE, "{id} is {found:?}, not {expected}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

const QUEUE: &str = "subscription.crm";

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_a_subscription_follows_the_store_while_malote_runs() -> Result<()> {
    let setting = Setting::start().await?;
    setting.await_state(&setting.post().await?, "unrouted").await?;
    setting.save(&["gestao-online:THEIRS"]).await?;
    setting.await_ready(QUEUE, Some(0)).await?;
    let shown = setting.product.run(&["topology", "show", "--format", "json"])?;
    ensure!(shown.contains(QUEUE), "{shown}");

    let id = setting.post().await?;
    setting.await_ready(QUEUE, Some(1)).await?;
    setting.await_state(&id, "routed").await?;
    let doctor = setting.product.command(&["doctor"])?.output()?;
    let printed = String::from_utf8_lossy(&doctor.stdout);
    ensure!(printed.contains("nobody reads queue subscription.crm; it holds 1 messages"), "{printed}");
    ensure!(setting.product.run(&["queues"])?.contains("subscription crm: gestao-online:THEIRS"));
    // A queue is declared before it is measured.
    let started = Instant::now();
    while !setting
        .product
        .metrics("up")
        .await?
        .contains("subscription_queue_messages{subscription=\"crm\"} 1")
    {
        ensure!(started.elapsed() < PATIENCE, "the queue is never measured");
        sleep(Duration::from_millis(100)).await;
    }
    let mut deliveries = setting.broker.subscribe(&QueueName::new(QUEUE), 10).await?;
    let delivery = timeout(PATIENCE, deliveries.next()).await??;
    ensure!(delivery.message.message_id == id && delivery.message.r#type == "THEIRS");
    deliveries.ack(&[delivery.tag]).await?;

    subscriptions::remove(&setting.store, &SubscriptionName::new("crm")?).await?;
    setting.await_ready(QUEUE, None).await?;
    setting.await_state(&setting.post().await?, "unrouted").await
}

/// Without a console; and with a second replica, neither of which undoes what the other does.
#[tokio::test(flavor = "multi_thread")]
async fn the_role_keeps_queues_and_reports_one_from_its_threshold_on() -> Result<()> {
    let mut setting = Setting::with("subscriptions", "[subscriptions]\nqueue_alarm_messages = 2\n").await?;
    setting.product.start("replica", &["subscriptions"]).await?;
    setting.save(&["gestao-online:THEIRS"]).await?;
    setting.await_ready(QUEUE, Some(0)).await?;
    setting.broker.delete_queue(&QueueName::new(QUEUE)).await?;
    setting.await_ready(QUEUE, Some(0)).await?;

    setting.product.start("ingress", &["ingress"]).await?;
    setting.post().await?;
    setting.post().await?;
    setting.await_ready(QUEUE, Some(2)).await?;
    let started = Instant::now();
    while !setting.product.output("subscriptions").contains("messages gather in the queue of a subscription")
    {
        ensure!(started.elapsed() < PATIENCE, "{}", setting.product.output("subscriptions"));
        sleep(Duration::from_millis(100)).await;
    }
    // Once both have ended, somebody is told.
    let missing = "no process keeps the queues of subscriptions (1)";
    let doctor = async |setting: &Setting| {
        let output = setting.product.command(&["doctor"])?.output()?;
        anyhow::Ok(String::from_utf8_lossy(&output.stdout).contains(missing))
    };
    ensure!(!doctor(&setting).await?, "the role runs");
    setting.product.terminate("replica").await?;
    ensure!(!doctor(&setting).await?, "one of two runs");
    subscriptions::remove(&setting.store, &SubscriptionName::new("crm")?).await?;
    setting.await_ready(QUEUE, None).await?;
    setting.product.terminate("subscriptions").await?;
    setting.save(&["gestao-online:THEIRS"]).await?;
    ensure!(doctor(&setting).await?, "no role runs");
    Ok(())
}

/// RabbitMQ does not bear two processes that declare the same quorum queue at once.
#[tokio::test]
async fn of_two_processes_one_at_a_time_does_exclusive_work() -> Result<()> {
    let database = harness::Shared::from_env()?.fresh_database()?;
    let folder = tempfile::tempdir()?;
    let process = || Store::open(&store::Config::new(&database), folder.path());
    let (one, other) = (process()?, process()?);
    let guard = one.exclusive(7).await?;
    let _another_work = timeout(PATIENCE, other.exclusive(8)).await??;
    let third = process()?;
    let mut waiting = Box::pin(third.exclusive(7));
    ensure!(timeout(Duration::from_millis(500), &mut waiting).await.is_err(), "two do it at once");
    drop(guard);
    timeout(PATIENCE, waiting).await??;
    Ok(())
}

/// A subscription with a user, added by command: how its service connects.
async fn added(setting: &Setting, name: &str) -> Result<Value> {
    let add =
        ["subscriptions", "add", name, "--queue", "--user", "--topics", "gestao-online:THEIRS", "--json"];
    Ok(serde_json::from_str(&setting.product.run(&add)?)?)
}

/// Tries something that the user may not do, on a channel of its own.
async fn is_refused(
    what: &str,
    connection: &lapin::Connection,
    attempt: impl AsyncFnOnce(lapin::Channel) -> lapin::Result<()>,
) -> Result<()> {
    let channel = connection.create_channel().await?;
    match attempt(channel).await {
        Ok(()) => bail!("the user of a queue may {what}"),
        Err(error) => {
            ensure!(error.to_string().contains("ACCESS_REFUSED"), "{what}: {error}");
            Ok(())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_a_queue_reads_it_and_can_do_nothing_else() -> Result<()> {
    let setting = Setting::start().await?;
    // Users are of the whole node.
    let name = format!("crm-{:x}", std::time::UNIX_EPOCH.elapsed()?.as_micros());
    let added = added(&setting, &name).await?;
    let text = |field: &str| added[field].as_str().map(str::to_owned).context("it is shown once");
    let (user, password, queue) = (text("user")?, text("password")?, text("queue")?);
    let url = setting.url.replacen("guest:guest@", &format!("{user}:{password}@"), 1);
    let id = setting.post().await?;

    let connection = lapin::Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let (options, table) = (BasicConsumeOptions::default, FieldTable::default);
    let mut deliveries = channel.basic_consume(queue.as_str().into(), "".into(), options(), table()).await?;
    let delivery = timeout(PATIENCE, deliveries.next()).await?.context("the consumer lives")??;
    ensure!(delivery.properties.message_id().as_ref().is_some_and(|found| found.as_str() == id));
    delivery.ack(BasicAckOptions::default()).await?;

    let publish = async |exchange: &str, key: &str, channel: lapin::Channel| {
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        channel.basic_publish(exchange.into(), key.into(), options, b"{}", properties).await?.await.map(drop)
    };
    is_refused("publish to its queue", &connection, async |channel| publish("", &queue, channel).await)
        .await?;
    let webhooks = "webhooks.gestao-online";
    is_refused("publish events", &connection, async |channel| publish(webhooks, "THEIRS", channel).await)
        .await?;
    is_refused("declare queues", &connection, async |channel| {
        channel.queue_declare("mine".into(), QueueDeclareOptions::default(), table()).await.map(drop)
    })
    .await?;
    is_refused("bind its queue", &connection, async |channel| {
        let options = QueueBindOptions::default();
        channel.queue_bind(queue.as_str().into(), webhooks.into(), "#".into(), options, table()).await
    })
    .await?;
    is_refused("read other queues", &connection, async |channel| {
        channel.basic_consume("ledger".into(), "".into(), options(), table()).await.map(drop)
    })
    .await?;

    let rotated = setting.product.run(&["subscriptions", "rotate-secret", &name, "--json"])?;
    ensure!(!rotated.contains(&password) && rotated.contains(&user));
    ensure!(lapin::Connection::connect(&url, ConnectionProperties::default()).await.is_err());
    setting.product.run(&["subscriptions", "remove", &name, "--yes"])?;
    setting.await_ready(&queue, None).await?;
    let shared = harness::Shared::from_env()?;
    let users: Vec<Value> = reqwest::Client::new()
        .get(format!("{}/api/users", shared.admin_url()))
        .basic_auth("guest", Some("guest"))
        .send()
        .await?
        .json()
        .await?;
    ensure!(users.iter().all(|found| found["name"] != user.as_str()), "the user goes with its queue");
    Ok(())
}
