//! Laws of a crash: what is there when the broker is back after `kill -9`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{
    Declaration, Instance, Names, PATIENCE, drain, message, nothing_arrives, numbered, publish, put,
    subscribe, take, waiting::declare_wait,
};
use crate::ExchangeName;

/// Every message whose publish returned before the crash is in each of its queues afterwards, and none is there twice
/// unless marked redelivered. Publishes in flight at the crash may be there once, twice or not at all.
pub async fn what_was_confirmed_survives_a_crash(instance: &dyn Instance) {
    const TASKS: usize = 8;
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names)
        .fanout("all")
        .queue("one")
        .queue("other")
        .bind("all", "one", "")
        .bind("all", "other", "")
        .declare(&broker)
        .await;

    let confirmed = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (broker, exchange, confirmed) = (broker.clone(), names.exchange("all"), confirmed.clone());
        tasks.spawn(async move {
            for n in 0.. {
                let id = format!("{task}-{n:06}");
                if broker.publish(&exchange, "order.created", message(id.clone())).await.is_err() {
                    return;
                }
                confirmed.lock().expect("no task panics with it").push(id);
            }
        });
    }
    let confirmed_count = || confirmed.lock().expect("no task panics with it").len();
    let start = Instant::now();
    while confirmed_count() < 200 {
        assert!(start.elapsed() < PATIENCE, "200 publishes are confirmed in time");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let confirmed_ids = || -> BTreeSet<String> {
        confirmed.lock().expect("no task panics with it").iter().cloned().collect()
    };
    let before = confirmed_ids();
    instance.crash().await;
    tasks.shutdown().await;
    // Those of the very last moment too: a confirmed message is stored.
    let confirmed = confirmed_ids();

    let broker = instance.broker().await;
    for queue in ["one", "other"] {
        let mut deliveries = subscribe(&broker, &names.queue(queue), 100).await;
        let mut missing = confirmed.clone();
        let mut seen = BTreeSet::new();
        while !missing.is_empty() {
            let delivery = take(&mut deliveries).await;
            deliveries.ack(&[delivery.tag]).await.expect("the subscription lives");
            let id = delivery.message.message_id;
            missing.remove(&id);
            // One under way at the crash may have been sent again.
            let first = seen.insert(id.clone());
            assert!(first || delivery.redelivered || !before.contains(&id), "{id} is there twice");
        }
    }
}

/// Deliveries that were not settled come back after a crash, marked redelivered.
pub async fn what_was_unsettled_comes_back_after_a_crash(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let queue = names.queue("work");
    for id in numbered(3) {
        put(&broker, &queue, id).await;
    }
    let mut deliveries = subscribe(&broker, &queue, 3).await;
    for id in numbered(3) {
        let delivery = take(&mut deliveries).await;
        assert_eq!((delivery.message.message_id, delivery.redelivered), (id, false));
    }
    put(&broker, &queue, "never handed out").await;
    instance.crash().await;
    drop(deliveries);

    let broker = instance.broker().await;
    let mut deliveries = subscribe(&broker, &queue, 10).await;
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let delivery = take(&mut deliveries).await;
        let id = delivery.message.message_id;
        assert!(delivery.redelivered || id == "never handed out", "{id} was handed out before");
        seen.insert(id);
    }
    let expected: BTreeSet<_> = numbered(3).into_iter().chain(["never handed out".to_owned()]).collect();
    assert_eq!(seen, expected);
    nothing_arrives(&mut deliveries).await;
}

/// Once a subscription is over, every call of every method returns an error at once, whichever method noticed first.
pub async fn a_subscription_that_is_over_says_so_for_good(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let queue = names.queue("work");
    put(&broker, &queue, "held").await;
    put(&broker, &queue, "never taken").await;
    let (mut taking, mut acking) = (subscribe(&broker, &queue, 1).await, subscribe(&broker, &queue, 1).await);
    let tag = take(&mut taking).await.tag;
    instance.crash().await;

    let end = async {
        while taking.next().await.is_ok() {}
        // A delivery that nobody takes is in front of the end.
        while acking.ack(&[]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, end).await.expect("both notice the crash in time");
    for deliveries in [&mut taking, &mut acking] {
        for _ in 0..3 {
            let next = tokio::time::timeout(PATIENCE, deliveries.next()).await;
            assert!(next.expect("the answer comes at once").is_err());
            assert!(deliveries.ack(&[tag]).await.is_err());
            assert!(deliveries.ack(&[]).await.is_err());
        }
    }
}

/// What was acked, and whose ack the broker has acted on, stays away after a crash.
pub async fn what_was_acked_stays_away_after_a_crash(instance: &dyn Instance) {
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    let queue = names.queue("work");
    for id in ["acked", "held"] {
        put(&broker, &queue, id).await;
    }
    let mut deliveries = subscribe(&broker, &queue, 1).await;
    assert_eq!(drain(&mut deliveries, 1).await, ["acked"]);
    // With a prefetch of one, the second delivery proves that the broker acted on the ack of the first.
    assert_eq!(take(&mut deliveries).await.message.message_id, "held");
    instance.crash().await;
    drop(deliveries);

    let broker = instance.broker().await;
    let mut deliveries = subscribe(&broker, &queue, 10).await;
    let delivery = take(&mut deliveries).await;
    assert_eq!((delivery.message.message_id.as_str(), delivery.redelivered), ("held", true));
    nothing_arrives(&mut deliveries).await;
}

/// A message that waits in a retry queue during a crash arrives after it, once, no earlier than asked; what was
/// declared before the crash still is.
pub async fn a_delayed_message_survives_a_crash(instance: &dyn Instance) {
    const DELAY: Duration = Duration::from_secs(1);
    let (broker, names) = (instance.broker().await, Names::new());
    Declaration::new(&names).queue("work").declare(&broker).await;
    declare_wait(&broker, &names, DELAY, &["work"]).await;
    let start = Instant::now();
    publish(&broker, &names.exchange("wait"), names.queue("work").as_str(), "late").await;
    instance.crash().await;

    let broker = instance.broker().await;
    publish(&broker, &ExchangeName::default_exchange(), names.queue("work").as_str(), "early").await;
    let mut deliveries = subscribe(&broker, &names.queue("work"), 10).await;
    let mut seen = BTreeSet::from_iter(drain(&mut deliveries, 1).await);
    seen.extend(drain(&mut deliveries, 1).await);
    let waited = start.elapsed();
    assert!(waited + Duration::from_millis(2) >= DELAY, "it came after {waited:?}");
    assert_eq!(seen, BTreeSet::from(["early".to_owned(), "late".to_owned()]));
    nothing_arrives(&mut deliveries).await;
}
