//! What SQLite alone can do to the order of rows, and the bounds of readers.

use std::time::Duration;

use consumer::Recorder;
use store::sql;
use tokio_util::sync::CancellationToken;

use super::{Feed, FeedError, MAX_READERS, ahead, before_last, beginning, end};
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

/// What nobody wanted when it was read for all is read by itself for one that comes later.
#[tokio::test]
async fn a_reader_of_other_topics_that_comes_later_misses_nothing() {
    let (store, _folder) = fresh().await;
    let feed = Feed::new(store.clone(), CancellationToken::new());
    let running = tokio::spawn(feed.clone().run());
    let event = |topic| broker::test_support::event("/gestao-online/go-1", topic, "{}");
    let patience = Duration::from_secs(20);
    let (invoices, orders) = ([event("TAX"), event("TAX")], [event("ORDER"), event("ORDER"), event("ORDER")]);
    let mut first = feed.reader("now".parse().unwrap(), "gestao-online:TAX".parse().unwrap()).await.unwrap();
    receive(&store, &invoices[..1]).await;
    assert_eq!(first.next(10, patience).await.unwrap().len(), 1);
    let place = first.cursor();
    receive(&store, &orders[..1]).await;
    while !first.cursor().is_after(&place) {
        assert!(first.next(10, Duration::from_millis(10)).await.unwrap().is_empty());
    }
    let (after, topics) = (place.to_string().parse().unwrap(), "gestao-online:ORDER".parse().unwrap());
    let mut later = feed.reader(after, topics).await.unwrap();
    for (number, order) in orders.iter().enumerate() {
        if number > 0 {
            receive(&store, std::slice::from_ref(order)).await;
        }
        let items = later.next(10, patience).await.unwrap();
        assert!(items.len() == 1 && items[0].event().id == order.id, "the order {number}");
    }
    receive(&store, &invoices[1..]).await;
    let items = first.next(10, patience).await.unwrap();
    assert!(items.len() == 1 && items[0].event().id == invoices[1].id);
    running.abort();
}

#[tokio::test]
async fn the_oldest_of_the_last_events_of_some_topics_is_found() {
    let (store, _folder) = fresh().await;
    let mut times = Vec::new();
    for (seconds, topic) in ["TAX_A", "ORDER", "TAX_B", "ORDER", "TAX_A"].into_iter().enumerate() {
        let mut event = broker::test_support::event("/gestao-online/go-1", topic, "{}");
        event.time = event::Timestamp::from_second(1_790_000_000 + seconds as i64).unwrap();
        times.push(event.time);
        receive(&store, &[event]).await;
    }
    let topics = "gestao-online:TAX_A,gestao-online:TAX_B".parse().unwrap();
    for (count, expect) in [(0, None), (1, Some(4)), (2, Some(2)), (3, Some(0)), (1_000, Some(0))] {
        let oldest = super::oldest_of_last(&store, &topics, count).await.unwrap();
        assert_eq!(oldest, expect.map(|place: usize| times[place]), "of the last {count}");
    }
    let others = "recuperador:#".parse().unwrap();
    assert_eq!(super::oldest_of_last(&store, &others, 5).await.unwrap(), None);
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

#[tokio::test]
async fn what_is_ahead_of_a_cursor_is_counted_by_topic_and_within_a_bound() {
    let (store, _folder) = fresh().await;
    let start = beginning(&store).await.unwrap();
    assert_eq!(before_last(&store, 2).await.unwrap(), start);
    receive(&store, &[invoice()]).await;
    let other = broker::test_support::event("/recuperador/rec-1", "acordo.quitado", b"{}".to_vec());
    receive(&store, &[other]).await;
    receive(&store, &[invoice(), invoice()]).await;
    let last_two = before_last(&store, 2).await.unwrap();
    assert_eq!(before_last(&store, 5).await.unwrap(), start);
    let end = end(&store).await.unwrap();
    assert!(last_two.is_after(&start) && end.is_after(&last_two));
    let mut connection = store.read().await.unwrap();
    for (topics, after, most, expect) in [
        ("", start, 100, 4),
        ("", start, 3, 3),
        ("", last_two, 100, 2),
        ("recuperador:acordo.*", start, 100, 1),
        ("recuperador:acordo.*", last_two, 100, 0),
        ("gestao-online:#", start, 3, 2),
        ("recuperador:boleto.*", start, 100, 0),
        ("", end, 100, 0),
    ] {
        let counted = ahead(&mut connection, &topics.parse().unwrap(), after, most).await.unwrap();
        assert_eq!(counted, expect, "{topics:?}, at most {most}");
    }
}
