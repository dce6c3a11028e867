//! The spool in front of a broker that is away, slow or refusing when it is told to.

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{BrokerError, BrokerInfo, Deliveries, QueueStatus, Subscriber};

const WORKS: u8 = 0;
const AWAY: u8 = 1;
const SILENT: u8 = 2;

/// An embedded broker with a mood.
struct Moody {
    real: Embedded,
    mood: AtomicU8,
}

#[async_trait]
impl Publisher for Moody {
    async fn publish(
        &self,
        exchange: &ExchangeName,
        key: &str,
        message: Message,
    ) -> Result<(), PublishError> {
        match self.mood.load(Ordering::SeqCst) {
            AWAY => Err(PublishError::Unavailable("connection refused".into())),
            SILENT => std::future::pending().await,
            _ if message.r#type == "poison" => Err(PublishError::Refused),
            _ => self.real.publish(exchange, key, message).await,
        }
    }
}

#[async_trait]
impl Subscriber for Moody {
    async fn subscribe(&self, queue: &QueueName, prefetch: u16) -> Result<Box<dyn Deliveries>, BrokerError> {
        self.real.subscribe(queue, prefetch).await
    }
}

#[async_trait]
impl Broker for Moody {
    async fn declare(&self, topology: &Topology) -> Result<(), BrokerError> {
        self.real.declare(topology).await
    }

    async fn queues(&self, queues: &[QueueName]) -> Result<Vec<QueueStatus>, BrokerError> {
        self.real.queues(queues).await
    }

    async fn check(&self) -> Result<BrokerInfo, BrokerError> {
        match self.mood.load(Ordering::SeqCst) {
            WORKS => self.real.check().await,
            _ => Err(BrokerError::Unavailable("connection refused".into())),
        }
    }

    async fn close(&self) {}
}

struct Setting {
    folder: TempDir,
    broker: Arc<Moody>,
}

fn work() -> Topology {
    let queue = Queue {
        name: QueueName::new("work"),
        delivery_limit: 20,
        message_ttl: None,
        dead_letter_exchange: None,
    };
    Topology { queues: vec![queue], ..Topology::default() }
}

fn message(id: usize) -> Message {
    Message {
        message_id: id.to_string(),
        r#type: "order.created".to_owned(),
        timestamp: 1,
        body: vec![b'x'; 100].into(),
        ..probe()
    }
}

impl Setting {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let real = Embedded::open(folder.path().join("broker.db")).unwrap();
        real.declare(&work()).await.unwrap();
        Self { folder, broker: Arc::new(Moody { real, mood: AtomicU8::new(WORKS) }) }
    }

    fn mood(&self, mood: u8) {
        self.broker.mood.store(mood, Ordering::SeqCst);
    }

    fn file(&self) -> &Path {
        self.folder.path()
    }

    async fn spool(&self, limit_bytes: u64) -> Spool {
        let config =
            Config { file: self.file().join("spool.db"), limit_bytes, patience: Duration::from_millis(50) };
        Spool::open(config, self.broker.clone()).await.unwrap()
    }

    fn run(&self, spool: &Spool) -> (CancellationToken, JoinHandle<()>) {
        let (stop, spool, broker) = (CancellationToken::new(), spool.clone(), self.broker.clone());
        let told = stop.clone();
        (stop, tokio::spawn(async move { spool.run(broker, work(), told).await }))
    }

    /// Takes `count` messages from the queue and gives their ids.
    async fn arrived(&self, count: usize) -> Vec<usize> {
        let mut deliveries = self.broker.subscribe(&QueueName::new("work"), 1_000).await.unwrap();
        let mut ids = Vec::new();
        while ids.len() < count {
            let delivery = timeout(Duration::from_secs(30), deliveries.next()).await;
            let delivery = delivery.unwrap_or_else(|_| panic!("{} of {count} arrive", ids.len())).unwrap();
            assert!(delivery.message.headers.is_empty(), "the spool's own headers stay with it");
            ids.push(delivery.message.message_id.parse().unwrap());
            deliveries.ack(&[delivery.tag]).await.unwrap();
        }
        ids
    }
}

async fn publish(spool: &Spool, id: usize) -> Result<(), PublishError> {
    spool.publish(&ExchangeName::default_exchange(), "work", message(id)).await
}

