//! What a reader of the feed may rely on.

use std::time::{Duration, Instant};

use event::{Event, EventId};
use store::many::{Value, fetch, insert};
use store::{Dialect, Row, Store};
use tokio_util::sync::CancellationToken;

use super::record;
use crate::feed::marks::{self, PERIOD};
use crate::feed::{After, Feed, FeedError, Item, Log, Reader, Topics, before_time, first_since, prepare};

/// Longer than any of these readers waits for what is there: a transaction of another test in the same cluster may hold it back.
const PATIENCE: Duration = Duration::from_secs(120);

/// Records events of these topics, one after the other.
async fn recorded(store: &Store, topics: &[&str]) -> Vec<EventId> {
    let mut ids = Vec::new();
    for topic in topics {
        let event = broker::test_support::event("/recuperador/rec-1", topic, "{}");
        ids.push(event.id);
        record(store, &[&event.to_message()]).await.expect("it is recorded");
    }
    ids
}

/// Deletes an event, as retention does.
async fn delete(store: &Store, ids: &[EventId]) {
    let mut tx = store.begin().await.expect("a transaction");
    let text = format!("DELETE FROM events WHERE id IN ({})", store::sql::list(1, ids.len()));
    fetch(&mut tx, text, ids.iter().copied().map(Value::from)).await.expect("they are deleted");
    tx.commit().await.expect("a commit");
}

async fn reader(feed: &Feed, after: &str, topics: &str) -> Result<Reader, FeedError> {
    feed.reader(after.parse().expect("a cursor"), topics.parse().expect("topics")).await
}

/// The next events, at most so many. Asks until there are some: without the shared reading nothing wakes a reader that waits, and
/// transactions of others in the same cluster hold back a log for a moment.
async fn part(reader: &mut Reader, limit: usize) -> Result<Vec<Item>, FeedError> {
    let asked = Instant::now();
    loop {
        let items = reader.next(limit, Duration::from_millis(50)).await?;
        if !items.is_empty() {
            return Ok(items);
        }
        assert!(asked.elapsed() < PATIENCE, "nothing comes");
    }
}

/// The ids of the next events, so many, read in parts of at most `limit`.
async fn next(reader: &mut Reader, limit: usize, count: usize) -> Result<Vec<EventId>, FeedError> {
    let mut ids = Vec::new();
    while ids.len() < count {
        for item in part(reader, limit).await? {
            let event: serde_json::Value = serde_json::from_str(&item.json()).expect("one line of JSON");
            ids.push(event["id"].as_str().and_then(|id| id.parse().ok()).expect("an id"));
        }
    }
    Ok(ids)
}

fn feed(store: &Store) -> Feed {
    Feed::new(store.clone(), CancellationToken::new())
}

/// A reader gets each event once and in order, alone and while others read the end of the log with it; only what it wants;
/// and continues after the position of any event.
pub async fn a_reader_gets_what_it_wants_once_and_in_order(store: &Store) {
    let feed = feed(store);
    let running = tokio::spawn(feed.clone().run());
    let ids = recorded(store, &["acordo.quitado", "boleto.pago", "acordo.quitado"]).await;
    let mut all = reader(&feed, "beginning", "").await.expect("a reader");
    let first = part(&mut all, 1).await.expect("an event");
    assert_eq!(next(&mut all, 10, 2).await.expect("the rest"), ids[1..]);
    let mut again = reader(&feed, &first[0].cursor.to_string(), "").await.expect("a reader");
    assert_eq!(next(&mut again, 10, 2).await.expect("the rest"), ids[1..]);
    let mut some = reader(&feed, "beginning", "recuperador:boleto.*").await.expect("a reader");
    assert_eq!(next(&mut some, 10, 1).await.expect("one"), ids[1..2]);
    let mut new = reader(&feed, "now", "").await.expect("a reader");
    // At the end of the log, all of them wait.
    for reader in [&mut all, &mut some, &mut new] {
        assert!(reader.next(1, Duration::from_millis(1)).await.expect("nothing").is_empty());
    }
    for round in 0..3 {
        let ids = recorded(store, &["boleto.pago", "acordo.cancelado", "boleto.pago"]).await;
        for (reader, wanted) in [(&mut all, &ids[..]), (&mut new, &ids[..]), (&mut some, &[ids[0], ids[2]])] {
            let got = next(reader, 2, wanted.len()).await.expect("events");
            assert_eq!(got, wanted, "round {round}");
        }
    }
    running.abort();
}

