//! Consumers under faults, on real brokers: subscriptions that end during a batch, crashes, large bodies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use broker::embedded::Embedded;
use broker::{DynBroker, FixedQueue, Layout, QueueStatus, Topology};
use broker_rabbitmq::RabbitMq;
use consumer::{
    Announcement, Bindings, Config, Consumer, DEFAULT_RETRY, Failure, Handler, Permanent, Runtime, Status,
};
use event::{Event, ProviderName};
use ledger::{DeadFilter, DeadRow};
use store::{Page, Store, Tx, sql};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use view::Row as _;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a message may come back before its broker gives it up.
const DELIVERY_LIMIT: u32 = 2;

/// How many bytes of bodies a consumer holds.
const PREFETCH_BYTES: usize = 4 << 20;

static BINDINGS: Bindings = Bindings {
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
        "CREATE TABLE effect (event_id TEXT NOT NULL, size BIGINT NOT NULL);",
    )],
};

/// Writes a row per event, once it may.
struct Orders {
    /// How many calls have begun.
    begun: watch::Sender<usize>,
    /// A permit for each call that may go on.
    gate: Semaphore,
    /// An event that crashes its process was here.
    crash: Notify,
}

#[async_trait]
impl Handler for Orders {
    type Fact = ();

    fn read(&self, _: &Event) -> Result<(), Permanent> {
        Ok(())
    }

    async fn write(&self, facts: &[(&Event, &())], tx: &mut Tx) -> Result<Vec<Announcement>, Failure> {
        self.begun.send_modify(|begun| *begun += 1);
        self.gate.acquire().await.expect("the gate is never closed").forget();
        for (event, ()) in facts {
            if event.topic.as_str() == "deadly" {
                self.crash.notify_one();
                std::future::pending::<()>().await;
            }
            sql::query("INSERT INTO effect (event_id, size) VALUES ($1, $2)")
                .bind(event.id.to_string())
                .bind(i64::try_from(event.data.len()).expect("a body is no exabyte"))
                .execute(&mut **tx)
                .await?;
        }
        Ok(Vec::new())
    }
}

/// A consumer and the ledger's record of dead letters, on a broker and SQLite.
struct Setting {
    broker: DynBroker,
    topology: Topology,
    layout: Layout,
    store: Store,
    handler: Arc<Orders>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Setting {
    async fn embedded() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let broker = Embedded::open(folder.path().join("broker.db")).expect("a fresh folder");
        Self::on(Arc::new(broker), "sqlite", folder).await
    }

    async fn rabbitmq(url: &str) -> Self {
        Self::connected(url, "sqlite").await
    }

    async fn connected(broker: &str, store: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = broker.parse().expect("the harness makes a sound URL");
        let broker = Arc::new(RabbitMq::connect(broker_rabbitmq::Config::new(url)));
        Self::on(broker, store, tempfile::tempdir().expect("a folder")).await
    }

    async fn on(broker: DynBroker, store: &str, folder: tempfile::TempDir) -> Self {
        let config =
            store::Config { max_connections: 4, acquire_timeout_ms: 5_000, ..store::Config::new(store) };
        let store = Store::open(&config, folder.path()).expect("a store in a fresh folder");
        store.migrate(&[COMPONENT, ledger::COMPONENT]).await.expect("the tables are new");
        let layout = Layout::new("");
        let mut topology = layout.topology(&[provider()], &[BINDINGS.work_queue()]);
        let orders = topology.queues.iter_mut().find(|queue| queue.name.as_str() == "orders");
        orders.expect("the consumer has a queue").delivery_limit = DELIVERY_LIMIT;
        broker.declare(&topology).await.expect("the topology is new");
        let handler =
            Arc::new(Orders { begun: watch::Sender::new(0), gate: Semaphore::new(0), crash: Notify::new() });
        let stop = CancellationToken::new();
        Self { broker, topology, layout, store, handler, stop, _folder: folder }
    }

    fn runtime(&self) -> Runtime {
        Runtime {
            broker: self.broker.clone(),
            layout: self.layout.clone(),
            store: self.store.clone(),
            config: Config {
                batch_events: 20,
                batch_timeout_ms: 60_000,
                hold_ms: 1_000,
                prefetch_bytes: PREFETCH_BYTES,
                policies: Default::default(),
            },
        }
    }

