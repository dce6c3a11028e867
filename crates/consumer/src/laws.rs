//! What the handler of every domain promises: written once, run by each domain on each database.
//!
//! The order of events is not defined, and several replicas handle events of the same subject at once. The resulting
//! rows depend only on the facts.

use std::fmt::Debug;

use event::{Event, EventId, ProviderName, Source, SourceName, Timestamp, Topic};
use futures_util::future::join_all;
use store::Store;

use crate::{Failure, Handler};

/// What a provider sends.
#[derive(Clone, Copy, Debug)]
pub struct Webhook<'a> {
    /// Who says it.
    pub provider: &'static str,
    /// What happened.
    pub topic: &'a str,
    /// The body.
    pub data: &'a str,
}

/// When the first webhook is received; each further one a second later.
const FIRST_RECEIPT: &str = "2026-11-22T12:00:00Z";

/// The events of these webhooks at one source, received in this order.
pub fn events(source: &str, webhooks: &[Webhook<'_>]) -> Vec<Event> {
    let first: Timestamp = FIRST_RECEIPT.parse().expect("a time");
    let event = |(webhook, second): (&Webhook<'_>, i64)| {
        let provider = ProviderName::new(webhook.provider).expect("a provider's name");
        let source = Source::new(provider, SourceName::new(source).expect("a source's name"));
        let topic = Topic::new(webhook.topic).expect("a topic");
        let time = Timestamp::from_second(first.as_second() + second).expect("a time");
        Event { time, ..Event::new(source, topic, webhook.data.to_owned().into()) }
    };
    webhooks.iter().zip(0..).map(event).collect()
}

/// Handles the events one after the other in one transaction and commits it.
pub async fn handle<H: Handler>(
    store: &Store,
    handler: &H,
    events: impl IntoIterator<Item = &Event>,
) -> Result<(), Failure> {
    let mut tx = store.begin().await?;
    for event in events {
        handler.write(&[(event, &handler.read(event)?)], &mut tx).await?;
    }
    Ok(tx.commit().await?)
}

/// Handles the events in one call and commits.
async fn handle_together<H: Handler>(store: &Store, handler: &H, events: &[&Event]) -> Result<(), Failure> {
    let facts = events.iter().map(|event| handler.read(event)).collect::<Result<Vec<_>, _>>()?;
    let facts: Vec<_> = events.iter().copied().zip(&facts).collect();
    let mut tx = store.begin().await?;
    handler.write(&facts, &mut tx).await?;
    Ok(tx.commit().await?)
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