/// A reader learns that events were deleted that it had not seen, if it wants them, and continues where it says that it knows.
pub async fn deleted_events_are_not_skipped_in_silence(store: &Store) {
    let feed = feed(store);
    let topics = ["acordo.quitado", "boleto.pago", "acordo.quitado", "boleto.pago", "acordo.quitado"];
    let ids = recorded(store, &topics).await;
    let mut slow = reader(&feed, "beginning", "").await.expect("a reader");
    let first = part(&mut slow, 1).await.expect("an event").remove(0).cursor.to_string();
    let mut other = reader(&feed, &first, "recuperador:acordo.#").await.expect("a reader");
    let mut at_end = reader(&feed, "beginning", "").await.expect("a reader");
    assert_eq!(next(&mut at_end, 10, 5).await.expect("all"), ids);
    delete(store, &[ids[1], ids[3]]).await;

    assert_eq!(next(&mut other, 10, 2).await.expect("nothing of these is missing"), [ids[2], ids[4]]);
    let Err(FeedError::Deleted(known)) = part(&mut slow, 10).await else {
        panic!("the slow reader is not told")
    };
    assert!(matches!(reader(&feed, &first, "").await, Err(FeedError::Deleted(_))), "nor one from its cursor");
    let mut slow = reader(&feed, &known.to_string(), "").await.expect("it knows");
    assert_eq!(next(&mut slow, 1, 1).await.expect("an event"), ids[2..3]);
    let mut slow = reader(&feed, &slow.cursor().to_string(), "").await.expect("it still knows");
    assert_eq!(next(&mut slow, 10, 1).await.expect("an event"), ids[4..]);
    // What was deleted was the newest: the next events still come after it, in whatever order that went on.
    delete(store, &[ids[4]]).await;
    delete(store, &[ids[2]]).await;
    let new = recorded(store, &topics[..2]).await;
    delete(store, &new).await;
    let new = recorded(store, &topics).await;
    delete(store, &[new[4], new[2]]).await;
    let newer = recorded(store, &topics[..2]).await;
    let Err(FeedError::Deleted(known)) = part(&mut at_end, 10).await else {
        panic!("the reader at the end is not told")
    };
    let mut at_end = reader(&feed, &known.to_string(), "").await.expect("it knows");
    let expected = [new[0], new[1], new[3], newer[0], newer[1]];
    for limit in [2, 10] {
        let mut from_beginning = reader(&feed, "beginning", "").await.expect("a reader");
        let got = next(&mut from_beginning, limit, 6).await.expect("what is left");
        assert_eq!(got, [&[ids[0]][..], &expected].concat());
    }
    assert_eq!(next(&mut at_end, 10, 5).await.expect("the rest"), expected);
    assert!(reader(&feed, &at_end.cursor().to_string(), "").await.is_ok(), "it is at the end");
}

/// A cursor that the log cannot have given is refused.
pub async fn a_cursor_of_another_log_is_refused(store: &Store) {
    let feed = feed(store);
    let ids = recorded(store, &["acordo.quitado", "acordo.quitado"]).await;
    let mut all = reader(&feed, "beginning", "").await.expect("a reader");
    let mut cursors = Vec::new();
    while cursors.len() < 2 {
        let item = part(&mut all, 1).await.expect("an event").remove(0);
        cursors.push(item.cursor.to_string());
    }
    let numbers: Vec<_> = cursors.iter().map(|cursor| cursor.split('.').next().expect("a number")).collect();
    let stranger = EventId::generate();
    for (number, id) in [(numbers[0], stranger), (numbers[0], ids[1]), ("7fffffffffffffff", ids[1])] {
        let cursor = format!("{number}.{}", id.to_hex());
        assert!(matches!(reader(&feed, &cursor, "").await, Err(FeedError::Unknown)), "{cursor}");
    }
    for cursor in &cursors {
        assert!(reader(&feed, cursor, "").await.is_ok(), "{cursor}");
    }
}

/// The events of a log keep their order when the tables are restored into a PostgreSQL cluster with lower numbers of
/// transactions, and new ones come after them: those that were recorded before anything noticed, too.
pub async fn a_restored_log_goes_on(store: &Store) {
    let feed = feed(store);
    let mut ids = recorded(store, &["acordo.quitado"; 3]).await;
    if store.dialect() == Dialect::Postgres {
        let mut tx = store.begin().await.expect("a transaction");
        let text = "UPDATE events SET written_in = written_in + 1000000000000".to_owned();
        fetch(&mut tx, text, []).await.expect("numbers of another cluster");
        tx.commit().await.expect("a commit");
    }
    // Recorded by a process that was running all the time.
    ids.extend(recorded(store, &["acordo.quitado"; 2]).await);
    for again in 0..2 {
        prepare(store).await.expect("it is prepared");
        ids.extend(recorded(store, &["acordo.quitado"; 2]).await);
        let mut all = reader(&feed, "beginning", "").await.expect("a reader");
        let mut cursors = Vec::new();
        for id in &ids {
            let item = part(&mut all, 1).await.expect("an event").remove(0);
            assert!(item.json().contains(&id.to_string()), "{again}: {ids:?}: {}", item.json());
            cursors.push(item.cursor);
        }
        for (at, cursor) in cursors.into_iter().enumerate() {
            let mut rest =
                feed.reader(After::Cursor(cursor), "".parse().expect("topics")).await.expect("known");
            let left = next(&mut rest, 100, ids.len() - at - 1).await.expect("the rest");
            assert_eq!(left, ids[at + 1..], "{again}: {at}");
        }
    }
}

