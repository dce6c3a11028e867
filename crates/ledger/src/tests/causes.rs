//! Domain events on record: their causes, their state, and their books.

use super::*;
use crate::reconcile::tests::{aged, read};

/// A domain event about receivable 7, in the time of its cause.
fn caused_by(cause: &Event, topic: &str) -> Event {
    let event = event("/malote/receivables", topic).with_subject(Subject::new("receivable", "7"));
    let parts = [topic.as_bytes(), &cause.id.as_bytes()[..]];
    let id = EventId::from_parts(cause.id.milliseconds(), parts);
    Event { id, time: cause.time, caused_by: Some(cause.id), ..event }
}

#[tokio::test]
async fn an_event_shows_its_cause_and_what_it_caused() {
    let (store, _folder) = fresh().await;
    let (cause, other) = (invoice(), invoice());
    let (opened, paid) = (caused_by(&cause, "receivable.opened"), caused_by(&cause, "receivable.paid"));
    receive(&store, &[cause.clone(), other.clone(), paid.clone(), opened.clone(), opened.clone()]).await;
    let show = async |event: &Event| show(&mut store.read().await.unwrap(), event.id).await.unwrap().unwrap();
    assert_eq!(show(&opened).await.caused_by, Some(cause.id.to_string()));
    let caused: BTreeSet<_> = show(&cause).await.caused.into_iter().map(|one| (one.id, one.topic)).collect();
    let expect = [&opened, &paid].map(|event| (event.id.to_string(), event.topic.to_string()));
    assert_eq!(caused, BTreeSet::from(expect));
    assert_eq!((show(&other).await.caused, show(&cause).await.caused_by), (vec![], None));
    let filter = EventFilter { caused_by: Some(cause.id), ..EventFilter::default() };
    assert_eq!(ids(&store, &filter).await.len(), 2);
    let filter = EventFilter { topic: Some(paid.topic.clone()), ..filter };
    assert_eq!(ids(&store, &filter).await, [paid.id.to_string()]);
    let filter = EventFilter { state: Some(EventState::Routed), ..EventFilter::default() };
    assert_eq!(ids(&store, &filter).await.len(), 2);
}

#[tokio::test]
async fn domain_events_have_books_of_their_own_also_where_a_source_has_the_name_of_their_consumer() {
    let (store, _folder) = fresh().await;
    let received = aged(event("/gestao-online/receivables", "ORDER_CREATED"), 1_000);
    receive(&store, &[received.clone(), caused_by(&received, "receivable.opened")]).await;
    handle(&store, &received, "receivables").await;
    let day = received.time.to_string()[..10].to_owned();
    let tally = format!(
        "INSERT INTO tally (ingress, source, day, zone, accepted, rejected, reported_at) VALUES \
         ('i', 'receivables', '{day}', 'UTC', 2, 0, 0)"
    );
    let mut tx = store.begin().await.unwrap();
    sql::assembled(tally).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let (books, differences) = read(&store, &day, &[]).await;
    let books: Vec<_> = books.sources.iter().map(|one| (one.source.as_str(), one.received)).collect();
    assert_eq!(books, [("receivables", 1), ("/malote/receivables", 1)]);
    // The domain event does not make up for the event that is missing.
    let kinds: Vec<_> = differences.iter().map(|one| (one.kind.as_str(), one.source.as_deref())).collect();
    assert_eq!(kinds, [("events missing", Some("receivables"))]);
}

#[tokio::test]
async fn domain_events_are_kept_like_everything_and_not_like_a_source_with_the_name_of_their_consumer() {
    let (store, _folder) = fresh().await;
    const TEN_DAYS_S: i64 = 10 * 24 * 60 * 60;
    let old = aged(event("/gestao-online/receivables", "OTHER"), TEN_DAYS_S);
    receive(&store, &[old.clone(), caused_by(&old, "receivable.opened")]).await;
    let sources = [(SourceName::new("receivables").unwrap(), 7)].into();
    let retention = Retention { sources, ..Retention::default() };
    assert_eq!(retain(&store, &retention, event::now()).await.unwrap(), 1);
    let retention = Retention { keep_days: 7, ..retention };
    assert_eq!(retain(&store, &retention, event::now()).await.unwrap(), 1);
    assert_eq!(count(&store, "events").await, 0);
}