async fn until(spool: &Spool, fits: impl Fn(&Standing) -> bool) {
    let mut standing = spool.standing();
    timeout(Duration::from_secs(30), standing.wait_for(|standing| fits(standing))).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_the_broker_does_not_take_comes_later_in_its_order() {
    for mood in [AWAY, SILENT] {
        let setting = Setting::new().await;
        let spool = setting.spool(1 << 20).await;
        let (stop, drain) = setting.run(&spool);
        publish(&spool, 0).await.unwrap();
        setting.mood(mood);
        for id in 1..400 {
            publish(&spool, id).await.unwrap();
        }
        assert!(matches!(*spool.standing().borrow(), Standing::Spooling(_)));
        setting.mood(WORKS);
        // A silent broker's publish is given up by the drain's caller only: it starts anew.
        if mood == SILENT {
            stop.cancel();
            drain.abort();
            let _ = drain.await;
            let (_stop, _drain) = setting.run(&spool);
            assert_eq!(setting.arrived(400).await, (0..400).collect::<Vec<_>>());
            continue;
        }
        // New ones go behind the old ones.
        for id in 400..500 {
            publish(&spool, id).await.unwrap();
        }
        assert_eq!(setting.arrived(500).await, (0..500).collect::<Vec<_>>());
        until(&spool, |standing| *standing == Standing::Direct).await;
        assert_eq!(spool.0.state().messages, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_steady_load_the_way_to_the_broker_opens_again() {
    let setting = Setting::new().await;
    let spool = setting.spool(64 << 20).await;
    let (_stop, _drain) = setting.run(&spool);
    setting.mood(AWAY);
    for id in 0..1_000 {
        publish(&spool, id).await.unwrap();
    }
    let end = CancellationToken::new();
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (spool, end) = (spool.clone(), end.clone());
            tokio::spawn(async move {
                let mut count = 0;
                while !end.is_cancelled() {
                    publish(&spool, 1_000_000).await.unwrap();
                    count += 1;
                }
                count
            })
        })
        .collect();
    setting.mood(WORKS);
    until(&spool, |standing| *standing == Standing::Direct).await;
    end.cancel();
    let mut sent = 1_000;
    for task in load {
        sent += task.await.unwrap();
    }
    let arrived = setting.arrived(sent).await;
    let old: Vec<_> = arrived.into_iter().filter(|id| *id < 1_000).collect();
    assert_eq!(old, (0..1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_stored_survives_the_process_and_goes_first() {
    let setting = Setting::new().await;
    let spool = setting.spool(1 << 20).await;
    setting.mood(AWAY);
    for id in 0..300 {
        publish(&spool, id).await.unwrap();
    }
    drop(spool);
    setting.mood(WORKS);
    let spool = setting.spool(1 << 20).await;
    assert_eq!(spool.0.state().messages, 300);
    assert_eq!(spool.0.state().bytes, 300 * size(&message(0)));
    publish(&spool, 300).await.unwrap();
    let (_stop, _drain) = setting.run(&spool);
    assert_eq!(setting.arrived(301).await, (0..301).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_spool_refuses_with_the_reason_and_takes_again_once_there_is_room() {
    let setting = Setting::new().await;
    let spool = setting.spool(10 * size(&message(0))).await;
    let (_stop, _drain) = setting.run(&spool);
    setting.mood(AWAY);
    for id in 0..10 {
        publish(&spool, id).await.unwrap();
    }
    let refused = publish(&spool, 10).await.unwrap_err();
    let said = Chain(&refused).to_string();
    assert!(
        said.contains("connection refused") && said.contains("it is full: 11240 of 11240 bytes"),
        "{said}"
    );
    assert!(matches!(*spool.standing().borrow(), Standing::Refusing(_)));
    setting.mood(WORKS);
    until(&spool, |standing| *standing == Standing::Direct).await;
    publish(&spool, 10).await.unwrap();
    assert_eq!(setting.arrived(11).await, (0..11).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_the_broker_never_takes_is_set_aside_and_the_others_get_through() {
    let setting = Setting::new().await;
    let spool = setting.spool(1 << 30).await;
    setting.mood(AWAY);
    let poison = Message { r#type: "poison".to_owned(), ..message(0) };
    spool.publish(&ExchangeName::default_exchange(), "work", poison).await.unwrap();
    for id in 1..50 {
        publish(&spool, id).await.unwrap();
    }
    setting.mood(WORKS);
    let (_stop, _drain) = setting.run(&spool);
    // One more beside it in each round.
    let mut sent = 50;
    while *spool.standing().borrow() != Standing::Direct {
        assert!(sent < 100_000, "the poison is never set aside");
        publish(&spool, sent).await.unwrap();
        sent += 1;
        tokio::task::yield_now().await;
    }
    assert_eq!(setting.arrived(sent - 1).await.len(), sent - 1);
    let file = spool.0.state().file.clone().unwrap();
    assert_eq!(file.contents(&QueueName::new(ASIDE)).await.unwrap().messages, 1);
}

#[tokio::test]
async fn a_topology_that_is_gone_is_declared_again() {
    let setting = Setting::new().await;
    let folder = setting.file().join("other.db");
    let empty = Arc::new(Moody { real: Embedded::open(folder).unwrap(), mood: AtomicU8::new(WORKS) });
    let setting = Setting { broker: empty, ..setting };
    let spool = setting.spool(1 << 20).await;
    let (_stop, _drain) = setting.run(&spool);
    publish(&spool, 0).await.unwrap();
    until(&spool, |standing| *standing == Standing::Direct).await;
    assert_eq!(setting.arrived(1).await, [0]);
}

#[tokio::test]
async fn a_stop_drains_what_it_can() {
    let setting = Setting::new().await;
    let spool = setting.spool(1 << 22).await;
    setting.mood(AWAY);
    for id in 0..1_000 {
        publish(&spool, id).await.unwrap();
    }
    setting.mood(WORKS);
    let (stop, drain) = setting.run(&spool);
    stop.cancel();
    timeout(Duration::from_secs(30), drain).await.unwrap().unwrap();
    assert_eq!(setting.arrived(1_000).await.len(), 1_000);
}

#[tokio::test]
async fn a_file_of_something_else_or_in_use_is_an_error() {
    let setting = Setting::new().await;
    let spool = setting.spool(1).await;
    let config = spool.0.config.clone();
    let second = Spool::open(config.clone(), setting.broker.clone()).await;
    assert!(matches!(second, Err(OpenError::InUse { .. })));
    drop(spool);
    std::fs::write(
        &config.file,
        "a text that is long enough to be no SQLite file, a hundred bytes and more of it, is no spool",
    )
    .unwrap();
    assert!(matches!(Spool::open(config, setting.broker.clone()).await, Err(OpenError::Foreign { .. })));
}
