//! What sending again, discarding, and the lists of what waits rely on of either database.

use std::time::{Duration, Instant};

use event::{EventId, Timestamp};
use ledger::feed;
use store::many::{Value, fetch, insert};
use store::{Page, Row, Store};
use view::Row as _;

use crate::closing::{Closed, Discarding, PART, Resending, discard, resend, sweep};
use crate::push::laws::{added, record};
use crate::{
    DoorKind, Resume, Seek, Subscription, SubscriptionRow, Taken, UndeliveredFilter, UndeliveredRow, table,
    takers,
};

/// Records events, and waits until readers get them: a transaction of another test in the same cluster may hold back the feed for
/// a moment.
pub(crate) async fn recorded(store: &Store, subjects: &[&str]) -> Vec<EventId> {
    let ids = record(store, subjects).await;
    let before = feed::before_event(store, ids[0]).await.expect("a reading").expect("it is on record");
    let begun = Instant::now();
    while !feed::end(store).await.expect("a reading").is_after(&before) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the feed is held back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ids
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// Rows of events that were received this many seconds after 1970; without a time, they are undelivered.
async fn rows(store: &Store, crm: &Subscription, rows: &[(EventId, i64, Option<Timestamp>)]) {
    let row = |(id, received, due): &(EventId, i64, Option<Timestamp>)| {
        let due = Value::Long(due.map(|due| due.as_microsecond()));
        vec![crm.id.into(), (*id).into(), second(*received).into(), Value::from(9), Value::from(8), due]
    };
    let mut tx = store.begin().await.expect("a transaction");
    let into = "deliveries (subscription, event_id, received_at, attempts, steps, due_at)";
    insert(&mut tx, into, "", rows.iter().map(row).collect()).await.expect("an insert");
    tx.commit().await.expect("a commit");
}

/// An attempt at this time, and its number.
async fn attempt(store: &Store, crm: &Subscription, event: EventId, number: i64, at: Timestamp, status: i64) {
    attempts(store, crm, &[(event, number, at)], status).await;
}

async fn attempts(store: &Store, crm: &Subscription, made: &[(EventId, i64, Timestamp)], status: i64) {
    let error = (status != 200).then(|| format!("answered {status}"));
    let row = |(event, number, at): &(EventId, i64, Timestamp)| {
        let error = Value::from(error.clone());
        vec![crm.id.into(), (*at).into(), (*event).into(), (*number).into(), 7.into(), status.into(), error]
    };
    let mut tx = store.begin().await.expect("a transaction");
    let into = "delivery_attempts (subscription, at, event_id, attempt, duration_ms, status, error)";
    insert(&mut tx, into, "", made.iter().map(row).collect()).await.expect("an insert");
    tx.commit().await.expect("a commit");
}

/// The rows of a subscription: event, attempts, and whether it waits; by attempts, then by event.
async fn waiting(store: &Store, crm: &Subscription) -> Vec<(EventId, i64, bool)> {
    let text = "SELECT event_id, attempts, due_at FROM deliveries WHERE subscription = $1 ORDER BY attempts, event_id";
    let rows = fetch(&mut store.read().await.expect("a connection"), text.to_owned(), [crm.id.into()]).await;
    let row = |row: &store::AnyRow| {
        let due: Option<i64> = row.try_get("due_at").expect("a time");
        let attempts = row.try_get("attempts").expect("a number");
        (store::id(row, "event_id").expect("an id"), attempts, due.is_some())
    };
    rows.expect("rows").iter().map(row).collect()
}

fn asked(crm: &Subscription) -> Resending {
    Resending {
        subscription: crm.name().clone(),
        id: None,
        from: None,
        to: None,
        topic: None,
        status: None,
        error: None,
        again: false,
        dry_run: false,
        after: None,
    }
}

fn discarded(crm: &Subscription) -> Discarding {
    let Resending { subscription, id, from, to, topic, status, error, dry_run, after, .. } = asked(crm);
    let reason = "it is closed".to_owned();
    Discarding { subscription, id, from, to, topic, status, error, reason, dry_run, after }
}

async fn total(store: &Store, asked: Resending) -> i64 {
    // What is counted before is what is done.
    let dry = Resending { dry_run: true, ..asked.clone() };
    let counted = resend(store, &dry).await.expect("they are counted");
    let done = resend(store, &asked).await.expect("they are asked for");
    assert_eq!(counted.total, done.total);
    assert_eq!((counted.next, done.next), (None, None));
    done.total
}

/// Undelivered events, and those that wait, are sent again at once with a new schedule where they are asked for: one, those of a
/// period or topic, those with a status or an error, or all.
pub async fn undelivered_events_are_sent_again(store: &Store) {
    let crm = added(store, "crm").await;
    let on_record = record(store, &["order/1"]).await[0];
    let ids = [EventId::generate(), EventId::generate(), on_record];
    let later = event::now() + Duration::from_secs(600);
    rows(store, &crm, &[(ids[0], 0, None), (ids[1], 1, Some(later)), (ids[2], 2, None)]).await;
    for (id, status) in ids.iter().zip([404, 503, 503]) {
        attempt(store, &crm, *id, 8, second(10), 500).await;
        attempt(store, &crm, *id, 9, second(20), status).await;
    }
    let version = table::by_id(store, crm.id).await.expect("it is read").expect("it is there").version;
    let again = async |change: &dyn Fn(&mut Resending)| {
        let mut tx = store.begin().await.expect("a transaction");
        let text = "UPDATE deliveries SET steps = 8, due_at = CASE WHEN received_at = 1000000 THEN $1 END"
            .to_owned();
        fetch(&mut tx, text, [later.into()]).await.expect("an update");
        tx.commit().await.expect("a commit");
        let mut asked = asked(&crm);
        change(&mut asked);
        let count = total(store, asked).await;
        let text = "SELECT event_id FROM deliveries WHERE steps = 0 AND due_at <= $1 ORDER BY received_at";
        let mut connection = store.read().await.expect("a connection");
        let rows = fetch(&mut connection, text.into(), [event::now().into()]).await.expect("rows");
        let due: Vec<EventId> = rows.iter().map(|row| store::id(row, 0).expect("an id")).collect();
        assert_eq!(count, due.len() as i64);
        due
    };
    assert_eq!(again(&|asked| asked.id = Some(ids[2])).await, [ids[2]]);
    let period = |asked: &mut Resending| (asked.from, asked.to) = (Some(second(0)), Some(second(1)));
    assert_eq!(again(&period).await, [ids[0]]);
    assert_eq!(again(&|asked| asked.status = Some(503)).await, ids[1..], "by the last attempt");
    assert_eq!(again(&|asked| asked.error = Some("answered 4".to_owned())).await, ids[..1]);
    assert_eq!(again(&|asked| asked.error = Some("%".to_owned())).await, [], "a text, not a pattern");
    assert_eq!(again(&|asked| asked.topic = Some("acordo.quitado".to_owned())).await, ids[2..]);
    assert_eq!(again(&|_| {}).await, ids);
    assert_eq!(total(store, asked(&crm)).await, 0, "what is due is being sent");
    let now = table::by_id(store, crm.id).await.expect("it is read").expect("it is there").version;
    assert!(now > version, "what works on it would not notice");
}

/// Delivered events are sent again where that is asked for, each once, and their attempts are counted through. What is sent again
/// and delivered before everything is done is not sent a third time.
pub async fn delivered_events_are_sent_again_once(store: &Store) {
    let crm = added(store, "crm").await;
    let ids = record(store, &["order/1", "order/2", "order/3"]).await;
    let began = event::now();
    let ago = |ms: u64| began - Duration::from_millis(ms);
    // As many attempts as a part looks at, and the last one of the first event behind them.
    let many: Vec<_> =
        (1..=i64::from(PART)).map(|number| (ids[0], number, ago(60_000 - number as u64))).collect();
    attempts(store, &crm, &many, 503).await;
    attempt(store, &crm, ids[0], i64::from(PART) + 1, ago(500), 200).await;
    attempt(store, &crm, ids[1], 1, ago(70_000), 503).await;
    attempt(store, &crm, ids[1], 2, ago(400), 200).await;
    attempt(store, &crm, ids[2], 1, ago(300), 200).await;
    let again = Resending { again: true, from: Some(ago(100_000)), ..asked(&crm) };
    let Closed { total: first, next } = resend(store, &again).await.expect("a part");
    assert_eq!(first, 0, "those are not the last attempts");
    let next = Resending { after: Some(next.expect("there is more")), ..again.clone() };
    let done = resend(store, &next).await.expect("a part");
    assert_eq!(done, Closed { total: 3, next: None });
    let expect = [(ids[2], 1, true), (ids[1], 2, true), (ids[0], i64::from(PART) + 1, true)];
    assert_eq!(waiting(store, &crm).await, expect);

    // Two of them are delivered; the first part of a later request that began before is asked for again.
    let mut tx = store.begin().await.expect("a transaction");
    let text = "DELETE FROM deliveries WHERE attempts < 3".to_owned();
    fetch(&mut tx, text, []).await.expect("a deletion");
    tx.commit().await.expect("a commit");
    for id in &ids[1..] {
        attempt(store, &crm, *id, 3, event::now() + Duration::from_secs(1), 200).await;
    }
    let repeated = resend(store, &next).await.expect("a part");
    assert_eq!(repeated.total, 0, "it is delivered since then");
}

/// Events are sent again and discarded in parts, however many they are.
pub async fn many_events_are_closed_in_parts(store: &Store) {
    let crm = added(store, "crm").await;
    let many = 2 * i64::from(PART) + 1;
    let ids: Vec<_> = (0..many).map(|_| (EventId::generate(), 1, None)).collect();
    rows(store, &crm, &ids).await;
    let mut parts = Vec::new();
    for dry_run in [true, false] {
        let mut part = Resending { dry_run, ..asked(&crm) };
        loop {
            let Closed { total, next } = resend(store, &part).await.expect("a part");
            parts.push(total);
            let Some(next) = next else { break };
            part.after = Some(next);
        }
    }
    let part = i64::from(PART);
    assert_eq!(parts, [part, part, 1, part, part, 1]);
    assert!(waiting(store, &crm).await.iter().all(|(_, _, waits)| *waits));

    let mut tx = store.begin().await.expect("a transaction");
    fetch(&mut tx, "UPDATE deliveries SET due_at = NULL".to_owned(), []).await.expect("an update");
    tx.commit().await.expect("a commit");
    let first = discard(store, &discarded(&crm)).await.expect("a part");
    assert_eq!(first.total, part);
    let second = Discarding { after: first.next, ..discarded(&crm) };
    assert_eq!(discard(store, &second).await.expect("a part").total, part);
    assert_eq!(waiting(store, &crm).await.len(), 1);
}

/// Undelivered events are discarded where that is asked for: one, those of a period, or with a status. What waits stays, and so do
/// attempts.
pub async fn undelivered_events_are_discarded(store: &Store) {
    let crm = added(store, "crm").await;
    let ids: Vec<EventId> = (0..5).map(|_| EventId::generate()).collect();
    let made: Vec<_> =
        ids.iter().zip(0_i64..).map(|(id, at)| (*id, at, (at == 4).then(event::now))).collect();
    rows(store, &crm, &made).await;
    for (id, status) in ids.iter().zip([404, 404, 503, 404, 404]) {
        attempt(store, &crm, *id, 9, second(20), status).await;
    }
    let left = async |change: &dyn Fn(&mut Discarding), expect: i64| {
        let mut asked = discarded(&crm);
        change(&mut asked);
        let dry = Discarding { dry_run: true, ..asked.clone() };
        assert_eq!(discard(store, &dry).await.expect("they are counted").total, expect);
        assert_eq!(discard(store, &asked).await.expect("they are discarded").total, expect);
        waiting(store, &crm).await.len()
    };
    assert_eq!(left(&|asked| asked.id = Some(ids[0]), 1).await, 4);
    assert_eq!(left(&|asked| (asked.from, asked.to) = (Some(second(1)), Some(second(2))), 1).await, 3);
    assert_eq!(left(&|asked| asked.status = Some(503), 1).await, 2);
    assert_eq!(left(&|_| {}, 1).await, 1, "what waits stays");
    assert_eq!(waiting(store, &crm).await, [(ids[4], 9, true)]);
    let text = "SELECT count(*) FROM delivery_attempts".to_owned();
    let count = fetch(&mut store.read().await.expect("a connection"), text, []).await.expect("a count");
    assert_eq!(count[0].try_get::<i64, _>(0).expect("a number"), 5);
}

/// An undelivered event that is no longer on record is deleted once none of its attempts is kept. Others stay.
pub async fn undelivered_events_off_the_record_go_with_their_attempts(store: &Store) {
    let crm = added(store, "crm").await;
    let on_record = record(store, &["order/1"]).await[0];
    let [gone, tried, waits] = [(); 3].map(|()| EventId::generate());
    let now = Some(event::now());
    rows(store, &crm, &[(gone, 1, None), (tried, 1, None), (waits, 1, now), (on_record, 1, None)]).await;
    attempt(store, &crm, tried, 9, second(20), 404).await;
    assert_eq!(sweep(store).await.expect("a sweep"), 1);
    let mut left: Vec<_> = waiting(store, &crm).await.into_iter().map(|(id, ..)| id).collect();
    left.sort_unstable();
    let mut expect = [tried, waits, on_record];
    expect.sort_unstable();
    assert_eq!(left, expect);
    assert_eq!(sweep(store).await.expect("a sweep"), 0);
}

/// What waits for another attempt is a part of the lag, whether the position is past it or not; what is undelivered is not.
pub async fn the_lag_counts_what_waits_for_another_attempt(store: &Store) {
    let ids = recorded(store, &["order/1", "order/2", "order/3"]).await;
    let crm = added(store, "crm").await;
    table::seek(store, crm.name(), Seek::Event(ids[1]), None).await.expect("it is moved");
    let lag = async || {
        let mut connection = store.read().await.expect("a connection");
        SubscriptionRow::new(&mut connection, crm.name()).await.expect("a row").expect("it is there").lag
    };
    assert_eq!(lag().await, Some(2));
    let due = Some(event::now());
    let [gone, undelivered] = [(); 2].map(|()| EventId::generate());
    rows(store, &crm, &[(ids[0], 1, due), (ids[1], 1, due), (gone, 1, due), (undelivered, 1, None)]).await;
    assert_eq!(lag().await, Some(4), "the second one is after the position");
    table::resume(store, crm.name(), Resume::None).await.expect("it is resumed");
    assert_eq!(lag().await, Some(0));
}

/// A position that is set back has its events again in their order: those that wait after it have no rows any more.
pub async fn what_comes_again_has_no_row(store: &Store) {
    let ids = recorded(store, &["order/1", "order/1", "order/1"]).await;
    let crm = added(store, "crm").await;
    let due = Some(event::now());
    let gone = EventId::generate();
    rows(store, &crm, &[(ids[0], 1, due), (ids[1], 1, due), (ids[2], 1, None), (gone, 1, due)]).await;
    table::seek(store, crm.name(), Seek::Event(ids[1]), None).await.expect("it is moved");
    let mut left: Vec<_> = waiting(store, &crm).await.into_iter().map(|(id, ..)| id).collect();
    left.sort_unstable();
    let mut expect = [ids[0], ids[2], gone];
    expect.sort_unstable();
    assert_eq!(left, expect);
}

/// While a part of history is delivered, a further one includes what is left of it.
pub async fn further_history_includes_what_is_left(store: &Store) {
    let ids = recorded(store, &["order/1", "order/2", "order/3"]).await;
    let crm = added(store, "crm").await;
    let seek = async |to: Seek, rate: Option<u32>| {
        table::seek(store, crm.name(), to, rate).await.expect("it is moved")
    };
    let live = seek(Seek::Now, None).await.cursor;
    let first = seek(Seek::Event(ids[1]), Some(50)).await.backfill.expect("history");
    let later = seek(Seek::Event(ids[2]), Some(7)).await.backfill.expect("history");
    assert_eq!((&later.cursor, &later.until, later.rate_per_s), (&first.cursor, &live.to_string(), 7));
    let earlier = seek(Seek::Event(ids[0]), Some(5)).await.backfill.expect("history");
    let before = feed::before_event(store, ids[0]).await.expect("a reading").expect("it is on record");
    assert_eq!(earlier.cursor.parse::<feed::Cursor>().map(|cursor| cursor == before), Ok(true));
    assert_eq!(seek(Seek::Now, None).await.backfill, None);
}

/// An event has its outcome at each push and pull subscription that takes its topic.
pub async fn an_event_has_its_takers(store: &Store) {
    let ids = recorded(store, &["order/1", "order/2"]).await;
    let crm = added(store, "crm").await;
    let seek = async |to: Seek| table::seek(store, crm.name(), to, None).await.expect("it is moved");
    let state = async || {
        let mut connection = store.read().await.expect("a connection");
        let found = takers(&mut connection, ids[0]).await.expect("they are read");
        assert!(found.len() == 1 && found[0].subscription == "crm" && found[0].door == DoorKind::Push);
        (found[0].state, found[0].attempts, found[0].error.clone())
    };
    seek(Seek::Event(ids[0])).await;
    assert_eq!(state().await, (Taken::Ahead, 0, None));
    seek(Seek::Event(ids[1])).await;
    assert_eq!(state().await, (Taken::Passed, 0, None));
    attempt(store, &crm, ids[0], 1, second(20), 503).await;
    let error = Some("answered 503".to_owned());
    assert_eq!(state().await, (Taken::Discarded, 1, error.clone()));
    rows(store, &crm, &[(ids[0], 1, Some(event::now()))]).await;
    assert_eq!(state().await, (Taken::Waiting, 1, error.clone()));
    let mut tx = store.begin().await.expect("a transaction");
    fetch(&mut tx, "UPDATE deliveries SET due_at = NULL".to_owned(), []).await.expect("an update");
    tx.commit().await.expect("a commit");
    assert_eq!(state().await, (Taken::Undelivered, 1, error));
    let filter = UndeliveredFilter { status: Some(503), ..UndeliveredFilter::default() };
    let mut connection = store.read().await.expect("a connection");
    let listed = UndeliveredRow::page(&mut connection, &filter, &Page::first(9)).await.expect("a page").items;
    assert!(listed.len() == 1 && listed[0].id == ids[0].to_string());
    drop(connection);
    assert_eq!(discard(store, &discarded(&crm)).await.expect("it is discarded").total, 1);
    attempt(store, &crm, ids[0], 2, second(30), 200).await;
    assert_eq!(state().await, (Taken::Delivered, 2, None));
}