    /// Starts a replica of the consumer.
    fn start(&self) -> (watch::Receiver<Status>, JoinHandle<()>) {
        let consumer = Consumer::new(&BINDINGS, self.handler.clone(), self.runtime());
        (consumer.status(), tokio::spawn(consumer.run(self.stop.clone())))
    }

    /// Starts the ledger's record of dead letters.
    fn start_record(&self) {
        let mut consumers = ledger::consumers(self.runtime(), &[BINDINGS]);
        consumers.retain(|consumer| consumer.name() == FixedQueue::Dead.name());
        for consumer in consumers {
            tokio::spawn(consumer.run(self.stop.clone()));
        }
    }

    async fn publish(&self, topic: &str, size: usize) {
        let event = broker::test_support::event("/gestao-online/go", topic, vec![b' '; size]);
        let published =
            self.broker.publish(&self.layout.webhooks(&provider()), topic, event.to_message()).await;
        published.expect("the queue is bound");
    }

    /// Waits until this many calls of the handler have begun.
    async fn has_begun(&self, calls: usize) {
        let mut begun = self.handler.begun.subscribe();
        timeout(PATIENCE, begun.wait_for(|begun| *begun >= calls)).await.expect("in time").expect("it lives");
    }

    async fn effects(&self) -> i64 {
        let mut connection = self.store.read().await.expect("the store is there");
        let count = sql::scalar("SELECT count(*) FROM effect").fetch_one(&mut *connection).await;
        count.expect("the table is there")
    }

