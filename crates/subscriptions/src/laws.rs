//! What subscriptions promise on each database: written once, run on both.

mod closing;

use std::time::Duration;

use event::EventId;
use store::many::{Value, fetch};
use store::{Row, Store};

pub use self::closing::*;
pub use crate::push::laws::*;

use crate::{Declaration, Resume, Secrets, Seek, State, SubscriptionError, table};

/// A name is taken once, and again after it was removed; what is read is what was written.
pub async fn a_name_is_taken_once(store: &Store) {
    let first = added(store, "crm").await;
    let declaration = declaration("crm", "https://other.example/");
    let again = table::add(store, &seal(), &declaration, &Secrets::default(), Seek::Now).await;
    assert!(matches!(again, Err(SubscriptionError::Exists(_))), "{again:?}");
    let read = table::get(store, first.name()).await.expect("it is read").expect("it is there");
    assert_eq!((read.id, &read.declaration, read.state), (first.id, &first.declaration, State::Active));
    assert_eq!(table::list(store).await.expect("they are read").len(), 1);
    table::remove(store, first.name()).await.expect("it is removed");
    assert!(matches!(table::remove(store, first.name()).await, Err(SubscriptionError::Unknown(_))));
    assert_ne!(added(store, "crm").await.id, first.id, "another one under the same name");
}

/// Secrets come back as they went in, and a rotated one signs beside its successor for a time.
pub async fn secrets_are_sealed_and_rotated(store: &Store) {
    let name = added(store, "crm").await.name().clone();
    let until = event::now() + Duration::from_secs(60);
    for secret in ["whsec_one", "whsec_two", "whsec_three"] {
        table::rotate_secret(store, &seal(), &name, secret.to_owned(), until).await.expect("it is rotated");
    }
    let read = table::get(store, &name).await.expect("it is read").expect("it is there");
    let secrets = table::unseal(&seal(), &read).expect("it is readable");
    assert_eq!(secrets.signing_at(event::now()).collect::<Vec<_>>(), ["whsec_three", "whsec_two"]);
    assert_eq!(secrets.signing_at(until).collect::<Vec<_>>(), ["whsec_three"]);
    let text = "SELECT sealed FROM subscriptions".to_owned();
    let rows = fetch(&mut store.read().await.expect("a connection"), text, []).await.expect("a row");
    let sealed: Vec<u8> = rows[0].try_get(0).expect("bytes");
    assert!(!String::from_utf8_lossy(&sealed).contains("whsec"), "nothing of it is readable in the store");
}

/// An edit keeps the position and the secrets, and a door never becomes another one.
pub async fn an_edit_keeps_the_position(store: &Store) {
    record(store, &["order/1"]).await;
    let before = added(store, "crm").await;
    let secrets = Secrets { auth: Some("token".to_owned()), ..Secrets::default() };
    let mut declaration = before.declaration.clone();
    declaration.filter = Some("true".to_owned());
    let given = |_: &Declaration, _| Ok::<_, SubscriptionError>(secrets.clone());
    table::edit(store, &seal(), &declaration, None, given).await.expect("it is edited");
    let edited = table::edit(store, &seal(), &declaration, None, unchanged).await.expect("it is edited");
    assert_eq!((edited.cursor, edited.moved), (before.cursor, before.moved));
    assert!(edited.version > before.version, "what works on it reads it again");
    assert_eq!(table::unseal(&seal(), &edited).expect("it is readable"), secrets);
    (declaration.push, declaration.pull) = (None, Some(crate::Pull {}));
    let refused = table::edit(store, &seal(), &declaration, None, unchanged).await;
    assert!(matches!(refused, Err(SubscriptionError::Door { .. })), "{refused:?}");
}

