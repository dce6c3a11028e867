//! The broker laws on RabbitMQ, and what only RabbitMQ can do to a publisher: close its channel, return a message
//! among many, block, refuse, die.
//!
//! Whatever takes a node down has a node of its own; everything else has a virtual host of its own on the shared
//! node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use broker::laws::Instance;
use broker::{
    Binding, Broker, Destination, DynBroker, Exchange, ExchangeKind, ExchangeName, PublishError, Publisher,
    Queue, QueueName, Subscriber, Topology,
};
use broker_rabbitmq::{Config, RabbitMq};
use event::{HeaderValue, Message};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::timeout;

/// How long a node may need to be of use again after it was killed.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(url: &str) -> Config {
    // The binary installs it at start; a test that is not the first finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Config { confirm_timeout_ms: 20_000, ..Config::new(url.parse().expect("the harness makes a sound URL")) }
}

/// A virtual host of the shared node.
struct SharedNode {
    url: String,
}

impl SharedNode {
    fn fresh() -> Self {
        let url =
            block_in_place(|| harness::Shared::from_env()?.fresh_vhost()).expect("the shared node is there");
        Self { url }
    }
}

#[async_trait]
impl Instance for SharedNode {
    async fn broker(&self) -> DynBroker {
        Arc::new(RabbitMq::connect(config(&self.url)))
    }

    async fn crash(&self) {
        unreachable!("laws that crash the broker have a node of their own");
    }
}

/// A node that nobody else uses.
struct OwnNode {
    node: harness::RabbitMq,
    crashed: AtomicBool,
}

impl OwnNode {
    fn start() -> Self {
        let node = block_in_place(harness::RabbitMq::start).expect("a private node starts");
        Self { node, crashed: AtomicBool::new(false) }
    }

    fn url(&self) -> String {
        self.node.url("/")
    }

    fn crash_now(&self) {
        self.crashed.store(true, Ordering::Relaxed);
        block_in_place(|| self.node.kill9().and_then(|()| self.node.restart())).expect("the node comes back");
    }
}

#[async_trait]
impl Instance for OwnNode {
    async fn broker(&self) -> DynBroker {
        let mut config = config(&self.url());
        if !self.crashed.load(Ordering::Relaxed) {
            // A node takes longer than this to come back: what was under way at the crash is given up, and is not
            // published again behind the law's back.
            config.confirm_timeout_ms = 2_000;
        }
        Arc::new(RabbitMq::connect(config))
    }

    async fn crash(&self) {
        self.crash_now();
    }
}

broker::broker_laws!(SharedNode::fresh(), crashing: OwnNode::start());

fn queue() -> QueueName {
    QueueName::new("work")
}

fn exchange() -> ExchangeName {
    ExchangeName::new("topics")
}

/// A topic exchange with one queue, bound to `good`.
fn topology() -> Topology {
    Topology {
        exchanges: vec![Exchange { name: exchange(), kind: ExchangeKind::Topic, alternate: None }],
        queues: vec![Queue {
            name: queue(),
            delivery_limit: 20,
            message_ttl: None,
            dead_letter_exchange: None,
        }],
        bindings: vec![Binding {
            exchange: exchange(),
            destination: Destination::Queue(queue()),
            routing_key: "good".to_owned(),
        }],
    }
}

fn message(id: impl ToString) -> Message {
    let headers = [("cloudEvents_id".to_owned(), HeaderValue::from(id.to_string()))].into();
    Message { headers, ..broker::test_support::message(id) }
}

async fn declared(config: Config) -> Arc<RabbitMq> {
    let broker = RabbitMq::connect(config);
    broker.declare(&topology()).await.expect("the topology is new");
    Arc::new(broker)
}

