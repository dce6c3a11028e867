//! A store that stalls, and endpoints that refuse, ask for pauses or fall silent.

use ledger::feed::{self, Topics};

use super::super::feed_part::FeedPart;
use super::*;
use crate::{Backfill, Resending, resend};

impl Installation {
    /// Sends again what waits or is undelivered; gives how many events.
    pub(super) async fn resend(&self, name: &SubscriptionName) -> i64 {
        let asked = format!(r#"{{"subscription": "{name}"}}"#);
        let asked: Resending = serde_json::from_str(&asked).unwrap();
        resend(&self.store, &asked).await.unwrap().total
    }
}

const LEASED_UNTIL: &str = "SELECT coalesce(max(lease_until), 0) FROM subscriptions";

/// Keeps everybody else from writing until the leases have ended.
async fn stall(installation: &Installation) {
    let tx = installation.store.begin().await.unwrap();
    let begun = Instant::now();
    while installation.count(LEASED_UNTIL).await >= event::now().as_microsecond() {
        assert!(begun.elapsed() < PATIENCE, "the lease is renewed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tx.rollback().await.unwrap();
}

/// What was being written has to be written by the worker's end, which moves the cursor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stalls_until_the_lease_has_ended_loses_no_event_and_no_attempt() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    receiver.answer(Reply::status(500).after(Duration::from_secs(1)));
    let events = record(&installation.store, &["order/1"]).await;
    installation.add("crm", &receiver.url("/"), |_, _| {}).await;
    assert!(receiver.wait_for(1, PATIENCE).await);
    stall(&installation).await;
    receiver.answer(Reply::status(200));
    assert!(receiver.wait_for(2, PATIENCE).await, "the event is lost");
    installation.wait_for_count("SELECT count(*) FROM deliveries", 0).await;
    assert_eq!(ids(&receiver.requests()), events);
    installation.wait_for_count(ATTEMPTS, receiver.count() as i64).await;
    installation.end().await;
}

/// The same where the work ends for another reason, and waits for its requests in vain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stalls_while_the_work_ends_loses_no_event_and_no_attempt() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    receiver.answer_with(|received, _| match received.header("ce-subject") {
        Some("order/1") => Reply::status(500).after(Duration::from_millis(700)),
        _ => Reply::status(410).after(Duration::from_secs(1)),
    });
    record(&installation.store, &["order/1", "order/2"]).await;
    let name = installation.add("crm", &receiver.url("/"), |_, push| push.retry = waits(&[60_000])).await;
    assert!(receiver.wait_for(2, PATIENCE).await);
    stall(&installation).await;
    installation.wait_for_state(&name, State::Paused).await;
    assert_eq!((installation.count(WAITING).await, installation.count(ATTEMPTS).await), (2, 2));
    installation.end().await;
}

