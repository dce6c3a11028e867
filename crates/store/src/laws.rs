//! What both databases must do: written once, run on each.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use event::{Event, EventId, Source, SourceName, Subject, Timestamp, Topic};

use crate::agreed::{self, Agreed};
use crate::many::{self, Value, Values, fetch};
use crate::retry::{self, Attempt};
use crate::seen::{self, Sighting};
use crate::{Component, Dialect, Migration, Row, Store, StoreError, inbox, sql};
use crate::{lease, outbox};

const COMPONENT: Component = Component {
    name: "laws",
    migrations: &[Migration::portable(
        1,
        "a table with a column of every type",
        "CREATE TABLE law (id TEXT PRIMARY KEY, amount BIGINT, flag BIGINT NOT NULL, body BLOB NOT NULL, note TEXT);",
    )],
};

async fn prepared(store: &Store) {
    store.migrate(&[COMPONENT]).await.expect("migrations run");
}

async fn count(store: &Store) -> i64 {
    let mut connection = store.read().await.expect("a connection");
    sql::scalar("SELECT count(*) FROM law").fetch_one(&mut *connection).await.expect("a count")
}

async fn insert(tx: &mut crate::Tx, id: &str) -> Result<(), StoreError> {
    sql::query("INSERT INTO law (id, amount, flag, body, note) VALUES ($1, $2, $3, $4, $5)")
        .bind(id.to_owned())
        .bind(i64::MAX)
        .bind(1_i64)
        .bind(vec![0_u8, 255])
        .bind(None::<String>)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Migrating twice, and from two places at once, leaves the tables as they are.
pub async fn migrations_run_once(store: &Store) {
    let (one, two) = tokio::join!(store.migrate(&[COMPONENT]), store.migrate(&[COMPONENT]));
    one.expect("the first migrates");
    two.expect("the second finds it done");
    let mut tx = store.begin().await.expect("a transaction");
    insert(&mut tx, "kept").await.expect("an insert");
    tx.commit().await.expect("a commit");
    prepared(store).await;
    assert_eq!(count(store).await, 1);
}

/// Every column type comes back as it went in; a missing value stays missing.
pub async fn values_survive(store: &Store) {
    prepared(store).await;
    let mut tx = store.begin().await.expect("a transaction");
    insert(&mut tx, "ação").await.expect("an insert");
    tx.commit().await.expect("a commit");
    let mut connection = store.read().await.expect("a connection");
    let row = sql::query("SELECT id, amount, flag, body, note FROM law").fetch_one(&mut *connection).await;
    let row = row.expect("the row");
    assert_eq!(row.get::<String, _>(0), "ação");
    assert_eq!(row.get::<Option<i64>, _>(1), Some(i64::MAX));
    assert_eq!(row.get::<i64, _>(2), 1);
    assert_eq!(row.get::<Vec<u8>, _>(3), [0, 255]);
    assert_eq!(row.get::<Option<String>, _>(4), None);
}

/// What is not committed never happened.
pub async fn a_dropped_transaction_rolls_back(store: &Store) {
    prepared(store).await;
    let mut tx = store.begin().await.expect("a transaction");
    insert(&mut tx, "gone").await.expect("an insert");
    drop(tx);
    let tx = store.begin().await.expect("the writer is free again");
    drop(tx);
    assert_eq!(count(store).await, 0);
}

/// A claim is given once, and again only when the first transaction did not commit.
pub async fn an_event_is_claimed_once_per_consumer(store: &Store) {
    prepared(store).await;
    let ids = [EventId::generate(), EventId::generate()];
    let claim = async |consumer: &str, ids: &[EventId], commit: bool| {
        let mut tx = store.begin().await.expect("a transaction");
        let claimed = inbox::claim(&mut tx, consumer, ids, event::now()).await.expect("a claim");
        if commit {
            tx.commit().await.expect("a commit");
        }
        claimed.len()
    };
    assert_eq!(claim("invoices", &ids[..1], false).await, 1);
    assert_eq!(claim("invoices", &[ids[0], ids[0]], true).await, 1);
    assert_eq!(claim("invoices", &ids, true).await, 1);
    assert_eq!(claim("receivables", &ids, true).await, 2);
    assert_eq!(claim("receivables", &[], true).await, 0);
}

/// Of the copies of a retry, the first that claims an attempt continues, however often it is delivered; the others end
/// there. Each job that sends a message again has attempts of its own.
pub async fn one_copy_of_a_retry_goes_on(store: &Store) {
    prepared(store).await;
    let claim = async |job, number, copy| {
        let attempt = Attempt { message_id: "m", consumer: "invoices", job, number, copy };
        let mut tx = store.begin().await.expect("a transaction");
        let claimed = retry::claim(&mut tx, &attempt).await.expect("a claim");
        tx.commit().await.expect("a commit");
        claimed
    };
    for (job, number, copy, expected) in [
        ("", 1, "a", true),
        ("", 1, "a", true),
        ("", 1, "b", false),
        ("", 2, "c", true),
        ("", 1, "a", false),
        ("", 2, "d", false),
        ("job", 1, "e", true),
    ] {
        assert_eq!(claim(job, number, copy).await, expected, "{job:?} {number} {copy}");
    }
    let mut tx = store.begin().await.expect("a transaction");
    retry::forget(&mut tx, "invoices", &["another", "m"]).await.expect("a deletion");
    tx.commit().await.expect("a commit");
    assert!(claim("", 1, "f").await, "what is done with is forgotten");
}

/// Two transactions that claim the same events at the same time never both get one.
pub async fn competing_claims_never_overlap(store: &Store) {
    prepared(store).await;
    let ids: Vec<EventId> = (0..50).map(|_| EventId::generate()).collect();
    let contender = async || {
        let mut given = 0;
        for chunk in ids.chunks(10) {
            let mut tx = store.begin().await.expect("a transaction");
            given += inbox::claim(&mut tx, "invoices", chunk, event::now()).await.expect("a claim").len();
            tx.commit().await.expect("a commit");
        }
        given
    };
    let (one, two, three) = tokio::join!(contender(), contender(), contender());
    assert_eq!(one + two + three, ids.len());
}

/// The same key twice is the caller's mistake, not an outage.
pub async fn a_refused_statement_is_told_from_an_outage(store: &Store) {
    prepared(store).await;
    let mut tx = store.begin().await.expect("a transaction");
    insert(&mut tx, "one").await.expect("an insert");
    assert!(matches!(insert(&mut tx, "one").await, Err(StoreError::Query(_))));
    drop(tx);
    store.check().await.expect("the database answers");
    store.check_writable().await.expect("the database takes writes");
    store.close().await;
    assert!(matches!(store.check().await, Err(StoreError::Unavailable(_))));
}

/// A process of the release before that is still at work takes its tables for a database that is down, so that it waits:
/// its claims would be unknown to everyone else.
pub async fn what_the_release_before_writes_is_refused_as_in_an_outage(store: &Store) {
    prepared(store).await;
    for text in [
        "INSERT INTO inbox (event_id, consumer, handled_at) VALUES ('0199d3c0-1f2e-7abc-8def-0123456789ab', 'c', 0) \
         ON CONFLICT (event_id, consumer) DO NOTHING RETURNING event_id",
        "UPDATE writable SET checked_at = 1",
    ] {
        let mut tx = store.begin().await.expect("a transaction");
        let refused = sql::query(text).execute(&mut *tx).await.map(drop).map_err(StoreError::from);
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{text}: {refused:?}");
    }
    store.check_writable().await.expect("the database takes writes");
}

fn sighting(source: &str, key: &str, second: i64) -> Sighting {
    Sighting {
        source: SourceName::new(source).expect("a name"),
        key: key.to_owned(),
        time: Timestamp::from_second(second).expect("a time"),
        event_id: EventId::generate(),
        window_s: 60,
        repeats: None,
    }
}

async fn noted(store: &Store, sightings: &[Sighting]) -> HashMap<EventId, EventId> {
    loop {
        let mut tx = store.begin().await.expect("a transaction");
        match seen::duplicates(&mut tx, sightings).await {
            Ok(duplicates) => {
                tx.commit().await.expect("a commit");
                return duplicates;
            }
            Err(StoreError::Conflict(_)) => {}
            Err(error) => panic!("they are noted: {error}"),
        }
    }
}

/// What is set first holds for everyone, until somebody who names it replaces it.
pub async fn a_fingerprint_holds_until_who_names_it_replaces_it(store: &Store) {
    prepared(store).await;
    let read = async || agreed::agreed(&mut store.read().await.expect("a connection"), "key").await;
    assert_eq!(read().await.expect("an answer"), None);
    let held = async |fingerprint: &str, replaced: &str| {
        let (fingerprint, set_by) = (fingerprint.to_owned(), "malote up".to_owned());
        let own = Agreed { fingerprint, set_by, set_at: Timestamp::UNIX_EPOCH };
        let mut tx = store.begin().await.expect("a transaction");
        agreed::set(&mut tx, "key", &own, replaced).await.expect("an answer");
        tx.commit().await.expect("a commit");
        read().await.expect("an answer").expect("it is set").fingerprint
    };
    for (own, replaced, expect) in
        [("a", "", "a"), ("b", "", "a"), ("b", "c", "a"), ("b", "a", "b"), ("b", "a", "b"), ("a", "", "b")]
    {
        assert_eq!(held(own, replaced).await, expect, "{own} for {replaced:?}");
    }
}

/// The first event that a transaction brings is the fact, for every consumer; others with its key repeat it within the
/// window, whichever was received first. After the window the next is a fact again, and the former stays one.
pub async fn the_first_event_with_a_key_is_the_fact(store: &Store) {
    prepared(store).await;
    let first = sighting("rec", "a", 1_000);
    let (again, before) = (sighting("rec", "a", 1_060), sighting("rec", "a", 990));
    let (other_key, other_source) = (sighting("rec", "b", 1_000), sighting("go", "a", 1_000));
    let batch = [again.clone(), first.clone(), other_key, other_source];
    assert_eq!(noted(store, &batch).await, HashMap::from([(again.event_id, first.event_id)]));
    assert_eq!(noted(store, &batch).await, HashMap::from([(again.event_id, first.event_id)]));
    let duplicates = noted(store, std::slice::from_ref(&before)).await;
    assert_eq!(duplicates, HashMap::from([(before.event_id, first.event_id)]));
    let after = sighting("rec", "a", 1_061);
    assert!(noted(store, std::slice::from_ref(&after)).await.is_empty());
    assert!(noted(store, std::slice::from_ref(&first)).await.is_empty());
    let late = sighting("rec", "a", 1_100);
    assert_eq!(
        noted(store, std::slice::from_ref(&late)).await,
        HashMap::from([(late.event_id, after.event_id)])
    );
    assert_eq!(
        seen::forget(store, Timestamp::from_second(2_000).expect("a time")).await.expect("forgets"),
        3
    );
    assert!(noted(store, &[late]).await.is_empty());
}

/// A sighting that repeats a known event claims nothing: it is a duplicate of that event before the event is noted, and
/// the event is the first whenever it arrives. If another event was noted first, both are its duplicates.
pub async fn a_known_repetition_claims_nothing(store: &Store) {
    prepared(store).await;
    let first = sighting("rec", "a", 1_000);
    let known = Sighting { repeats: Some(first.event_id), ..sighting("rec", "a", 1_010) };
    let expect = HashMap::from([(known.event_id, first.event_id)]);
    let both = [known.clone(), first];
    for batch in [&both[..1], &both, &both[..1]] {
        assert_eq!(noted(store, batch).await, expect);
    }
    let taken = sighting("rec", "b", 990);
    assert!(noted(store, std::slice::from_ref(&taken)).await.is_empty());
    let first = sighting("rec", "b", 1_000);
    let known = Sighting { repeats: Some(first.event_id), ..sighting("rec", "b", 1_010) };
    let expect = [&known, &first].map(|sighting| (sighting.event_id, taken.event_id));
    assert_eq!(noted(store, &[known, first]).await, HashMap::from(expect));
}

/// A key with content repeats a key with the same content, and one that an earlier version noted without content.
pub async fn a_key_of_before_holds_whatever_the_content(store: &Store) {
    prepared(store).await;
    let (id, content) = ("0123456789abcdef".repeat(2), |digit: &str| digit.repeat(32));
    let [one, again] = [1_000, 1_010].map(|second| sighting("rec", &(id.clone() + &content("1")), second));
    let other = sighting("rec", &(id.clone() + &content("2")), 1_020);
    let batch = [one.clone(), again.clone(), other];
    assert_eq!(noted(store, &batch).await, HashMap::from([(again.event_id, one.event_id)]));

    let id = "f".repeat(32);
    let of_before = sighting("rec", &id, 1_000);
    assert!(noted(store, std::slice::from_ref(&of_before)).await.is_empty());
    let [near, far] = [1_060, 1_061].map(|second| sighting("rec", &(id.clone() + &content("1")), second));
    let far = Sighting { key: id.clone() + &content("2"), ..far };
    for _ in 0..2 {
        let expect = HashMap::from([(near.event_id, of_before.event_id)]);
        assert_eq!(noted(store, &[near.clone(), far.clone()]).await, expect);
    }
}

/// Two transactions that bring the same key at once agree on the first.
pub async fn of_two_with_a_key_at_once_one_is_the_fact(store: &Store) {
    prepared(store).await;
    for round in 0..20 {
        let key = round.to_string();
        let (one, other) = (sighting("rec", &key, 1_000), sighting("rec", &key, 1_001));
        let (by_one, by_other) = tokio::join!(
            noted(store, std::slice::from_ref(&one)),
            noted(store, std::slice::from_ref(&other))
        );
        assert_eq!(by_one.len() + by_other.len(), 1, "{by_one:?} {by_other:?}");
    }
}

/// A transaction that has decided and not claimed yet holds up nobody: another one may claim the key. If that is for another
/// event, the first cannot claim it any more.
pub async fn a_key_belongs_to_who_claims_it_first(store: &Store) {
    prepared(store).await;
    if store.dialect() == Dialect::Sqlite {
        // There is no other transaction meanwhile.
        return;
    }
    let [one, other, ended] =
        [("a", 1_000), ("a", 1_001), ("a", 1_100)].map(|(key, second)| sighting("rec", key, second));
    for (first, second, is_claimed) in [(&one, &other, false), (&one, &one, true), (&ended, &ended, true)] {
        let firsts = std::slice::from_ref(first);
        let mut tx = store.begin().await.expect("a transaction");
        let decision = seen::decide(&mut tx, firsts).await.expect("a decision");
        assert!(decision.duplicates.is_empty());
        assert!(noted(store, std::slice::from_ref(second)).await.is_empty());
        match decision.claim(&mut tx).await {
            Ok(()) => assert!(is_claimed),
            Err(StoreError::Conflict(_)) => assert!(!is_claimed),
            Err(error) => panic!("{error}"),
        }
        drop(tx);
        if !is_claimed {
            assert_eq!(noted(store, firsts).await, HashMap::from([(first.event_id, second.event_id)]));
            seen::forget(store, Timestamp::from_second(2_000).expect("a time")).await.expect("forgets");
        }
    }
}

/// However many rows one call writes or looks for, it is those that are given and no others.
pub async fn any_number_of_rows_is_written(store: &Store) {
    prepared(store).await;
    let mut tx = store.begin().await.expect("a transaction");
    let mut claimed = 0;
    for count in [1, 16, 17, 255, 256, 257, 600] {
        let ids: Vec<EventId> = (0..count).map(|_| EventId::generate()).collect();
        for (given, new) in [(&ids[1..], &ids[1..]), (&ids[..], &ids[..1])] {
            let claims = inbox::claim(&mut tx, "law", given, event::now()).await.expect("they are claimed");
            assert_eq!(claims, new.iter().copied().collect::<HashSet<_>>(), "{count}");
        }
        claimed += count;
        let text = "SELECT count(*) FROM claims WHERE consumer = 'law'";
        let rows: i64 = sql::scalar(text).fetch_one(&mut *tx).await.expect("a count");
        assert_eq!(rows, claimed);
    }
}

/// A text comes back as it was written, whatever characters it has, and an empty one is not NULL.
pub async fn every_text_is_kept(store: &Store) {
    prepared(store).await;
    let texts = ["", "\u{1}", "\u{1}\u{2}\u{3}", "\"a\" \\ {,}", "NULL", "ç\u{10ffff}"];
    let texts: Vec<_> = texts.into_iter().map(Some).chain([None]).collect();
    let mut tx = store.begin().await.expect("a transaction");
    for given in texts.chunks(1).chain([&texts[..]]) {
        let row = |text: &Option<&str>| -> Values {
            let text = text.map(str::to_owned);
            vec![EventId::generate().into(), "law".into(), 1.into(), text.into()]
        };
        let rows = given.iter().map(row).collect();
        many::insert(&mut tx, "claims (event_id, consumer, handled_at, note)", "", rows)
            .await
            .expect("they are written");
        let text = "DELETE FROM claims WHERE consumer = 'law' RETURNING event_id, note".to_owned();
        let mut rows: Vec<(Vec<u8>, Option<String>)> = fetch(&mut tx, text, [])
            .await
            .expect("they are read")
            .iter()
            .map(|row| (row.try_get(0).expect("an id"), row.try_get(1).expect("a text")))
            .collect();
        rows.sort_unstable();
        let kept: Vec<_> = rows.iter().map(|(_, text)| text.as_deref()).collect();
        assert_eq!(kept, given);
    }
}

/// Keys are looked up in an index once there are many, by connections that looked for them while there was none, and before the
/// database has gathered statistics.
pub async fn a_plan_for_an_empty_table_is_not_kept(store: &Store) {
    prepared(store).await;
    let rows_read = async |tx: &mut crate::Tx| -> i64 {
        // SQLite plans by the indexes alone.
        let text = match store.dialect() {
            Dialect::Postgres => {
                "SELECT sum(seq_tup_read)::BIGINT FROM pg_stat_xact_user_tables WHERE relname = 'seen'"
            }
            Dialect::Sqlite => "SELECT 0",
        };
        sql::scalar(text).fetch_one(&mut **tx).await.expect("a count")
    };
    let sightings =
        |count: u32| -> Vec<_> { (0..count).map(|key| sighting("rec", &key.to_string(), 1_000)).collect() };
    // None is committed, so that nothing is analysed meanwhile.
    let mut tx = store.begin().await.expect("a transaction");
    // As migrations do.
    fetch(&mut tx, "ANALYZE seen".to_owned(), []).await.expect("it is analysed");
    let few: Vec<_> = sightings(4);
    let again = || few.iter().map(|one| Sighting { event_id: EventId::generate(), ..one.clone() });
    for _ in 0..10 {
        let known: Vec<_> = again().map(|one| Sighting { repeats: Some(one.event_id), ..one }).collect();
        seen::duplicates(&mut tx, &known).await.expect("they are noted");
    }
    seen::duplicates(&mut tx, &sightings(10_000)).await.expect("they are noted");
    let before = rows_read(&mut tx).await;
    let repeated: Vec<_> = again().collect();
    assert_eq!(seen::duplicates(&mut tx, &repeated).await.expect("they are noted").len(), few.len());
    let read = rows_read(&mut tx).await - before;
    assert!(read < 100, "{read} rows are read for {} keys", few.len());
}

/// An event with everything that the outbox keeps, about this subject.
fn domain_event(subject: &str) -> Event {
    let source = Source::parse("/malote/laws").expect("a source");
    let topic = Topic::new("law.kept").expect("a topic");
    Event {
        caused_by: Some(EventId::generate()),
        traceparent: Some("00-1".to_owned()),
        ..Event::new(source, topic, r#"{"a":"ç"}"#.into()).with_subject(Subject::new("law", subject))
    }
}

async fn in_outbox(store: &Store, events: &[Event], is_committed: bool) {
    let mut tx = store.begin().await.expect("a transaction");
    outbox::write(&mut tx, events, event::now()).await.expect("they are written");
    if is_committed {
        tx.commit().await.expect("a commit");
    }
}

/// What is committed waits in the outbox, whole and in its order, until it is removed; what is rolled back never does.
pub async fn the_outbox_has_what_is_committed_in_order(store: &Store) {
    prepared(store).await;
    let oldest = async |limit| {
        outbox::oldest(&mut store.read().await.expect("a connection"), limit).await.expect("events")
    };
    let waiting =
        async || outbox::waiting(&mut store.read().await.expect("a connection")).await.expect("a count");
    let events: Vec<Event> = (0..300).map(|number| domain_event(&number.to_string())).collect();
    in_outbox(store, &events[..2], false).await;
    assert_eq!((oldest(10).await, waiting().await.events), (vec![], 0));
    in_outbox(store, &events[..299], true).await;
    in_outbox(store, &events[299..], true).await;
    let (numbers, found): (Vec<i64>, Vec<Event>) = oldest(1_000).await.into_iter().unzip();
    assert_eq!(found, events);
    assert_eq!(oldest(1).await[0].1, events[0]);
    assert!(waiting().await.since.is_some_and(|since| since <= event::now()));
    let mut tx = store.begin().await.expect("a transaction");
    outbox::remove(&mut tx, &numbers[..299]).await.expect("they are removed");
    outbox::remove(&mut tx, &[]).await.expect("nothing is removed");
    tx.commit().await.expect("a commit");
    assert_eq!(oldest(10).await, [(numbers[299], events[299].clone())]);
    // A number is not given again: who removes late what it published removes nothing else.
    let mut tx = store.begin().await.expect("a transaction");
    outbox::remove(&mut tx, &numbers[299..]).await.expect("it is removed");
    tx.commit().await.expect("a commit");
    in_outbox(store, &events[..1], true).await;
    assert!(oldest(1).await[0].0 > numbers[299]);
}

/// One holder at a time has a lease: until it gives it back, or it is over. Another lease is another's.
pub async fn one_holder_at_a_time_has_the_lease(store: &Store) {
    prepared(store).await;
    let taken = async |holder: &str, now, until| {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let mut connection = store.read().await.expect("a connection");
        let is_free = lease::is_free(&mut connection, "relay", holder, at(now)).await.expect("an answer");
        let mut tx = store.begin().await.expect("a transaction");
        let is_taken = lease::take(&mut tx, "relay", holder, at(now), at(until)).await.expect("an answer");
        tx.commit().await.expect("a commit");
        assert!(is_free || !is_taken, "{holder} has a lease that was not free");
        is_taken
    };
    let release = async |holder: &str| {
        let mut tx = store.begin().await.expect("a transaction");
        lease::release(&mut tx, "relay", holder).await.expect("an answer");
        tx.commit().await.expect("a commit");
    };
    let both = tokio::join!(taken("a", 100, 110), taken("b", 100, 110));
    assert!(both.0 != both.1, "{both:?}");
    let (one, other) = if both.0 { ("a", "b") } else { ("b", "a") };
    assert!(taken(one, 105, 115).await);
    assert!(!taken(other, 115, 125).await);
    assert!(taken(other, 116, 126).await);
    assert!(!taken(one, 117, 127).await);
    release(one).await;
    assert!(!taken(one, 117, 127).await, "only its holder gives it back");
    release(other).await;
    assert!(taken(one, 117, 127).await);
    let mut tx = store.begin().await.expect("a transaction");
    let now = Timestamp::UNIX_EPOCH;
    assert!(
        lease::take(&mut tx, "another", other, now, now).await.expect("an answer"),
        "the first of its name"
    );
    let mut held = Vec::new();
    for (name, holder) in [("relay", one), ("relay", other), ("another", other), ("none", one)] {
        held.push(lease::hold(&mut tx, name, holder).await.expect("an answer"));
    }
    assert_eq!(held, [true, false, true, false]);
}

/// Work that excludes others is never done twice at a time, and work that is cut off holds up nothing.
pub async fn exclusive_work_is_done_by_one_at_a_time(store: &Store) {
    let running = AtomicUsize::new(0);
    let work = async || {
        let _turn = store.exclusive(7).await.expect("its turn");
        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        running.fetch_sub(1, Ordering::SeqCst);
    };
    tokio::join!(work(), work(), work());
    let cut_off = store.exclusive(7).await.expect("its turn");
    drop(cut_off);
    work().await;
}

/// Makes a test of each law of a crate. `$store` is an async expression for a [`Store`] on an empty database, and
/// anything that must live as long; the tables of the components are created in it. `$krate` is the crate with the
/// module `laws`.
#[macro_export]
macro_rules! law_tests {
    ($store:expr, $components:expr, $krate:tt => $($law:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                let (store, _kept) = $store.await;
                let components: &[$crate::Component] = &$components;
                if !components.is_empty() {
                    store.migrate(components).await.expect("migrations run");
                }
                $krate::laws::$law(&store).await;
            }
        )+
    };
}

/// How the database would run a statement: its steps. On PostgreSQL as if the tables had many rows, of which a statement that is
/// given an index reads and sorts no others; what no index gives is read and sorted all the same.
pub async fn plan(store: &Store, text: &str, values: Vec<Value>) -> String {
    let (explain, column) = match store.dialect() {
        Dialect::Postgres => ("EXPLAIN", 0),
        Dialect::Sqlite => ("EXPLAIN QUERY PLAN", 3),
    };
    let mut tx = store.begin().await.expect("a transaction");
    if store.dialect() == Dialect::Postgres {
        for way in ["seqscan", "bitmapscan", "sort"] {
            fetch(&mut tx, format!("SET LOCAL enable_{way} = off"), []).await.expect("it is set");
        }
    }
    let rows = fetch(&mut tx, format!("{explain} {text}"), values).await.expect("a plan");
    let steps: Vec<String> = rows.iter().map(|row| row.try_get(column).expect("a step")).collect();
    steps.join("\n")
}

/// A store on an empty SQLite file, for [`law_tests!`](crate::law_tests). The crate that runs the tests depends on
/// `tempfile`.
#[macro_export]
macro_rules! fresh_sqlite {
    () => {
        async {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let config = $crate::Config { max_connections: 4, ..$crate::Config::new("sqlite") };
            ($crate::Store::open(&config, folder.path()).expect("the address is fine"), folder)
        }
    };
}

/// The laws of the store as tests: see [`law_tests!`](crate::law_tests).
#[macro_export]
macro_rules! store_laws {
    ($store:expr) => {
        $crate::law_tests! { $store, [], $crate =>
            migrations_run_once
            values_survive
            a_dropped_transaction_rolls_back
            an_event_is_claimed_once_per_consumer
            one_copy_of_a_retry_goes_on
            competing_claims_never_overlap
            the_first_event_with_a_key_is_the_fact
            of_two_with_a_key_at_once_one_is_the_fact
            a_key_belongs_to_who_claims_it_first
            a_known_repetition_claims_nothing
            a_key_of_before_holds_whatever_the_content
            any_number_of_rows_is_written
            every_text_is_kept
            a_plan_for_an_empty_table_is_not_kept
            a_refused_statement_is_told_from_an_outage
            a_fingerprint_holds_until_who_names_it_replaces_it
            what_the_release_before_writes_is_refused_as_in_an_outage
            the_outbox_has_what_is_committed_in_order
            one_holder_at_a_time_has_the_lease
            exclusive_work_is_done_by_one_at_a_time
        }
    };
}

#[cfg(test)]
mod sqlite {
    use crate::StoreError;

    store_laws!(crate::fresh_sqlite!());

    #[tokio::test]
    async fn a_full_disk_is_an_outage_that_ends_with_its_cause() {
        let (store, _folder) = crate::fresh_sqlite!().await;
        store.migrate(&[super::COMPONENT]).await.expect("migrations run");
        let mut tx = store.begin().await.expect("a transaction");
        // The limit is the connection's own: the next one has none.
        crate::sql::query("PRAGMA max_page_count = 1").execute(&mut *tx).await.expect("a limit");
        let body = vec![0_u8; 1 << 20];
        let insert = crate::sql::query("INSERT INTO law (id, flag, body) VALUES ('big', 0, $1)").bind(body);
        let error = StoreError::from(insert.execute(&mut *tx).await.expect_err("the disk is full"));
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        let _ = tx.commit().await;
        store.check_writable().await.expect("there is room again");
    }
}
