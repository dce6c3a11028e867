//! The laws on the embedded broker, and what only its file can show.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::Mutex;

use super::*;
use crate::laws::Instance;
use crate::test_support::message;
use crate::{Destination, DynBroker, Exchange, ExchangeKind, Queue};

mod former;
mod log;
mod queues;

/// A broker whose crash stops its thread between a write and the commit, and continues on a copy of the files.
struct Crashing {
    directory: TempDir,
    current: Mutex<(u32, Embedded)>,
}

impl Crashing {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let broker = Embedded::open(directory.path().join("0.db")).unwrap();
        Self { directory, current: Mutex::new((0, broker)) }
    }

    fn path(&self, life: u32, suffix: &str) -> PathBuf {
        self.directory.path().join(format!("{life}.db{suffix}"))
    }
}

#[async_trait]
impl Instance for Crashing {
    async fn broker(&self) -> DynBroker {
        Arc::new(self.current.lock().await.1.clone())
    }

    async fn crash(&self) {
        let mut current = self.current.lock().await;
        let (life, broker) = &mut *current;
        let (reply, killed) = oneshot::channel();
        broker.shared.commands.send(Command::Kill { reply }).unwrap();
        killed.await.unwrap();
        for suffix in ["", "-wal"] {
            fs::copy(self.path(*life, suffix), self.path(*life + 1, suffix)).unwrap();
        }
        *life += 1;
        *broker = Embedded::open(self.path(*life, "")).unwrap();
    }
}

crate::broker_laws!(Crashing::new());

const PATIENCE: Duration = Duration::from_secs(60);

fn queue(name: &str) -> Queue {
    Queue { name: QueueName::new(name), delivery_limit: 1, message_ttl: None, dead_letter_exchange: None }
}

async fn declare(broker: &Embedded, queues: &[Queue]) {
    broker.declare(&Topology { queues: queues.to_vec(), ..Topology::default() }).await.unwrap();
}

async fn put(broker: &Embedded, queue: &str, id: &str) -> Result<(), PublishError> {
    broker.publish(&ExchangeName::default_exchange(), queue, message(id)).await
}

async fn subscribe(broker: &Embedded, queue: &str) -> Box<dyn Deliveries> {
    broker.subscribe(&QueueName::new(queue), 10).await.unwrap()
}

async fn next(deliveries: &mut Box<dyn Deliveries>) -> Delivery {
    tokio::time::timeout(PATIENCE, deliveries.next()).await.expect("a delivery in time").unwrap()
}

async fn ready(broker: &Embedded, queue: &str) -> u64 {
    broker.queues(&[QueueName::new(queue)]).await.unwrap()[0].ready
}

fn open_in(directory: &TempDir) -> Embedded {
    Embedded::open(directory.path().join("broker.db")).unwrap()
}

#[tokio::test]
async fn a_second_opener_is_told_that_the_file_is_in_use_until_the_first_closes() {
    let directory = TempDir::new().unwrap();
    let first = open_in(&directory);
    let path = directory.path().join("broker.db");
    assert!(matches!(Embedded::open(&path), Err(OpenError::InUse { .. })));
    first.close().await;
    assert!(Embedded::open(&path).is_ok());
}