/// A probe that is refused is an attempt like every other. Otherwise one such event would be sent until its subscription pauses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_endpoint_refuses_becomes_undelivered_though_only_probes_are_sent() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    receiver.answer(Reply::status(400));
    record(&installation.store, &["order/1"]).await;
    let name = installation.add("crm", &receiver.url("/"), |_, push| push.retry = waits(&[20; 10])).await;
    installation.wait_for_count(UNDELIVERED, 1).await;
    assert_eq!((installation.count(ATTEMPTS).await, receiver.count()), (11, 11));
    assert_eq!(installation.get(&name).await.failures, 11);
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_that_asks_for_no_pause_is_followed_by_the_schedule() {
    for asked in ["0", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        let installation = Installation::new().await;
        let receiver = Receiver::start().unwrap();
        receiver.answer(Reply::status(429).header("retry-after", asked));
        record(&installation.store, &["order/1"]).await;
        installation.add("crm", &receiver.url("/"), |_, push| push.retry = waits(&[200, 400])).await;
        installation.wait_for_count(UNDELIVERED, 1).await;
        let requests = receiver.requests();
        assert_eq!(requests.len(), 3, "{asked}");
        let gaps = [gap(&requests, 0), gap(&requests, 1)];
        assert!(gaps[0] >= Duration::from_millis(200) && gaps[1] >= Duration::from_millis(400), "{gaps:?}");
        installation.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_asks_for_one_pause_after_another_is_probed_and_fails() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    receiver.answer(Reply::status(429).header("retry-after", "1"));
    record(&installation.store, &["order/1"; 16]).await;
    let name = installation
        .add("crm", &receiver.url("/"), |_, push| {
            push.retry = Vec::new();
            push.concurrency = 16;
        })
        .await;
    let failing = installation.wait_for_state(&name, State::Failing).await;
    assert!(failing.reason.contains("429") && failing.failing_since.is_some(), "{failing:?}");
    let sent = receiver.count();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(receiver.count() <= sent + 1, "{sent}, then {}", receiver.count());
    receiver.answer(Reply::status(200));
    installation
        .wait_for_count("SELECT count(DISTINCT event_id) FROM delivery_attempts WHERE error IS NULL", 16)
        .await;
    assert_eq!(installation.count(UNDELIVERED).await, 0, "no pause uses up an attempt");
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_and_days_of_silence_pause_no_subscription() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    let name = installation.add("crm", &receiver.url("/"), |_, _| {}).await;
    let days_ago = Timestamp::from_microsecond(event::now().as_microsecond() - 3 * 86_400_000_000).unwrap();
    let mut tx = installation.store.begin().await.unwrap();
    let text =
        "UPDATE subscriptions SET failing_since = $1, failures = 1, version = version + 1, moved = moved + 1";
    fetch(&mut tx, text.to_owned(), [Value::from(days_ago)]).await.unwrap();
    tx.commit().await.unwrap();
    let events = record(&installation.store, &["order/1"]).await;
    wait_for_all(&receiver, &events).await;
    installation.wait_for_count(ATTEMPTS, 1).await;
    let subscription = installation.get(&name).await;
    assert_eq!((subscription.state, subscription.failing_since), (State::Active, None));
    installation.end().await;
}

/// Waits until the reason of a subscription is as expected.
async fn wait_for_reason(installation: &Installation, name: &SubscriptionName, expect: &str) -> Subscription {
    let begun = Instant::now();
    loop {
        let subscription = installation.get(name).await;
        if subscription.reason.starts_with(expect) && subscription.reason.is_empty() == expect.is_empty() {
            return subscription;
        }
        assert!(begun.elapsed() < PATIENCE, "{subscription:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_the_endpoint_asked_for_is_shown_and_outlasts_a_resume() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    receiver.answer_with(|_, number| match number {
        0 => Reply::status(429).header("retry-after", "5"),
        _ => Reply::status(200),
    });
    let mut events = record(&installation.store, &["order/1"]).await;
    let name = installation.add("crm", &receiver.url("/"), |_, _| {}).await;
    let asked = wait_for_reason(&installation, &name, "the endpoint asked for no request before").await;
    assert_eq!(asked.state, State::Active);
    installation.pause(&name).await;
    let resumed = table::resume(&installation.store, &name, Resume::All).await.unwrap();
    assert_eq!(resumed.held_until, asked.held_until);
    events.extend(record(&installation.store, &["order/2"]).await);
    wait_for_all(&receiver, &events).await;
    assert!(receiver.wait_for(3, PATIENCE).await);
    let requests = receiver.requests();
    assert!(gap(&requests, 0) >= Duration::from_secs(5), "{:?}", gap(&requests, 0));
    wait_for_reason(&installation, &name, "").await;
    installation.end().await;
}

async fn delete(store: &Store, event: EventId) {
    let mut tx = store.begin().await.unwrap();
    fetch(&mut tx, "DELETE FROM events WHERE id = $1".to_owned(), [Value::from(event)]).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_was_deleted_stops_no_live_event() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    let name = installation.add("crm", &receiver.url("/"), |_, _| {}).await;
    let events = record(&installation.store, &["order/1"; 4]).await;
    wait_for_all(&receiver, &events).await;
    installation.wait_for_count(ATTEMPTS, 4).await;
    installation.pause(&name).await;
    table::seek(&installation.store, &name, Seek::Beginning, Some(100)).await.unwrap();
    delete(&installation.store, events[1]).await;
    table::resume(&installation.store, &name, Resume::All).await.unwrap();
    let live = record(&installation.store, &["order/2"]).await;
    wait_for_all(&receiver, &live).await;
    assert!(receiver.wait_for(8, PATIENCE).await, "three of four come again");
    wait_for_reason(&installation, &name, "").await;
    installation.end().await;
}

#[tokio::test]
async fn what_retention_deletes_of_history_is_left_out_before_it_is_read_and_meanwhile() {
    let (store, _folder) = store::fresh_sqlite!().await;
    store.migrate(&[ledger::COMPONENT, crate::COMPONENT]).await.unwrap();
    let ids = record(&store, &["order/1"; 4]).await;
    let (begin, end) = (feed::beginning(&store).await.unwrap(), feed::end(&store).await.unwrap());
    let backfill = Backfill { cursor: begin.to_string(), until: end.to_string(), rate_per_s: 1_000 };
    // Nobody runs it: nothing is read from memory.
    let feed = Feed::new(store.clone(), CancellationToken::new());
    let name = "crm".to_owned().try_into().unwrap();
    delete(&store, ids[1]).await;
    let part = FeedPart::history(&feed, &name, &backfill, Topics::default()).await.unwrap();
    let mut part = part.expect("its cursors are of this feed");
    delete(&store, ids[2]).await;
    let (mut read, begun) = (Vec::new(), Instant::now());
    while !part.is_done() {
        assert!(begun.elapsed() < PATIENCE, "{read:?}");
        let Some(reading) = part.reading(None, Instant::now()) else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let items = part.take(reading.await).unwrap();
        read.extend(items.iter().map(|(item, _)| item.event().id));
        part.settle_read();
    }
    assert_eq!(read, [ids[0], ids[3]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_for_which_a_whole_batch_is_refused_takes_no_other_with_it() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    let events = record(&installation.store, &["order/1"; 20]).await;
    let refused = events[3].to_string();
    receiver.answer_with(move |received, _| {
        let is_refused = String::from_utf8_lossy(&received.body).contains(&refused);
        Reply::status(if is_refused { 400 } else { 200 })
    });
    installation
        .add("crm", &receiver.url("/"), |_, push| {
            push.batch_events = 10;
            push.retry = waits(&[50; 3]);
        })
        .await;
    installation.wait_for_count(UNDELIVERED, 1).await;
    let delivered = "SELECT count(DISTINCT event_id) FROM delivery_attempts WHERE error IS NULL";
    installation.wait_for_count(delivered, 19).await;
    installation.wait_for_count("SELECT count(*) FROM deliveries", 1).await;
    installation.end().await;
}

/// It may name any of them: what is read of an answer has a bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_batch_whose_answer_is_too_long_to_be_read_everything_is_sent_again() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    let events = record(&installation.store, &["order/1"; 5]).await;
    let body = format!(r#"{{"note": "{}", "failed": ["{}"]}}"#, "x".repeat(70_000), events[0]);
    receiver.answer_with(move |_, number| match number {
        0 => Reply::status(200).body(body.clone()),
        _ => Reply::status(200),
    });
    installation
        .add("crm", &receiver.url("/"), |_, push| {
            push.batch_events = 10;
            push.concurrency = 1;
        })
        .await;
    let delivered = "SELECT count(DISTINCT event_id) FROM delivery_attempts WHERE error IS NULL";
    installation.wait_for_count(delivered, 5).await;
    let sent: Vec<usize> = receiver
        .requests()
        .iter()
        .map(|request| String::from_utf8_lossy(&request.body).matches("\"id\":").count())
        .collect();
    assert_eq!(sent.iter().sum::<usize>(), 5 + sent[0], "{sent:?}");
    installation.end().await;
}

#[tokio::test]
async fn what_a_sender_has_sent_twice_is_pushed_once_and_read_once() {
    let installation = Installation::new().await;
    let receiver = Receiver::start().unwrap();
    let events = record(&installation.store, &["order/1", "order/1", "order/2"]).await;
    let mut tx = installation.store.begin().await.unwrap();
    let text = "UPDATE events SET duplicate_of = $1 WHERE id = $2 RETURNING id".to_owned();
    let changed = fetch(&mut tx, text, [Value::from(events[0]), Value::from(events[1])]).await.unwrap();
    assert_eq!(changed.len(), 1);
    tx.commit().await.unwrap();
    for (name, filter) in [("crm", None), ("erp", Some("true".to_owned()))] {
        installation
            .add(name, &receiver.url(&format!("/{name}")), |declaration, _| declaration.filter = filter)
            .await;
    }
    let all = Feed::new(installation.store.clone(), CancellationToken::new());
    let reader = all.reader(feed::After::Beginning, Topics::default()).await.unwrap();
    let read = crate::pull::Filtered::new(reader, None).next(10, Duration::ZERO).await.unwrap();
    let expect = [events[0], events[2]];
    assert_eq!(read.iter().map(|item| item.event().id).collect::<Vec<_>>(), expect);
    wait_for_all(&receiver, &expect).await;
    // What is behind the last event is not read before it.
    installation.wait_for_count(ATTEMPTS, 4).await;
    assert_eq!(receiver.requests().iter().filter(|request| id(request) == events[1]).count(), 0);
    installation.end().await;
}
