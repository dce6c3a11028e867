//! Recording and reading against a database file.

use std::collections::BTreeSet;

use bytes::Bytes;
use consumer::{Bindings, DEFAULT_RETRY, Failure, Recorder};
use event::{Event, EventId, Headers, Message, ProviderName, SourceName, Subject, Timestamp, Topic, header};
use store::{Page, Paged, Row, Store, inbox, sql};
use view::Row as _;

mod causes;
mod plans;

use crate::record::{DeadLetters, Events, Rejected, Unrouted};
use crate::{
    ConsumerState, DeadFilter, DeadRow, EventFilter, EventRow, EventState, RejectedFilter, RejectedRow,
    Retention, UnroutedFilter, UnroutedRow, retain, show, show_rejected, sweep,
};
use store::many::fetch;

pub(crate) const CONSUMERS: [Bindings; 2] = [
    Bindings {
        consumer: "invoices",
        purpose: "",
        topics: &[("gestao-online", &["TAX_INVOICE"])],
        prefetch: 1,
        retry: DEFAULT_RETRY,
    },
    Bindings {
        consumer: "receivables",
        purpose: "",
        topics: &[("gestao-online", &["ORDER_CREATED", "TAX_INVOICE"]), ("recuperador", &["acordo.#"])],
        prefetch: 1,
        retry: DEFAULT_RETRY,
    },
];

pub(crate) async fn fresh() -> (Store, tempfile::TempDir) {
    let (store, folder) = store::fresh_sqlite!().await;
    store.migrate(&[crate::COMPONENT]).await.unwrap();
    (store, folder)
}

