//! What the ledger records, whatever the order of messages and batches: written once, run on each database.

mod feed;

use consumer::{Failure, Recorder};
use event::{Event, Message, Source, Topic, header};
use store::Store;
use store::seen::{self, Sighting};

use crate::record::Events;
use crate::{EventState, show};

pub use feed::*;

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

/// The laws as tests: see [`store::law_tests!`].
#[macro_export]
macro_rules! ledger_laws {
    ($store:expr) => {
        store::law_tests! { $store, [$crate::COMPONENT], $crate =>
            a_repetition_never_becomes_the_first
            a_reader_gets_what_it_wants_once_and_in_order
            deleted_events_are_not_skipped_in_silence
            a_cursor_of_another_log_is_refused
            a_restored_log_goes_on
        }
    };
}

#[cfg(test)]
mod sqlite {
    ledger_laws!(store::fresh_sqlite!());
}
