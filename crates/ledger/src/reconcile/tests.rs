//! Walks over a database file, without a broker.

use std::collections::BTreeSet;

use consumer::Policy;
use event::{Event, header};
use store::laws::plan;
use store::many::fetch;
use store::{Store, inbox, sql};

use super::walk::{IN_HAND_SECONDS, Phase};
use super::*;
use crate::events::id_at;
use crate::tests::{CONSUMERS, dead_message, die, file, fresh, handle, invoice, receive, state};
use crate::{DeadFilter, DeadRow, EventFilter, EventRow, EventState};
use event::Zone;
use view::Row as _;

/// The reconciliation of a day in UTC, read in one go, with what these queues hold.
pub(crate) async fn read(store: &Store, day: &str, waiting: &[&str]) -> (Reconciliation, Vec<Difference>) {
    read_in(store, &Zone::new("UTC").unwrap(), day, waiting).await
}

/// The same for a day of another zone.
pub(crate) async fn read_in(
    store: &Store,
    zone: &Zone,
    day: &str,
    waiting: &[&str],
) -> (Reconciliation, Vec<Difference>) {
    let waiting = waiting.iter().map(|name| ((*name).to_owned(), 1)).collect();
    let mut connection = store.read().await.unwrap();
    let mut walk = Walk::new(&mut connection, day.parse().unwrap(), zone).await.unwrap();
    let now = event::now();
    let waits = CONSUMERS.map(|one| (one.consumer, Policy::configured(&one, None).total_wait()));
    walk.begin(&mut connection, waiting, &waits, now).await.unwrap();
    let mut differences = Vec::new();
    while walk.phase != Phase::Repair {
        differences.extend(walk.step(&mut connection, now).await.unwrap().differences);
    }
    walk.enter(Phase::Over);
    (walk.into_books(), differences)
}

