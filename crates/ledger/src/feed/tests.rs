//! What SQLite alone can do to the order of rows, and the bounds of readers.

use std::time::Duration;

use consumer::Recorder;
use store::sql;
use tokio_util::sync::CancellationToken;

use super::{Feed, FeedError, MAX_READERS};
use crate::record::Events;
use crate::tests::{CONSUMERS, fresh, invoice, receive};

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

#[tokio::test]
async fn a_reader_that_lags_behind_what_is_kept_for_all_reads_by_itself_one_part_at_a_time() {
    let (store, _folder) = fresh().await;
    let feed = Feed::new(store.clone(), CancellationToken::new());
    let running = tokio::spawn(feed.clone().run());
    let reader = || feed.reader("now".parse().unwrap(), "".parse().unwrap());
    let (mut fast, mut slow) = (reader().await.unwrap(), reader().await.unwrap());
    // More than is kept, in events that fill a part each.
    let events: Vec<_> = (0..12)
        .map(|_| broker::test_support::event("/gestao-online/go-1", "TAX_INVOICE", vec![b'1'; 1 << 20]))
        .collect();
    for event in &events {
        receive(&store, std::slice::from_ref(event)).await;
        let items = fast.next(10, Duration::from_secs(20)).await.unwrap();
        assert!(items.len() == 1 && items[0].json().contains(&event.id.to_string()));
    }
    for event in &events {
        let items = slow.next(10, Duration::from_secs(20)).await.unwrap();
        assert!(items.len() == 1 && items[0].json().contains(&event.id.to_string()));
    }
    running.abort();
}

/// The shared reading has not seen it: it is recorded and deleted at once.
#[tokio::test]
async fn a_reader_at_the_end_is_told_that_an_event_was_deleted_before_it_was_read() {
    let (store, _folder) = fresh().await;
    let feed = Feed::new(store.clone(), CancellationToken::new());
    let running = tokio::spawn(feed.clone().run());
    let mut reader = feed.reader("now".parse().unwrap(), "".parse().unwrap()).await.unwrap();
    receive(&store, &[invoice()]).await;
    assert_eq!(reader.next(1, Duration::from_secs(20)).await.unwrap().len(), 1);
    let message = invoice().to_message();
    let mut tx = store.begin().await.unwrap();
    Events { consumers: CONSUMERS.to_vec() }.record(&[&message], &mut tx).await.unwrap();
    let newest = "DELETE FROM events WHERE rowid = (SELECT max(rowid) FROM events)";
    sql::query(newest).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let read = reader.next(1, Duration::from_secs(20)).await;
    assert!(matches!(read, Err(FeedError::Deleted(_))), "{read:?}");
    running.abort();
}

#[tokio::test]
async fn readers_are_bounded_and_leave_their_place_to_others() {
    let (store, _folder) = fresh().await;
    let feed = Feed::new(store, CancellationToken::new());
    let reader = || feed.reader("now".parse().unwrap(), "".parse().unwrap());
    let mut readers = Vec::new();
    for _ in 0..MAX_READERS {
        readers.push(reader().await.unwrap());
    }
    assert!(matches!(reader().await, Err(FeedError::Full)));
    readers.pop();
    assert!(reader().await.is_ok());
}

#[tokio::test]
async fn readers_end_with_the_process() {
    let (store, _folder) = fresh().await;
    let stop = CancellationToken::new();
    let feed = Feed::new(store, stop.clone());
    let mut reader = feed.reader("now".parse().unwrap(), "".parse().unwrap()).await.unwrap();
    let waiting = tokio::spawn(async move { reader.next(1, Duration::from_secs(600)).await });
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
    assert!(ended.unwrap().is_empty());
}