#[test]
fn another_process_gets_in_only_once_the_file_is_closed() {
    // This test again, as the other process.
    let path = Path::new("broker.db");
    if path.exists() {
        assert!(matches!(Embedded::open(path), Err(OpenError::InUse { .. })));
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.busy_timeout(Duration::ZERO).unwrap();
        let read = connection.query_row("SELECT count(*) FROM queue", [], |row| row.get::<_, i64>(0));
        assert_eq!(read.unwrap_err().sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
        return;
    }
    let name = "embedded::tests::another_process_gets_in_only_once_the_file_is_closed";
    let directory = TempDir::new().unwrap();
    let refused = || {
        let program = std::env::current_exe().unwrap();
        let other = std::process::Command::new(program)
            .args(["--exact", name])
            .current_dir(&directory)
            .output()
            .unwrap();
        other.status.success()
    };
    let broker = open_in(&directory);
    assert!(refused());
    drop(broker);
    assert!(!refused());
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_its_owners_only() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    declare(&broker, &[queue("work")]).await;
    for name in ["broker.db", "broker.db-wal"] {
        let mode = fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}

#[test]
fn a_file_of_another_version_or_another_program_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("broker.db");
    drop(Embedded::open(&path).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    assert!(matches!(Embedded::open(&path), Err(OpenError::Version { found: 99, .. })));

    let path = directory.path().join("other.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE something (a)").unwrap();
    drop(connection);
    let before = fs::read(&path).unwrap();
    assert!(matches!(Embedded::open(&path), Err(OpenError::Foreign { .. })));
    assert_eq!(fs::read(&path).unwrap(), before);

    let path = directory.path().join("text.db");
    fs::write(
        &path,
        "not a database, but long enough to have the header of one, with some to spare: ".repeat(9),
    )
    .unwrap();
    assert!(matches!(Embedded::open(&path), Err(OpenError::Foreign { .. })));
    assert!(matches!(
        Embedded::open(directory.path().join("missing/broker.db")),
        Err(OpenError::File { .. })
    ));
}

#[tokio::test]
async fn an_orderly_end_keeps_messages_counts_and_order() {
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    declare(&broker, &[queue("work")]).await;
    for id in ["a", "b", "c"] {
        put(&broker, "work", id).await.unwrap();
    }
    let mut deliveries = subscribe(&broker, "work").await;
    let first = next(&mut deliveries).await;
    deliveries.ack(&[first.tag]).await.unwrap();
    broker.close().await;
    // What had arrived is still delivered; then the subscription is over, and nothing it holds can be settled.
    for id in ["b", "c"] {
        assert_eq!(next(&mut deliveries).await.message.message_id, id);
    }
    assert!(matches!(deliveries.next().await.map(drop), Err(BrokerError::Unavailable(_))));
    assert!(matches!(deliveries.ack(&[first.tag + 1]).await, Err(BrokerError::Unavailable(_))));
    drop((deliveries, broker));
    let log = fs::metadata(directory.path().join("broker.db-wal")).map_or(0, |file| file.len());
    assert_eq!(log, 0, "closing moves the log into the file");

    let broker = open_in(&directory);
    assert_eq!(ready(&broker, "work").await, 2);
    put(&broker, "work", "d").await.unwrap();
    let mut deliveries = subscribe(&broker, "work").await;
    for (id, redelivered) in [("b", true), ("c", true), ("d", false)] {
        let delivery = next(&mut deliveries).await;
        assert_eq!((delivery.message.message_id.as_str(), delivery.redelivered), (id, redelivered));
    }
}

#[tokio::test]
async fn what_comes_back_keeps_its_place_in_the_queue() {
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    declare(&broker, &[Queue { delivery_limit: 20, ..queue("work") }]).await;
    for id in ["a", "b", "c", "d"] {
        put(&broker, "work", id).await.unwrap();
    }
    let mut first = broker.subscribe(&QueueName::new("work"), 3).await.unwrap();
    let held = [next(&mut first).await, next(&mut first).await, next(&mut first).await];
    first.ack(&[held[1].tag]).await.unwrap();
    drop(first);
    let mut second = broker.subscribe(&QueueName::new("work"), 1).await.unwrap();
    for id in ["a", "c", "d"] {
        let delivery = next(&mut second).await;
        assert_eq!(delivery.message.message_id, id);
        second.ack(&[delivery.tag]).await.unwrap();
    }
}

#[tokio::test]
async fn settling_what_is_not_held_ends_the_subscription_and_gives_back_the_rest() {
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    declare(&broker, &[queue("work")]).await;
    put(&broker, "work", "a").await.unwrap();
    let mut deliveries = subscribe(&broker, "work").await;
    let tag = next(&mut deliveries).await.tag;
    assert!(matches!(deliveries.ack(&[tag, tag]).await, Err(BrokerError::Unavailable(_))));
    assert!(deliveries.next().await.is_err());
    assert!(deliveries.ack(&[tag]).await.is_err());
    assert!(next(&mut subscribe(&broker, "work").await).await.redelivered);
}

#[tokio::test]
async fn a_crash_counts_towards_the_delivery_limit() {
    let instance = Crashing::new();
    let broker = instance.current.lock().await.1.clone();
    let work = Queue { dead_letter_exchange: Some(ExchangeName::new("dead")), ..queue("work") };
    let dead = Exchange { name: ExchangeName::new("dead"), kind: ExchangeKind::Fanout, alternate: None };
    let binding = Binding {
        exchange: dead.name.clone(),
        destination: Destination::Queue(QueueName::new("dead")),
        routing_key: String::new(),
    };
    let topology =
        Topology { exchanges: vec![dead], queues: vec![work, queue("dead")], bindings: vec![binding] };
    broker.declare(&topology).await.unwrap();
    put(&broker, "work", "deadly").await.unwrap();
    for redelivered in [false, true] {
        let broker = instance.current.lock().await.1.clone();
        let mut deliveries = subscribe(&broker, "work").await;
        assert_eq!(next(&mut deliveries).await.redelivered, redelivered);
        instance.crash().await;
        // A crash while nobody has the message does not count.
        instance.crash().await;
    }
    let broker = instance.current.lock().await.1.clone();
    let _work = subscribe(&broker, "work").await;
    let letter = next(&mut subscribe(&broker, "dead").await).await;
    assert_eq!(letter.message.message_id, "deadly");
    assert_eq!(letter.message.text("x-first-death-queue"), Some("work"));
    assert_eq!(letter.message.text("x-first-death-reason"), Some("delivery_limit"));
    assert!(!letter.redelivered);
}

#[tokio::test]
async fn without_a_dead_letter_exchange_the_delivery_limit_drops() {
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    declare(&broker, &[queue("work")]).await;
    put(&broker, "work", "a").await.unwrap();
    put(&broker, "work", "b").await.unwrap();
    for id in ["a", "a", "b"] {
        let mut deliveries = broker.subscribe(&QueueName::new("work"), 1).await.unwrap();
        assert_eq!(next(&mut deliveries).await.message.message_id, id);
    }
}

#[tokio::test]
async fn a_dead_letter_that_no_queue_takes_waits_and_holds_up_none_behind_it() {
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    let wait = Queue {
        message_ttl: Some(Duration::from_millis(20)),
        dead_letter_exchange: Some(ExchangeName::default_exchange()),
        ..queue("wait")
    };
    let exchange = Exchange { name: ExchangeName::new("wait"), kind: ExchangeKind::Fanout, alternate: None };
    let binding = Binding {
        exchange: exchange.name.clone(),
        destination: Destination::Queue(QueueName::new("wait")),
        routing_key: String::new(),
    };
    let topology =
        Topology { exchanges: vec![exchange], queues: vec![wait, queue("work")], bindings: vec![binding] };
    broker.declare(&topology).await.unwrap();
    let exchange = ExchangeName::new("wait");
    broker.publish(&exchange, "later", message("stuck")).await.unwrap();
    broker.publish(&exchange, "work", message("behind")).await.unwrap();

    let behind = next(&mut subscribe(&broker, "work").await).await;
    assert_eq!(behind.message.message_id, "behind");
    assert_eq!(behind.message.text("x-first-death-reason"), Some("expired"));
    assert_eq!(ready(&broker, "wait").await, 1);
    declare(&broker, &[queue("later")]).await;
    let stuck = next(&mut subscribe(&broker, "later").await).await;
    assert_eq!(stuck.message.message_id, "stuck");
    assert_eq!(ready(&broker, "wait").await, 0);
}

#[tokio::test]
async fn what_expires_while_the_broker_is_down_arrives_at_the_next_start() {
    let directory = TempDir::new().unwrap();
    let wait = Queue {
        message_ttl: Some(Duration::from_millis(1)),
        dead_letter_exchange: Some(ExchangeName::default_exchange()),
        ..queue("wait")
    };
    // Declared only at the next start: nothing can move before.
    let broker = open_in(&directory);
    declare(&broker, &[wait]).await;
    let exchange = Exchange { name: ExchangeName::new("wait"), kind: ExchangeKind::Fanout, alternate: None };
    let binding = Binding {
        exchange: exchange.name.clone(),
        destination: Destination::Queue(QueueName::new("wait")),
        routing_key: String::new(),
    };
    broker
        .declare(&Topology { exchanges: vec![exchange], bindings: vec![binding], ..Topology::default() })
        .await
        .unwrap();
    broker.publish(&ExchangeName::new("wait"), "work", message("late")).await.unwrap();
    broker.close().await;

    let broker = open_in(&directory);
    declare(&broker, &[queue("work")]).await;
    assert_eq!(next(&mut subscribe(&broker, "work").await).await.message.message_id, "late");
}

#[tokio::test]
async fn when_the_file_refuses_a_write_publishers_learn_the_cause_and_nothing_is_lost() {
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    declare(&broker, &[Queue { delivery_limit: 20, ..queue("work") }]).await;
    put(&broker, "work", "before").await.unwrap();
    let mut deliveries = subscribe(&broker, "work").await;
    let held = next(&mut deliveries).await;

    broker.shared.commands.send(Command::Refuse { commits: Arc::new(AtomicU32::new(2)) }).unwrap();
    for id in ["refused", "refused too"] {
        let error = put(&broker, "work", id).await;
        match error {
            Err(PublishError::Unavailable(cause)) => assert!(cause.to_string().contains("full"), "{cause}"),
            Ok(()) => panic!("a commit was refused, and still the publish is confirmed"),
            Err(other) => panic!("{other:?}"),
        }
        if id == "refused" {
            assert!(deliveries.next().await.is_err(), "the subscription is over");
            assert!(deliveries.ack(&[held.tag]).await.is_err());
        }
    }
    while put(&broker, "work", "after").await.is_err() {}

    let mut deliveries = subscribe(&broker, "work").await;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.redelivered, delivery.message.message_id == "before");
        seen.insert(delivery.message.message_id);
    }
    assert_eq!(seen, BTreeSet::from(["after".to_owned(), "before".to_owned()]));
    assert_eq!(ready(&broker, "work").await, 0);
}