/// Publishes all at once; each with its number and how it ended.
async fn publish_all(
    broker: &Arc<RabbitMq>,
    publishes: impl IntoIterator<Item = (ExchangeName, &'static str, Message)>,
) -> Vec<(usize, Result<(), PublishError>)> {
    let mut tasks = JoinSet::new();
    for (number, (exchange, routing_key, message)) in publishes.into_iter().enumerate() {
        let broker = broker.clone();
        tasks.spawn(async move { (number, broker.publish(&exchange, routing_key, message).await) });
    }
    tasks.join_all().await
}

/// Takes from the queue until every expected message was seen.
async fn take_until_seen(broker: &RabbitMq, mut expected: BTreeSet<String>) -> BTreeSet<String> {
    let mut deliveries = broker.subscribe(&queue(), 200).await.expect("the queue is there");
    let mut seen = BTreeSet::new();
    while !expected.is_empty() {
        let delivery = timeout(PATIENCE, deliveries.next()).await;
        let delivery = delivery.unwrap_or_else(|_| panic!("missing: {expected:?}")).expect("the node lives");
        deliveries.ack(&[delivery.tag]).await.expect("the node lives");
        expected.remove(&delivery.message.message_id);
        seen.insert(delivery.message.message_id);
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_returned_message_fails_its_own_publish_and_no_other() {
    let broker = declared(config(&SharedNode::fresh().url)).await;
    let key = |number| if number % 3 == 0 { "nobody" } else { "good" };
    let results = publish_all(&broker, (0..6_000).map(|n| (exchange(), key(n), message(n)))).await;
    let mut expected = BTreeSet::new();
    for (number, result) in results {
        match result {
            Ok(()) => assert!(expected.insert(number.to_string())),
            Err(PublishError::Unroutable { routing_key, .. }) => {
                assert_eq!(routing_key, "nobody", "{number}")
            }
            Err(error) => panic!("{number}: {error:?}"),
        }
    }
    assert_eq!(expected.len(), 4_000);
    take_until_seen(&broker, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_exchange_fails_its_own_publishes_and_no_other() {
    let broker = declared(config(&SharedNode::fresh().url)).await;
    let target = |number| if number % 100 == 50 { ExchangeName::new("nowhere") } else { exchange() };
    let results = publish_all(&broker, (0..1_000).map(|n| (target(n), "good", message(n)))).await;
    let mut expected = BTreeSet::new();
    for (number, result) in results {
        match result {
            Ok(()) => assert!(expected.insert(number.to_string())),
            Err(PublishError::MissingExchange { exchange }) => {
                assert_eq!((exchange.as_str(), number % 100), ("nowhere", 50));
            }
            Err(error) => panic!("{number}: {error:?}"),
        }
    }
    assert_eq!(expected.len(), 990);
    take_until_seen(&broker, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_rabbitmq_cannot_take_fails_its_own_publish_and_no_other() {
    let broker = declared(config(&SharedNode::fresh().url)).await;
    let poisoned = |number| {
        let mut message = message(number);
        if number == 40 {
            // RabbitMQ takes a list here, and closes the channel over anything else.
            message.headers.insert("CC".to_owned(), HeaderValue::from("elsewhere"));
        }
        message
    };
    let results = publish_all(&broker, (0..100).map(|n| (exchange(), "good", poisoned(n)))).await;
    for (number, result) in results {
        match result {
            Ok(()) => assert_ne!(number, 40),
            Err(PublishError::Rejected(_)) => assert_eq!(number, 40),
            Err(error) => panic!("{number}: {error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_disturbs_nobody() {
    let broker = declared(config(&SharedNode::fresh().url)).await;
    let mut gone = JoinSet::new();
    for number in 0..300 {
        let broker = broker.clone();
        gone.spawn(
            async move { broker.publish(&exchange(), "good", message(format!("gone {number}"))).await },
        );
        if number % 50 == 49 {
            gone.shutdown().await;
        }
    }
    let results = publish_all(&broker, (0..300).map(|n| (exchange(), "good", message(n)))).await;
    assert!(results.iter().all(|(_, result)| result.is_ok()), "{results:?}");
    take_until_seen(&broker, (0..300).map(|n| n.to_string()).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_host_is_given_up_and_the_next_one_is_used() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = silent.local_addr().expect("it is bound").port();
    let SharedNode { url } = SharedNode::fresh();
    let url = url.replacen('@', &format!("@127.0.0.1:{port},"), 1);
    let broker = RabbitMq::connect(Config { connection_timeout_ms: 1_000, ..config(&url) });
    let info = broker.check().await.expect("the second host answers");
    assert!(!info.address.contains(&port.to_string()), "{}", info.address);
    assert!(!info.address.contains("guest"), "{}", info.address);
    // The attempt is ended, not left behind.
    let (mut attempt, _) = silent.accept().await.expect("it was connected to");
    let mut header = Vec::new();
    timeout(PATIENCE, attempt.read_to_end(&mut header))
        .await
        .expect("it was given up")
        .expect("it was closed");
    assert_eq!(header, b"AMQP\x00\x00\x09\x01");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_confirmed_when_close_returns() {
    let broker = declared(config(&SharedNode::fresh().url)).await;
    let publishing = {
        let broker = broker.clone();
        tokio::spawn(
            async move { publish_all(&broker, (0..500).map(|n| (exchange(), "good", message(n)))).await },
        )
    };
    let status = async || broker.queues(&[queue()]).await.expect("the queue is there")[0].ready;
    while status().await == 0 {}
    broker.close().await;
    let results = publishing.await.expect("no publish panics");
    for (number, result) in results {
        match result {
            Ok(()) => {}
            // What came after the close began.
            Err(PublishError::Unavailable(cause)) => assert_eq!(cause.to_string(), "this handle is closed"),
            Err(error) => panic!("{number}: {error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_may_declare_the_same_topology_at_once() {
    let SharedNode { url } = SharedNode::fresh();
    let providers = ["gestao-online", "recuperador"].map(|name| event::ProviderName::new(name).unwrap());
    let topology = Arc::new(broker::Layout::new("").topology(&providers, &[]));
    let mut replicas = JoinSet::new();
    for _ in 0..4 {
        let (broker, topology) = (RabbitMq::connect(config(&url)), topology.clone());
        replicas.spawn(async move { broker.declare(&topology).await });
    }
    for result in replicas.join_all().await {
        result.expect("every replica declares");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_publish_that_returned_is_there_after_a_kill_under_load() {
    let node = OwnNode::start();
    // Patient enough to see the node come back: what was in flight is published again.
    let broker = declared(Config { confirm_timeout_ms: 60_000, ..config(&node.url()) }).await;
    let publishing = {
        let broker = broker.clone();
        tokio::spawn(async move {
            publish_all(&broker, (0..2_000).map(|n| (exchange(), "good", message(n)))).await
        })
    };
    let ready = async || broker.queues(&[queue()]).await.expect("the queue is there")[0].ready;
    while ready().await < 100 {}
    block_in_place(|| node.node.kill9()).expect("the node is ours");
    assert!(!publishing.is_finished(), "the node was killed under load");
    block_in_place(|| node.node.restart()).expect("the node comes back");
    let results = publishing.await.expect("no publish panics");
    let confirmed: BTreeSet<_> =
        results.iter().filter(|(_, result)| result.is_ok()).map(|(number, _)| number.to_string()).collect();
    assert_eq!(
        confirmed.len(),
        2_000,
        "the handle outlives the crash: {:?}",
        results.iter().find(|(_, r)| r.is_err())
    );
    take_until_seen(&broker, confirmed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_outlives_an_outage_and_says_unavailable_in_time() {
    let node = OwnNode::start();
    let broker = declared(Config { confirm_timeout_ms: 2_000, ..config(&node.url()) }).await;
    broker.publish(&exchange(), "good", message("before")).await.expect("the node lives");
    block_in_place(|| node.node.kill9()).expect("the node is ours");

    let unborn = RabbitMq::connect(Config { confirm_timeout_ms: 2_000, ..config(&node.url()) });
    for handle in [&*broker, &unborn] {
        let start = Instant::now();
        let error = handle.publish(&exchange(), "good", message("during")).await.unwrap_err();
        assert!(matches!(error, PublishError::Unavailable(_)), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(matches!(handle.check().await, Err(broker::BrokerError::Unavailable(_))));
    }

    block_in_place(|| node.node.restart()).expect("the node comes back");
    for (handle, id) in [(&*broker, "after, old"), (&unborn, "after, new")] {
        let start = Instant::now();
        while let Err(error) = handle.publish(&exchange(), "good", message(id)).await {
            assert!(start.elapsed() < PATIENCE, "{id}: {error:?}");
        }
    }
    let expected = ["before", "after, old", "after, new"].map(str::to_owned);
    take_until_seen(&unborn, expected.into()).await;
    assert_eq!(broker.check().await.expect("the node is back").product, "RabbitMQ");
}

/// A process that has declared the queue of a subscription reconnects after another one has removed it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_declares_again_what_may_not_be_removed_and_nothing_else() {
    let url = SharedNode::fresh().url;
    let (host, vhost) = url.rsplit_once('/').expect("a URL with a virtual host");
    let (host, port) = host.rsplit_once(':').expect("a URL with a port");
    let proxy = harness::Proxy::start(port.parse().expect("a port")).await.expect("a port for the proxy");
    let declaring = RabbitMq::connect(config(&format!("{host}:{}/{vhost}", proxy.port())));
    let queue = |name: &str| Queue { name: QueueName::new(name), ..topology().queues.remove(0) };
    let one = |name| Topology { queues: vec![queue(name)], ..Topology::default() };
    declaring.declare(&one("lasting")).await.expect("it is new");
    declaring.declare_once(&one("removed")).await.expect("it is new");
    declaring.declare(&one("removed here")).await.expect("it is new");

    let other = RabbitMq::connect(config(&url));
    for name in ["lasting", "removed"] {
        other.delete_queue(&QueueName::new(name)).await.expect("it is there");
    }
    declaring.delete_queue(&QueueName::new("removed here")).await.expect("it is there");
    proxy.set(harness::Way::Cut);
    let start = Instant::now();
    while declaring.check().await.is_ok() {
        assert!(start.elapsed() < PATIENCE, "the connection is not lost");
    }
    proxy.set(harness::Way::Open);
    while declaring.check().await.is_err() {
        assert!(start.elapsed() < PATIENCE, "the connection does not come back");
    }
    for (name, is_there) in [("lasting", true), ("removed", false), ("removed here", false)] {
        assert_eq!(other.queues(&[QueueName::new(name)]).await.is_ok(), is_there, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_publisher_says_unavailable_in_time_and_goes_on_when_it_is_over() {
    let node = OwnNode::start();
    let broker = declared(Config { confirm_timeout_ms: 2_000, ..config(&node.url()) }).await;
    broker.publish(&exchange(), "good", message(1)).await.expect("nothing is wrong yet");
    assert!(!broker.is_blocked());

    block_in_place(|| node.node.set_memory_alarm(true)).expect("the alarm is raised");
    let start = Instant::now();
    let error = broker.publish(&exchange(), "good", message(2)).await.unwrap_err();
    assert!(matches!(error, PublishError::Unavailable(_)), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(broker.is_blocked());
    assert!(broker.check().await.is_err(), "a broker that takes nothing is not ready");
    let status = broker.queues(&[queue()]).await.expect("asking is not publishing");
    assert_eq!(status[0].queue, queue());

    block_in_place(|| node.node.set_memory_alarm(false)).expect("the alarm is cleared");
    let start = Instant::now();
    while let Err(error) = broker.publish(&exchange(), "good", message(3)).await {
        assert!(start.elapsed() < PATIENCE, "{error:?}");
    }
    assert!(!broker.is_blocked());
    take_until_seen(&broker, [1, 3].map(|n| n.to_string()).into()).await;
}
