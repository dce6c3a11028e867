//! What the ledger records, whatever the order of messages and batches: written once, run on each database.

mod editing;
mod feed;
mod groups;
mod jobs;
mod overview;
mod proofs;

use consumer::{Failure, Recorder};
use event::{Event, Message, Source, Subject, Topic, header};
use store::seen::{self, Sighting};
use store::{Page, Store};
use view::Row;

use crate::record::{Events, Rejected};
use crate::{EventFilter, EventRow, EventState, show, show_rejected};

pub use editing::*;
pub use feed::*;
pub use groups::*;
pub use jobs::*;
pub use overview::*;
pub use proofs::*;

const BINDINGS: consumer::Bindings = consumer::Bindings {
    consumer: "receivables",
    purpose: "",
    topics: &[("recuperador", &["acordo.#"])],
    prefetch: 1,
    retry: consumer::DEFAULT_RETRY,
};

/// The message of an event with this key; a duplicate names the event that it repeats.
fn message(key: &str, repeats: Option<&Event>) -> (Event, Message) {
    let source = Source::parse("/recuperador/rec-1").expect("a source");
    let event = Event::new(source, Topic::new("acordo.quitado").expect("a topic"), "{}".into());
    let mut message = event.to_message();
    message.headers.insert(header::DUPLICATE_KEY.to_owned(), key.into());
    message.headers.insert(header::DUPLICATE_WINDOW_S.to_owned(), 60.into());
    if let Some(first) = repeats {
        message.headers.insert(header::DUPLICATE_OF.to_owned(), first.id.to_string().into());
    }
    (event, message)
}

/// One batch of one ledger.
async fn record(store: &Store, batch: &[&Message]) -> Result<(), Failure> {
    let recorder = Events { consumers: vec![BINDINGS] };
    let mut tx = store.begin().await?;
    recorder.record(batch, &mut tx).await?;
    Ok(tx.commit().await?)
}

/// An event that an ingress marked as a duplicate is recorded as one, and the event that it repeats stays the first for
/// the ledger and every consumer: in every order, in all batches, by two ledgers one after the other or at once.
pub async fn a_repetition_never_becomes_the_first(store: &Store) {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (number, order) in ORDERS.into_iter().enumerate() {
        for split in 0..=3 {
            for at_once in [false, true] {
                let key = format!("{number} {split} {at_once}");
                let first = message(&key, None);
                let again = [message(&key, Some(&first.0)), message(&key, Some(&first.0))];
                let messages = [&first.1, &again[0].1, &again[1].1];
                let (one, other) = (order.map(|index| messages[index]), split);
                let (one, other) = one.split_at(other);
                if at_once {
                    let (one, other) = tokio::join!(record(store, one), record(store, other));
                    one.and(other).expect("both are recorded");
                } else {
                    record(store, one).await.expect("it is recorded");
                    record(store, other).await.expect("it is recorded");
                }
                let mut connection = store.read().await.expect("a connection");
                let shown = show(&mut connection, first.0.id).await.expect("a row").expect("it is there");
                assert_eq!(
                    (shown.row.state, shown.row.duplicate_of),
                    (EventState::Pending, None),
                    "{key} {order:?}"
                );
                for (event, _) in &again {
                    let shown = show(&mut connection, event.id).await.expect("a row").expect("it is there");
                    assert_eq!(shown.row.duplicate_of, Some(first.0.id.to_string()), "{key} {order:?}");
                }
                drop(connection);
                let sighting = Sighting::from_message(&first.0, &first.1).expect("it has a key");
                let mut tx = store.begin().await.expect("a transaction");
                let duplicates = seen::duplicates(&mut tx, &[sighting]).await.expect("it is noted");
                assert!(duplicates.is_empty(), "a consumer handles the first: {key} {order:?}");
            }
        }
    }
}