async fn run(store: &Store, text: String) {
    let mut tx = store.begin().await.unwrap();
    sql::assembled(text).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

/// Received this many seconds ago.
pub(crate) fn aged(event: Event, seconds: i64) -> Event {
    let time = event::now() - std::time::Duration::from_secs(seconds.unsigned_abs());
    let id = format!("{}{}", id_at(time, 0), &event.id.to_string()[13..]).parse().unwrap();
    Event { id, time, ..event }
}

/// Received too long ago to be in flight.
fn old() -> Event {
    aged(invoice(), 2 * IN_HAND_SECONDS)
}

async fn differences(store: &Store, event: &Event, waiting: &[&str]) -> Vec<String> {
    let (books, differences) = read(store, &event.time.to_string()[..10], waiting).await;
    assert_eq!(books.balanced, differences.is_empty());
    differences.into_iter().map(|difference| difference.kind).collect()
}

async fn resend(store: &Store, job: EventId) {
    run(store, format!("UPDATE dead_letters SET resent_in = '{job}'")).await;
}

#[tokio::test]
async fn a_dead_letter_that_was_no_event_is_no_difference() {
    let (store, _folder) = fresh().await;
    let event = old();
    let mut message = event.to_message();
    message.headers.remove("cloudEvents_source");
    file(&store, &[message]).await;
    assert_eq!(differences(&store, &event, &[]).await, [""; 0]);
    die(&store, &event, "invoices").await;
    assert_eq!(differences(&store, &event, &[]).await, ["dead, not recorded"]);
}

#[tokio::test]
async fn what_the_ledger_has_yet_to_read_is_no_difference() {
    let (store, _folder) = fresh().await;
    let event = old();
    handle(&store, &event, "invoices").await;
    assert_eq!(differences(&store, &event, &["ledger"]).await, [""; 0]);
    assert_eq!(differences(&store, &event, &[]).await, ["handled, not recorded"]);
}

#[tokio::test]
async fn a_dead_letter_that_was_sent_again_and_is_in_no_queue_is_a_difference() {
    let (store, _folder) = fresh().await;
    let event = old();
    receive(&store, std::slice::from_ref(&event)).await;
    handle(&store, &event, "receivables").await;
    die(&store, &event, "invoices").await;
    assert_eq!(differences(&store, &event, &[]).await, [""; 0]);
    resend(&store, EventId::generate()).await;
    assert_eq!(state(&store).await, EventState::Pending);
    assert_eq!(differences(&store, &event, &["invoices"]).await, [""; 0]);
    assert_eq!(differences(&store, &event, &[]).await, ["pending, in no queue"]);
    run(
        &store,
        "INSERT INTO jobs (id, action, what, filter, options, requested_by, requested_at, state, total, \
         progress, sent, resume_after, trouble) VALUES ('j', '', '', '', '', '', 0, 'running', 0, 0, 0, '', '')"
            .to_owned(),
    )
    .await;
    assert_eq!(differences(&store, &event, &[]).await, [""; 0]);
}

#[tokio::test]
async fn a_letter_that_dies_again_is_open_whatever_the_clock_of_its_consumer_says() {
    let (store, _folder) = fresh().await;
    let event = invoice();
    file(&store, &[dead_message(&event, "invoices", 9, "2026-11-22T12:00:00Z")]).await;
    let job = EventId::generate();
    resend(&store, job).await;
    let mut again = dead_message(&event, "invoices", 3, "2026-11-22T11:59:00Z");
    again.headers.insert(header::JOB.to_owned(), job.to_string().into());
    file(&store, &[again]).await;
    let mut connection = store.read().await.unwrap();
    let page = store::Page::first(10);
    let letters = DeadRow::page(&mut connection, &DeadFilter::default(), &page).await.unwrap().items;
    assert_eq!(letters.iter().map(|row| row.attempts).collect::<Vec<_>>(), [3]);
}

#[tokio::test]
async fn a_letter_sent_again_to_a_consumer_that_takes_the_event_no_more_is_pending_there() {
    let (store, _folder) = fresh().await;
    let event = invoice();
    receive(&store, std::slice::from_ref(&event)).await;
    handle(&store, &event, "invoices").await;
    handle(&store, &event, "receivables").await;
    die(&store, &event, "gone").await;
    resend(&store, EventId::generate()).await;
    let owed = "INSERT INTO unsettled_events (event_id, consumer) VALUES";
    run(&store, format!("{owed} (unhex('{}', '-'), 'gone')", event.id)).await;
    assert_eq!(state(&store).await, EventState::Pending);
}

#[tokio::test]
async fn a_queue_that_is_never_empty_hides_no_lost_event_once_it_has_passed_later_ones() {
    let (store, _folder) = fresh().await;
    let event = old();
    receive(&store, std::slice::from_ref(&event)).await;
    handle(&store, &event, "receivables").await;
    assert_eq!(differences(&store, &event, &["invoices"]).await, [""; 0]);
    handle(&store, &aged(invoice(), IN_HAND_SECONDS + 10), "invoices").await;
    assert_eq!(differences(&store, &event, &["invoices", "ledger"]).await, [""; 0]);
    handle(&store, &aged(invoice(), IN_HAND_SECONDS - 10), "invoices").await;
    assert_eq!(differences(&store, &event, &["invoices", "ledger"]).await, ["pending, in no queue"]);
}

#[tokio::test]
async fn what_may_wait_for_its_next_attempt_is_in_a_queue() {
    let (store, _folder) = fresh().await;
    let waits: std::time::Duration = consumer::DEFAULT_RETRY.iter().map(|delay| delay.duration()).sum();
    let waits = i64::try_from(waits.as_secs()).unwrap();
    let (recent, ancient) = (aged(invoice(), waits), aged(invoice(), waits + IN_HAND_SECONDS + 60));
    receive(&store, &[recent.clone(), ancient.clone()]).await;
    for event in [&recent, &ancient] {
        handle(&store, event, "receivables").await;
    }
    let found = async |event: &Event, waiting: &[&str]| {
        let (_, found) = read(&store, &event.time.to_string()[..10], waiting).await;
        found.into_iter().any(|found| found.event_id == Some(event.id.to_string()))
    };
    assert!(found(&recent, &[]).await && found(&ancient, &[]).await);
    assert!(!found(&recent, &["wait.6h"]).await && found(&ancient, &["wait.6h"]).await);
}

#[tokio::test]
async fn no_statement_of_a_walk_goes_through_a_whole_table() {
    let (store, _folder) = fresh().await;
    let mut statements = vec![walk::count_states(), walk::find_unaccounted()];
    for (table, id) in [("events", "id"), ("rejected_bodies", "id")] {
        statements.push(walk::last_of_range(table, id));
    }
    for table in ["claims", "dead_letters", "unrouted_events"] {
        statements.push(walk::last_of_range(table, "event_id"));
        statements.push(walk::find_unrecorded(table));
    }
    for text in statements {
        let mut values = vec![store::id_bound("00"), store::id_bound("01")];
        if text.contains("$3") {
            values.extend([Value::from(0), Value::from(1)]);
        }
        let plan = plan(&store, &text, values).await;
        assert!(!plan.lines().any(|step| step.starts_with("SCAN")), "{text}\n{plan}");
    }
}

#[tokio::test]
async fn a_day_that_was_counted_in_another_zone_stays_a_day_of_that_zone() {
    let (store, _folder) = fresh().await;
    // Ten at night in Brazil, one in the morning in UTC.
    let at = |text: &str| {
        let time: Timestamp = text.parse().unwrap();
        let event = invoice();
        let id = format!("{}{}", id_at(time, 0), &event.id.to_string()[13..]).parse().unwrap();
        Event { id, time, ..event }
    };
    let events = [at("2026-10-02T01:00:00Z"), at("2026-10-03T01:00:00Z"), at("2026-10-04T01:00:00Z")];
    receive(&store, &events).await;
    for event in &events {
        handle(&store, event, "invoices").await;
        handle(&store, event, "receivables").await;
    }
    let tally = |ingress: &str, day: &str, zone: &str| {
        format!(
            "INSERT INTO tally (ingress, source, day, zone, accepted, rejected, reported_at) \
             VALUES ('{ingress}', 'go-1', '{day}', '{zone}', 1, 0, 0)"
        )
    };
    // Up to the second in UTC; from then on in the zone that is configured now. On the third both were counted.
    run(&store, tally("old", "2026-10-02", "UTC")).await;
    run(&store, tally("old", "2026-10-03", "UTC")).await;
    run(&store, tally("new", "2026-10-03", "America/Sao_Paulo")).await;
    for (day, zone) in
        [("2026-10-01", "America/Sao_Paulo"), ("2026-10-02", "UTC"), ("2026-10-03", "America/Sao_Paulo")]
    {
        let (books, differences) = read_in(&store, &Zone::default(), day, &[]).await;
        assert_eq!((books.zone.as_str(), books.balanced, differences), (zone, true, vec![]), "{day}");
        let counted = i64::from(day != "2026-10-01");
        assert_eq!((books.sources[0].received, books.sources[0].counted_accepted), (1, counted), "{day}");
    }
}

#[tokio::test]
async fn a_walk_gives_every_event_the_state_that_its_row_shows() {
    let (store, _folder) = fresh().await;
    // Every combination of what decides a state. A mark, and a letter of the first consumer, is none, open, discarded or
    // resent; everything else is there or not.
    let (mark, letter, handled, other_letter, other_handled, duplicate, unbound) =
        (1, 4, 16, 32, 64, 128, 256);
    let unknown = || broker::test_support::event("/gestao-online/go-1", "UNKNOWN", "{}");
    let events: Vec<Event> =
        (0..512).map(|number| if number < unbound { invoice() } else { unknown() }).collect();
    let having = |place: usize, base: usize, value: usize| -> Vec<&Event> {
        let numbered = events.iter().enumerate();
        numbered.filter(|(number, _)| number / place % base == value).map(|(_, event)| event).collect()
    };
    let among = |events: Vec<&Event>| {
        let ids: Vec<_> = events.iter().map(|event| format!("unhex('{}', '-')", event.id)).collect();
        format!("IN ({})", ids.join(", "))
    };
    receive(&store, &events).await;
    let marks = "INSERT INTO unrouted_events (received_at, marked_at, origin, event_id) \
                 SELECT received_at, received_at, origin, id FROM events WHERE NOT id";
    run(&store, format!("{marks} {}", among(having(mark, 4, 0)))).await;
    for (consumer, value) in [("invoices", 1), ("invoices", 2), ("invoices", 3), ("receivables", 1)] {
        let (place, base) = if consumer == "invoices" { (letter, 4) } else { (other_letter, 2) };
        let dead = |event: &Event| dead_message(event, consumer, 9, "2026-11-22T12:00:00Z");
        file(&store, &having(place, base, value).into_iter().map(dead).collect::<Vec<_>>()).await;
    }
    for (column, value) in [("discarded_in", 2), ("resent_in", 3)] {
        for (table, place) in [("unrouted_events", mark), ("dead_letters", letter)] {
            let consumer = if table == "dead_letters" { "AND consumer = 'invoices'" } else { "" };
            let ids = among(having(place, 4, value));
            run(&store, format!("UPDATE {table} SET {column} = 'j' WHERE event_id {ids} {consumer}")).await;
        }
    }
    let owed = "INSERT INTO unsettled_events (event_id, consumer) SELECT event_id, consumer FROM dead_letters \
                WHERE resent_in IS NOT NULL ON CONFLICT DO NOTHING";
    run(&store, owed.to_owned()).await;
    for (consumer, place) in [("invoices", handled), ("receivables", other_handled)] {
        let ids: Vec<_> = having(place, 2, 1).iter().map(|event| event.id).collect();
        let mut tx = store.begin().await.unwrap();
        inbox::claim(&mut tx, consumer, &ids, event::now()).await.unwrap();
        tx.commit().await.unwrap();
    }
    let repeats = format!("UPDATE events SET duplicate_of = unhex('{}', '-') WHERE id", events[0].id);
    run(&store, format!("{repeats} {}", among(having(duplicate, 2, 1)))).await;

    let mut connection = store.read().await.unwrap();
    let page = store::Page::first(1000);
    let shown = EventRow::page(&mut connection, &EventFilter::default(), &page).await.unwrap().items;
    let text = format!("SELECT {} AS state FROM events e ORDER BY e.id DESC", walk::state());
    let walked = fetch(&mut connection, text, []).await.unwrap();
    assert_eq!((shown.len(), walked.len()), (512, 512));
    for (row, walked) in shown.iter().zip(&walked) {
        assert_eq!(walked.get::<String, _>("state"), row.state.name(), "{row:?}");
    }
    let states: BTreeSet<_> = shown.iter().map(|row| row.state.name()).collect();
    assert_eq!(states.len(), EventState::ALL.len(), "{states:?}");
}
