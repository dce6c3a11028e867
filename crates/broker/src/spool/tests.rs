//! The spool in front of a broker that is down, slow or refusing on command.

use std::collections::BTreeSet;
use std::path::Path;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::test_support::{self, Answer, RecordingBroker};

struct Setting {
    folder: TempDir,
    broker: Arc<RecordingBroker>,
    /// Routing keys and types that the broker refuses.
    refused: Arc<Mutex<BTreeSet<&'static str>>>,
    disk: DiskAlarm,
}

fn work() -> Topology {
    let queue = |name| Queue {
        name: QueueName::new(name),
        delivery_limit: 20,
        message_ttl: None,
        dead_letter_exchange: None,
    };
    Topology { queues: vec![queue("work"), queue("full")], ..Topology::default() }
}

fn message(id: usize) -> Message {
    Message { body: vec![b'x'; 100].into(), ..test_support::message(id) }
}

impl Setting {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setting = Self::with(folder, "broker.db");
        setting.broker.declare(&work()).await.unwrap();
        setting
    }

    /// With an embedded broker in a file of this name.
    fn with(folder: TempDir, file: &str) -> Self {
        let broker = Arc::new(Embedded::open(folder.path().join(file)).unwrap());
        let broker = RecordingBroker::in_front_of(broker);
        let refused = Arc::new(Mutex::new(BTreeSet::from(["poison"])));
        let keys = refused.clone();
        broker.refuse(move |published| {
            let keys = keys.lock().unwrap();
            keys.contains(&*published.routing_key) || keys.contains(&*published.message.r#type)
        });
        Self { folder, broker, refused, disk: DiskAlarm::default() }
    }

    /// How often messages with this routing key were published.
    fn tries(&self, key: &str) -> usize {
        self.broker.tries(|published| published.routing_key == key)
    }

    fn file(&self) -> &Path {
        self.folder.path()
    }

    async fn spool(&self, limit_bytes: u64) -> Spool {
        let config = Config {
            file: self.file().join("spool.db"),
            limit_bytes,
            patience: Duration::from_secs(3),
            disk: self.disk.clone(),
        };
        Spool::open(config, self.broker.clone()).await.unwrap()
    }

    fn run(&self, spool: &Spool) -> (CancellationToken, JoinHandle<()>) {
        let (stop, spool, broker) = (CancellationToken::new(), spool.clone(), self.broker.clone());
        let stopped = stop.clone();
        (stop, tokio::spawn(async move { spool.run(broker, work(), stopped).await }))
    }

    /// Takes `count` messages from the queue and gives their ids.
    async fn arrived(&self, count: usize) -> Vec<usize> {
        self.arrived_at("work", count).await
    }

    async fn arrived_at(&self, queue: &str, count: usize) -> Vec<usize> {
        let mut deliveries = self.broker.subscribe(&QueueName::new(queue), 1_000).await.unwrap();
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
    publish_to(spool, "work", id).await
}

async fn publish_to(spool: &Spool, key: &str, id: usize) -> Result<(), PublishError> {
    spool.publish(&ExchangeName::default_exchange(), key, message(id)).await
}

/// Messages that wait, and bytes in the file.
fn counted(spool: &Spool) -> (u64, u64) {
    let state = spool.0.state();
    (state.messages, state.bytes)
}

async fn until(spool: &Spool, fits: impl Fn(&Standing) -> bool) {
    let mut standing = spool.standing();
    timeout(Duration::from_secs(30), standing.wait_for(|standing| fits(standing))).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_the_broker_does_not_take_comes_later_in_its_order() {
    for answer in [Answer::Unavailable, Answer::Hang] {
        let setting = Setting::new().await;
        let spool = setting.spool(1 << 20).await;
        let (stop, drain) = setting.run(&spool);
        publish(&spool, 0).await.unwrap();
        setting.broker.answer(answer);
        for id in 1..400 {
            publish(&spool, id).await.unwrap();
        }
        assert!(matches!(*spool.standing().borrow(), Standing::Spooling(_)));
        setting.broker.answer(Answer::Confirm);
        // Only the caller of the drain gives up a publish to a silent broker: it starts again.
        if answer == Answer::Hang {
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
    setting.broker.answer(Answer::Unavailable);
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
    setting.broker.answer(Answer::Confirm);
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
    setting.broker.answer(Answer::Unavailable);
    for id in 0..300 {
        publish(&spool, id).await.unwrap();
    }
    drop(spool);
    setting.broker.answer(Answer::Confirm);
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
    setting.broker.answer(Answer::Unavailable);
    for id in 0..10 {
        publish(&spool, id).await.unwrap();
    }
    let refused = publish(&spool, 10).await.unwrap_err();
    let printed = Chain(&refused).to_string();
    assert!(
        printed.contains("connection refused") && printed.contains("it is full: 11240 of 11240 bytes"),
        "{printed}"
    );
    assert!(matches!(*spool.standing().borrow(), Standing::Refusing(_)));
    setting.broker.answer(Answer::Confirm);
    until(&spool, |standing| *standing == Standing::Direct).await;
    publish(&spool, 10).await.unwrap();
    assert_eq!(setting.arrived(11).await, (0..11).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_to_spool_with_the_reason_and_stops_no_direct_publish() {
    let setting = Setting::new().await;
    let spool = setting.spool(1 << 20).await;
    let (_stop, _drain) = setting.run(&spool);
    setting.disk.set(true);
    publish(&spool, 0).await.unwrap();
    setting.broker.answer(Answer::Unavailable);
    let printed = Chain(&publish(&spool, 1).await.unwrap_err()).to_string();
    assert!(printed.contains("data.disk_free_limit_bytes"), "{printed}");
    setting.disk.set(false);
    publish(&spool, 1).await.unwrap();
    setting.broker.answer(Answer::Confirm);
    until(&spool, |standing| *standing == Standing::Direct).await;
    assert_eq!(setting.arrived(2).await, [0, 1]);
}

#[tokio::test]
async fn what_the_broker_never_takes_is_set_aside_and_the_others_get_through() {
    let setting = Setting::new().await;
    let spool = setting.spool(1 << 30).await;
    setting.broker.answer(Answer::Unavailable);
    let poison = Message { r#type: "poison".to_owned(), ..message(0) };
    spool.publish(&ExchangeName::default_exchange(), "work", poison).await.unwrap();
    for id in 1..50 {
        publish(&spool, id).await.unwrap();
    }
    setting.broker.answer(Answer::Confirm);
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
    let setting = Setting::with(setting.folder, "other.db");
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
    setting.broker.answer(Answer::Unavailable);
    for id in 0..1_000 {
        publish(&spool, id).await.unwrap();
    }
    setting.broker.answer(Answer::Confirm);
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

#[tokio::test]
async fn a_refused_lane_blocks_no_other_and_its_copies_are_few() {
    let setting = Setting::new().await;
    let spool = setting.spool(1 << 22).await;
    let (_stop, _drain) = setting.run(&spool);
    setting.refused.lock().unwrap().insert("full");
    let started = Instant::now();
    for id in 0..100 {
        publish_to(&spool, "full", id).await.unwrap();
        publish(&spool, id).await.unwrap();
    }
    // The others went to the broker at once, each once.
    assert_eq!(setting.tries("work"), 100);
    assert_eq!(setting.arrived(100).await, (0..100).collect::<Vec<_>>());
    let standing = spool.standing().borrow().clone();
    assert_eq!(standing, Standing::Spooling("queue full: the broker refused the message".to_owned()));
    // Several probes: pauses of 0.1, 0.2, 0.4 s and so on, less up to a half.
    while setting.tries("full") < 7 {
        assert!(started.elapsed() < Duration::from_secs(30), "it is probed no more");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let probes =
        |elapsed: Duration| (0..).take_while(|n| Duration::from_millis(50 << n) < elapsed).count() + 1;
    assert!(setting.tries("full") <= 1 + 2 * probes(started.elapsed()), "each probe is of two");
    let before = setting.tries("full");
    setting.refused.lock().unwrap().remove("full");
    assert_eq!(setting.arrived_at("full", 100).await, (0..100).collect::<Vec<_>>());
    until(&spool, |standing| *standing == Standing::Direct).await;
    // At most one probe was refused in between.
    assert!((before..=before + 102).contains(&setting.tries("full")));
    let drained = setting.tries("full");
    publish_to(&spool, "full", 100).await.unwrap();
    assert_eq!(setting.tries("full"), drained + 1);
}

#[tokio::test]
async fn while_the_broker_is_down_no_lane_tries_it_and_each_keeps_its_order() {
    let setting = Setting::new().await;
    let spool = setting.spool(1 << 22).await;
    setting.broker.answer(Answer::Unavailable);
    for id in 0..50 {
        publish(&spool, id).await.unwrap();
        publish_to(&spool, "full", id).await.unwrap();
    }
    assert_eq!(setting.broker.tries(|_| true), 1);
    setting.broker.answer(Answer::Confirm);
    let (_stop, _drain) = setting.run(&spool);
    assert_eq!(setting.arrived(50).await, (0..50).collect::<Vec<_>>());
    assert_eq!(setting.arrived_at("full", 50).await, (0..50).collect::<Vec<_>>());
    until(&spool, |standing| *standing == Standing::Direct).await;
}

#[tokio::test]
async fn an_outage_with_an_empty_file_ends_with_the_outage() {
    let setting = Setting::new().await;
    let spool = setting.spool(0).await;
    let (_stop, _drain) = setting.run(&spool);
    setting.broker.answer(Answer::Unavailable);
    publish(&spool, 0).await.unwrap_err();
    assert!(matches!(*spool.standing().borrow(), Standing::Refusing(_)));
    setting.broker.answer(Answer::Confirm);
    until(&spool, |standing| *standing == Standing::Direct).await;
    publish(&spool, 1).await.unwrap();
}

#[tokio::test]
async fn what_is_set_aside_is_shown_and_gets_through_once_the_broker_takes_it() {
    let setting = Setting::new().await;
    let spool = setting.spool(1 << 22).await;
    setting.broker.answer(Answer::Unavailable);
    let poison = |id| Message { r#type: "poison".to_owned(), ..message(id) };
    for id in 0..20 {
        let sent = if id % 10 == 3 { poison(id) } else { message(id) };
        spool.publish(&ExchangeName::default_exchange(), "work", sent).await.unwrap();
    }
    setting.broker.answer(Answer::Confirm);
    let (stop, drain) = setting.run(&spool);
    let set_aside = spool.set_aside();
    let patience = Duration::from_secs(30);
    let both = |text: &Option<String>| text.as_ref().is_some_and(|text| text.starts_with("2 set aside"));
    // Others beside them, in whose company they fail.
    let mut sent = 20;
    while !both(&set_aside.borrow()) {
        assert!(sent < 20_000, "they are never set aside: {:?}", set_aside.borrow());
        publish(&spool, sent).await.unwrap();
        sent += 1;
        // Slower than the drain, so that the file never fills up.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let text = set_aside.borrow().clone().unwrap();
    assert!(text.contains("queue work: the broker refused the message"), "{text}");
    let mut arrived = setting.arrived(sent - 2).await;
    arrived.sort_unstable();
    assert_eq!(arrived, (0..sent).filter(|id| ![3, 13].contains(id)).collect::<Vec<_>>());
    // They are in the file, which the next process takes over.
    stop.cancel();
    timeout(patience, drain).await.unwrap().unwrap();
    drop((spool, set_aside));
    let spool = setting.spool(1 << 22).await;
    let mut set_aside = spool.set_aside();
    assert!(both(&set_aside.borrow()));
    assert_eq!(counted(&spool), (0, 2 * size(&message(0))));
    assert_eq!(*spool.standing().borrow(), Standing::Direct);
    setting.refused.lock().unwrap().clear();
    let (_stop, _drain) = setting.run(&spool);
    timeout(patience, set_aside.wait_for(Option::is_none)).await.unwrap().unwrap();
    let mut arrived = setting.arrived(2).await;
    arrived.sort_unstable();
    assert_eq!(arrived, [3, 13]);
    assert_eq!(spool.0.state().bytes, 0);
}

#[tokio::test]
async fn all_that_is_aside_is_tried_those_beyond_the_list_and_copies_of_one_event_too() {
    let setting = Setting::new().await;
    drop(setting.spool(1 << 22).await);
    let count = usize::from(aside::LISTED) + 1;
    let file = Embedded::open(setting.file().join("spool.db")).unwrap();
    for id in (0..count).chain([0]) {
        let stored = wrapped(message(id), &ExchangeName::default_exchange(), "work");
        file.publish(&ExchangeName::default_exchange(), ASIDE, stored).await.unwrap();
    }
    file.close().await;
    drop(file);
    let spool = setting.spool(1 << 22).await;
    assert_eq!(counted(&spool), (0, (count as u64 + 1) * size(&message(0))));
    let (_stop, _drain) = setting.run(&spool);
    assert_eq!(setting.arrived(count + 1).await, (0..count).chain([0]).collect::<Vec<_>>());
    let mut set_aside = spool.set_aside();
    timeout(Duration::from_secs(30), set_aside.wait_for(Option::is_none)).await.unwrap().unwrap();
    assert_eq!(spool.0.state().bytes, 0);
}

#[tokio::test]
async fn a_publish_that_is_given_up_and_one_that_is_not_written_leave_no_reservation() {
    let setting = Setting::new().await;
    let spool = setting.spool(1 << 22).await;
    setting.broker.answer(Answer::Unavailable);
    publish(&spool, 0).await.unwrap();
    // Given up at once: whether it is stored or not, the count is that of the file.
    for id in 1..20 {
        drop(timeout(Duration::ZERO, publish(&spool, id)).await);
    }
    let file = spool.0.state().file.clone().unwrap();
    let stored = async || file.contents(&QueueName::new("lane.0")).await.unwrap().messages;
    let started = Instant::now();
    while stored().await != counted(&spool).0 || stored().await < 2 {
        assert!(started.elapsed() < Duration::from_secs(10), "{:?} are counted", counted(&spool));
        tokio::task::yield_now().await;
    }
    let (messages, bytes) = counted(&spool);
    file.close().await;
    publish(&spool, 20).await.unwrap_err();
    assert_eq!(counted(&spool), (messages, bytes));
}

#[tokio::test]
async fn a_file_of_the_form_before_is_taken_over_whole() {
    let setting = Setting::new().await;
    let file = Embedded::open(setting.file().join("spool.db")).unwrap();
    let queue = |name| Queue {
        name: QueueName::new(name),
        delivery_limit: u32::MAX,
        message_ttl: None,
        dead_letter_exchange: None,
    };
    let topology = Topology { queues: vec![queue("spool"), queue("aside")], ..Topology::default() };
    file.declare(&topology).await.unwrap();
    for id in 0..60 {
        let (place, key) = match id {
            0..5 => ("aside", "work"),
            _ if id % 2 == 0 => ("spool", "full"),
            _ => ("spool", "work"),
        };
        let stored = wrapped(message(id), &ExchangeName::default_exchange(), key);
        file.publish(&ExchangeName::default_exchange(), place, stored).await.unwrap();
    }
    file.close().await;
    drop(file);
    setting.refused.lock().unwrap().insert("full");
    let spool = setting.spool(1 << 22).await;
    assert_eq!(counted(&spool), (55, 60 * size(&message(0))));
    let (_stop, _drain) = setting.run(&spool);
    // What is new for either goes behind what is there.
    publish(&spool, 61).await.unwrap();
    publish_to(&spool, "full", 60).await.unwrap();
    let mut arrived = setting.arrived(5 + 28 + 1).await;
    arrived.sort_unstable();
    assert_eq!(arrived, (0..5).chain((5..62).filter(|id| id % 2 == 1)).collect::<Vec<_>>());
    setting.refused.lock().unwrap().clear();
    let mut arrived = setting.arrived_at("full", 28).await;
    // The new one goes behind those that are in its lane by then.
    let new = arrived.iter().position(|id| *id == 60).unwrap();
    arrived.remove(new);
    assert_eq!(arrived, (6..60).filter(|id| id % 2 == 0).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_refusal_lasts_while_the_disk_is_nearly_full_and_while_what_was_refused_has_no_room() {
    let setting = Setting::new().await;
    let spool = setting.spool(3 * size(&message(0))).await;
    setting.broker.answer(Answer::Unavailable);
    publish(&spool, 0).await.unwrap();
    let is_refusing = || matches!(*spool.standing().borrow(), Standing::Refusing(_));
    setting.disk.set(true);
    publish(&spool, 1).await.unwrap_err();
    spool.0.check_again().await;
    assert!(is_refusing(), "the disk is nearly full");
    setting.disk.set(false);
    spool.0.check_again().await;
    assert!(!is_refusing());
    // Room for a small one, and for the probe.
    let large = Message { body: vec![b'x'; 2_000].into(), ..message(2) };
    spool.publish(&ExchangeName::default_exchange(), "work", large).await.unwrap_err();
    spool.0.check_again().await;
    assert!(is_refusing(), "the large one has no room");
    publish(&spool, 3).await.unwrap();
    assert!(is_refusing(), "a small one that is stored makes no room");
    setting.broker.answer(Answer::Confirm);
    let (_stop, _drain) = setting.run(&spool);
    until(&spool, |standing| *standing == Standing::Direct).await;
    assert_eq!(setting.arrived(2).await, [0, 3]);
}

#[tokio::test]
async fn a_refusal_of_one_queue_is_not_over_because_others_are_taken() {
    let setting = Setting::new().await;
    let spool = setting.spool(1 << 20).await;
    setting.disk.set(true);
    setting.refused.lock().unwrap().insert("full");
    publish_to(&spool, "full", 0).await.unwrap_err();
    spool.0.check_again().await;
    publish(&spool, 1).await.unwrap();
    assert!(matches!(*spool.standing().borrow(), Standing::Refusing(_)));
    spool.0.state().refused_at = Some(Instant::now().checked_sub(CALM).unwrap());
    spool.0.check_again().await;
    assert_eq!(*spool.standing().borrow(), Standing::Direct);
}

#[tokio::test]
async fn neither_a_queue_that_hovers_at_its_limit_nor_a_missing_one_hurries_other_lanes() {
    let setting = Setting::new().await;
    let spool = setting.spool(1 << 22).await;
    let (_stop, _drain) = setting.run(&spool);
    let started = Instant::now();
    let others = ["poison", "missing.1", "missing.2"];
    for key in others {
        publish_to(&spool, key, 0).await.unwrap();
    }
    for id in 0..40 {
        setting.refused.lock().unwrap().insert("full");
        publish_to(&spool, "full", id).await.unwrap();
        setting.refused.lock().unwrap().remove("full");
        let is_in_use = || spool.0.state().lanes.in_use.contains_key(" full");
        while is_in_use() {
            assert!(started.elapsed() < Duration::from_secs(60), "the lane never ends");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // At most twice for each pause of 0.1, 0.2, 0.4 s and so on, less up to a half.
    let pauses = (0..).take_while(|n| Duration::from_millis(50 << n) < started.elapsed()).count() + 1;
    for key in others {
        let tries = setting.tries(key);
        assert!(tries <= 1 + 2 * pauses, "{key}: {tries} tries in {pauses} pauses");
    }
}

#[tokio::test]
async fn a_stop_ends_all_lanes_at_one_time() {
    let setting = Setting::new().await;
    let spool = setting.spool(1 << 24).await;
    setting.broker.answer(Answer::Unavailable);
    let names: Vec<String> = (0..96).map(|number| format!("way.{number}")).collect();
    let queues = names.iter().map(|name| Queue { name: QueueName::new(name), ..work().queues[0].clone() });
    let topology = Topology { queues: queues.collect(), ..Topology::default() };
    setting.broker.declare(&topology).await.unwrap();
    for name in names.iter().chain(&names) {
        publish_to(&spool, name, 0).await.unwrap();
    }
    setting.broker.answer(Answer::ConfirmAfter(Duration::from_secs(1)));
    let (stop, drain) = setting.run(&spool);
    let started = Instant::now();
    // The first of each lane is through, and the lanes wait for their turns.
    while counted(&spool).0 > 96 {
        assert!(started.elapsed() < Duration::from_secs(30), "{:?} wait", counted(&spool));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    let stop_requested = Instant::now();
    timeout(Duration::from_secs(60), drain).await.unwrap().unwrap();
    // Five seconds, and the round that is under way then. One after the other they would take twelve.
    assert!(stop_requested.elapsed() < Duration::from_secs(9), "{:?}", stop_requested.elapsed());
}

#[tokio::test]
async fn more_ways_than_there_are_lanes_share_one() {
    let setting = Setting::new().await;
    let spool = setting.spool(1 << 24).await;
    let names: Vec<String> = (0..lanes::LANES + 20).map(|number| format!("way.{number}")).collect();
    let queues = names.iter().map(|name| Queue { name: QueueName::new(name), ..work().queues[0].clone() });
    let topology = Topology { queues: queues.collect(), ..Topology::default() };
    setting.broker.declare(&topology).await.unwrap();
    setting.broker.answer(Answer::Unavailable);
    for id in 0..2 {
        for name in &names {
            publish_to(&spool, name, id).await.unwrap();
        }
    }
    assert_eq!(spool.0.state().lanes.in_use.len(), lanes::LANES + 1);
    setting.broker.answer(Answer::Confirm);
    let (_stop, _drain) = setting.run(&spool);
    for name in &names {
        assert_eq!(setting.arrived_at(name, 2).await, [0, 1], "{name}");
    }
    until(&spool, |standing| *standing == Standing::Direct).await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_set_aside_at_once_and_holds_up_nothing() {
    let setting = Setting::new().await;
    setting.broker.limit_bodies(100);
    let spool = setting.spool(1 << 20).await;
    let (_stop, _drain) = setting.run(&spool);
    let large = Message { body: vec![b'x'; 101].into(), ..message(0) };
    spool.publish(&ExchangeName::default_exchange(), "work", large).await.unwrap();
    publish_to(&spool, "full", 1).await.unwrap();
    assert!(spool.0.state().outage.is_none(), "the broker is not down");
    publish(&spool, 2).await.unwrap();
    assert_eq!(setting.arrived_at("full", 1).await, [1]);
    assert_eq!(setting.arrived(1).await, [2]);
    let mut set_aside = spool.set_aside();
    let reason =
        timeout(Duration::from_secs(30), set_aside.wait_for(Option::is_some)).await.unwrap().unwrap().clone();
    let reason = reason.unwrap();
    assert!(reason.starts_with("1 set aside") && reason.contains("max_message_size"), "{reason}");
    until(&spool, |standing| *standing == Standing::Direct).await;
    // Raised at the broker: it gets through.
    setting.broker.limit_bodies(101);
    assert_eq!(setting.arrived(1).await, [0]);
}
