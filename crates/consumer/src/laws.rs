//! What the handler of every domain promises: written once, run by each domain on each database.
//!
//! The order of events is not defined, and several replicas handle events of the same subject at once. The resulting
//! rows depend only on the facts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;

use event::{Event, EventId, ProviderName, Source, SourceName, Timestamp, Topic};
use futures_util::future::join_all;
use serde_json::Value;
use store::Store;

use crate::{Announcement, Failure, Handler};

/// What a provider sends.
#[derive(Clone, Copy, Debug)]
pub struct Webhook<'a> {
    /// Who says it.
    pub provider: &'static str,
    /// What happened.
    pub topic: &'a str,
    /// The body; `$source` in it stands for the name of the source.
    pub data: &'a str,
}

/// When the first webhook is received; each further one a second later.
const FIRST_RECEIPT: &str = "2026-11-22T12:00:00Z";

/// The events of these webhooks at one source, received in this order.
pub fn events(source: &str, webhooks: &[Webhook<'_>]) -> Vec<Event> {
    let first: Timestamp = FIRST_RECEIPT.parse().expect("a time");
    let event = |(webhook, second): (&Webhook<'_>, i64)| {
        let data = webhook.data.replace("$source", source);
        let provider = ProviderName::new(webhook.provider).expect("a provider's name");
        let source = Source::new(provider, SourceName::new(source).expect("a source's name"));
        let topic = Topic::new(webhook.topic).expect("a topic");
        let time = Timestamp::from_second(first.as_second() + second).expect("a time");
        Event { time, ..Event::new(source, topic, data.into()) }
    };
    webhooks.iter().zip(0..).map(event).collect()
}

/// Handles the events one after the other in one transaction and commits it; returns what they announce.
pub async fn handle<H: Handler>(
    store: &Store,
    handler: &H,
    events: impl IntoIterator<Item = &Event>,
) -> Result<Vec<Announcement>, Failure> {
    let mut tx = store.begin().await?;
    let mut announcements = Vec::new();
    for event in events {
        announcements.extend(handler.write(&[(event, &handler.read(event)?)], &mut tx).await?);
    }
    tx.commit().await?;
    Ok(announcements)
}

/// Handles the events in one call and commits.
async fn handle_together<H: Handler>(
    store: &Store,
    handler: &H,
    events: &[&Event],
) -> Result<Vec<Announcement>, Failure> {
    let facts = events.iter().map(|event| handler.read(event)).collect::<Result<Vec<_>, _>>()?;
    let facts: Vec<_> = events.iter().copied().zip(&facts).collect();
    let mut tx = store.begin().await?;
    let announcements = handler.write(&facts, &mut tx).await?;
    tx.commit().await?;
    Ok(announcements)
}

/// Returns the rows that these webhooks lead to, after checking that they are the same in every order of arrival, one
/// by one and in one call, when several replicas handle them at once, and when each is replayed. Each run uses its own
/// source; `rows` returns the rows of a source, without its name.
pub async fn in_every_order<H: Handler, T: PartialEq + Debug>(
    store: &Store,
    handler: &H,
    webhooks: &[Webhook<'_>],
    rows: impl AsyncFn(&str) -> T,
) -> T {
    let source = || format!("s-{}", EventId::generate());
    let handle =
        async |events: Vec<&Event>| handle(store, handler, events).await.expect("the webhooks are good");

    let name = source();
    let received = events(&name, webhooks);
    handle(received.iter().collect()).await;
    let expect = rows(&name).await;

    for order in orders(webhooks.len()) {
        let name = source();
        let received = events(&name, webhooks);
        handle(order.iter().map(|index| &received[*index]).collect()).await;
        assert_eq!(rows(&name).await, expect, "in the order of arrival {order:?}");

        let batched = source();
        let in_batch = events(&batched, webhooks);
        let in_batch: Vec<&Event> = order.iter().map(|index| &in_batch[*index]).collect();
        handle_together(store, handler, &in_batch).await.expect("the webhooks are good");
        assert_eq!(rows(&batched).await, expect, "in one call, in the order {order:?}");

        let replay =
            |event: &Event| Event { id: EventId::generate(), replay_of: Some(event.id), ..event.clone() };
        let replays: Vec<Event> = received.iter().map(replay).collect();
        handle(replays.iter().collect()).await;
        assert_eq!(rows(&name).await, expect, "replayed after the order of arrival {order:?}");
    }
    for _ in 0..10 {
        let name = source();
        let received = events(&name, webhooks);
        join_all(received.iter().map(|event| handle(vec![event]))).await;
        assert_eq!(rows(&name).await, expect, "all at once");
    }
    expect
}

/// What the announcements of these webhooks say, each as its type, its subject and its data without the source, after checking
/// in every order of arrival, one by one, in one call and by several replicas at once, that
/// - each names the webhook that caused it, and no two have one id,
/// - `change` gives the values that it leads from and to, which differ, and those of one thing make one chain, which begins
///   without a value and ends with the last one of the order of receipt,
/// - replays announce nothing, unless `change` gives nothing: then they repeat the same event.
///
/// Returns those of the order of receipt, one by one.
pub async fn announced_in_every_order<H: Handler>(
    store: &Store,
    handler: &H,
    webhooks: &[Webhook<'_>],
    change: fn(&Announced) -> Option<Change>,
) -> Vec<Announced> {
    let source = || format!("s-{}", EventId::generate());
    let name = source();
    let received = events(&name, webhooks);
    let expect = contents(handle(store, handler, &received).await, &received);
    let ends = ends(&expect, change);
    let check = |announcements: Vec<Announcement>, received: &[Event], how: &str| {
        let announced = contents(Ok(announcements), received);
        assert_eq!(self::ends(&announced, change), ends, "{how}: {announced:#?}");
    };
    for order in orders(webhooks.len()) {
        let received = events(&source(), webhooks);
        let mut announcements = Vec::new();
        for index in &order {
            announcements.extend(handle(store, handler, [&received[*index]]).await.expect("it is good"));
        }
        let known: HashSet<EventId> = announcements.iter().map(id).collect();
        check(announcements, &received, &format!("in the order of arrival {order:?}"));
        let replay =
            |event: &Event| Event { id: EventId::generate(), replay_of: Some(event.id), ..event.clone() };
        let replays: Vec<Event> = received.iter().map(replay).collect();
        for again in handle(store, handler, &replays).await.expect("it is good") {
            assert!(known.contains(&id(&again)), "a replay announces {again:?}");
            assert_eq!(change(&content(&again)), None, "a replay announces {again:?}");
        }

        let received = events(&source(), webhooks);
        let batch: Vec<&Event> = order.iter().map(|index| &received[*index]).collect();
        let announcements = handle_together(store, handler, &batch).await.expect("it is good");
        check(announcements, &received, &format!("in one call, in the order {order:?}"));
    }
    for _ in 0..10 {
        let received = events(&source(), webhooks);
        let handled = join_all(received.iter().map(|event| handle(store, handler, [event]))).await;
        let announcements = handled.into_iter().flat_map(|handled| handled.expect("it is good"));
        check(announcements.collect(), &received, "all at once");
    }
    expect
}

/// An announcement: its type, its subject, and its data without the source.
pub type Announced = (&'static str, String, Value);

/// What an announcement changes: the thing, and the values before and after.
pub type Change = (String, Value, Value);

fn content(announcement: &Announcement) -> Announced {
    let mut data: Value = serde_json::from_slice(&announcement.data).expect("JSON");
    data.as_object_mut().expect("an object").remove("source").expect("it says whose it is");
    let subject = announcement.subject.as_ref().map(ToString::to_string).unwrap_or_default();
    (announcement.topic, subject, data)
}

/// The id of the event that an announcement becomes.
fn id(announcement: &Announcement) -> EventId {
    announcement.clone().into_event(&SourceName::new("laws").expect("a name")).id
}

fn contents(announcements: Result<Vec<Announcement>, Failure>, received: &[Event]) -> Vec<Announced> {
    let announcements = announcements.expect("the webhooks are good");
    let ids: HashSet<EventId> = announcements.iter().map(id).collect();
    assert_eq!(ids.len(), announcements.len(), "two have one id: {announcements:#?}");
    for one in &announcements {
        assert!(received.iter().any(|event| event.id == one.cause), "nobody caused {one:?}");
    }
    announcements.iter().map(content).collect()
}

/// Where the chain of each thing ends, and how often that was announced which is no change. In whatever order the parts of a
/// chain are, each value but the first and the last is led to as often as from.
fn ends(
    announced: &[Announced],
    change: fn(&Announced) -> Option<Change>,
) -> BTreeMap<(String, String), i64> {
    let mut balance: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut begun: HashMap<String, usize> = HashMap::new();
    for one in announced {
        let Some((thing, before, after)) = change(one) else {
            *balance.entry((one.0.to_owned(), one.1.clone())).or_default() += 1;
            continue;
        };
        assert_ne!(before, after, "no change: {one:?}");
        *begun.entry(thing.clone()).or_default() += usize::from(before.is_null());
        *balance.entry((thing.clone(), before.to_string())).or_default() -= 1;
        *balance.entry((thing, after.to_string())).or_default() += 1;
    }
    assert!(begun.values().all(|times| *times == 1), "a chain begins twice: {announced:#?}");
    balance.retain(|_, times| *times != 0);
    balance
}

/// Every order of the numbers below `count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    (0..count).fold(vec![vec![]], |orders, next| {
        let with_next = |order: &Vec<usize>| {
            let order = order.clone();
            (0..=order.len()).map(move |at| [&order[..at], &[next], &order[at..]].concat())
        };
        orders.iter().flat_map(with_next).collect()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn every_order_is_there_once() {
        let orders = super::orders(4);
        assert_eq!(orders.len(), 24);
        assert_eq!(orders.iter().collect::<HashSet<_>>().len(), 24);
    }
}