    async fn has_effects(&self, expected: i64) {
        let reached = async {
            while self.effects().await < expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("every event has its effect in time");
        assert_eq!(self.effects().await, expected, "an effect happens once");
    }

    async fn letters(&self) -> Vec<DeadRow> {
        let mut connection = self.store.read().await.expect("the store is there");
        let page = Page::first(100);
        let letters = DeadRow::page(&mut connection, &DeadFilter::default(), &page).await;
        letters.expect("the tables are there").items
    }

    /// Waits until the consumer's queue is as asked for.
    async fn queue_is(&self, what: &str, is: impl Fn(&QueueStatus) -> bool) {
        let name = [self.layout.queue("orders")];
        let reached = async {
            while !is(&self.broker.queues(&name).await.expect("the queue is there")[0]) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("the queue never has {what}"));
    }
}

fn provider() -> ProviderName {
    ProviderName::new("gestao-online").expect("a name")
}

fn fresh_vhost() -> (harness::Shared, String) {
    block_in_place(|| {
        let shared = harness::Shared::from_env().expect("the shared servers are there");
        let url = shared.fresh_vhost().expect("the shared node answers");
        (shared, url)
    })
}

async fn reaches(status: &mut watch::Receiver<Status>, what: &str, is: impl Fn(&Status) -> bool) {
    let reached = timeout(PATIENCE, status.wait_for(|status| is(status))).await;
    reached.unwrap_or_else(|_| panic!("the consumer is never {what}")).expect("the consumer runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_queue_is_deleted_under_a_batch_says_so_and_is_back_with_the_queue() {
    let (shared, url) = fresh_vhost();
    let setting = Setting::rabbitmq(&url).await;
    let (mut status, running) = setting.start();
    setting.publish("order", 2).await;
    setting.has_begun(1).await;
    block_in_place(|| shared.delete_queue(&url, "orders")).expect("the queue is there");
    reaches(&mut status, "paused", |status| matches!(status, Status::Paused(_))).await;

    // Its batch was the last copy of what the queue held, and has its effect.
    setting.handler.gate.add_permits(1_000);
    setting.has_effects(1).await;
    setting.broker.declare(&setting.topology).await.expect("what is gone can be declared again");
    reaches(&mut status, "running", |status| *status == Status::Running).await;
    setting.publish("order", 2).await;
    setting.has_effects(2).await;
    setting.queue_is("one consumer", |queue| queue.consumers == 1).await;
    setting.stop.cancel();
    running.await.expect("the consumer ends in order");
}

/// A node that ends the subscription of a consumer that holds a delivery for longer.
fn node_with_consumer_timeout(timeout: Duration) -> harness::RabbitMq {
    let timeout = format!("consumer_timeout = {}", timeout.as_millis());
    block_in_place(|| {
        let node = harness::RabbitMq::start_node(&harness::NodeOptions::configured(vec![timeout]))?;
        // Up to 4.2 a channel looks at its deliveries once a minute; rabbitmq.conf has no key for it.
        node.rabbitmqctl("eval", &["application:set_env(rabbit, channel_tick_interval, 1000)."])?;
        anyhow::Ok(node)
    })
    .expect("a private node starts")
}

/// Up to RabbitMQ 4.2 the server closes the channel of a consumer that holds a delivery for too long, from 4.3 on it
/// cancels the consumer and gives the delivery to the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_the_server_times_out_is_back_by_itself() {
    let node = node_with_consumer_timeout(Duration::from_secs(5));
    let setting = Setting::rabbitmq(&node.url("/")).await;
    for _ in 0..3 {
        setting.publish("order", 2).await;
    }
    let (_status, running) = setting.start();
    setting.has_begun(1).await;
    setting.queue_is("two messages ready", |queue| queue.ready == 2).await;
    setting.queue_is("the third back", |queue| queue.ready == 3).await;
    setting.handler.gate.add_permits(1_000);

    setting.has_effects(3).await;
    setting.queue_is("one consumer and nothing else", |queue| (queue.consumers, queue.ready) == (1, 0)).await;
    setting.publish("order", 2).await;
    setting.has_effects(4).await;
    setting.stop.cancel();
    running.await.expect("the consumer ends in order");
    setting.queue_is("nothing left", |queue| queue.ready == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_database_is_given_back_before_the_server_times_its_consumer_out() {
    const TIMEOUT: Duration = Duration::from_secs(20);
    let node = node_with_consumer_timeout(TIMEOUT);
    let postgres = block_in_place(|| {
        let postgres = harness::Postgres::start()?;
        postgres.create_database("malote")?;
        anyhow::Ok(postgres)
    })
    .expect("a private cluster starts");
    let setting = Setting::connected(&node.url("/"), &postgres.url("malote")).await;
    let read_only = |on: &str| {
        block_in_place(|| postgres.set("default_transaction_read_only", on)).expect("the cluster answers");
    };
    read_only("on");
    for _ in 0..3 {
        setting.publish("order", 2).await;
    }
    let started = Instant::now();
    let (mut status, running) = setting.start();
    reaches(&mut status, "paused", |status| matches!(status, Status::Paused(_))).await;
    setting
        .queue_is("everything back and no consumer", |queue| (queue.ready, queue.consumers) == (3, 0))
        .await;
    assert!(started.elapsed() < TIMEOUT, "the server may have timed the consumer out");

    read_only("off");
    setting.handler.gate.add_permits(1_000);
    setting.has_effects(3).await;
    setting.stop.cancel();
    running.await.expect("the consumer ends in order");
    assert_eq!(setting.letters().await, []);
}

/// Four good events around one that crashes its process, again and again.
async fn only_what_crashes_becomes_a_dead_letter(setting: Setting) {
    setting.handler.gate.add_permits(10_000);
    setting.start_record();
    for topic in ["order", "order", "deadly", "order", "order"] {
        setting.publish(topic, 2).await;
    }
    let mut crashes = 0;
    let trouble = async {
        loop {
            let (_status, running) = setting.start();
            let dead = async {
                while setting.letters().await.is_empty() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::select! {
                () = setting.handler.crash.notified() => crashes += 1,
                () = dead => break,
            }
            // The process is gone, and with it its subscription.
            running.abort();
            let _ = running.await;
        }
    };
    timeout(PATIENCE, trouble).await.expect("it becomes a dead letter in time");
    setting.has_effects(4).await;
    let letters = setting.letters().await;
    let gave_up: Vec<_> =
        letters.iter().map(|letter| (letter.consumer.as_str(), letter.topic.as_str())).collect();
    assert_eq!(gave_up, [("orders", "deadly")]);
    assert!(letters[0].error.contains("tried alone"), "{}", letters[0].error);
    // As often as its queue allows, and as often again alone.
    assert_eq!(crashes, 2 * (DELIVERY_LIMIT + 1));
    setting.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_event_that_crashes_its_consumer_becomes_a_dead_letter_embedded() {
    only_what_crashes_becomes_a_dead_letter(Setting::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_event_that_crashes_its_consumer_becomes_a_dead_letter_on_rabbitmq() {
    only_what_crashes_becomes_a_dead_letter(Setting::rabbitmq(&fresh_vhost().1).await).await;
}

/// Three events that were held when other processes crashed, until the broker gave them up.
async fn what_the_broker_gave_up_is_tried_once_more(setting: Setting) {
    for _ in 0..3 {
        setting.publish("order", 2).await;
    }
    for _ in 0..=DELIVERY_LIMIT {
        let queue = setting.layout.queue("orders");
        let mut deliveries = setting.broker.subscribe(&queue, 10).await.expect("the queue is there");
        for _ in 0..3 {
            timeout(PATIENCE, deliveries.next()).await.expect("in time").expect("the subscription lives");
        }
    }
    setting.handler.gate.add_permits(10_000);
    setting.start_record();
    let (_status, running) = setting.start();
    setting.has_effects(3).await;
    assert_eq!(setting.letters().await, []);
    setting.stop.cancel();
    running.await.expect("the consumer ends in order");
    setting.queue_is("nothing left", |queue| queue.ready == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_gave_up_is_tried_once_more_embedded() {
    what_the_broker_gave_up_is_tried_once_more(Setting::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_gave_up_is_tried_once_more_on_rabbitmq() {
    what_the_broker_gave_up_is_tried_once_more(Setting::rabbitmq(&fresh_vhost().1).await).await;
}

/// Bodies of 1 MiB, many more than a consumer may hold.
async fn large_bodies_are_held_by_their_bytes(setting: Setting) {
    const EVENTS: usize = 24;
    const SIZE: usize = 1 << 20;
    for _ in 0..EVENTS {
        setting.publish("order", SIZE).await;
    }
    let (_status, running) = setting.start();
    // As many as fit, and one that is left of the window before.
    let most = PREFETCH_BYTES / SIZE + 1;
    for call in 1..=EVENTS {
        setting.has_begun(call).await;
        let least = EVENTS.saturating_sub(call - 1 + most) as u64;
        setting.queue_is("the others ready", |queue| queue.ready >= least).await;
        setting.handler.gate.add_permits(1);
    }
    setting.has_effects(EVENTS as i64).await;
    let mut connection = setting.store.read().await.expect("the store is there");
    let whole: i64 = sql::scalar("SELECT count(*) FROM effect WHERE size = $1")
        .bind(SIZE as i64)
        .fetch_one(&mut *connection)
        .await
        .expect("the table is there");
    assert_eq!(whole, EVENTS as i64);
    setting.stop.cancel();
    running.await.expect("the consumer ends in order");
}

/// Bodies that are suddenly much larger than those before.
async fn suddenly_large_bodies_are_held_by_their_bytes(setting: Setting) {
    const SMALL: usize = 200;
    const LARGE: usize = 64;
    const SIZE: usize = 1 << 20;
    let (_status, running) = setting.start();
    setting.handler.gate.add_permits(SMALL);
    for _ in 0..SMALL {
        setting.publish("order", 2).await;
    }
    setting.has_effects(SMALL as i64).await;
    // From here on a batch is in work, and what arrives meanwhile is held or in the queue.
    let left = setting.handler.gate.available_permits();
    setting.handler.gate.forget_permits(left);
    let calls = *setting.handler.begun.borrow();
    for _ in 0..LARGE {
        setting.publish("order", SIZE).await;
    }
    setting.has_begun(calls + 1).await;
    let most = 2 * PREFETCH_BYTES / SIZE + 2;
    setting.queue_is("the others ready", |queue| queue.ready >= (LARGE - most) as u64).await;

    setting.handler.gate.add_permits(10_000);
    setting.has_effects((SMALL + LARGE) as i64).await;
    setting.stop.cancel();
    running.await.expect("the consumer ends in order");
    setting.queue_is("nothing left", |queue| queue.ready == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suddenly_large_bodies_are_held_by_their_bytes_embedded() {
    suddenly_large_bodies_are_held_by_their_bytes(Setting::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suddenly_large_bodies_are_held_by_their_bytes_on_rabbitmq() {
    suddenly_large_bodies_are_held_by_their_bytes(Setting::rabbitmq(&fresh_vhost().1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_held_by_their_bytes_embedded() {
    large_bodies_are_held_by_their_bytes(Setting::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_held_by_their_bytes_on_rabbitmq() {
    large_bodies_are_held_by_their_bytes(Setting::rabbitmq(&fresh_vhost().1).await).await;
}
