//! What the push door relies on of either database: leases, fencing, and what a batch writes.

use std::time::Duration;

use bytes::Bytes;
use event::{EventId, SubscriptionName, Timestamp};
use ledger::feed::Cursor;
use store::many::fetch;
use store::{Row, Store};

use super::leases::{self, LEASE};
use super::queue::{Change, Pending};
use super::record::{self, Attempt, Batch, Hold, Progress};
use crate::declaration::{Declaration, Push};
use crate::{Order, Seal, Secrets, Seek, State, Subscription, SubscriptionError, attempts, table};

/// A key for tests.
pub fn seal() -> Seal {
    Seal::new(&[7; 32])
}

/// Secrets that stay as they are.
pub fn unchanged(_: &Declaration, secrets: Secrets) -> Result<Secrets, SubscriptionError> {
    Ok(secrets)
}

/// A push subscription to every event of a provider.
pub fn declaration(name: &str, url: &str) -> Declaration {
    let name = SubscriptionName::new(name).expect("a name");
    let push = Push { order: Order::Subject, ..Push::new(url) };
    let topics = vec!["recuperador:#".to_owned()];
    Declaration { name, topics, filter: None, transform: None, push: Some(push), pull: None, queue: None }
}

/// Adds a subscription of this name, from the beginning of the feed.
pub async fn added(store: &Store, name: &str) -> Subscription {
    let declaration = declaration(name, "https://crm.example/events");
    table::add(store, &seal(), &declaration, &Secrets::default(), Seek::Beginning).await.expect("it is added")
}

/// A cursor before every event of a test, or behind them.
fn cursor(number: u64) -> Cursor {
    format!("{number:x}.{}", "f".repeat(32)).parse().expect("a cursor")
}

/// Records events with these subjects, in one transaction.
pub async fn record(store: &Store, subjects: &[&str]) -> Vec<EventId> {
    let events = subjects.iter().enumerate().map(|(number, subject)| {
        let mut event = ledger::laws::event();
        event.subject = Some(event::Subject::from_text(subject));
        event.data = Bytes::from(format!("{{\"number\":{number}}}"));
        event
    });
    let events: Vec<_> = events.collect();
    let mut tx = store.begin().await.expect("a transaction");
    ledger::laws::record_in(&mut tx, &events).await.expect("they are recorded");
    tx.commit().await.expect("a commit");
    events.into_iter().map(|event| event.id).collect()
}

fn hold(subscription: &Subscription, owner: &str) -> Hold {
    Hold { subscription: subscription.id, owner: owner.to_owned(), moved: subscription.moved }
}

fn progress(number: u64) -> Progress {
    Progress {
        cursor: cursor(number),
        backfill: None,
        failures: 3,
        failing_since: None,
        held_until: None,
        probe_at: None,
        state: State::Failing,
        reason: "it fails".to_owned(),
    }
}

fn pending(received: i64, subject: Option<&str>) -> Pending {
    Pending {
        id: EventId::generate(),
        subject: subject.map(Into::into),
        received_at: Timestamp::from_second(received).expect("a time"),
        attempts: 1,
        steps: 1,
        due_at: Timestamp::UNIX_EPOCH,
        is_stored: true,
        bytes: 0,
        event: None,
    }
}

fn attempt(event_id: EventId, at: Timestamp) -> Attempt {
    let (status, error, answer) = (Some(500), Some("answered 500".to_owned()), None);
    Attempt { event_id, attempt: 1, at, duration_ms: 12, status, error, answer }
}

async fn count(store: &Store, table: &str) -> i64 {
    let text = format!("SELECT count(*) FROM {table}");
    let rows = fetch(&mut store.read().await.expect("a connection"), text, []).await.expect("a count");
    rows[0].try_get(0).expect("a number")
}

async fn read(store: &Store, subscription: &Subscription) -> Subscription {
    table::by_id(store, subscription.id).await.expect("it is read").expect("it is there")
}