/// Changes of one subscription at the same time lose none of each other's secrets, and an edit of a version before them is refused.
pub async fn concurrent_changes_lose_no_secret(store: &Store) {
    let added = added(store, "crm").await;
    let (name, declaration, seal) = (added.name(), &added.declaration, &seal());
    let until = event::now() + Duration::from_secs(60);
    let edit = |number: usize| async move {
        let add = |_: &Declaration, mut secrets: Secrets| {
            secrets.headers.insert(format!("x-{number}"), "value".to_owned());
            Ok::<_, SubscriptionError>(secrets)
        };
        table::edit(store, seal, declaration, None, add).await.map(drop)
    };
    let rotate = |number: usize| async move {
        table::rotate_secret(store, seal, name, format!("whsec_{number}"), until).await.map(drop)
    };
    let edits = futures_util::future::try_join_all((0..8).map(edit));
    let rotations = futures_util::future::try_join_all((0..4).map(rotate));
    futures_util::future::try_join(edits, rotations).await.expect("all are done");
    let read = table::get(store, name).await.expect("it is read").expect("it is there");
    let secrets = table::unseal(seal, &read).expect("it is readable");
    assert_eq!((secrets.headers.len(), secrets.signing.len()), (8, 2), "{:?}", secrets.headers.keys());
    assert_eq!(read.version, added.version + 12);

    let stale = table::edit(store, seal, declaration, Some(added.version), unchanged).await;
    assert!(matches!(stale, Err(SubscriptionError::Changed(_))), "{stale:?}");
    assert_eq!(
        table::get(store, name).await.expect("it is read").expect("it is there").version,
        read.version
    );
    table::edit(store, seal, declaration, Some(read.version), unchanged).await.expect("it is edited");
}

/// Seeking goes to an event, a time, or an end of the feed, and an event that is not there is refused.
pub async fn seeking_finds_its_place(store: &Store) {
    let ids = record(store, &["order/1", "order/2", "order/3"]).await;
    let name = added(store, "crm").await.name().clone();
    let feed = ledger::feed::Feed::new(store.clone(), tokio_util::sync::CancellationToken::new());
    let next = async |to: Seek, count: usize| {
        let sought = table::seek(store, &name, to, None).await.expect("it is moved");
        let after = ledger::feed::After::Cursor(sought.cursor);
        let mut reader = feed.reader(after, ledger::feed::Topics::default()).await.expect("a reader");
        let (mut ids, asked) = (Vec::new(), std::time::Instant::now());
        // A transaction of another test in the same cluster may hold back the feed for a moment.
        while ids.is_empty() || ids.len() < count && asked.elapsed() < Duration::from_secs(60) {
            let items = reader.next(10, Duration::from_millis(10)).await.expect("a reading");
            ids.extend(items.iter().map(|item| item.event().id));
            if count == 0 {
                break;
            }
        }
        ids
    };
    assert_eq!(next(Seek::Beginning, 3).await, ids);
    assert_eq!(next(Seek::Event(ids[1]), 2).await, ids[1..]);
    assert_eq!(next(Seek::Event(ids[0]), 3).await, ids);
    assert!(next(Seek::Now, 0).await.is_empty());
    assert_eq!(next(Seek::Time(event::Timestamp::UNIX_EPOCH), 3).await, ids);
    assert!(next(Seek::Time(event::now() + Duration::from_secs(60)), 0).await.is_empty());
    let missing = EventId::generate();
    let refused = table::seek(store, &name, Seek::Event(missing), None).await;
    assert!(matches!(refused, Err(SubscriptionError::NoEvent(id)) if id == missing), "{refused:?}");
    // With a rate, the live position stays: nothing is skipped by it.
    let now = table::seek(store, &name, Seek::Now, None).await.expect("it is moved");
    let refused =
        table::seek(store, &name, Seek::Time(event::now() + Duration::from_secs(60)), Some(50)).await;
    assert!(matches!(refused, Err(SubscriptionError::NoHistory(_))), "{refused:?}");
    let sought = table::seek(store, &name, Seek::Beginning, Some(50)).await.expect("it is moved");
    let backfill = sought.backfill.expect("a part of history");
    assert_eq!(
        (sought.cursor, backfill.until, backfill.rate_per_s),
        (now.cursor, now.cursor.to_string(), 50)
    );
}

/// Resuming delivers what waited: all of it, what came since a time, or nothing.
pub async fn resuming_says_what_becomes_of_what_waited(store: &Store) {
    record(store, &["order/1"]).await;
    let name = added(store, "crm").await.name().clone();
    let paused = table::pause(store, &name, "maintenance").await.expect("it is paused");
    assert_eq!((paused.state, paused.reason.as_str()), (State::Paused, "maintenance"));
    let all = table::resume(store, &name, Resume::All).await.expect("it is resumed");
    assert_eq!((all.state, all.reason.as_str()), (State::Active, ""));
    assert!(!all.cursor.is_after(&paused.cursor));
    assert!(all.moved > paused.moved, "an earlier worker does not overwrite it");
    let none = table::resume(store, &name, Resume::None).await.expect("it is resumed");
    assert!(none.cursor.is_after(&all.cursor));
    let back = table::resume(store, &name, Resume::Since(event::Timestamp::UNIX_EPOCH))
        .await
        .expect("it is resumed");
    assert!(!none.cursor.is_after(&back.cursor), "what was given up is sought, not resumed");
}

