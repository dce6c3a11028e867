//! What polling relies on of either database: leases, and what a poll writes.

use std::time::Duration;

use event::{SourceName, Timestamp};
use providers::Provider;
use store::{Page, Store};
use view::Row as _;

use crate::config::Poll;
use crate::table::{self, After, Before, Claim, register};
use crate::{SourceFilter, SourceRow};

const LEASE: Duration = Duration::from_secs(60);

fn name(text: &str) -> SourceName {
    SourceName::new(text).expect("a name")
}

fn poll(every_s: u32) -> Poll {
    let text = serde_json::json!({"url": "https://h.example", "every_s": every_s});
    serde_json::from_value(text).expect("a poll")
}

async fn register_one(store: &Store, every_s: u32) {
    let (name, provider, poll) =
        (name("rec"), Provider::named("recuperador").expect("built in"), poll(every_s));
    register(store, &[(&name, &provider, Some(&poll))]).await.expect("registered");
}

async fn rows(store: &Store) -> Vec<SourceRow> {
    let mut connection = store.read().await.expect("a connection");
    SourceRow::page(&mut connection, &SourceFilter::default(), &Page::first(10)).await.expect("rows").items
}

async fn claim(store: &Store, owner: &str, now: Timestamp) -> Claim {
    table::claim(store, &name("rec"), owner, now, LEASE).await.expect("an answer")
}

fn granted(failures: u32) -> Claim {
    Claim::Granted(Before { failures })
}

fn failed(next_at: Timestamp, held_until: Option<Timestamp>) -> After {
    After { items: 2, failure: Some("h answered 500".to_owned()), failures: 1, next_at, held_until }
}

/// What is forgotten is due nowhere, and a poll of it that is under way writes nothing.
pub async fn a_source_that_is_forgotten_is_not_polled(store: &Store) {
    register_one(store, 60).await;
    let now = event::now();
    assert_eq!(claim(store, "a", now).await, granted(0));
    table::forget(store, &name("rec")).await.expect("forgotten");
    assert!(!table::extend(store, &name("rec"), "a", now + LEASE).await.expect("an answer"));
    table::settle(store, &name("rec"), "a", now, &failed(now, None)).await.expect("an answer");
    assert!(rows(store).await.is_empty());
    assert!(matches!(claim(store, "a", now + 2 * LEASE).await, Claim::NotBefore(_)));
}

/// One process at a time polls a source, when it is due; another one takes over once the lease of one that was killed ends.
pub async fn one_process_at_a_time_polls_a_source(store: &Store) {
    register_one(store, 60).await;
    let now = event::now();
    assert_eq!(claim(store, "a", now).await, granted(0));
    assert!(matches!(claim(store, "b", now).await, Claim::NotBefore(due) if due > now + LEASE / 2));
    assert!(table::extend(store, &name("rec"), "a", now + LEASE).await.expect("an answer"));
    let later = now + 2 * LEASE;
    assert_eq!(claim(store, "b", later).await, granted(0), "the lease has ended");
    assert!(!table::extend(store, &name("rec"), "a", later + LEASE).await.expect("an answer"), "it is b's");
    // The first one comes back, and writes nothing.
    let after = failed(later + LEASE, None);
    table::settle(store, &name("rec"), "a", later, &after).await.expect("written");
    table::release(store, &name("rec"), "a").await.expect("written");
    assert!(matches!(claim(store, "a", later).await, Claim::NotBefore(_)));
    assert_eq!(rows(store).await[0].failure, None);
    table::release(store, &name("rec"), "b").await.expect("written");
    assert_eq!(claim(store, "a", later).await, granted(0), "it was given back, and is still due");
}

/// Of many processes that ask at once, one polls.
pub async fn of_many_that_ask_at_once_one_polls(store: &Store) {
    register_one(store, 60).await;
    let now = event::now();
    let owners: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    let claims = futures_util::future::join_all(owners.iter().map(|owner| claim(store, owner, now))).await;
    let granted = claims.iter().filter(|claim| matches!(claim, Claim::Granted(_))).count();
    assert_eq!(granted, 1, "{claims:?}");
}

/// A result is shown, and decides when the next poll is due; what the API asked for holds for every process.
pub async fn a_result_is_shown_and_the_next_poll_waits(store: &Store) {
    register_one(store, 60).await;
    let now = event::now();
    claim(store, "a", now).await;
    let held_until = now + 3 * LEASE;
    table::settle(store, &name("rec"), "a", now, &failed(now + LEASE, Some(held_until)))
        .await
        .expect("written");
    let row = rows(store).await.remove(0);
    assert_eq!((row.items, row.failures, row.failure.as_deref()), (Some(2), 1, Some("h answered 500")));
    let seconds = |time: Option<Timestamp>| time.map(Timestamp::as_second);
    assert_eq!(seconds(row.next_poll_at), seconds(Some(held_until)));
    assert_eq!((seconds(row.polled_at), seconds(row.failed_at)), (seconds(Some(now)), seconds(Some(now))));
    // A restart asks a failing API at once, but not before the time that it asked for.
    register_one(store, 60).await;
    assert!(matches!(claim(store, "a", now + LEASE).await, Claim::NotBefore(_)));
    assert_eq!(claim(store, "a", held_until + LEASE).await, granted(1));
    let works = After { items: 0, failure: None, failures: 0, next_at: now + 9 * LEASE, held_until: None };
    table::settle(store, &name("rec"), "a", held_until, &works).await.expect("written");
    let row = rows(store).await.remove(0);
    assert_eq!((row.failures, row.failure, seconds(row.failed_at)), (0, None, seconds(Some(now))));
    // What works stays as it is, unless it is set otherwise.
    register_one(store, 60).await;
    assert!(matches!(claim(store, "a", now + 8 * LEASE).await, Claim::NotBefore(_)));
    register_one(store, 30).await;
    assert_eq!(claim(store, "a", now + 8 * LEASE).await, granted(0));
}

/// The list has the sources that are configured, whether or not they are polled.
pub async fn the_list_has_what_is_configured(store: &Store) {
    let provider = Provider::named("gestao-online").expect("built in");
    let names = ["a", "b", "c"].map(name);
    let poll = poll(60);
    let all =
        [(&names[0], &provider, None), (&names[1], &provider, Some(&poll)), (&names[2], &provider, None)];
    register(store, &all).await.expect("registered");
    register(store, &all[..2]).await.expect("registered");
    let shown: Vec<_> = rows(store).await.into_iter().map(|row| (row.source, row.poll_every_s)).collect();
    assert_eq!(shown, [("b".to_owned(), Some(60)), ("a".to_owned(), None)]);
    assert_eq!(rows(store).await[1].next_poll_at, None);
    register(store, &[]).await.expect("registered");
    assert!(rows(store).await.is_empty());
}

/// The laws as tests: see [`store::law_tests!`].
#[macro_export]
macro_rules! polling_laws {
    ($store:expr) => {
        store::law_tests! { $store, [$crate::COMPONENT], $crate =>
            one_process_at_a_time_polls_a_source
            a_source_that_is_forgotten_is_not_polled
            of_many_that_ask_at_once_one_polls
            a_result_is_shown_and_the_next_poll_waits
            the_list_has_what_is_configured
        }
    };
}

#[cfg(test)]
mod sqlite {
    polling_laws!(store::fresh_sqlite!());
}
