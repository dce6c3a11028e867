//! Consumers whose subscription ends while a batch is in work, on RabbitMQ: they notice, say so, and subscribe anew.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::{Broker, Layout, Publisher, Topology};
use broker_rabbitmq::RabbitMq;
use consumer::{Config, Consumer, DEFAULT_RETRY, Failure, Handler, Runtime, Status, Subscription};
use event::{Event, ProviderName, Source, SourceName, Topic};
use store::{Store, Tx, sql};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

static SUBSCRIPTION: Subscription = Subscription {
    consumer: "orders",
    purpose: "counts orders",
    topics: &[("gestao-online", &["#"])],
    prefetch: 50,
    retry: DEFAULT_RETRY,
};

const COMPONENT: store::Component = store::Component {
    name: "orders",
    migrations: &[store::Migration::portable(
        1,
        "effects",
        "CREATE TABLE effect (event_id TEXT NOT NULL, size INTEGER NOT NULL);",
    )],
};

/// Writes a row per event, once it may.
struct Orders {
    /// How many calls have begun.
    begun: watch::Sender<usize>,
    /// A permit for each call that may go on.
    gate: Semaphore,
}

#[async_trait]
impl Handler for Orders {
    async fn handle(&self, events: &[&Event], tx: &mut Tx) -> Result<(), Failure> {
        self.begun.send_modify(|begun| *begun += 1);
        self.gate.acquire().await.expect("the gate is never closed").forget();
        for event in events {
            sql::query("INSERT INTO effect (event_id, size) VALUES ($1, $2)")
                .bind(event.id.to_string())
                .bind(i64::try_from(event.data.len()).expect("a body is no exabyte"))
                .execute(&mut **tx)
                .await?;
        }
        Ok(())
    }
}

/// A consumer on RabbitMQ and SQLite.
struct Setting {
    broker: Arc<RabbitMq>,
    topology: Topology,
    layout: Layout,
    store: Store,
    handler: Arc<Orders>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Setting {
    async fn new(url: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a folder");
        let config = store::Config { url: "sqlite".into(), max_connections: 4, acquire_timeout_ms: 5_000 };
        let store = Store::open(&config, folder.path()).expect("a store in a fresh folder");
        store.migrate(&[COMPONENT]).await.expect("the tables are new");
        let url = url.parse().expect("the harness makes a sound URL");
        let broker = Arc::new(RabbitMq::connect(broker_rabbitmq::Config::new(url)));
        let layout = Layout::new("");
        let topology = layout.topology(&[provider()], &[SUBSCRIPTION.work_queue()]);
        broker.declare(&topology).await.expect("the topology is new");
        let handler = Arc::new(Orders { begun: watch::Sender::new(0), gate: Semaphore::new(0) });
        let stop = CancellationToken::new();
        Self { broker, topology, layout, store, handler, stop, _folder: folder }
    }

    /// Starts a replica.
    fn start(&self) -> (watch::Receiver<Status>, JoinHandle<()>) {
        let runtime = Runtime {
            broker: self.broker.clone(),
            layout: self.layout.clone(),
            store: self.store.clone(),
            config: Config {
                batch_events: 20,
                batch_timeout_ms: 60_000,
                hold_ms: 1_000,
                policies: Default::default(),
            },
        };
        let consumer = Consumer::new(&SUBSCRIPTION, self.handler.clone(), runtime);
        (consumer.status(), tokio::spawn(consumer.run(self.stop.clone())))
    }

    async fn publish(&self) {
        let source = Source::new(provider(), SourceName::new("go").expect("a name"));
        let event = Event::new(source, Topic::new("order").expect("a topic"), "{}".into());
        let published =
            self.broker.publish(&self.layout.webhooks(&provider()), "order", event.to_message()).await;
        published.expect("the queue is bound");
    }

    /// Waits until this many calls of the handler have begun.
    async fn has_begun(&self, calls: usize) {
        let mut begun = self.handler.begun.subscribe();
        timeout(PATIENCE, begun.wait_for(|begun| *begun >= calls)).await.expect("in time").expect("it lives");
    }

    async fn has_effects(&self, expected: i64) {
        let count = async || -> i64 {
            let mut connection = self.store.read().await.expect("the store is there");
            let count = sql::scalar("SELECT count(*) FROM effect").fetch_one(&mut *connection).await;
            count.expect("the table is there")
        };
        let reached = async {
            while count().await < expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("every event has its effect in time");
        assert_eq!(count().await, expected, "an effect happens once");
    }
}

fn provider() -> ProviderName {
    ProviderName::new("gestao-online").expect("a name")
}

async fn reaches(status: &mut watch::Receiver<Status>, what: &str, is: impl Fn(&Status) -> bool) {
    let reached = timeout(PATIENCE, status.wait_for(|status| is(status))).await;
    reached.unwrap_or_else(|_| panic!("the consumer is never {what}")).expect("the consumer runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_queue_is_deleted_under_a_batch_says_so_and_is_back_with_the_queue() {
    let (shared, url) = block_in_place(|| {
        let shared = harness::Shared::from_env().expect("the shared servers are there");
        let url = shared.fresh_vhost().expect("the shared node answers");
        (shared, url)
    });
    let setting = Setting::new(&url).await;
    let (mut status, running) = setting.start();
    setting.publish().await;
    setting.has_begun(1).await;
    block_in_place(|| shared.delete_queue(&url, "orders")).expect("the queue is there");
    setting.handler.gate.add_permits(1_000);

    // Its batch was the last copy of what the queue held, and has its effect.
    setting.has_effects(1).await;
    reaches(&mut status, "paused", |status| matches!(status, Status::Paused(_))).await;
    setting.broker.declare(&setting.topology).await.expect("what is gone can be declared again");
    reaches(&mut status, "running", |status| *status == Status::Running).await;
    setting.publish().await;
    setting.has_effects(2).await;
    let queues = setting.broker.queues(&[setting.layout.queue("orders")]).await.expect("the queue is back");
    assert_eq!(queues[0].consumers, 1);
    setting.stop.cancel();
    running.await.expect("the consumer ends in order");
}
