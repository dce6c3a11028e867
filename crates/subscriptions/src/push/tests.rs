//! The engine with a store, a feed and receivers that answer as a test wants.

mod tokens;
mod troubles;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use event::{EventId, SubscriptionName, Timestamp};
use harness::{Received, Receiver, Reply};
use ledger::feed::Feed;
use outbound::Client;
use store::many::{Value, fetch};
use store::{Row, Store};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::gauges::{Measured, measure};
use super::laws::{declaration, record, seal};
use crate::{
    Config, Declaration, Order, Push, Resume, Secrets, Seek, SigningKey, SigningSecret, State, Subscription,
    Wait, sign, table,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Installation {
    store: Store,
    _folder: TempDir,
    stop: CancellationToken,
    engines: Vec<JoinHandle<()>>,
}

impl Installation {
    async fn new() -> Self {
        let (store, folder) = store::fresh_sqlite!().await;
        store.migrate(&[ledger::COMPONENT, crate::COMPONENT]).await.unwrap();
        let mut installation =
            Self { store, _folder: folder, stop: CancellationToken::new(), engines: Vec::new() };
        installation.start();
        installation
    }

    /// Starts a replica.
    fn start(&mut self) {
        let allow =
            outbound::Config { allow: vec!["127.0.0.0/8".parse().unwrap()], ..outbound::Config::default() };
        let feed = Feed::new(self.store.clone(), self.stop.clone());
        let engine = Engine {
            store: self.store.clone(),
            feed: feed.clone(),
            client: Client::new(&allow),
            seal: Arc::new(seal()),
            config: Config {
                order_wait_ms: 300,
                pause_after_s: 3_600,
                keep_attempts_days: 30,
                queue_alarm_messages: 10_000,
            },
        };
        let stop = self.stop.clone();
        self.engines.push(tokio::spawn(async move {
            tokio::join!(feed.run(), engine.run(stop));
        }));
    }

    async fn add(
        &self,
        name: &str,
        url: &str,
        change: impl FnOnce(&mut Declaration, &mut Push),
    ) -> SubscriptionName {
        let mut declaration = declaration(name, url);
        let mut push = Push { order: Order::None, retry: waits(&[100; 8]), ..Push::new(url) };
        change(&mut declaration, &mut push);
        declaration.push = Some(push);
        let signing = vec![SigningKey { secret: SECRET.to_owned(), until: None }];
        let secrets = Secrets { signing, ..Secrets::default() };
        table::add(&self.store, &seal(), &declaration, &secrets, Seek::Beginning).await.unwrap();
        declaration.name
    }

    async fn get(&self, name: &SubscriptionName) -> Subscription {
        table::get(&self.store, name).await.unwrap().unwrap()
    }

    async fn count(&self, text: &str) -> i64 {
        fetch(&mut self.store.read().await.unwrap(), text.to_owned(), []).await.unwrap()[0]
            .try_get(0)
            .unwrap()
    }

    async fn owner(&self) -> Option<String> {
        let text = "SELECT lease_owner FROM subscriptions".to_owned();
        fetch(&mut self.store.read().await.unwrap(), text, []).await.unwrap()[0].get(0)
    }

    async fn wait_for_count(&self, text: &str, expect: i64) {
        let begun = Instant::now();
        loop {
            let count = self.count(text).await;
            if count == expect {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{text}: {count}, not {expect}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Pauses a subscription, and waits until nobody works on it.
    async fn pause(&self, name: &SubscriptionName) {
        table::pause(&self.store, name, "maintenance").await.unwrap();
        let begun = Instant::now();
        while self.owner().await.is_some() {
            assert!(begun.elapsed() < PATIENCE, "its worker goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn wait_for_state(&self, name: &SubscriptionName, state: State) -> Subscription {
        let begun = Instant::now();
        loop {
            let subscription = self.get(name).await;
            if subscription.state == state {
                return subscription;
            }
            assert!(begun.elapsed() < PATIENCE, "{subscription:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(self) {
        self.stop.cancel();
        for engine in self.engines {
            engine.await.unwrap();
        }
    }
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=";
const ATTEMPTS: &str = "SELECT count(*) FROM delivery_attempts";
const WAITING: &str = "SELECT count(*) FROM deliveries WHERE due_at IS NOT NULL";
const UNDELIVERED: &str = "SELECT count(*) FROM deliveries WHERE due_at IS NULL";

fn waits(milliseconds: &[u64]) -> Vec<Wait> {
    milliseconds.iter().map(|wait| Wait(Duration::from_millis(*wait))).collect()
}

fn id(received: &Received) -> EventId {
    received.header("webhook-id").unwrap().parse().unwrap()
}

/// The ids of the events, each once, in the order in which they first came.
fn ids(requests: &[Received]) -> Vec<EventId> {
    let mut seen = HashSet::new();
    requests.iter().map(id).filter(|id| seen.insert(*id)).collect()
}

async fn wait_for_all(receiver: &Receiver, wanted: &[EventId]) {
    let begun = Instant::now();
    loop {
        let got: HashSet<_> = receiver.requests().iter().map(id).collect();
        if wanted.iter().all(|id| got.contains(id)) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{} of {} came", got.len(), wanted.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn gap(requests: &[Received], at: usize) -> Duration {
    requests[at + 1].at.duration_since(requests[at].at).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_the_event_with_its_attributes_and_a_signature() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    receiver.answer(Reply::status(202).body("thanks"));
    let events = record(&installation.store, &["order/1"]).await;
    installation.add("crm", &receiver.url("/events"), |_, _| {}).await;
    wait_for_all(&receiver, &events).await;
    let received = receiver.requests().remove(0);
    assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", "/events"));
    assert_eq!(received.body, br#"{"number":0}"#);
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", events[0].to_string().as_str()),
        ("ce-type", "acordo.quitado"),
        ("ce-source", "/recuperador/rec-1"),
        ("ce-subject", "order/1"),
    ] {
        assert_eq!(received.header(name), Some(value), "{name}");
    }
    let timestamp: i64 = received.header("webhook-timestamp").unwrap().parse().unwrap();
    let secret: SigningSecret = SECRET.parse().unwrap();
    let signature = sign(&[secret], &events[0].to_string(), timestamp, &received.body);
    assert_eq!(received.header("webhook-signature"), Some(signature.as_str()));
    installation.wait_for_count(ATTEMPTS, 1).await;
    let text = "SELECT attempt, status, answer, error FROM delivery_attempts".to_owned();
    let rows = fetch(&mut installation.store.read().await.unwrap(), text, []).await.unwrap();
    let row =
        (rows[0].get::<i64, _>(0), rows[0].get::<Option<i64>, _>(1), rows[0].get::<Option<String>, _>(2));
    assert_eq!(row, (1, Some(202), Some("thanks".to_owned())));
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_event_is_sent_again_by_its_schedule_and_then_is_undelivered_until_somebody_asks() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    receiver.answer(Reply::status(500));
    let events = record(&installation.store, &["order/1"]).await;
    let name = installation.add("crm", &receiver.url("/"), |_, push| push.retry = waits(&[300, 600])).await;
    installation.wait_for_count(UNDELIVERED, 1).await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    assert!(
        gap(&requests, 0) >= Duration::from_millis(300) && gap(&requests, 1) >= Duration::from_millis(600)
    );
    assert_eq!(installation.count(ATTEMPTS).await, 3);
    receiver.answer(Reply::status(200));
    assert_eq!(installation.resend(&name).await, 1);
    installation.wait_for_count("SELECT count(*) FROM deliveries", 0).await;
    assert_eq!(receiver.requests().iter().map(id).collect::<Vec<_>>(), [events[0]; 4]);
    let text = "SELECT max(attempt) FROM delivery_attempts";
    assert_eq!(installation.count(text).await, 4, "attempts are counted through");
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_an_endpoint_asks_for_is_kept_to_by_every_event_and_uses_up_no_attempt() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    let answer = |_: &Received, number: usize| match number {
        0 => Reply::status(429).header("retry-after", "2"),
        _ => Reply::status(200),
    };
    receiver.answer_with(answer);
    installation
        .add("crm", &receiver.url("/"), |_, push| {
            push.retry = Vec::new();
            push.concurrency = 1;
        })
        .await;
    let mut events = record(&installation.store, &["order/1"]).await;
    assert!(receiver.wait_for(1, PATIENCE).await);
    events.extend(record(&installation.store, &["order/2", "order/3"]).await);
    wait_for_all(&receiver, &events).await;
    assert!(receiver.wait_for(4, PATIENCE).await);
    let requests = receiver.requests();
    assert!(gap(&requests, 0) >= Duration::from_secs(2), "{:?}", gap(&requests, 0));
    installation.wait_for_count("SELECT count(*) FROM deliveries", 0).await;
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_gone_pauses_its_subscription_and_loses_nothing() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    receiver.answer(Reply::status(410));
    let events = record(&installation.store, &["order/1", "order/2"]).await;
    let name = installation.add("crm", &receiver.url("/"), |_, push| push.concurrency = 1).await;
    let paused = installation.wait_for_state(&name, State::Paused).await;
    assert!(paused.reason.contains("410"), "{}", paused.reason);
    let sent = receiver.count();
    let later = record(&installation.store, &["order/3"]).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(receiver.count(), sent, "nothing is sent while it is paused");
    receiver.answer(Reply::status(200));
    table::resume(&installation.store, &name, Resume::All).await.unwrap();
    wait_for_all(&receiver, &[&events[..], &later].concat()).await;
    installation.wait_for_count("SELECT count(*) FROM deliveries", 0).await;
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_an_endpoint_is_down_waits_in_the_feed_and_comes_once_it_is_healed() {
    let installation = Installation::new().await;
    let port = Receiver::start().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/");
    let name = installation.add("crm", &url, |_, _| {}).await;
    let events = record(&installation.store, &["order/1"; 200]).await;
    let failing = installation.wait_for_state(&name, State::Failing).await;
    assert!(failing.reason.contains("requests failed in a row") && failing.probe_at.is_some(), "{failing:?}");
    let rows = installation.count(WAITING).await;
    assert!(rows < 30, "{rows} events have rows");
    let receiver = Receiver::start_at(port).unwrap();
    wait_for_all(&receiver, &events).await;
    installation.wait_for_state(&name, State::Active).await;
    installation.wait_for_count("SELECT count(*) FROM deliveries", 0).await;
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_stalls_holds_up_no_other_and_its_connections_are_bounded() {
    let installation = Installation::new().await;
    let (stalled, healthy) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    stalled.answer(Reply::stall());
    for number in 0..3 {
        installation
            .add(&format!("stalled-{number}"), &stalled.url("/"), |_, push| {
                push.timeout_ms = 60_000;
                push.concurrency = 4;
            })
            .await;
    }
    installation.add("healthy", &healthy.url("/"), |_, _| {}).await;
    let events = record(&installation.store, &["order/1"; 300]).await;
    let begun = Instant::now();
    wait_for_all(&healthy, &events).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(stalled.wait_for(12, PATIENCE).await && stalled.opened() <= 12);
    installation.end().await;
}

/// The numbers of the events of each subject in the order in which they were accepted.
fn accepted(requests: &[Received], is_accepted: impl Fn(usize) -> bool) -> BTreeMap<String, Vec<EventId>> {
    let mut accepted: BTreeMap<String, Vec<EventId>> = BTreeMap::new();
    for (_, request) in requests.iter().enumerate().filter(|(number, _)| is_accepted(*number)) {
        let ids = accepted.entry(request.header("ce-subject").unwrap().to_owned()).or_default();
        if !ids.contains(&id(request)) {
            ids.push(id(request));
        }
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_subject_come_in_order_whatever_fails() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    let fails = |number: usize| number % 4 == 1;
    receiver.answer_with(move |_, number| Reply::status(if fails(number) { 503 } else { 200 }));
    let subjects: Vec<String> = (0..10).map(|number| format!("order/{number}")).collect();
    let rounds: Vec<&str> = (0..200).map(|number| subjects[number % 10].as_str()).collect();
    let events = record(&installation.store, &rounds).await;
    installation
        .add("crm", &receiver.url("/"), |_, push| {
            push.order = Order::Subject;
            push.retry = waits(&[5; 30]);
        })
        .await;
    let begun = Instant::now();
    let done = |requests: &[Received]| {
        accepted(requests, |number| !fails(number)).values().map(Vec::len).sum::<usize>()
    };
    while done(&receiver.requests()) < events.len() {
        assert!(begun.elapsed() < PATIENCE, "{} of {}", done(&receiver.requests()), events.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (number, subject) in subjects.iter().enumerate() {
        let expect: Vec<_> = events.iter().skip(number).step_by(10).copied().collect();
        assert_eq!(accepted(&receiver.requests(), |number| !fails(number))[subject], expect, "{subject}");
    }
    installation.wait_for_count("SELECT count(*) FROM deliveries", 0).await;
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_two_ledgers_record_in_another_order_come_by_receipt() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    installation.add("crm", &receiver.url("/"), |_, push| push.order = Order::Subject).await;
    let mut events: Vec<_> = (0..6).map(|_| ledger::laws::event()).collect();
    for event in &mut events {
        event.subject = Some(event::Subject::from_text("order/1"));
    }
    // Each ledger commits by itself, the later events first.
    for part in [&events[3..], &events[..3]] {
        let mut tx = installation.store.begin().await.unwrap();
        ledger::laws::record_in(&mut tx, part).await.unwrap();
        tx.commit().await.unwrap();
    }
    let expect: Vec<_> = events.iter().map(|event| event.id).collect();
    wait_for_all(&receiver, &expect).await;
    assert_eq!(ids(&receiver.requests()), expect);
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_was_deleted_pauses_a_subscription_until_somebody_knows() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    let name = installation.add("crm", &receiver.url("/"), |_, _| {}).await;
    table::pause(&installation.store, &name, "maintenance").await.unwrap();
    let events = record(&installation.store, &["order/1", "order/2"]).await;
    let mut tx = installation.store.begin().await.unwrap();
    fetch(&mut tx, "DELETE FROM events WHERE id = $1".to_owned(), [Value::from(events[0])]).await.unwrap();
    tx.commit().await.unwrap();
    // Set by hand: resuming says that it is known.
    let mut tx = installation.store.begin().await.unwrap();
    fetch(&mut tx, "UPDATE subscriptions SET state = 'active', version = version + 1".to_owned(), [])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let paused = installation.wait_for_state(&name, State::Paused).await;
    assert!(paused.reason.contains("retention has deleted events"), "{}", paused.reason);
    assert_eq!(receiver.count(), 0);
    table::resume(&installation.store, &name, Resume::All).await.unwrap();
    wait_for_all(&receiver, &events[1..]).await;
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_delivered_again_at_its_rate_beside_live_events() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    let name = installation.add("crm", &receiver.url("/"), |_, _| {}).await;
    let events = record(&installation.store, &["order/1"; 40]).await;
    wait_for_all(&receiver, &events).await;
    installation.wait_for_count(ATTEMPTS, 40).await;
    table::seek(&installation.store, &name, Seek::Beginning, Some(20)).await.unwrap();
    let begun = SystemTime::now();
    assert!(receiver.wait_for(45, PATIENCE).await);
    let live = record(&installation.store, &["order/2"]).await;
    wait_for_all(&receiver, &live).await;
    assert!(receiver.count() < 80, "the live event does not wait for history");
    assert!(receiver.wait_for(81, PATIENCE).await);
    assert!(begun.elapsed().unwrap() >= Duration::from_millis(1_500), "40 events at 20 a second");
    let begun = Instant::now();
    while installation.get(&name).await.backfill.is_some() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(receiver.count(), 81);
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_batch_only_what_the_answer_names_is_sent_again() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    let events = record(&installation.store, &["order/1"; 20]).await;
    let failed = events[3];
    receiver.answer_with(move |received, number| {
        let body = String::from_utf8_lossy(&received.body).into_owned();
        match number < 5 && body.contains(&failed.to_string()) {
            true => Reply::status(207).body(format!("{{\"failed\":[\"{failed}\"]}}")),
            false => Reply::status(200),
        }
    });
    installation
        .add("crm", &receiver.url("/"), |_, push| {
            push.batch_events = 10;
            push.concurrency = 1;
        })
        .await;
    installation
        .wait_for_count("SELECT count(DISTINCT event_id) FROM delivery_attempts WHERE error IS NULL", 20)
        .await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for request in receiver.requests() {
        assert_eq!(request.header("content-type"), Some("application/cloudevents-batch+json"));
        let items: Vec<serde_json::Value> = serde_json::from_slice(&request.body).unwrap();
        assert!(items.len() <= 10);
        for item in items {
            *counts.entry(item["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    assert_eq!(counts.len(), 20);
    assert!(
        counts[&failed.to_string()] > 1 && counts.values().filter(|count| **count > 1).count() == 1,
        "{counts:?}"
    );
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_leaves_out_and_a_transform_changes_and_what_has_no_value_is_undelivered() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    let events = record(&installation.store, &["order/1", "order/2", "order/3"]).await;
    installation
        .add("crm", &receiver.url("/"), |declaration, _| {
            declaration.filter = Some("data.number > 0".to_owned());
            declaration.transform = Some("{'half': 2 / (data.number - 1)}".to_owned());
        })
        .await;
    wait_for_all(&receiver, &events[2..]).await;
    assert_eq!(ids(&receiver.requests()), events[2..]);
    assert_eq!(receiver.requests()[0].body, br#"{"half":2}"#);
    installation.wait_for_count(UNDELIVERED, 1).await;
    let text = "SELECT error FROM delivery_attempts WHERE event_id = $1".to_owned();
    let rows =
        fetch(&mut installation.store.read().await.unwrap(), text, [Value::from(events[1])]).await.unwrap();
    let error = rows[0].get::<String, _>(0);
    assert!(error.starts_with("the transform has no value for this event"), "{error}");
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_takes_over_what_a_killed_one_delivered() {
    let mut installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    installation.add("crm", &receiver.url("/"), |_, _| {}).await;
    let events = record(&installation.store, &["order/1"; 10]).await;
    wait_for_all(&receiver, &events).await;
    let owner = installation.owner().await;
    installation.start();
    let killed = installation.engines.remove(0);
    killed.abort();
    let _ = killed.await;
    let begun = Instant::now();
    while installation.owner().await == owner {
        assert!(begun.elapsed() < Duration::from_secs(12), "the lease was not taken over");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let later = record(&installation.store, &["order/2"; 5]).await;
    wait_for_all(&receiver, &later).await;
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_a_subscription_ends_its_work() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    receiver.answer(Reply::status(200).after(Duration::from_millis(20)));
    let name = installation.add("crm", &receiver.url("/"), |_, push| push.concurrency = 1).await;
    record(&installation.store, &["order/1"; 2_000]).await;
    assert!(receiver.wait_for(10, PATIENCE).await);
    table::remove(&installation.store, &name).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sent = receiver.count();
    assert!(sent < 200, "{sent}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(receiver.count(), sent);
    installation.wait_for_count("SELECT count(*) FROM deliveries", 0).await;
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_for_days_is_paused() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    receiver.answer(Reply::status(500));
    let name = installation.add("crm", &receiver.url("/"), |_, _| {}).await;
    record(&installation.store, &["order/1"]).await;
    let days_ago = Timestamp::from_microsecond(event::now().as_microsecond() - 3 * 86_400_000_000).unwrap();
    let mut tx = installation.store.begin().await.unwrap();
    let text = "UPDATE subscriptions SET failing_since = $1, failures = 50, version = version + 1, moved = moved + 1";
    fetch(&mut tx, text.to_owned(), [Value::from(days_ago)]).await.unwrap();
    tx.commit().await.unwrap();
    let paused = installation.wait_for_state(&name, State::Paused).await;
    assert!(paused.reason.starts_with("every request has failed since"), "{}", paused.reason);
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_undelivered_and_what_waits_is_measured_whoever_delivers() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    let refuses = |received: &Received, _| {
        Reply::status(if received.header("ce-subject") == Some("order/1") { 500 } else { 200 })
    };
    receiver.answer_with(refuses);
    let name = installation.add("crm", &receiver.url("/"), |_, push| push.retry = waits(&[50])).await;
    record(&installation.store, &["order/1", "order/1", "order/2"]).await;
    installation.wait_for_count(UNDELIVERED, 2).await;
    installation.wait_for_count(ATTEMPTS, 5).await;
    let measured = async || measure(&installation.store, event::now()).await.unwrap()[&name];
    assert_eq!(
        measured().await,
        Measured { undelivered: 2, waiting: 0, lag_s: None },
        "a worker has its lag"
    );

    installation.pause(&name).await;
    assert_eq!(measured().await.lag_s, Some(0.0), "everything is read");
    record(&installation.store, &["order/3"]).await;
    installation.resend(&name).await;
    let waiting = measured().await;
    assert_eq!((waiting.undelivered, waiting.waiting), (0, 2));
    assert!(waiting.lag_s.is_some_and(|lag_s| lag_s > 0.0), "{waiting:?}");
    installation.end().await;
}

/// With its first failures an endpoint looks down. An event that it would take is still tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_always_fail_do_not_hold_up_one_that_can_be_delivered() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    receiver.answer_with(|received, _| {
        Reply::status(if received.header("ce-subject") == Some("order/7") { 200 } else { 500 })
    });
    record(&installation.store, &["order/1", "order/2", "order/3", "order/1"]).await;
    let name = installation
        .add("crm", &receiver.url("/"), |_, push| {
            push.order = Order::Subject;
            push.retry = waits(&[50; 30]);
        })
        .await;
    installation.wait_for_state(&name, State::Failing).await;
    let healthy = record(&installation.store, &["order/7"]).await;
    wait_for_all(&receiver, &healthy).await;
    installation.end().await;
}

/// As many events of one subject wait as may, the first 700 of them on record.
async fn fill(installation: &Installation, name: &SubscriptionName) {
    let stuck = record(&installation.store, &["order/1"; 700]).await;
    let id = installation.get(name).await.id;
    let received = event::now();
    let text =
        "INSERT INTO deliveries (subscription, event_id, subject, received_at, attempts, steps, due_at) ";
    let mut tx = installation.store.begin().await.unwrap();
    for (number, event) in stuck.iter().enumerate() {
        let at = received + Duration::from_micros(number as u64);
        let values = [id.into(), Value::from(*event), Value::from(at)];
        fetch(&mut tx, format!("{text} VALUES ($1, $2, 'order/1', $3, 0, 0, 0)"), values).await.unwrap();
    }
    // Those behind them: the contents of none are read before its turn.
    let rest = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 19300) \
                SELECT $1, randomblob(16), 'order/1', $2 + n, 0, 0, 0 FROM n";
    let later = Value::from(received + Duration::from_secs(1));
    fetch(&mut tx, format!("{text} {rest}"), [id.into(), later]).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_subject_stops_no_other_until_as_many_wait_as_may_and_then_reading_resumes_by_itself() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    let is_stuck = Arc::new(AtomicBool::new(true));
    let stuck = Arc::clone(&is_stuck);
    receiver.answer_with(move |received, _| {
        let is_refused = received.header("ce-subject") == Some("order/1") && stuck.load(Ordering::SeqCst);
        Reply::status(if is_refused { 500 } else { 200 })
    });
    let name = installation
        .add("crm", &receiver.url("/"), |_, push| {
            push.order = Order::Subject;
            push.retry = waits(&[1_000; 30]);
        })
        .await;
    installation.pause(&name).await;
    fill(&installation, &name).await;
    let first = record(&installation.store, &["order/2"]).await;
    // One less than as many as may wait: the others are delivered.
    let mut tx = installation.store.begin().await.unwrap();
    let text = "DELETE FROM deliveries WHERE event_id = (SELECT event_id FROM deliveries ORDER BY received_at DESC LIMIT 1)";
    fetch(&mut tx, text.to_owned(), []).await.unwrap();
    tx.commit().await.unwrap();
    table::resume(&installation.store, &name, Resume::All).await.unwrap();
    wait_for_all(&receiver, &first).await;

    // Read with what was recorded beside it; from now on as many wait as may.
    record(&installation.store, &["order/1"]).await;
    let full = installation.wait_for_state(&name, State::Failing).await;
    assert!(
        full.reason.starts_with("20000 events wait for another attempt, or behind one"),
        "{}",
        full.reason
    );
    let held_back = record(&installation.store, &["order/3"]).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(receiver.requests().iter().all(|request| id(request) != held_back[0]), "it waits in the feed");

    is_stuck.store(false, Ordering::SeqCst);
    wait_for_all(&receiver, &held_back).await;
    let active = installation.wait_for_state(&name, State::Active).await;
    assert_eq!(active.reason, "");
    installation.end().await;
}

/// More than there is room for is received within the time in which events wait for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_that_has_no_room_in_memory_is_delivered_in_order() {
    let installation = Installation::new().await;
    let subjects = ["order/1", "order/2"];
    let events: Vec<_> = (0..40)
        .map(|number| {
            let mut event = ledger::laws::event();
            event.subject = Some(event::Subject::from_text(subjects[number % 2]));
            event.data = vec![b'x'; 1 << 19].into();
            event
        })
        .collect();
    let mut tx = installation.store.begin().await.unwrap();
    ledger::laws::record_in(&mut tx, &events).await.unwrap();
    tx.commit().await.unwrap();
    let receiver = Receiver::start().unwrap();
    installation.add("crm", &receiver.url("/"), |_, push| push.order = Order::Subject).await;
    let wanted: Vec<EventId> = events.iter().map(|event| event.id).collect();
    wait_for_all(&receiver, &wanted).await;
    let came = ids(&receiver.requests());
    for first in 0..subjects.len() {
        let expect: Vec<_> = wanted.iter().copied().skip(first).step_by(subjects.len()).collect();
        let came: Vec<_> = came.iter().copied().filter(|id| expect.contains(id)).collect();
        assert_eq!(came, expect, "{}", subjects[first]);
    }
    installation.end().await;
}
