//! The runtime between the embedded broker and SQLite.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use broker::embedded::Embedded;
use broker::test_support::{self, Answer, RecordingBroker};
use broker::{DynBroker, Layout};
use event::{Event, Message, ProviderName, header};
use store::{DriverError, Store, StoreError, Tx, sql};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    Announcement, Bindings, Config, Consumer, DEFAULT_RETRY, EventType, Failure, Handler, Observer,
    Permanent, PolicyChange, Recorder, Recording, Runtime, Status,
};

mod announcing;
mod giving_up;
mod unreadable;

const PATIENCE: Duration = Duration::from_secs(20);

static BINDINGS: Bindings = Bindings {
    consumer: "orders",
    purpose: "counts orders",
    topics: &[("gestao-online", &["#"])],
    prefetch: 50,
    retry: DEFAULT_RETRY,
};

const COMPONENT: store::Component = store::Component {
    name: "orders",
    migrations: &[store::Migration::portable(1, "effects", "CREATE TABLE effect (topic TEXT NOT NULL);")],
};

/// What is announced of each event.
#[derive(serde::Serialize, utoipa::ToSchema)]
struct Counted {
    topic: String,
}

const COUNTED: EventType<Counted> = EventType::new("order.counted", "order", "When an event is counted.");

/// Writes a row per event and announces it, or does what the topic says.
#[derive(Default)]
struct Orders {
    calls: Mutex<BTreeMap<String, usize>>,
    /// How many facts each call had.
    batches: Mutex<Vec<usize>>,
    /// For how many calls the database is down.
    away: AtomicUsize,
    gate: Option<Arc<Semaphore>>,
}

impl Orders {
    fn calls(&self, topic: &str) -> usize {
        self.calls.lock().unwrap().get(topic).copied().unwrap_or(0)
    }
}

#[async_trait]
impl Handler for Orders {
    type Fact = ();

    fn read(&self, event: &Event) -> Result<(), Permanent> {
        match event.topic.as_str() {
            "unreadable" => Err(Permanent::new("data.id: missing")),
            "unreadable-panic" => panic!("bang"),
            _ => Ok(()),
        }
    }

    async fn write(&self, facts: &[(&Event, &())], tx: &mut Tx) -> Result<Vec<Announcement>, Failure> {
        self.batches.lock().unwrap().push(facts.len());
        let mut announcements = Vec::new();
        for (event, ()) in facts {
            let data = Counted { topic: event.topic.to_string() };
            announcements.push(COUNTED.announce(event, &event.id.to_string(), &data));
            self.handle_one(event, tx).await?;
        }
        Ok(announcements)
    }
}

impl Orders {
    async fn handle_one(&self, event: &Event, tx: &mut Tx) -> Result<(), Failure> {
        let topic = event.topic.as_str();
        let call = {
            let mut calls = self.calls.lock().unwrap();
            let call = calls.entry(topic.to_owned()).or_default();
            *call += 1;
            *call
        };
        if let Some(gate) = &self.gate {
            gate.acquire().await.expect("open").forget();
        }
        sql::query("INSERT INTO effect (topic) VALUES ($1)")
            .bind(topic.to_owned())
            .execute(&mut **tx)
            .await?;
        let is_away =
            self.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        match topic {
            _ if is_away => Err(Failure::Store(StoreError::Unavailable(DriverError::PoolTimedOut))),
            // The batch, then alone, then alone again a second later.
            "transient" if call < 3 => Err(Failure::Transient("not yet".into())),
            "conflict" if call < 4 => Err(Failure::Store(StoreError::Conflict(DriverError::PoolTimedOut))),
            "permanent" => Err(Failure::Permanent("never".into())),
            "hopeless" => Err(Failure::Transient("not today".into())),
            "wordy" => Err(Failure::Permanent("é".repeat(200_000))),
            "panic" => panic!("boom"),
            _ => Ok(()),
        }
    }
}

