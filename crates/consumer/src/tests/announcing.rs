//! Domain events: written with the effect, published by the relay.

use event::{EventId, SourceName};
use store::outbox;

use super::*;
use crate::Relay;

/// Writes these announcements, each the subject and the text of its data, in one transaction.
async fn announce(setup: &Setup, announcements: &[(&str, &str)]) -> Vec<EventId> {
    let event = |(subject, text): &(&str, &str)| {
        let data = Counted { topic: (*text).to_owned() };
        COUNTED
            .announce(&setup.event("order"), subject, &data)
            .into_event(&SourceName::new("orders").unwrap())
    };
    let events: Vec<Event> = announcements.iter().map(event).collect();
    let mut tx = setup.store.begin().await.unwrap();
    outbox::write(&mut tx, &events, event::now()).await.unwrap();
    tx.commit().await.unwrap();
    setup.store.outbox_filled().notify_one();
    events.iter().map(|event| event.id).collect()
}

async fn in_outbox(setup: &Setup) -> Vec<Event> {
    let mut connection = setup.store.read().await.unwrap();
    outbox::oldest(&mut connection, 1_000).await.unwrap().into_iter().map(|(_, event)| event).collect()
}

async fn awaited(what: &str, condition: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn relay(setup: &Setup, broker: &Arc<RecordingBroker>) -> Relay {
    Relay { broker: broker.clone(), layout: setup.layout.clone(), store: setup.store.clone() }
}

fn ids(broker: &RecordingBroker) -> Vec<String> {
    broker.published().into_iter().map(|published| published.message.message_id).collect()
}

#[tokio::test]
async fn an_effect_and_its_announcement_are_committed_together_or_not_at_all() {
    let setup = setup().await;
    let events = ["good", "permanent", "good", "transient"].map(|topic| setup.event(topic));
    for event in events.iter().chain(&events[..1]) {
        setup.publish(event.to_message()).await;
    }
    let running = tokio::spawn(setup.consumer(&Arc::default()).run(setup.stop.clone()));
    setup.dead_letters(1).await;
    setup.has_effects("good", 2).await;
    setup.has_effects("transient", 1).await;
    setup.publish(events[0].to_message()).await;
    awaited("the repetition is not acked", async || setup.held(&["orders"]).await == 0).await;
    setup.stop.cancel();
    running.await.unwrap();
    let announced = in_outbox(&setup).await;
    let mut causes: Vec<EventId> = announced.iter().filter_map(|event| event.caused_by).collect();
    causes.sort_unstable();
    assert_eq!(causes, [&events[0], &events[2], &events[3]].map(|event| event.id));
    for event in announced {
        assert_eq!(
            (event.source.to_text().as_str(), event.topic.as_str()),
            ("/malote/orders", "order.counted")
        );
    }
}

#[tokio::test]
async fn a_relay_publishes_what_is_announced_at_once_and_deletes_it() {
    let setup = setup().await;
    let broker = RecordingBroker::alone();
    let mut expect = announce(&setup, &[("1", "a"), ("2", "b"), ("1", "c")]).await;
    let running = tokio::spawn(relay(&setup, &broker).run(setup.stop.clone()));
    awaited("they are published", async || broker.published().len() == 3).await;
    awaited("they are deleted", async || in_outbox(&setup).await.is_empty()).await;
    let begun = Instant::now();
    expect.extend(announce(&setup, &[("2", "d")]).await);
    awaited("it is published", async || broker.published().len() == 4).await;
    // Not when it is looked for again, seconds later.
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let mut published = ids(&broker);
    published.sort_unstable();
    let mut expect: Vec<String> = expect.iter().map(ToString::to_string).collect();
    expect.sort_unstable();
    assert_eq!(published, expect);
    for one in broker.published() {
        assert_eq!((one.exchange.as_str(), one.routing_key.as_str()), ("received.malote", "order.counted"));
    }
    setup.stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn what_is_confirmed_and_not_deleted_is_published_again_as_the_same_event() {
    let setup = setup().await;
    let broker = RecordingBroker::alone();
    let expect = announce(&setup, &[("1", "a")]).await[0].to_string();
    // The only writer: nothing is deleted while it is here.
    let writer = setup.store.begin().await.unwrap();
    let killed = tokio::spawn(relay(&setup, &broker).run(setup.stop.clone()));
    awaited("it is published", async || broker.published().len() == 1).await;
    killed.abort();
    assert!(killed.await.unwrap_err().is_cancelled());
    drop(writer);
    let running = tokio::spawn(relay(&setup, &broker).run(setup.stop.clone()));
    awaited("it is deleted", async || in_outbox(&setup).await.is_empty()).await;
    assert_eq!(ids(&broker), [expect.clone(), expect]);
    setup.stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn what_the_broker_refuses_holds_up_its_own_subject_and_nothing_is_lost_in_an_outage() {
    let setup = setup().await;
    let broker = RecordingBroker::alone();
    let events = announce(&setup, &[("1", "a"), ("2", "b"), ("1", "c")]).await;
    let [first, other, second] = events.as_slice() else { panic!("three events") };
    let (mut refusals, refused) = (2, first.to_string());
    broker.refuse(move |published| {
        let is_refused = refusals > 0 && published.message.message_id == refused;
        refusals -= usize::from(is_refused);
        is_refused
    });
    broker.answer(Answer::Unavailable);
    let running = tokio::spawn(relay(&setup, &broker).run(setup.stop.clone()));
    awaited("it is tried", async || broker.tries(|_| true) > 0).await;
    assert_eq!(in_outbox(&setup).await.len(), 3);
    broker.answer(Answer::Confirm);
    awaited("they are deleted", async || in_outbox(&setup).await.is_empty()).await;
    // What was confirmed beside a refusal is not published again.
    assert_eq!(ids(&broker), [other, first, second].map(ToString::to_string));
    setup.stop.cancel();
    running.await.unwrap();
}