#[tokio::test]
async fn a_file_that_refuses_is_loaded_once_a_second_whatever_is_asked() {
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    declare(&broker, &[queue("work")]).await;
    let left = Arc::new(AtomicU32::new(1_000));
    broker.shared.commands.send(Command::Refuse { commits: left.clone() }).unwrap();
    let started = Instant::now();
    let mut publishes = 0;
    // Whatever is refused has lost its state: the next attempt loads it.
    while left.load(Ordering::Relaxed) > 998 {
        assert!(started.elapsed() < PATIENCE, "it is not tried again");
        match put(&broker, "work", "refused").await {
            Err(PublishError::Unavailable(cause)) => assert!(cause.to_string().contains("full"), "{cause}"),
            other => panic!("{other:?}"),
        }
        publishes += 1;
    }
    assert!(started.elapsed() >= writer::RETRY, "two attempts within {:?}", started.elapsed());
    assert!(publishes > 2, "{publishes}");
    left.store(0, Ordering::Relaxed);
    while put(&broker, "work", "taken").await.is_err() {
        assert!(started.elapsed() < PATIENCE, "it is not tried again");
    }
    assert_eq!(ready(&broker, "work").await, 1);
}

/// The ids of a queue's messages, oldest first, after a broker that has these publishes to do all at once has done them
/// and has closed: id and length of the body. Everyone is confirmed.
async fn published_at_once(publishes: impl Iterator<Item = (String, usize)>) -> Vec<String> {
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    declare(&broker, &[queue("work")]).await;
    broker.close().await;
    drop(broker);

    let (commands, receiver) = mpsc::channel();
    let mut answers = Vec::new();
    for (id, bytes) in publishes {
        let (reply, answer) = oneshot::channel();
        answers.push(answer);
        let publish = Command::Publish {
            exchange: ExchangeName::default_exchange(),
            routing_key: "work".to_owned(),
            properties: properties::write(&message(&id)),
            expiration: None,
            body: vec![7; bytes].into(),
            reply,
        };
        commands.send(publish).unwrap();
    }
    let (reply, closed) = oneshot::channel();
    commands.send(Command::Close { reply }).unwrap();
    let (file, clock) = (File::open(&directory.path().join("broker.db")).unwrap(), Clock::new());
    let state = BrokerState::load(&file, clock.now()).unwrap();
    Writer::new(file, state, clock, receiver).run();
    closed.await.unwrap();
    for answer in &mut answers {
        answer.try_recv().unwrap().unwrap();
    }

    let broker = open_in(&directory);
    let mut deliveries = broker.subscribe(&QueueName::new("work"), u16::MAX).await.unwrap();
    let mut ids = Vec::new();
    for _ in answers {
        ids.push(next(&mut deliveries).await.message.message_id);
    }
    ids
}