struct Setup {
    broker: DynBroker,
    store: Store,
    layout: Layout,
    provider: ProviderName,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

async fn setup() -> Setup {
    remember_panics();
    let folder = tempfile::tempdir().unwrap();
    let config =
        store::Config { max_connections: 2, acquire_timeout_ms: 5_000, ..store::Config::new("sqlite") };
    let store = Store::open(&config, folder.path()).unwrap();
    store.migrate(&[COMPONENT]).await.unwrap();
    let broker: DynBroker = Arc::new(Embedded::open(folder.path().join("broker.db")).unwrap());
    let layout = Layout::new("");
    let provider = ProviderName::new("gestao-online").unwrap();
    let topology = layout.topology(std::slice::from_ref(&provider), &[BINDINGS.work_queue()]);
    broker.declare(&topology).await.unwrap();
    Setup { broker, store, layout, provider, stop: CancellationToken::new(), _folder: folder }
}

/// Whether an error says where this file panicked, and nothing of the text of the panic.
fn is_place_of_panic(error: &str) -> bool {
    let place =
        error.strip_prefix("the handler panicked at ").and_then(|place| place.split_once("tests.rs:"));
    place.is_some_and(|(_, place)| place.chars().all(|c| c.is_ascii_digit() || c == ':'))
}

/// Has the panics of this process remembered, and shown as usual.
fn remember_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            crate::remember_panic(info);
            shown(info);
        }));
    });
}

impl Setup {
    fn runtime(&self) -> Runtime {
        let config = Config {
            batch_events: 20,
            batch_timeout_ms: 10_000,
            hold_ms: 10_000,
            prefetch_bytes: 1 << 20,
            policies: BTreeMap::new(),
        };
        let (broker, layout, store) = (self.broker.clone(), self.layout.clone(), self.store.clone());
        Runtime { broker, layout, store, config }
    }

    fn consumer(&self, handler: &Arc<Orders>) -> Consumer {
        Consumer::new(&BINDINGS, handler.clone(), self.runtime())
    }

    fn event(&self, topic: &str) -> Event {
        test_support::event("/gestao-online/go", topic, "{}")
    }

    fn recording(&self) -> Arc<RecordingBroker> {
        RecordingBroker::in_front_of(self.broker.clone())
    }

    async fn publish(&self, message: Message) {
        let topic = message.r#type.clone();
        self.broker.publish(&self.layout.webhooks(&self.provider), &topic, message).await.unwrap();
    }

    async fn effects(&self, topic: &'static str) -> i64 {
        let mut connection = self.store.read().await.unwrap();
        sql::scalar("SELECT count(*) FROM effect WHERE topic = $1")
            .bind(topic)
            .fetch_one(&mut *connection)
            .await
            .unwrap()
    }

    /// How many events had their effect.
    async fn claims(&self) -> i64 {
        let mut connection = self.store.read().await.unwrap();
        sql::scalar("SELECT count(*) FROM claims").fetch_one(&mut *connection).await.unwrap()
    }

