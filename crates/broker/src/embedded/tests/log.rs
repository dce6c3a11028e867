//! The log beside the file: what is confirmed is there while it is moved, and its length is bounded.

use super::*;

/// A message of a megabyte.
fn big(id: &str) -> Message {
    let mut big = message(id);
    big.body = vec![7; 1024 * 1024].into();
    big
}

#[tokio::test]
async fn what_is_confirmed_is_there_after_a_kill_while_the_log_is_moved() {
    let instance = Crashing::new();
    let work = ExchangeName::default_exchange();
    let mut ids = Vec::new();
    for life in 0..3 {
        let broker = instance.current.lock().await.1.clone();
        declare(&broker, &[Queue { delivery_limit: 20, ..queue("work") }]).await;
        // A log that is long enough to be moved, and a little more.
        for n in 0..34 {
            let id = format!("{life} {n}");
            broker.publish(&work, "work", big(&id)).await.unwrap();
            ids.push(id);
        }
        instance.crash().await;
    }
    let broker = instance.current.lock().await.1.clone();
    let mut deliveries = subscribe(&broker, "work").await;
    for id in ids {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.message.message_id, id);
        assert!(delivery.message.body == big(&id).body, "{id}");
        deliveries.ack(&[delivery.tag]).await.unwrap();
    }
    assert_eq!(ready(&broker, "work").await, 0);
}

#[tokio::test]
async fn the_log_stays_bounded_while_consumers_keep_up() {
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    declare(&broker, &[queue("work")]).await;
    let mut deliveries = subscribe(&broker, "work").await;
    // Many at once, so that the writer never pauses.
    for publisher in 0..8 {
        let broker = broker.clone();
        tokio::spawn(async move {
            for _ in 0..25 {
                let big = big(&publisher.to_string());
                broker.publish(&ExchangeName::default_exchange(), "work", big).await.unwrap();
            }
        });
    }
    for _ in 0..200 {
        let delivery = next(&mut deliveries).await;
        deliveries.ack(&[delivery.tag]).await.unwrap();
    }
    for name in ["broker.db", "broker.db-wal"] {
        let length = fs::metadata(directory.path().join(name)).unwrap().len();
        assert!(length < 72 * 1024 * 1024, "{name} has {length} bytes");
    }
}