/// A worker whose lease is another one's by now writes its attempts, and nothing else; so does one of a removed subscription.
pub async fn a_worker_without_its_lease_moves_nothing(store: &Store) {
    let subscription = added(store, "crm").await;
    let now = event::now();
    assert!(leases::claim(store, subscription.id, "a", now).await.expect("a claim"));
    assert!(!leases::claim(store, subscription.id, "b", now).await.expect("a claim"), "it is held");
    let mut batch = Batch::default();
    batch.attempts.push(attempt(EventId::generate(), now));
    let first = hold(&subscription, "a");
    assert!(record::commit(store, &first, &progress(1), &batch).await.expect("a commit"));
    let moved = read(store, &subscription).await;
    assert_eq!((moved.cursor, moved.state, moved.failures), (cursor(1), State::Failing, 3));

    let later = now + LEASE + Duration::from_secs(1);
    assert!(leases::claim(store, subscription.id, "b", later).await.expect("a claim"), "it has run out");
    let mut batch = Batch::default();
    batch.attempts.push(attempt(EventId::generate(), now));
    batch.add(Change::Write(pending(1, None), Some(now)));
    assert!(!record::commit(store, &first, &progress(2), &batch).await.expect("a commit"));
    assert_eq!(read(store, &subscription).await.cursor, cursor(1));
    assert_eq!((count(store, "deliveries").await, count(store, "delivery_attempts").await), (0, 2));
    let second = hold(&subscription, "b");
    assert!(record::commit(store, &second, &progress(3), &batch).await.expect("a commit"));
    assert_eq!((count(store, "deliveries").await, count(store, "delivery_attempts").await), (1, 2));

    table::remove(store, subscription.name()).await.expect("it is removed");
    assert_eq!(count(store, "deliveries").await, 0);
    assert!(!record::commit(store, &second, &progress(4), &batch).await.expect("a commit"));
    assert_eq!(count(store, "deliveries").await, 0);
}

/// A position that management has set is not set back by what was sent before it; an edit and a pause fence nothing.
pub async fn a_position_that_was_set_stays(store: &Store) {
    let subscription = added(store, "crm").await;
    assert!(leases::claim(store, subscription.id, "a", event::now()).await.expect("a claim"));
    let hold = hold(&subscription, "a");
    table::edit(store, &seal(), &subscription.declaration, None, unchanged).await.expect("it is edited");
    assert!(record::commit(store, &hold, &progress(1), &Batch::default()).await.expect("a commit"));
    table::pause(store, subscription.name(), "maintenance").await.expect("it is paused");
    assert!(record::commit(store, &hold, &progress(2), &Batch::default()).await.expect("a commit"));
    let paused = read(store, &subscription).await;
    assert_eq!(
        (paused.cursor, paused.state, paused.reason.as_str()),
        (cursor(2), State::Paused, "maintenance")
    );
    leases::report(store, subscription.id, "a", "failing", "no").await.expect("a report");
    assert_eq!(read(store, &subscription).await.state, State::Paused);
    table::seek(store, subscription.name(), Seek::Cursor(cursor(1)), None).await.expect("it is moved");
    assert!(!record::commit(store, &hold, &progress(3), &Batch::default()).await.expect("a commit"));
    assert_eq!(read(store, &subscription).await.cursor, cursor(1));
}