/// The same for what waits for another attempt, and for history that is delivered again; a pause that the endpoint asked for
/// stays.
pub async fn resuming_says_what_becomes_of_rows_and_of_history(store: &Store) {
    recorded(store, &["order/1"]).await;
    let subscription = added(store, "crm").await;
    let name = subscription.name();
    let asked = event::now() + Duration::from_secs(3_600);
    let begin = async |what: Resume| {
        table::seek(store, name, Seek::Now, None).await.expect("it is moved");
        table::seek(store, name, Seek::Beginning, Some(50)).await.expect("it is moved");
        let mut tx = store.begin().await.expect("a transaction");
        let text = "DELETE FROM deliveries WHERE subscription = $1".to_owned();
        fetch(&mut tx, text, [subscription.id.into()]).await.expect("a deletion");
        for (number, due) in [(0_i64, Some(0_i64)), (1_000_000, Some(0)), (0, None)] {
            let text = "INSERT INTO deliveries (subscription, event_id, received_at, attempts, steps, due_at) \
                        VALUES ($1, $2, $3, 1, 1, $4)";
            let values =
                [subscription.id.into(), EventId::generate().into(), Value::from(number), Value::from(due)];
            fetch(&mut tx, text.to_owned(), values).await.expect("an insert");
        }
        let text = "UPDATE subscriptions SET failures = 12, held_until = $1, probe_at = $1".to_owned();
        fetch(&mut tx, text, [asked.into()]).await.expect("an update");
        tx.commit().await.expect("a commit");
        let resumed = table::resume(store, name, what).await.expect("it is resumed");
        assert_eq!((resumed.failures, resumed.probe_at), (0, None));
        assert_eq!(resumed.held_until.map(|at| at.as_microsecond()), Some(asked.as_microsecond()));
        let text = "SELECT due_at IS NOT NULL FROM deliveries".to_owned();
        let rows = fetch(&mut store.read().await.expect("a connection"), text, []).await.expect("rows");
        (rows.len(), resumed.backfill.is_some())
    };
    let second = event::Timestamp::from_second(1).expect("a time");
    assert_eq!(begin(Resume::All).await, (3, true));
    assert_eq!(begin(Resume::Since(second)).await, (2, true), "history since then");
    assert_eq!(begin(Resume::Since(event::now() + Duration::from_secs(60))).await, (1, false));
    assert_eq!(begin(Resume::None).await, (1, false), "what is undelivered stays");
}

/// The laws as tests: see [`store::law_tests!`].
#[macro_export]
macro_rules! subscriptions_laws {
    ($store:expr) => {
        store::law_tests! { $store, [ledger::COMPONENT, $crate::COMPONENT], $crate =>
            a_name_is_taken_once
            secrets_are_sealed_and_rotated
            an_edit_keeps_the_position
            concurrent_changes_lose_no_secret
            seeking_finds_its_place
            resuming_says_what_becomes_of_what_waited
            resuming_says_what_becomes_of_rows_and_of_history
            undelivered_events_are_sent_again
            delivered_events_are_sent_again_once
            many_events_are_closed_in_parts
            undelivered_events_are_discarded
            undelivered_events_off_the_record_go_with_their_attempts
            the_lag_counts_what_waits_for_another_attempt
            what_comes_again_has_no_row
            further_history_includes_what_is_left
            an_event_has_its_takers
            a_worker_without_its_lease_moves_nothing
            a_position_that_was_set_stays
            what_waits_comes_back_in_its_order
            a_batch_is_written_once_and_its_last_word_counts
            replicas_share_and_inherit
            old_attempts_and_those_of_removed_subscriptions_go
        }
    };
}

#[cfg(test)]
mod sqlite {
    subscriptions_laws!(store::fresh_sqlite!());
}
