//! What waits in files of earlier versions.

use super::*;

#[tokio::test]
async fn a_file_of_version_3_has_properties_as_json_and_is_read() {
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    declare(&broker, &[queue("work")]).await;
    put(&broker, "work", "a").await.unwrap();
    broker.close().await;
    let connection = rusqlite::Connection::open(directory.path().join("broker.db")).unwrap();
    let json = r#"{"message_id":"former","type":"t","timestamp":7,"content_type":"c","app_id":"malote","headers":{"n":1}}"#;
    connection.execute("UPDATE message SET properties = ?1", [json]).unwrap();
    connection.execute_batch("PRAGMA user_version = 3").unwrap();
    drop(connection);

    let broker = open_in(&directory);
    put(&broker, "work", "b").await.unwrap();
    let mut deliveries = subscribe(&broker, "work").await;
    let (former, b) = (next(&mut deliveries).await.message, next(&mut deliveries).await.message);
    assert_eq!((former.message_id.as_str(), former.timestamp, former.long("n")), ("former", 7, Some(1)));
    assert_eq!(b.message_id, "b");
}

#[tokio::test]
async fn a_file_of_version_2_keeps_what_waits_in_its_place() {
    let directory = TempDir::new().unwrap();
    let broker = open_in(&directory);
    broker.declare(&fan_out()).await.unwrap();
    for id in ["a", "b"] {
        broker.publish(&ExchangeName::new("both"), "", message(id)).await.unwrap();
    }
    put(&broker, "two", "c").await.unwrap();
    drop(next(&mut subscribe(&broker, "one").await).await);
    broker.close().await;
    downgrade_to_2(&rusqlite::Connection::open(directory.path().join("broker.db")).unwrap());

    let broker = open_in(&directory);
    put(&broker, "one", "d").await.unwrap();
    for (name, expect) in [
        ("one", [("a", true), ("b", true), ("d", false)]),
        ("two", [("a", false), ("b", false), ("c", false)]),
    ] {
        let mut deliveries = subscribe(&broker, name).await;
        let mut tags = Vec::new();
        for (id, redelivered) in expect {
            let delivery = next(&mut deliveries).await;
            assert_eq!(
                (delivery.message.message_id.as_str(), delivery.redelivered),
                (id, redelivered),
                "{name}"
            );
            tags.push(delivery.tag);
        }
        deliveries.ack(&tags).await.unwrap();
    }
    broker.close().await;
    assert_eq!(stored(&directory), 0);
}