    async fn has_effects(&self, topic: &'static str, count: i64) {
        let started = Instant::now();
        while self.effects(topic).await != count {
            assert!(started.elapsed() < PATIENCE, "{topic}: {} of {count}", self.effects(topic).await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn dead_letters(&self, count: usize) -> BTreeMap<String, Message> {
        let mut deliveries = self.broker.subscribe(&self.layout.queue("dead"), 10).await.unwrap();
        let mut dead = BTreeMap::new();
        while dead.len() < count {
            let delivery = timeout(PATIENCE, deliveries.next()).await.expect("a dead letter").unwrap();
            dead.insert(delivery.message.r#type.clone(), delivery.message);
        }
        dead
    }

    /// How many messages these queues have, those with a consumer included.
    async fn held(&self, queues: &[&str]) -> u64 {
        let queues: Vec<_> = queues.iter().map(|queue| self.layout.queue(queue)).collect();
        let statuses = self.broker.queues(&queues).await.unwrap();
        statuses.iter().map(|status| status.ready + status.unacked.unwrap()).sum()
    }

    async fn ready(&self, queue: &str) -> u64 {
        self.broker.queues(&[self.layout.queue(queue)]).await.unwrap()[0].ready
    }
}

#[tokio::test]
async fn an_event_has_its_effect_once_however_often_it_comes() {
    let setup = setup().await;
    let event = setup.event("order");
    for _ in 0..3 {
        setup.publish(event.to_message()).await;
    }
    for _ in 0..30 {
        setup.publish(setup.event("other").to_message()).await;
    }
    let handler = Arc::<Orders>::default();
    let running = tokio::spawn(setup.consumer(&handler).run(setup.stop.clone()));
    setup.has_effects("other", 30).await;
    setup.publish(event.to_message()).await;
    setup.publish(setup.event("last").to_message()).await;
    setup.has_effects("last", 1).await;
    assert_eq!(setup.effects("order").await, 1);
    setup.stop.cancel();
    running.await.unwrap();
    assert_eq!(setup.ready("orders").await, 0);
}

#[tokio::test]
async fn a_failing_observer_spends_no_event_that_is_committed() {
    struct Panics;
    impl Observer for Panics {
        fn observe(&self, _: &[&Event]) {
            panic!("an observer that fails");
        }
    }
    let setup = setup().await;
    setup.publish(setup.event("order").to_message()).await;
    let consumer = setup.consumer(&Arc::default()).observed(Arc::new(Panics));
    let _running = tokio::spawn(consumer.run(setup.stop.clone()));
    setup.has_effects("order", 1).await;
    let started = Instant::now();
    while setup.held(&["orders"]).await > 0 {
        assert!(started.elapsed() < PATIENCE, "it is not acked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(setup.held(&["dead"]).await, 0);
}

#[tokio::test]
async fn an_event_that_was_handled_before_is_observed_when_it_comes_again() {
    #[derive(Default)]
    struct Seen(Mutex<Vec<event::EventId>>);
    impl Observer for Seen {
        fn observe(&self, events: &[&Event]) {
            self.0.lock().unwrap().extend(events.iter().map(|event| event.id));
        }
    }
    let setup = setup().await;
    // As after a kill between commit and ack.
    let event = setup.event("order");
    let mut tx = setup.store.begin().await.unwrap();
    store::inbox::claim(&mut tx, "orders", &[event.id], event::now()).await.unwrap();
    tx.commit().await.unwrap();
    setup.publish(event.to_message()).await;
    let seen = Arc::<Seen>::default();
    let consumer = setup.consumer(&Arc::default()).observed(seen.clone());
    let _running = tokio::spawn(consumer.run(setup.stop.clone()));
    let started = Instant::now();
    while *seen.0.lock().unwrap() != [event.id] {
        assert!(started.elapsed() < PATIENCE, "it is not observed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(setup.effects("order").await, 0);
}

#[tokio::test]
async fn a_failing_event_goes_its_own_way_and_blocks_no_other() {
    let setup = setup().await;
    for topic in ["good", "permanent", "good", "panic", "transient", "good"] {
        setup.publish(setup.event(topic).to_message()).await;
    }
    let foreign =
        Message { message_id: "7".into(), r#type: "foreign".into(), ..setup.event("x").to_message() };
    setup.publish(foreign).await;
    let handler = Arc::<Orders>::default();
    let _running = tokio::spawn(setup.consumer(&handler).run(setup.stop.clone()));

    let dead = setup.dead_letters(3).await;
    let check = |topic: &str, is_expected: fn(&str) -> bool| {
        let message = &dead[topic];
        assert!(message.text(header::ERROR).is_some_and(is_expected), "{message:?}");
        assert_eq!(message.text(header::CONSUMER), Some("orders"));
        assert_eq!(message.long(header::ATTEMPT), Some(1));
        assert!(message.text(header::FIRST_FAILED_AT).is_some());
    };
    check("permanent", |error| error == "never");
    check("panic", is_place_of_panic);
    assert!(dead["foreign"].text(header::ERROR).unwrap().contains("property message_id"));
    setup.has_effects("good", 3).await;
    // What failed left nothing behind, not even in the transaction it failed in.
    assert_eq!(setup.effects("permanent").await + setup.effects("panic").await, 0);
    setup.has_effects("transient", 1).await;
    assert!(handler.calls("transient") >= 3);
}

#[tokio::test]
async fn an_event_that_never_works_is_given_up_after_its_last_attempt() {
    let setup = setup().await;
    let mut message = setup.event("permanently-transient").to_message();
    // As it comes back from its last retry.
    message.headers.insert(header::ATTEMPT.to_owned(), (DEFAULT_RETRY.len() as i64).into());
    message.headers.insert(header::FIRST_FAILED_AT.to_owned(), "2026-11-22T16:00:00Z".into());
    struct Never;
    #[async_trait]
    impl Handler for Never {
        type Fact = ();

        fn read(&self, _: &Event) -> Result<(), Permanent> {
            Ok(())
        }

        async fn write(&self, _: &[(&Event, &())], _: &mut Tx) -> Result<Vec<Announcement>, Failure> {
            Err(Failure::Transient("still not".into()))
        }
    }
    setup.publish(message).await;
    let consumer = Consumer::new(&BINDINGS, Arc::new(Never), setup.runtime());
    let _running = tokio::spawn(consumer.run(setup.stop.clone()));
    let dead = setup.dead_letters(1).await;
    let message = &dead["permanently-transient"];
    assert_eq!(message.long(header::ATTEMPT), Some(DEFAULT_RETRY.len() as i64 + 1));
    assert_eq!(message.text(header::FIRST_FAILED_AT), Some("2026-11-22T16:00:00Z"));
}

#[tokio::test]
async fn while_the_database_is_away_no_attempt_is_spent() {
    let setup = setup().await;
    let handler = Arc::new(Orders { away: AtomicUsize::new(3), ..Orders::default() });
    let consumer = setup.consumer(&handler);
    let mut status = consumer.status();
    let _running = tokio::spawn(consumer.run(setup.stop.clone()));
    for _ in 0..5 {
        setup.publish(setup.event("order").to_message()).await;
    }
    timeout(PATIENCE, status.wait_for(|status| matches!(status, Status::Paused(_)))).await.unwrap().unwrap();
    setup.has_effects("order", 5).await;
    timeout(PATIENCE, status.wait_for(|status| *status == Status::Running)).await.unwrap().unwrap();
    assert_eq!(setup.ready("wait.1s").await + setup.ready("dead").await, 0);
}

#[tokio::test]
async fn a_broker_that_takes_no_dead_letter_holds_up_the_bad_event_and_no_good_one() {
    let setup = setup().await;
    let foreign = Message { message_id: "7".into(), ..setup.event("foreign").to_message() };
    setup.publish(foreign).await;
    for topic in ["permanent", "good", "good"] {
        setup.publish(setup.event(topic).to_message()).await;
    }
    let broker = setup.recording();
    broker.answer(Answer::Refuse);
    let runtime = Runtime { broker: broker.clone(), ..setup.runtime() };
    let consumer = Consumer::new(&BINDINGS, Arc::<Orders>::default(), runtime);
    let mut status = consumer.status();
    let _running = tokio::spawn(consumer.run(setup.stop.clone()));
    setup.has_effects("good", 2).await;
    timeout(PATIENCE, status.wait_for(|status| matches!(status, Status::Paused(_)))).await.unwrap().unwrap();
    // Held, not given back: that would count towards the delivery limit of the queue.
    assert_eq!(setup.ready("orders").await, 0);
    broker.answer(Answer::Confirm);
    assert_eq!(setup.dead_letters(2).await.len(), 2);
}

#[tokio::test]
async fn an_event_that_another_transaction_is_in_the_way_of_stands_back_and_spends_no_attempt() {
    let setup = setup().await;
    for topic in ["conflict", "good", "good"] {
        setup.publish(setup.event(topic).to_message()).await;
    }
    let handler = Arc::<Orders>::default();
    let _running = tokio::spawn(setup.consumer(&handler).run(setup.stop.clone()));
    setup.has_effects("good", 2).await;
    setup.has_effects("conflict", 1).await;
    assert_eq!(setup.ready("wait.1s").await + setup.ready("dead").await, 0);
}

/// What leaves nothing to write.
struct Nothing;

#[async_trait]
impl Recording for Nothing {
    async fn write(self: Box<Self>, _: &mut Tx) -> Result<(), Failure> {
        Ok(())
    }
}

#[tokio::test]
async fn a_recorders_own_attempts_leave_the_history_of_a_dead_letter_alone() {
    struct SecondTime(Mutex<Vec<Message>>);
    impl Recorder for SecondTime {
        fn read<'a>(&'a self, messages: &[&'a Message]) -> Result<Box<dyn Recording + 'a>, Failure> {
            self.0.lock().unwrap().extend(messages.iter().map(|message| (*message).clone()));
            match messages[0].long(header::RECORD_ATTEMPT) {
                None => Err(Failure::Transient("not yet".into())),
                Some(_) => Ok(Box::new(Nothing)),
            }
        }
    }
    let setup = setup().await;
    let mut letter = setup.event("order").to_message();
    letter.headers.insert(header::ATTEMPT.to_owned(), 9.into());
    letter.headers.insert(header::ERROR.to_owned(), "never".into());
    letter.headers.insert(header::CONSUMER.to_owned(), "orders".into());
    setup.broker.publish(&setup.layout.dead(), "order", letter.clone()).await.unwrap();
    let recorder = Arc::new(SecondTime(Mutex::default()));
    let consumer = Consumer::recorder("dead", 10, recorder.clone(), setup.runtime());
    let _running = tokio::spawn(consumer.run(setup.stop.clone()));
    let started = Instant::now();
    // At once, and a second later.
    while recorder.0.lock().unwrap().len() < 2 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let last = recorder.0.lock().unwrap()[1].clone();
    for name in [header::ATTEMPT, header::ERROR, header::CONSUMER] {
        assert_eq!(last.headers.get(name), letter.headers.get(name));
    }
    assert_eq!(setup.ready("parked").await, 0);
}

#[tokio::test]
async fn a_consumer_that_is_told_to_stop_finishes_what_it_holds() {
    let setup = setup().await;
    let gate = Arc::new(Semaphore::new(0));
    let handler = Arc::new(Orders { gate: Some(gate.clone()), ..Orders::default() });
    setup.publish(setup.event("order").to_message()).await;
    let consumer = setup.consumer(&handler);
    let mut status = consumer.status();
    let running = tokio::spawn(consumer.run(setup.stop.clone()));
    let started = Instant::now();
    while handler.calls("order") == 0 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    setup.stop.cancel();
    gate.add_permits(1);
    timeout(PATIENCE, running).await.expect("stops in time").unwrap();
    timeout(PATIENCE, status.wait_for(|status| *status == Status::Stopped)).await.unwrap().unwrap();
    assert_eq!(setup.effects("order").await, 1);
    assert_eq!(setup.ready("orders").await, 0);
}

#[tokio::test]
async fn a_recorder_gets_messages_as_they_are_and_parks_what_it_cannot_keep() {
    struct Record(Mutex<Vec<String>>);
    struct Read<'a>(&'a Record, Vec<&'a Message>);
    impl Recorder for Record {
        fn read<'a>(&'a self, messages: &[&'a Message]) -> Result<Box<dyn Recording + 'a>, Failure> {
            Ok(Box::new(Read(self, messages.to_vec())))
        }
    }
    #[async_trait]
    impl Recording for Read<'_> {
        async fn write(self: Box<Self>, _: &mut Tx) -> Result<(), Failure> {
            let Self(record, messages) = *self;
            if messages.iter().any(|message| message.r#type == "unfit") {
                return Err(Failure::Permanent("unfit".into()));
            }
            record.0.lock().unwrap().extend(messages.iter().map(|message| message.r#type.clone()));
            Ok(())
        }
    }
    let setup = setup().await;
    for topic in ["a", "unfit", "b"] {
        let message = setup.event(topic).to_message();
        setup.broker.publish(&setup.layout.dead(), topic, message).await.unwrap();
    }
    let record = Arc::new(Record(Mutex::default()));
    let consumer = Consumer::recorder("dead", 10, record.clone(), setup.runtime());
    let running = tokio::spawn(consumer.run(setup.stop.clone()));
    let mut parked = setup.broker.subscribe(&setup.layout.queue("parked"), 1).await.unwrap();
    let parked = timeout(PATIENCE, parked.next()).await.expect("a parked message").unwrap();
    assert_eq!(parked.message.r#type, "unfit");
    let started = Instant::now();
    while record.0.lock().unwrap().len() < 2 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    setup.stop.cancel();
    running.await.unwrap();
    assert_eq!(*record.0.lock().unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn however_long_an_error_is_its_message_has_room_for_it() {
    let setup = setup().await;
    let _running = tokio::spawn(setup.consumer(&Arc::default()).run(setup.stop.clone()));
    setup.publish(setup.event("wordy").to_message()).await;
    let dead = setup.dead_letters(1).await.remove("wordy").unwrap();
    assert_eq!(dead.text(header::ERROR), Some("é".repeat(2_000).as_str()));
    let history = dead.text(header::HISTORY).unwrap();
    assert!(history.contains(&"é".repeat(300)) && history.len() < 1_000, "{history}");
}

#[tokio::test]
async fn a_policy_says_how_often_and_the_history_tells_of_each_attempt_across_a_resending() {
    let setup = setup().await;
    let mut runtime = setup.runtime();
    let change = PolicyChange {
        attempts: Some(3),
        delays: Some(vec![crate::RetryDelay::S1]),
        jitter_percent: Some(100),
    };
    runtime.config.policies.insert("orders".to_owned(), change);
    let handler = Arc::<Orders>::default();
    let consumer = Consumer::new(&BINDINGS, handler.clone(), runtime);
    let _running = tokio::spawn(consumer.run(setup.stop.clone()));
    setup.publish(setup.event("hopeless").to_message()).await;
    let attempts = |message: &Message| -> Vec<(i64, String)> {
        let history: Vec<serde_json::Value> =
            serde_json::from_str(message.text(header::HISTORY).unwrap()).unwrap();
        let attempt = |entry: &serde_json::Value| {
            assert!(entry["at"].as_str().unwrap().parse::<event::Timestamp>().is_ok());
            (entry["attempt"].as_i64().unwrap(), entry["error"].as_str().unwrap().to_owned())
        };
        history.iter().map(attempt).collect()
    };
    let expected = |count: i64| (1..=count).map(|n| (n, "not today".to_owned())).collect::<Vec<_>>();
    let mut dead = setup.dead_letters(1).await.remove("hopeless").unwrap();
    assert_eq!(attempts(&dead), expected(3));
    assert_eq!(dead.long(header::ATTEMPT), Some(3));

    // As a job sends it again.
    dead.headers.remove(header::ATTEMPT);
    dead.headers.remove(header::GIVEN_UP_AT);
    dead.headers.insert(header::JOB.to_owned(), "1".into());
    setup.publish(dead).await;
    let mut deliveries = setup.broker.subscribe(&setup.layout.queue("dead"), 10).await.unwrap();
    loop {
        let again = timeout(PATIENCE, deliveries.next()).await.expect("a dead letter").unwrap().message;
        if attempts(&again).len() > 3 {
            assert_eq!(attempts(&again), expected(6));
            assert_eq!(again.long(header::ATTEMPT), Some(3));
            break;
        }
    }
}

#[tokio::test]
async fn what_its_sender_has_sent_before_is_handed_to_nobody() {
    let setup = setup().await;
    let keyed = |topic: &str, key: &str| {
        let mut message = setup.event(topic).to_message();
        message.headers.insert(header::DUPLICATE_KEY.to_owned(), key.into());
        message.headers.insert(header::DUPLICATE_WINDOW_S.to_owned(), 3_600.into());
        message
    };
    let first = keyed("order", "a");
    for message in [first.clone(), keyed("order", "a"), keyed("order", "b"), first] {
        setup.publish(message).await;
    }
    // Sent again by an operator: without the key.
    setup.publish(setup.event("order").to_message()).await;
    setup.publish(keyed("order", "a")).await;
    setup.publish(setup.event("last").to_message()).await;
    let handler = Arc::<Orders>::default();
    let running = tokio::spawn(setup.consumer(&handler).run(setup.stop.clone()));
    setup.has_effects("last", 1).await;
    assert_eq!(setup.effects("order").await, 3);
    setup.stop.cancel();
    running.await.unwrap();
    assert_eq!(setup.ready("orders").await, 0);
}

#[tokio::test]
async fn a_consumer_that_its_queue_has_forgotten_asks_again() {
    let setup = setup().await;
    setup.publish(setup.event("good").to_message()).await;
    let broker = setup.recording();
    broker.silence_subscriptions(1);
    let runtime = Runtime { broker, ..setup.runtime() };
    let consumer = Consumer::new(&BINDINGS, Arc::<Orders>::default(), runtime);
    let _running = tokio::spawn(consumer.run(setup.stop.clone()));
    setup.has_effects("good", 1).await;
}

#[tokio::test]
async fn a_subscription_that_hands_out_a_message_between_two_looks_is_not_forgotten() {
    let setup = setup().await;
    let broker = setup.recording();
    broker.overstate_queues(2);
    let runtime = Runtime { broker: broker.clone(), ..setup.runtime() };
    let consumer = Consumer::new(&BINDINGS, Arc::<Orders>::default(), runtime);
    let _running = tokio::spawn(consumer.run(setup.stop.clone()));
    let started = Instant::now();
    while broker.overstatements() == 2 {
        assert!(started.elapsed() < PATIENCE, "nobody looks at the queue");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    setup.publish(setup.event("good").to_message()).await;
    setup.has_effects("good", 1).await;
    assert_eq!(broker.overstatements(), 0);
    assert_eq!(broker.subscriptions(), 1);
}