/// What waits comes back with its counts: by receipt, or what is due first; what is undelivered stays where it is.
pub async fn what_waits_comes_back_in_its_order(store: &Store) {
    let subscription = added(store, "crm").await;
    assert!(leases::claim(store, subscription.id, "a", event::now()).await.expect("a claim"));
    let second = |second| Timestamp::from_second(second).expect("a time");
    let [mut early, mut late, undelivered] =
        [pending(1, Some("order/1")), pending(2, Some("order/1")), pending(3, None)];
    (early.due_at, late.due_at) = (second(200), second(100));
    let mut batch = Batch::default();
    for one in [&late, &early] {
        batch.add(Change::Write(one.clone(), Some(one.due_at)));
    }
    batch.add(Change::Write(undelivered.clone(), None));
    assert!(record::commit(store, &hold(&subscription, "a"), &progress(1), &batch).await.expect("a commit"));
    for (is_by_receipt, expect) in [(true, [&early, &late]), (false, [&late, &early])] {
        let waiting = record::waiting(store, subscription.id, 2, is_by_receipt).await.expect("they are read");
        let key = |one: &Pending| {
            (one.id, one.subject.clone(), one.received_at, one.due_at, one.attempts, one.steps)
        };
        let found: Vec<_> = waiting.pending.iter().map(key).collect();
        assert_eq!(found, expect.map(key));
        assert!(!waiting.is_cut && waiting.has_undelivered);
    }
    // How much memory their contents take is known before they are read.
    let on_record = Pending { id: record(store, &["order/1"]).await[0], ..pending(0, None) };
    let mut batch = Batch::default();
    batch.add(Change::Write(on_record.clone(), Some(second(50))));
    assert!(record::commit(store, &hold(&subscription, "a"), &progress(1), &batch).await.expect("a commit"));
    let waiting = record::waiting(store, subscription.id, 3, false).await.expect("they are read");
    let bytes: Vec<_> = waiting.pending.iter().map(|one| (one.id, one.bytes)).collect();
    assert_eq!(bytes, [(on_record.id, r#"{"number":0}"#.len() as i64), (late.id, 0), (early.id, 0)]);
    batch.delete(on_record.id);
    assert!(record::commit(store, &hold(&subscription, "a"), &progress(1), &batch).await.expect("a commit"));
    let cut = record::waiting(store, subscription.id, 1, true).await.expect("they are read");
    assert!(cut.is_cut && cut.pending.len() == 1 && cut.pending[0].id == early.id);
}

/// Of several changes of an event in a batch the last one is written, also when a batch is put back and written later.
pub async fn a_batch_is_written_once_and_its_last_word_counts(store: &Store) {
    let subscription = added(store, "crm").await;
    let now = event::now();
    assert!(leases::claim(store, subscription.id, "a", now).await.expect("a claim"));
    let hold = hold(&subscription, "a");
    let [done, again, undelivered] = [pending(1, None), pending(2, None), pending(3, None)];
    let mut earlier = Batch::default();
    earlier.attempts.push(attempt(done.id, now));
    for one in [&done, &again] {
        earlier.add(Change::Write(one.clone(), Some(now)));
    }
    earlier.delete(undelivered.id);
    let mut batch = Batch::default();
    batch.delete(done.id);
    batch.add(Change::Write(undelivered.clone(), None));
    batch.attempts.push(attempt(done.id, now + Duration::from_micros(1)));
    batch.put_back(earlier);
    for _ in 0..2 {
        assert!(record::commit(store, &hold, &progress(1), &batch).await.expect("a commit"));
        assert_eq!((count(store, "deliveries").await, count(store, "delivery_attempts").await), (2, 2));
    }
    let waiting = record::waiting(store, subscription.id, 9, true).await.expect("they are read");
    assert!(waiting.pending.len() == 1 && waiting.pending[0].id == again.id && waiting.has_undelivered);
    let mut batch = Batch::default();
    batch.delete(again.id);
    batch.delete(undelivered.id);
    assert!(record::commit(store, &hold, &progress(1), &batch).await.expect("a commit"));
    assert_eq!(count(store, "deliveries").await, 0);
}

/// Two replicas come to hold half each; the second takes over what the first held once that is silent; one that ends gives
/// back everything at once.
pub async fn replicas_share_and_inherit(store: &Store) {
    for name in ["a", "b", "c", "d"] {
        added(store, name).await;
    }
    let tick = async |name: &str, now: Timestamp| {
        let replicas = leases::renew(store, name, now).await.expect("a renewal");
        let plan = leases::plan(&leases::seen(store).await.expect("rows"), name, replicas, now);
        for id in plan.release {
            leases::release(store, id, name).await.expect("a release");
        }
        for id in plan.claim {
            leases::claim(store, id, name, now).await.expect("a claim");
        }
        let seen = leases::seen(store).await.expect("rows");
        seen.iter().filter(|one| one.is_of(name)).count()
    };
    let now = event::now();
    assert_eq!(tick("one", now).await, 4);
    assert_eq!(tick("two", now).await, 0, "they are held");
    assert_eq!(tick("one", now).await, 2);
    assert_eq!(tick("two", now).await, 2);
    let later = now + LEASE + Duration::from_secs(1);
    assert_eq!(tick("two", later).await, 4, "the first is silent");
    leases::leave(store, "two").await.expect("it leaves");
    assert_eq!(tick("one", later).await, 4);
    table::pause(store, &"a".to_owned().try_into().expect("a name"), "").await.expect("it is paused");
    assert_eq!(leases::seen(store).await.expect("rows").len(), 3);
}

/// Attempts are kept for their time, and those of a subscription that was removed go at once.
pub async fn old_attempts_and_those_of_removed_subscriptions_go(store: &Store) {
    let (kept, removed) = (added(store, "kept").await, added(store, "removed").await);
    let now = event::now();
    let (old, new) = (now - Duration::from_secs(3 * 86_400), now - Duration::from_secs(86_400));
    for subscription in [&kept, &removed] {
        assert!(leases::claim(store, subscription.id, "a", now).await.expect("a claim"));
        let mut batch = Batch::default();
        batch.attempts.extend([old, new].map(|at| attempt(EventId::generate(), at)));
        assert!(
            record::commit(store, &hold(subscription, "a"), &progress(1), &batch).await.expect("a commit")
        );
    }
    assert_eq!(attempts::sweep(store, 2, now).await.expect("a sweep"), 2);
    table::remove(store, removed.name()).await.expect("it is removed");
    assert_eq!(attempts::sweep(store, 2, now).await.expect("a sweep"), 1);
    assert_eq!(count(store, "delivery_attempts").await, 1);
}
