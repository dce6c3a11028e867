//! Events that their handler cannot read.

use store::seen::{self, Sighting};

use super::*;

#[tokio::test]
async fn events_that_cannot_be_read_are_set_aside_alone_and_the_others_are_written_in_one_transaction() {
    let setup = setup().await;
    let gate = Arc::new(Semaphore::new(0));
    let handler = Arc::new(Orders { gate: Some(gate.clone()), ..Orders::default() });
    let _running = tokio::spawn(setup.consumer(&handler).run(setup.stop.clone()));
    // With each of the first batches the window grows; the third keeps the consumer busy until all the others are there.
    let started = Instant::now();
    for n in 1..=3 {
        setup.publish(setup.event("good").to_message()).await;
        while handler.calls("good") < n {
            assert!(started.elapsed() < PATIENCE, "event {n} is never handled");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gate.add_permits(usize::from(n < 3));
    }
    for n in 1..20 {
        let topic = match n {
            7 => "unreadable",
            11 => "unreadable-panic",
            _ => "good",
        };
        setup.publish(setup.event(topic).to_message()).await;
    }
    let orders = [setup.layout.queue("orders")];
    while setup.broker.queues(&orders).await.unwrap()[0].unacked != Some(20) {
        assert!(started.elapsed() < PATIENCE, "the consumer never holds all deliveries");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gate.add_permits(100);
    setup.has_effects("good", 20).await;
    let dead = setup.dead_letters(2).await;
    assert_eq!(*handler.batches.lock().unwrap(), [1, 1, 1, 17]);
    for topic in ["unreadable", "unreadable-panic"] {
        let error = dead[topic].text(header::ERROR).unwrap();
        assert!(
            error == "data.id: missing" || topic == "unreadable-panic" && is_place_of_panic(error),
            "{error}"
        );
        assert_eq!(dead[topic].long(header::ATTEMPT), Some(1));
    }
    assert_eq!(setup.claims().await, 20);
}

#[tokio::test]
async fn a_duplicate_that_cannot_be_read_is_no_dead_letter() {
    let setup = setup().await;
    let keyed = || {
        let mut message = setup.event("unreadable").to_message();
        message.headers.insert(header::DUPLICATE_KEY.to_owned(), "a".into());
        message.headers.insert(header::DUPLICATE_WINDOW_S.to_owned(), 3_600.into());
        message
    };
    let (handled, first, second) = (setup.event("unreadable"), keyed(), keyed());
    let mut tx = setup.store.begin().await.unwrap();
    store::inbox::claim(&mut tx, "orders", &[handled.id], event::now()).await.unwrap();
    let sighting = Sighting::from_message(&Event::from_message(&first).unwrap(), &first).unwrap();
    seen::duplicates(&mut tx, &[sighting]).await.unwrap();
    tx.commit().await.unwrap();

    for message in [handled.to_message(), second, first.clone()] {
        setup.publish(message).await;
    }
    let _running = tokio::spawn(setup.consumer(&Arc::default()).run(setup.stop.clone()));
    let dead = setup.dead_letters(1).await;
    // They are set aside in their order: the others would be dead letters before the first event of its sender.
    assert_eq!(dead["unreadable"].message_id, first.message_id);
}