fn event(source: &str, topic: &str) -> Event {
    broker::test_support::event(source, topic, r#"{"a":1}"#)
}

/// An event of both consumers.
pub(crate) fn invoice() -> Event {
    event("/gestao-online/go-1", "TAX_INVOICE")
}

async fn record(store: &Store, recorder: &dyn Recorder, messages: &[Message]) -> Result<(), Failure> {
    let mut tx = store.begin().await?;
    recorder.record(&messages.iter().collect::<Vec<_>>(), &mut tx).await?;
    Ok(tx.commit().await?)
}

pub(crate) async fn receive(store: &Store, events: &[Event]) {
    let recorder = Events { consumers: CONSUMERS.to_vec() };
    let messages: Vec<_> = events.iter().map(Event::to_message).collect();
    record(store, &recorder, &messages).await.unwrap();
}

async fn mark(store: &Store, event: &Event) {
    record(store, &Unrouted, &[event.to_message()]).await.unwrap();
}

pub(crate) fn dead_message(event: &Event, consumer: &str, attempts: i64, first_failed_at: &str) -> Message {
    let mut message = event.to_message();
    for (name, value) in [
        (header::CONSUMER, consumer.into()),
        (header::ATTEMPT, attempts.into()),
        (header::ERROR, format!("attempt {attempts} failed").into()),
        (header::FIRST_FAILED_AT, first_failed_at.into()),
        (header::GIVEN_UP_AT, first_failed_at.into()),
    ] {
        message.headers.insert(name.to_owned(), value);
    }
    message
}

pub(crate) async fn file(store: &Store, messages: &[Message]) {
    record(store, &DeadLetters { prefix: "test.".to_owned() }, messages).await.unwrap();
}

pub(crate) async fn die(store: &Store, event: &Event, consumer: &str) {
    file(store, &[dead_message(event, consumer, 9, "2026-11-22T12:00:00Z")]).await;
}

pub(crate) async fn handle(store: &Store, event: &Event, consumer: &str) {
    let mut tx = store.begin().await.unwrap();
    inbox::claim(&mut tx, consumer, &[event.id], event::now()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn page(store: &Store, filter: &EventFilter, page: &Page) -> Paged<EventRow> {
    EventRow::page(&mut store.read().await.unwrap(), filter, page).await.unwrap()
}

async fn ids(store: &Store, filter: &EventFilter) -> Vec<String> {
    page(store, filter, &Page::first(1000)).await.items.into_iter().map(|row| row.id).collect()
}

async fn count(store: &Store, table: &str) -> i64 {
    let text = format!("SELECT count(*) FROM {table}");
    sql::assembled(text).fetch_one(&mut *store.read().await.unwrap()).await.unwrap().get(0)
}

/// The state of the only event; each list by state has the event exactly if it shows that state.
pub(crate) async fn state(store: &Store) -> EventState {
    let rows = page(store, &EventFilter::default(), &Page::first(10)).await.items;
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    for state in [
        EventState::Pending,
        EventState::Handled,
        EventState::Routed,
        EventState::Dead,
        EventState::Unrouted,
        EventState::Discarded,
        EventState::Duplicate,
    ] {
        let filter = EventFilter { state: Some(state), ..EventFilter::default() };
        let listed = page(store, &filter, &Page::first(10)).await.items;
        let expect = if state == row.state { vec![row.clone()] } else { vec![] };
        assert_eq!(listed, expect, "{state:?}");
    }
    row.state
}

#[tokio::test]
async fn an_event_comes_back_as_it_was_recorded() {
    let (store, _folder) = fresh().await;
    let event = Event {
        subject: Some(Subject::new("invoice", "32211")),
        content_type: "application/octet-stream".to_owned(),
        data: Bytes::from_static(&[0, 0xff, b'\n']),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        repaired: true,
        headers: Headers::from([("x-me-attempt".to_owned(), "2".to_owned())]),
        ..invoice()
    };
    receive(&store, std::slice::from_ref(&event)).await;
    handle(&store, &event, "invoices").await;
    let note = inbox::Note { event_id: event.id, text: "data.date: expected a date".to_owned() };
    let mut tx = store.begin().await.unwrap();
    inbox::note(&mut tx, "invoices", &[note]).await.unwrap();
    tx.commit().await.unwrap();
    die(&store, &event, "receivables").await;
    let mut connection = store.read().await.unwrap();
    let body = crate::body(&mut connection, event.id).await.unwrap().unwrap();
    assert_eq!((body.bytes.as_slice(), body.content_type), (&event.data[..], event.content_type.clone()));
    let shown = show(&mut connection, event.id).await.unwrap().unwrap();
    let mut json = serde_json::to_value(&shown).unwrap();
    for place in ["/outcomes/0/handled_at", "/outcomes/1/failed_at"] {
        assert!(json.pointer_mut(place).unwrap().take().is_string(), "{place}");
    }
    let expect = serde_json::json!({
        "id": event.id, "source": "go-1", "provider": "gestao-online", "topic": "TAX_INVOICE",
        "subject": "invoice/32211", "received_at": event.time, "state": "dead",
        "consumers": {"invoices": "handled", "receivables": "dead"},
        "outcomes": [
            {"consumer": "invoices", "state": "handled", "handled_at": null, "note": "data.date: expected a date",
             "attempts": null, "error": null, "first_failed_at": null, "failed_at": null, "replaced_by": null},
            {"consumer": "receivables", "state": "dead", "handled_at": null, "note": null, "attempts": 9,
             "error": "attempt 9 failed", "first_failed_at": "2026-11-22T12:00:00Z", "failed_at": null,
             "replaced_by": null},
        ],
        "unrouted_at": null, "receipt": null, "replay_of": null, "replaces": null, "caused_by": null, "caused": [],
        "traceparent": event.traceparent,
        "repaired": true, "duplicate_of": null, "headers": {"x-me-attempt": "2"}, "content_type": "application/octet-stream", "size": 3,
        "body_base64": "AP8K",
    });
    assert_eq!(json, expect);
    assert_eq!(show(&mut connection, EventId::generate()).await.unwrap(), None);
}

#[tokio::test]
async fn a_batch_recorded_twice_changes_nothing() {
    let (store, _folder) = fresh().await;
    let events: Vec<_> = (0..107).map(|_| invoice()).collect();
    receive(&store, &events[..50]).await;
    for event in &events[..50] {
        handle(&store, event, "invoices").await;
        handle(&store, event, "receivables").await;
    }
    assert_eq!(sweep(&store).await.unwrap(), 100);
    // Half of them again, among new ones, and one twice in the batch.
    let again: Vec<_> = events.iter().chain(&events[100..101]).cloned().collect();
    receive(&store, &again).await;
    receive(&store, &again).await;
    assert_eq!(count(&store, "events").await, 107);
    assert_eq!(count(&store, "unsettled_events").await, 2 * 57);
}

#[tokio::test]
async fn the_state_is_the_same_in_whatever_order_the_messages_arrive() {
    let check = async |steps: [&str; 4], expect| {
        let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1], [1, 3, 2, 0], [3, 0, 2, 1]];
        for order in orders {
            let (store, _folder) = fresh().await;
            let event = invoice();
            for step in order.map(|at| steps[at]) {
                match step.split_once(' ') {
                    Some(("dead", consumer)) => die(&store, &event, consumer).await,
                    Some(("handled", consumer)) => handle(&store, &event, consumer).await,
                    _ if step == "event" => receive(&store, std::slice::from_ref(&event)).await,
                    _ if step == "mark" => mark(&store, &event).await,
                    _ => assert_eq!(step, "sweep", "a step of this test"),
                }
                if step == "sweep" {
                    sweep(&store).await.unwrap();
                }
            }
            assert_eq!(state(&store).await, expect, "{steps:?} {order:?}");
            sweep(&store).await.unwrap();
            assert_eq!(state(&store).await, expect, "{steps:?} {order:?}, swept");
        }
    };
    check(["event", "sweep", "sweep", "sweep"], EventState::Pending).await;
    check(["event", "handled invoices", "sweep", "sweep"], EventState::Pending).await;
    check(["event", "handled invoices", "handled receivables", "sweep"], EventState::Handled).await;
    check(["event", "handled invoices", "dead receivables", "sweep"], EventState::Dead).await;
    check(["event", "dead invoices", "dead receivables", "sweep"], EventState::Dead).await;
    check(["event", "dead invoices", "handled invoices", "handled receivables"], EventState::Handled).await;
    check(["event", "dead invoices", "handled invoices", "sweep"], EventState::Pending).await;
    check(["event", "dead someone-else", "sweep", "sweep"], EventState::Dead).await;
    check(["event", "mark", "dead invoices", "handled receivables"], EventState::Unrouted).await;
}

#[tokio::test]
async fn an_event_that_none_of_our_consumers_takes_waits_for_nobody() {
    let (store, _folder) = fresh().await;
    receive(&store, &[event("/gestao-online/go-1", "UNKNOWN")]).await;
    assert_eq!(state(&store).await, EventState::Routed);
    assert_eq!(count(&store, "unsettled_events").await, 0);
    let (books, _) = crate::reconcile::tests::read(&store, &event::now().to_string()[..10], &[]).await;
    assert_eq!((books.sources[0].received, books.sources[0].routed, books.sources[0].handled), (1, 1, 0));
    assert!(books.balanced);
}

#[tokio::test]
async fn each_filter_alone_and_together_gives_exactly_what_fits() {
    let (store, _folder) = fresh().await;
    let (mut events, mut rows) = (Vec::new(), Vec::new());
    let start: Timestamp = event::now();
    for number in 0..96_u32 {
        let (source, topic) = match number % 4 {
            0 => ("/gestao-online/go-1", "TAX_INVOICE"),
            1 => ("/gestao-online/go-2", "ORDER_CREATED"),
            2 => ("/recuperador/rec-1", "acordo.quitado"),
            _ => ("/recuperador/rec-1", "unknown"),
        };
        let subject = Subject::new("order", &(number % 5).to_string());
        let time = Timestamp::from_second(start.as_second() + i64::from(number)).unwrap();
        events.push(Event { time, ..event(source, topic).with_subject(subject) });
    }
    receive(&store, &events).await;
    for (number, event) in events.iter().enumerate() {
        let state = match number % 6 {
            0 => ConsumerState::Pending,
            1..=3 => ConsumerState::Handled,
            _ => ConsumerState::Dead,
        };
        for bindings in &CONSUMERS {
            if !bindings.takes(&event.source.provider, &event.topic) {
                continue;
            }
            match state {
                ConsumerState::Pending | ConsumerState::Discarded => {}
                ConsumerState::Handled => handle(&store, event, bindings.consumer).await,
                ConsumerState::Dead => die(&store, event, bindings.consumer).await,
            }
        }
        if event.topic.as_str() == "unknown" {
            mark(&store, event).await;
        }
    }
    rows.extend(page(&store, &EventFilter::default(), &Page::first(1000)).await.items);
    assert_eq!(rows.len(), 96);
    assert!(rows.windows(2).all(|pair| pair[0].id > pair[1].id), "newest first");

    let (some, none) = (|name: &str| Some(SourceName::new(name).unwrap()), None);
    let provider = |name: &str| Some(ProviderName::new(name).unwrap());
    let topic = |name: &str| Some(Topic::new(name).unwrap());
    let at = |number: usize| Some(events[number].time);
    let mut checked = 0;
    for source in [none, some("go-1"), some("rec-1"), some("nobody")] {
        for provider in [None, provider("gestao-online"), provider("recuperador")] {
            for topic in [None, topic("TAX_INVOICE"), topic("unknown")] {
                for state in [None, Some("pending"), Some("handled"), Some("dead"), Some("unrouted")] {
                    for subject in [None, Some(Subject::new("order", "3"))] {
                        for (from, to) in [(None, None), (at(20), None), (None, at(60)), (at(20), at(60))] {
                            let filter = EventFilter {
                                source: source.clone(),
                                provider: provider.clone(),
                                topic: topic.clone(),
                                state: state.map(|name| serde_json::from_value(name.into()).unwrap()),
                                subject: subject.clone(),
                                from,
                                to,
                                ..EventFilter::default()
                            };
                            let fits = |row: &&EventRow| {
                                source.as_ref().is_none_or(|name| name.as_str() == row.source)
                                    && provider.as_ref().is_none_or(|name| name.as_str() == row.provider)
                                    && topic.as_ref().is_none_or(|name| name.as_str() == row.topic)
                                    && filter.state.is_none_or(|state| state == row.state)
                                    && subject
                                        .as_ref()
                                        .is_none_or(|s| Some(s.as_str()) == row.subject.as_deref())
                                    && from.is_none_or(|time| row.received_at >= time)
                                    && to.is_none_or(|time| row.received_at < time)
                            };
                            let expect: Vec<_> = rows.iter().filter(fits).cloned().collect();
                            assert_eq!(
                                page(&store, &filter, &Page::first(1000)).await.items,
                                expect,
                                "{filter:?}"
                            );
                            checked += usize::from(!expect.is_empty());
                        }
                    }
                }
            }
        }
    }
    assert!(checked > 100, "{checked} filters found something");
}

#[tokio::test]
async fn the_pages_of_every_state_cover_all_rows_once_while_new_ones_arrive() {
    let (store, _folder) = fresh().await;
    let events: Vec<_> = (0..40).map(|_| invoice()).collect();
    receive(&store, &events).await;
    for (number, event) in events.iter().enumerate() {
        match number % 4 {
            0 => {}
            1 => die(&store, event, "invoices").await,
            2 => mark(&store, event).await,
            _ => {
                handle(&store, event, "invoices").await;
                handle(&store, event, "receivables").await;
            }
        }
    }
    let states = [EventState::Pending, EventState::Dead, EventState::Unrouted, EventState::Handled];
    for (filter, kept) in [(None, 40)].into_iter().chain(states.map(|state| (Some(state), 10))) {
        let filter = EventFilter { state: filter, to: Some(event::now()), ..EventFilter::default() };
        let expect = ids(&store, &filter).await;
        assert!(expect.len() >= kept, "{filter:?}");
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let next =
                page(&store, &EventFilter { to: None, ..filter.clone() }, &Page { limit: 7, cursor }).await;
            assert!(next.items.len() == 7 || next.next.is_none());
            found.extend(next.items.into_iter().map(|row| row.id));
            // One of each state, newer than all.
            let new: Vec<_> = (0..4).map(|_| invoice()).collect();
            receive(&store, &new).await;
            die(&store, &new[1], "invoices").await;
            mark(&store, &new[2]).await;
            handle(&store, &new[3], "invoices").await;
            handle(&store, &new[3], "receivables").await;
            cursor = next.next;
            if cursor.is_none() {
                break;
            }
        }
        // What arrived before this walk of the pages is newer than `to`.
        let known: BTreeSet<_> = expect.iter().collect();
        let found: Vec<_> = found.into_iter().filter(|id| known.contains(id)).collect();
        assert_eq!(found, expect, "{filter:?}");
    }
}