/// A filter by id takes the beginning of one, and a filter by subject its id without the entity.
pub async fn an_event_is_found_by_the_beginning_of_its_id_and_without_its_entity(store: &Store) {
    let events = [("order", "7"), ("agreement", "7"), ("order", "71")].map(|(entity, id)| {
        let topic = Topic::new(format!("{entity}.created")).expect("a topic");
        Event { topic, ..message("none", None).0 }.with_subject(Subject::new(entity, id))
    });
    record(store, &events.each_ref().map(Event::to_message).each_ref()).await.expect("they are recorded");
    let found = async |filter: EventFilter| {
        let mut connection = store.read().await.expect("a connection");
        let page = EventRow::page(&mut connection, &filter, &Page::first(9)).await.expect("a page");
        let mut found: Vec<_> = page.items.into_iter().map(|row| row.id).collect();
        found.sort_unstable();
        found
    };
    let ids = events.map(|event| event.id.to_string());
    for id in &ids {
        let by_id = |text: &str| EventFilter { id: text.parse().ok(), ..EventFilter::default() };
        assert_eq!(found(by_id(id)).await, std::slice::from_ref(id));
        let expect: Vec<_> = ids.iter().filter(|other| other[..13] == id[..13]).cloned().collect();
        assert_eq!(found(by_id(&id[..13])).await, expect);
    }
    let about =
        |text: &str| EventFilter { subject: Some(Subject::from_text(text)), ..EventFilter::default() };
    assert_eq!(found(about("order/7")).await, ids[..1]);
    assert_eq!(found(about("7")).await, ids[..2]);
    assert!(found(about("8")).await.is_empty());
}

/// What a sender was answered is on record with its event, and with its rejected body, also once that has become an event.
pub async fn what_a_sender_was_answered_is_on_record(store: &Store) {
    let answered = |text: &str| {
        let (event, mut message) = message(&text.replace('\0', ""), None);
        message.headers.insert(header::ANSWER, text.into());
        (event, message)
    };
    let (posted, polled) = (answered("200 192.0.2.1 a\0b"), message("polled", None));
    let rejected = answered("400 2001:db8::1");
    record(store, &[&posted.1, &polled.1, &rejected.0.to_message()]).await.expect("they are recorded");
    let mut tx = store.begin().await.expect("a transaction");
    Rejected.record(&[&rejected.1], &mut tx).await.expect("it is recorded");
    tx.commit().await.expect("a commit");
    let mut connection = store.read().await.expect("a connection");
    let mut receipts = Vec::new();
    for (event, _) in [&posted, &polled, &rejected] {
        let shown = show(&mut connection, event.id).await.expect("a row").expect("it is there");
        receipts.push(shown.receipt.map(|receipt| (receipt.status, receipt.client, receipt.sender_id)));
    }
    let expect = [Some((200, "192.0.2.1", Some("a\u{fffd}b"))), None, Some((400, "2001:db8::1", None))].map(
        |receipt| receipt.map(|(status, client, id)| (status, client.to_owned(), id.map(str::to_owned))),
    );
    assert_eq!(receipts, expect);
    let shown = show_rejected(&mut connection, rejected.0.id).await.expect("a row").expect("it is there");
    assert_eq!(shown.receipt.expect("a receipt").status, 400);
}

/// The laws as tests: see [`store::law_tests!`].
#[macro_export]
macro_rules! ledger_laws {
    ($store:expr) => {
        store::law_tests! { $store, [$crate::COMPONENT], $crate =>
            a_repetition_never_becomes_the_first
            an_event_is_found_by_the_beginning_of_its_id_and_without_its_entity
            what_a_sender_was_answered_is_on_record
            a_letter_is_replaced_once
            an_original_and_its_replacement_never_both_have_an_effect
            an_edit_that_cannot_be_sent_changes_nothing
            a_group_says_when_its_letters_were_given_up
            a_group_keeps_its_last_note
            jobs_are_listed_by_action_rows_and_state
            a_reader_gets_what_it_wants_once_and_in_order
            deleted_events_are_not_skipped_in_silence
            a_cursor_of_another_log_is_refused
            a_restored_log_goes_on
            a_date_is_found_from_the_last_mark
            an_overview_agrees_with_the_lists
            a_silence_is_measured_against_the_pauses_before_it
            of_two_secrets_the_one_used_last_is_known
            a_secret_is_removed_with_the_first_report_without_it
            the_last_refusal_of_each_reason_is_kept
        }
    };
}

#[cfg(test)]
mod sqlite {
    ledger_laws!(store::fresh_sqlite!());
}