#[tokio::test]
async fn a_small_message_does_not_wait_for_the_large_ones_before_it() {
    let large = |n| (format!("large {n}"), 1024 * 1024);
    let ids = published_at_once((0..8).map(large).chain([("small".to_owned(), 2)])).await;
    let expected: Vec<_> = ["small".to_owned()].into_iter().chain((0..8).map(|n| large(n).0)).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn large_messages_get_their_turn_among_any_number_of_small_ones() {
    let small = (0..10_000).map(|n| (format!("small {n}"), 2));
    let large = (0..4).map(|n| (format!("large {n}"), 700 * 1024));
    let ids = published_at_once(large.chain(small)).await;
    let places: Vec<_> = (0..ids.len()).filter(|&place| ids[place].starts_with("large")).collect();
    assert_eq!(places.len(), 4);
    // One at a time, with small ones in between.
    assert!(places.windows(2).all(|pair| pair[1] > pair[0] + 1), "{places:?}");
    assert!(places[3] < ids.len() - 1, "{places:?}");
    let smalls: Vec<_> = ids.iter().filter(|id| id.starts_with("small")).collect();
    assert!(smalls.into_iter().eq((0..10_000).map(|n| format!("small {n}")).collect::<Vec<_>>().iter()));
}

/// Turns a file into one of version 2, where each queue's table has the messages in it.
fn downgrade_to_2(connection: &rusqlite::Connection) {
    let mut statement = connection.prepare("SELECT number FROM queue").unwrap();
    let numbers = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    for number in numbers.collect::<Result<Vec<_>, _>>().unwrap() {
        connection
            .execute_batch(&format!(
                "CREATE TABLE former (id INTEGER PRIMARY KEY, deliveries INTEGER NOT NULL, expires_at INTEGER, \
                 routing_key TEXT NOT NULL, properties TEXT NOT NULL, body BLOB NOT NULL);
                 INSERT INTO former SELECT queue.id, deliveries, expires_at, routing_key, properties, body
                     FROM queue_{number} AS queue JOIN message ON message.id = queue.message;
                 DROP TABLE queue_{number}; ALTER TABLE former RENAME TO queue_{number};"
            ))
            .unwrap();
    }
    connection.execute_batch("DROP TABLE message; PRAGMA user_version = 2;").unwrap();
}

/// How many messages a closed file has.
fn stored(directory: &TempDir) -> i64 {
    let connection = rusqlite::Connection::open(directory.path().join("broker.db")).unwrap();
    connection.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap()
}

/// Two queues, and an exchange that sends to both.
fn fan_out() -> Topology {
    let exchange = ExchangeName::new("both");
    let bound = |name: &str| Binding {
        exchange: exchange.clone(),
        destination: Destination::Queue(QueueName::new(name)),
        routing_key: String::new(),
    };
    Topology {
        exchanges: vec![Exchange { name: exchange.clone(), kind: ExchangeKind::Fanout, alternate: None }],
        queues: vec![queue("one"), queue("two")],
        bindings: vec![bound("one"), bound("two")],
    }
}

#[tokio::test]
async fn a_message_of_two_queues_is_stored_once_and_deleted_with_the_last() {
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    broker.declare(&fan_out()).await.unwrap();
    for id in ["a", "b", "c"] {
        broker.publish(&ExchangeName::new("both"), "", message(id)).await.unwrap();
    }
    broker.close().await;
    assert_eq!(stored(&directory), 3);

    // Who holds what is known after a restart, too.
    let broker = open_in(&directory);
    for (name, ids) in [("one", ["a", "b"].as_slice()), ("two", &["a"])] {
        let mut deliveries = subscribe(&broker, name).await;
        for id in ids {
            let delivery = next(&mut deliveries).await;
            assert_eq!(delivery.message.message_id, *id);
            deliveries.ack(&[delivery.tag]).await.unwrap();
        }
    }
    broker.close().await;
    assert_eq!(stored(&directory), 2);

    let broker = open_in(&directory);
    let mut two = subscribe(&broker, "two").await;
    let (b, c) = (next(&mut two).await, next(&mut two).await);
    assert_eq!((b.message.message_id.as_str(), c.message.message_id.as_str()), ("b", "c"));
    two.ack(&[b.tag, c.tag]).await.unwrap();
    let mut one = subscribe(&broker, "one").await;
    let c = next(&mut one).await;
    assert_eq!(c.message.message_id, "c");
    one.ack(&[c.tag]).await.unwrap();
    broker.close().await;
    assert_eq!(stored(&directory), 0);
}

/// A closed file of version 2 with two messages in each of two queues.
async fn former(directory: &TempDir) -> PathBuf {
    let broker = open_in(directory);
    broker.declare(&fan_out()).await.unwrap();
    for id in ["a", "b"] {
        broker.publish(&ExchangeName::new("both"), "", message(id)).await.unwrap();
    }
    broker.close().await;
    let path = directory.path().join("broker.db");
    downgrade_to_2(&rusqlite::Connection::open(&path).unwrap());
    path
}

#[tokio::test]
async fn an_upgrade_without_room_is_refused_before_anything_is_written() {
    let path = PathBuf::from("broker.db");
    for (available, is_enough) in [(None, true), (Some(325), true), (Some(324), false)] {
        let room = upgrade::require_room(&path, upgrade::needed_bytes(100), available);
        assert_eq!(room.is_ok(), is_enough, "{available:?}");
    }

    let directory = TempDir::new().unwrap();
    let path = former(&directory).await;
    let before = fs::read(&path).unwrap();
    let error = File::open_on(&path, |_| Some(1_000)).map(drop).unwrap_err();
    assert!(
        matches!(error, OpenError::Room { needed, available: 1_000, .. } if needed > 3 * 4_096),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
    // What is of this version needs no room.
    drop(File::open_on(&path, |_| Some(1 << 30)).unwrap());
    drop(File::open_on(&path, |_| Some(0)).unwrap());
}

#[tokio::test]
async fn an_upgrade_that_is_killed_leaves_the_former_file_whole() {
    let directory = TempDir::new().unwrap();
    let path = former(&directory).await;
    File::kill_in_upgrade(&path, 2);
    let copy = TempDir::new().unwrap();
    for name in ["broker.db", "broker.db-wal"] {
        fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
    }
    assert!(fs::metadata(copy.path().join("broker.db-wal")).unwrap().len() > 0, "nothing was written");

    let connection = rusqlite::Connection::open(copy.path().join("broker.db")).unwrap();
    let number = |question: &str| connection.query_row(question, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(number("PRAGMA user_version"), 2);
    assert_eq!(number("SELECT count(*) FROM sqlite_schema WHERE name = 'message'"), 0);
    assert_eq!(number("SELECT count(body) FROM queue_1"), 2);
    drop(connection);
    let broker = open_in(&copy);
    for name in ["one", "two"] {
        let mut deliveries = subscribe(&broker, name).await;
        for id in ["a", "b"] {
            assert_eq!(next(&mut deliveries).await.message.message_id, id);
        }
    }
}

/// Turns a file into one of version 1 with waiting messages: no direct exchange, and retry queues named `retry.<delay>`
/// that dead-letter to the default exchange.
fn downgrade_to_1(directory: &TempDir, prefix: &str) {
    let connection = rusqlite::Connection::open(directory.path().join("broker.db")).unwrap();
    let (requeue, wait, retry) =
        (format!("{prefix}requeue"), format!("{prefix}wait."), format!("{prefix}retry."));
    for (text, values) in [
        ("DELETE FROM exchange WHERE name = ?1", vec![&requeue]),
        ("DELETE FROM binding WHERE exchange = ?1", vec![&requeue]),
        ("UPDATE exchange SET name = replace(name, ?1, ?2)", vec![&wait, &retry]),
        (
            "UPDATE binding SET exchange = replace(exchange, ?1, ?2), destination = replace(destination, ?1, ?2)",
            vec![&wait, &retry],
        ),
        (
            "UPDATE queue SET name = replace(name, ?1, ?2), delivery_limit = 20, \
             dead_letter_exchange = iif(message_ttl_ms IS NULL, dead_letter_exchange, '')",
            vec![&wait, &retry],
        ),
    ] {
        connection.execute(text, rusqlite::params_from_iter(values)).unwrap();
    }
    downgrade_to_2(&connection);
    connection
        .execute_batch(
            "CREATE TABLE exchange_1 (name TEXT PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('fanout', 'topic')), \
             alternate TEXT) WITHOUT ROWID;
             INSERT INTO exchange_1 SELECT name, kind, alternate FROM exchange;
             DROP TABLE exchange; ALTER TABLE exchange_1 RENAME TO exchange; PRAGMA user_version = 1;",
        )
        .unwrap();
}

#[tokio::test]
async fn a_file_of_version_1_becomes_the_topology_of_today_and_keeps_what_waits() {
    let directory = TempDir::new().unwrap();
    // A prefix that looks like a name.
    let layout = crate::Layout::new("retry.1s.");
    let work = crate::layout::WorkQueue { consumer: "work".to_owned(), topics: Vec::new() };
    let topology = layout.topology(&[], &[work]);
    let broker = open_in(&directory);
    broker.declare(&topology).await.unwrap();
    let wait = layout.retry_exchange(crate::layout::RetryDelay::S1);
    for queue in ["gone", "work"] {
        broker.publish(&wait, layout.queue(queue).as_str(), message(queue)).await.unwrap();
    }
    put(&broker, "retry.1s.work", "held").await.unwrap();
    broker.close().await;
    downgrade_to_1(&directory, "retry.1s.");

    // What is due is routed before anything is declared.
    let broker = open_in(&directory);
    let mut deliveries = subscribe(&broker, "retry.1s.work").await;
    assert_eq!(next(&mut deliveries).await.message.message_id, "held");
    assert_eq!(next(&mut deliveries).await.message.message_id, "work");
    let letter = next(&mut subscribe(&broker, "retry.1s.dead").await).await;
    assert_eq!(letter.message.message_id, "gone");
    assert_eq!(letter.message.text(event::header::DEATH_REASON), Some(crate::death::MISSING_QUEUE));
    drop(deliveries);
    broker.declare(&topology).await.unwrap();
    // The new limit is in force: more than 20 returns.
    for _ in 0..25 {
        next(&mut subscribe(&broker, "retry.1s.work").await).await;
    }
    broker.close().await;
    open_in(&directory).declare(&topology).await.unwrap();
}