#[tokio::test]
async fn the_sweep_takes_out_what_is_settled_and_nothing_else() {
    let (store, _folder) = fresh().await;
    let events: Vec<_> = (0..600).map(|_| invoice()).collect();
    for batch in events.chunks(100) {
        receive(&store, batch).await;
    }
    let mut tx = store.begin().await.unwrap();
    let handled: Vec<_> = events.iter().skip(3).map(|event| event.id).collect();
    inbox::claim(&mut tx, "receivables", &handled, event::now()).await.unwrap();
    tx.commit().await.unwrap();
    die(&store, &events[0], "invoices").await;
    // What is dead may be sent again, and stays.
    assert_eq!(sweep(&store).await.unwrap(), 597);
    assert_eq!(count(&store, "unsettled_events").await, 1200 - 597);
    assert_eq!(sweep(&store).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_no_event_is_refused_as_an_event_and_filed_as_a_dead_letter() {
    let (store, _folder) = fresh().await;
    let mut foreign = invoice().to_message();
    foreign.message_id = "7".to_owned();
    foreign.headers.remove("cloudEvents_source");
    foreign.headers.insert(header::DEATH_QUEUE.to_owned(), "test.invoices".into());
    foreign.headers.insert(header::DEATH_REASON.to_owned(), "delivery_limit".into());
    let recorder = Events { consumers: vec![] };
    for recorder in [&recorder as &dyn Recorder, &Unrouted] {
        let refused = record(&store, recorder, &[invoice().to_message(), foreign.clone()]).await;
        assert!(matches!(refused, Err(Failure::Permanent(text)) if text.contains("message_id")));
    }
    file(&store, std::slice::from_ref(&foreign)).await;
    // Filed again, as after a crash before the ack or a retry of the ledger.
    let mut again = foreign.clone();
    again.headers.insert(header::RECORD_ATTEMPT.to_owned(), 1.into());
    again.headers.insert("x-delivery-count".to_owned(), 1.into());
    file(&store, &[again]).await;
    let mut connection = store.read().await.unwrap();
    let letters =
        DeadRow::page(&mut connection, &DeadFilter::default(), &Page::first(10)).await.unwrap().items;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert!(letter.id.parse::<EventId>().is_ok());
    assert_eq!((letter.consumer.as_str(), letter.attempts), ("invoices", 0));
    assert_eq!((&letter.source, letter.topic.as_str()), (&None, "TAX_INVOICE"));
    assert!(letter.error.contains("delivery limit"), "{}", letter.error);
    let kept =
        fetch(&mut connection, "SELECT headers, body FROM dead_letters".to_owned(), vec![]).await.unwrap();
    assert_eq!(kept[0].get::<Vec<u8>, _>(1), b"{\"a\":1}");
    assert!(kept[0].get::<String, _>(0).contains(r#""message_id":"7""#));
    drop(connection);
    file(&store, &[Message { body: Bytes::from_static(b"other"), ..foreign }]).await;
    assert_eq!(count(&store, "dead_letters").await, 2);
}

#[tokio::test]
async fn a_rejected_body_without_an_id_is_one_row_however_often_it_is_recorded() {
    let (store, _folder) = fresh().await;
    let message = |body: &'static [u8], attempt: i64| Message {
        message_id: String::new(),
        timestamp: 0,
        headers: [("tenant".to_owned(), 7.into()), (header::RECORD_ATTEMPT.to_owned(), attempt.into())]
            .into(),
        body: Bytes::from_static(body),
        ..invoice().to_message()
    };
    for attempt in 0..3 {
        record(&store, &Rejected, &[message(b"one", attempt), message(b"other", attempt)]).await.unwrap();
    }
    assert_eq!(count(&store, "rejected_bodies").await, 2);
}

#[tokio::test]
async fn what_the_broker_gives_up_after_a_retry_is_still_its_consumers() {
    let (store, _folder) = fresh().await;
    let mut message = dead_message(&invoice(), "invoices", 2, "2026-11-22T12:00:00Z");
    message.headers.remove(header::GIVEN_UP_AT);
    message.headers.insert(header::DEATH_QUEUE.to_owned(), "test.invoices".into());
    message.headers.insert(header::DEATH_REASON.to_owned(), "delivery_limit".into());
    file(&store, &[message]).await;
    let mut connection = store.read().await.unwrap();
    let letters =
        DeadRow::page(&mut connection, &DeadFilter::default(), &Page::first(10)).await.unwrap().items;
    assert_eq!((letters[0].consumer.as_str(), letters[0].attempts), ("invoices", 2));
    assert!(
        letters[0].error.ends_with("; the attempt before failed: attempt 2 failed"),
        "{}",
        letters[0].error
    );
}

#[tokio::test]
async fn a_retry_whose_queue_is_gone_is_filed_with_its_consumer_its_attempts_and_why() {
    let (store, _folder) = fresh().await;
    let mut retry = dead_message(&invoice(), "refunds", 3, "2026-11-22T12:00:00Z");
    retry.headers.remove(header::GIVEN_UP_AT);
    // The ledger's own queue was deleted: no consumer is named.
    let mut record = retry.clone();
    record.message_id = EventId::generate().to_string();
    record.headers.retain(|name| name.starts_with(header::CLOUD_EVENTS));
    for (message, queue) in [(&mut retry, "test.refunds"), (&mut record, "test.ledger")] {
        message.headers.insert(header::DEATH_QUEUE.to_owned(), queue.into());
        message.headers.insert(header::DEATH_REASON.to_owned(), "missing_queue".into());
    }
    file(&store, &[retry, record]).await;
    let mut connection = store.read().await.unwrap();
    let mut letters =
        DeadRow::page(&mut connection, &DeadFilter::default(), &Page::first(10)).await.unwrap().items;
    letters.sort_by(|one, other| one.consumer.cmp(&other.consumer));
    let filed: Vec<_> =
        letters.iter().map(|letter| (&*letter.consumer, letter.attempts, &*letter.error)).collect();
    assert_eq!(
        filed,
        [
            ("ledger", 0, "its queue test.ledger did not exist when its wait was over"),
            (
                "refunds",
                3,
                "its queue test.refunds did not exist when its wait was over; the attempt before failed: attempt 3 \
                 failed"
            ),
        ]
    );
}

#[tokio::test]
async fn what_is_sent_back_alone_is_said_to_crash_the_process_only_where_it_was_given_up_again() {
    let recorder = DeadLetters { prefix: "test.".to_owned() };
    let mut message = invoice().to_message();
    message.headers.insert(header::DEATH_QUEUE.to_owned(), "test.invoices".into());
    message.headers.insert(header::DEATH_REASON.to_owned(), "delivery_limit".into());
    let alone = recorder.forward(&message).expect("it is sent back once").message;
    let mut again = alone.clone();
    again.headers.insert(header::DEATH_REASON.to_owned(), "delivery_limit".into());
    for (message, expect) in [
        (alone, "its queue test.invoices did not exist when it was sent back, to be tried alone"),
        (
            again,
            "it came back unsettled more often than the delivery limit of its queue, and again when it was tried alone: \
             it may crash the process",
        ),
    ] {
        assert!(recorder.forward(&message).is_none());
        let (store, _folder) = fresh().await;
        file(&store, &[message]).await;
        let mut connection = store.read().await.unwrap();
        let letters =
            DeadRow::page(&mut connection, &DeadFilter::default(), &Page::first(10)).await.unwrap().items;
        assert_eq!((letters[0].consumer.as_str(), letters[0].error.as_str()), ("invoices", expect));
    }
}

#[tokio::test]
async fn a_dead_letter_is_listed_until_its_consumer_handles_the_event_and_the_last_death_counts() {
    let (store, _folder) = fresh().await;
    let events = [invoice(), event("/recuperador/rec-1", "acordo.quitado"), invoice()];
    let first = dead_message(&events[0], "invoices", 9, "2026-11-22T12:00:00Z");
    file(&store, &[first.clone(), dead_message(&events[1], "receivables", 1, "2026-11-22T12:00:00Z")]).await;
    file(&store, &[dead_message(&events[0], "receivables", 9, "2026-11-22T12:00:00Z")]).await;
    die(&store, &events[2], "invoices").await;
    let letters = async |filter: &DeadFilter| {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let mut connection = store.read().await.unwrap();
            let next = DeadRow::page(&mut connection, filter, &Page { limit: 1, cursor }).await.unwrap();
            found.extend(next.items.into_iter().map(|row| (row.id, row.consumer, row.attempts)));
            cursor = next.next;
            if cursor.is_none() {
                return found;
            }
        }
    };
    let letter = |number: usize, consumer: &str, attempts: i64| {
        (events[number].id.to_string(), consumer.to_owned(), attempts)
    };
    let all = [
        letter(2, "invoices", 9),
        letter(1, "receivables", 1),
        letter(0, "receivables", 9),
        letter(0, "invoices", 9),
    ];
    assert_eq!(letters(&DeadFilter::default()).await, all);
    let by_consumer = DeadFilter { consumer: Some("invoices".to_owned()), ..DeadFilter::default() };
    assert_eq!(letters(&by_consumer).await, [all[0].clone(), all[3].clone()]);
    let by_source = DeadFilter { source: SourceName::new("rec-1").ok(), ..DeadFilter::default() };
    assert_eq!(letters(&by_source).await, all[1..2]);
    let by_provider =
        DeadFilter { provider: ProviderName::new("gestao-online").ok(), ..DeadFilter::default() };
    assert_eq!(letters(&by_provider).await.len(), 3);

    // Sent again, it died at once; the letter of its first death comes once more after that.
    file(&store, &[dead_message(&events[0], "invoices", 1, "2026-11-23T12:00:00Z")]).await;
    file(&store, &[first]).await;
    assert_eq!(letters(&by_consumer).await[1], letter(0, "invoices", 1));
    handle(&store, &events[0], "invoices").await;
    assert_eq!(letters(&by_consumer).await, all[..1]);
}

#[tokio::test]
async fn rejected_bodies_and_marks_are_listed_by_source() {
    let (store, _folder) = fresh().await;
    let events = [invoice(), event("/recuperador/rec-1", "acordo.quitado"), invoice()];
    let messages: Vec<_> = events
        .iter()
        .map(|event| {
            let mut message = event.to_message();
            message.headers.insert(header::CAUSE.to_owned(), "not JSON:\0 byte 3".into());
            message
        })
        .collect();
    for _ in 0..2 {
        record(&store, &Rejected, &messages).await.unwrap();
        record(&store, &Unrouted, &messages).await.unwrap();
    }
    let mut connection = store.read().await.unwrap();
    let source = SourceName::new("go-1").ok();
    let filter = RejectedFilter { source: source.clone(), ..Default::default() };
    let first = RejectedRow::page(&mut connection, &filter, &Page::first(1)).await.unwrap();
    assert_eq!(first.items[0].id, events[2].id.to_string());
    assert_eq!(first.items[0].cause, "not JSON:\u{fffd} byte 3");
    let second = Page { limit: 1, cursor: first.next };
    let second = RejectedRow::page(&mut connection, &filter, &second).await.unwrap();
    assert_eq!((second.items[0].id.clone(), second.next), (events[0].id.to_string(), None));
    let whole = show_rejected(&mut connection, events[0].id).await.unwrap().unwrap();
    assert_eq!((whole.body.body.as_deref(), whole.size), (Some("{\"a\":1}"), 7));
    assert!(crate::body(&mut connection, events[1].id).await.unwrap().is_some());

    let filter = UnroutedFilter { source, ..UnroutedFilter::default() };
    let marks = UnroutedRow::page(&mut connection, &filter, &Page::first(10)).await.unwrap().items;
    assert_eq!(
        marks.iter().map(|row| row.id.clone()).collect::<Vec<_>>(),
        [events[2].id.to_string(), events[0].id.to_string()]
    );
    let topic = UnroutedFilter { topic: Topic::new("acordo.quitado").ok(), ..UnroutedFilter::default() };
    assert_eq!(UnroutedRow::page(&mut connection, &topic, &Page::first(10)).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn what_is_old_and_settled_leaves_the_record_and_what_is_owed_stays() {
    let (store, _folder) = fresh().await;
    let events: Vec<Event> = (0..600).map(|_| invoice()).collect();
    receive(&store, &events).await;
    let lonely = event("/mercado-eletronico/me-1", "order.created");
    receive(&store, std::slice::from_ref(&lonely)).await;
    // Two of them are pending at one consumer.
    let settled: Vec<EventId> = events[2..].iter().map(|event| event.id).collect();
    for consumer in ["invoices", "receivables"] {
        let mut tx = store.begin().await.unwrap();
        inbox::claim(&mut tx, consumer, &settled, event::now()).await.unwrap();
        tx.commit().await.unwrap();
    }
    let left = async || {
        let count = "SELECT count(*) FROM events";
        sql::scalar::<i64>(count).fetch_one(&mut *store.read().await.unwrap()).await.unwrap()
    };
    let in_days = |days: u64| event::now() + std::time::Duration::from_secs(days * 24 * 60 * 60);
    let own = [(SourceName::new("me-1").unwrap(), 30)];
    let retention = Retention { sources: own.into(), ..Retention::default() };
    assert_eq!(retain(&store, &retention, in_days(30)).await.unwrap(), 0);
    assert_eq!(retain(&store, &retention, in_days(31)).await.unwrap(), 1);
    let retention = Retention { keep_days: 7, ..Retention::default() };
    assert_eq!(retain(&store, &retention, in_days(7)).await.unwrap(), 0);
    assert_eq!(left().await, 600);
    assert_eq!(retain(&store, &retention, in_days(8)).await.unwrap(), 598);
    assert_eq!(left().await, 2);
    for (table, rows) in [("claims", 0), ("unsettled_events", 4)] {
        let text = format!("SELECT count(*) FROM {table}");
        let found = fetch(&mut store.read().await.unwrap(), text, []).await.unwrap();
        assert_eq!(found[0].try_get::<i64, _>(0).unwrap(), rows, "{table}");
    }
}