/// A date is looked for after the last mark before it, and no event since then is left out, in whatever order they were recorded.
pub async fn a_date_is_found_from_the_last_mark(store: &Store) {
    let hours_ago = |hours: u64| event::now() - Duration::from_secs(hours * 3_600);
    let received = async |hours: u64| {
        let event = Event { time: hours_ago(hours), ..event() };
        record(store, &[&event.to_message()]).await.expect("it is recorded");
        event.id
    };
    let log = Log::new(store.clone());
    let marks = async || {
        let text = "SELECT count(*) FROM feed_marks".to_owned();
        let rows = fetch(&mut store.read().await.expect("a connection"), text, []).await.expect("a count");
        rows[0].try_get::<i64, _>(0).expect("a number")
    };
    // What is before a mark was received before it: the second one shows that nobody looks there.
    let old = [received(10).await, received(1).await];
    let number = marks::newest(&log).await.expect("it is read").expect("there are events");
    let mark = vec![Value::from(hours_ago(9)), Value::from(number)];
    let mut tx = store.begin().await.expect("a transaction");
    insert(&mut tx, "feed_marks (at, number)", "", vec![mark]).await.expect("a mark");
    tx.commit().await.expect("a commit");
    // The one that was received later is recorded first, as after an outage.
    let new = [received(7).await, received(8).await];

    let feed = feed(store);
    // On PostgreSQL nobody is given an event while an older transaction is still running, of whatever database.
    let mut all = feed.reader(After::Beginning, Topics::default()).await.expect("a reader");
    next(&mut all, 10, 4).await.expect("events");
    let since = async |hours: u64, count: usize| {
        let cursor = before_time(store, hours_ago(hours)).await.expect("it is found");
        let mut reader = feed.reader(After::Cursor(cursor), Topics::default()).await.expect("a reader");
        next(&mut reader, 10, count).await.expect("events")
    };
    assert_eq!(since(8, 2).await, new);
    assert_eq!(since(12, 4).await, [old, new].concat());
    assert_eq!(plan(store).await, "");

    // The end is marked once, and marks before the first event are forgotten.
    let asked = Instant::now();
    delete(store, &old).await;
    while marks().await != 1
        || marks::before(&mut store.read().await.expect("a connection"), event::now() + PERIOD * 10)
            .await
            .expect("a mark")
            <= number
    {
        marks::mark(&log).await.expect("it is marked");
        assert!(asked.elapsed() < PATIENCE, "{} marks", marks().await);
    }
    received(0).await;
    marks::mark(&log).await.expect("a mark is recent");
    assert_eq!(marks().await, 1);
}

/// How the first event since a date is found; empty if by an index that begins after the mark.
async fn plan(store: &Store) -> String {
    let wanted = match store.dialect() {
        Dialect::Postgres => "Index Cond: (written_in > ",
        Dialect::Sqlite => "SEARCH e USING INTEGER PRIMARY KEY (rowid>?)",
    };
    let values = vec![Value::from(1), Value::from(1)];
    let plan = store::laws::plan(store, &first_since(store.dialect()), values).await;
    if plan.contains(wanted) && !plan.contains("Sort") && !plan.contains("B-TREE") {
        String::new()
    } else {
        plan
    }
}

/// An event as [`recorded`] makes them, for writers that hold their transactions.
pub fn event() -> Event {
    broker::test_support::event("/recuperador/rec-1", "acordo.quitado", "{}")
}

/// Records events in a transaction of the caller's.
pub async fn record_in(tx: &mut store::Tx, events: &[Event]) -> Result<(), consumer::Failure> {
    use consumer::Recorder;
    let messages: Vec<_> = events.iter().map(Event::to_message).collect();
    let recorder = crate::record::Events { consumers: vec![super::BINDINGS] };
    recorder.record(&messages.iter().collect::<Vec<_>>(), tx).await
}
