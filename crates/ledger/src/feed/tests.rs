//! What SQLite alone can do to the order of rows.

use std::time::Duration;

use store::sql;
use tokio_util::sync::CancellationToken;

use super::Feed;
use crate::tests::{fresh, invoice, receive};

/// The manual of SQLite leaves it open whether VACUUM keeps row numbers. It keeps those of a table with an index.
#[tokio::test]
async fn a_vacuum_changes_no_position() {
    let (store, _folder) = fresh().await;
    let events = [invoice(), invoice(), invoice()];
    receive(&store, &events).await;
    let feed = Feed::new(store.clone(), CancellationToken::new());
    let mut reader = feed.reader("beginning".parse().unwrap(), "".parse().unwrap()).await.unwrap();
    let cursors: Vec<_> =
        reader.next(3, Duration::ZERO).await.unwrap().iter().map(|item| item.cursor.to_string()).collect();
    let mut connection = store.read().await.unwrap();
    let first = "DELETE FROM events WHERE id = (SELECT id FROM events ORDER BY rowid LIMIT 1)";
    sql::query(first).execute(&mut *connection).await.unwrap();
    sql::query("VACUUM").execute(&mut *connection).await.unwrap();
    let mut reader = feed.reader(cursors[1].parse().unwrap(), "".parse().unwrap()).await.unwrap();
    let rest = reader.next(3, Duration::ZERO).await.unwrap();
    assert_eq!(rest.iter().map(|item| item.cursor.to_string()).collect::<Vec<_>>(), cursors[2..]);
}
