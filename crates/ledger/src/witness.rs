//! Reports events to the ledger that a consumer has handled and the ledger does not have.
//!
//! A killed broker may keep an unconfirmed message in one queue of several. If that is the queue of a consumer, the
//! event has its effect there and is missing in the record, and only this consumer has its content. A [`Witness`]
//! observes the consumer and keeps, for a while and in little memory, the events that were not on record when they were
//! handled. Those that are still missing once the ledger must have read everything are sent to its queue under their
//! own id. Recording an event again changes nothing, so a wrong guess is harmless.
//!
//! Events handled within 2 s of their receipt are not checked: only a late one can have outlived a crash of its broker.
//! If the consumer itself is killed, these events are lost: the message is acked, and the inbox has the id, consumer
//! and time, but neither source, topic nor body. The reconciliation lists them.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use broker::{BrokerError, DynBroker, ExchangeName, FixedQueue, Layout, PublishError};
use consumer::Observer;
use event::{Chain, Event, EventId};
use store::{Store, StoreError};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::record::EVENTS;

/// Events handled sooner after receipt came directly from their publisher.
const LATE: Duration = Duration::from_secs(2);

/// How long the ledger may take to record what a consumer has handled.
const GRACE: Duration = Duration::from_secs(60);

/// How often the kept events are checked.
const PERIOD: Duration = Duration::from_secs(5);

/// The maximum size of kept bodies; beyond it the newest are dropped, which the ledger most likely has yet to read.
const LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// Compares the events that a consumer handles with the record.
pub struct Witness {
    kept: Kept,
}

/// The events that were not on record when they were handled.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    events: VecDeque<(Instant, Event)>,
    bytes: usize,
}

impl Kept {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: &Event) {
        let mut queue = self.queue();
        if queue.bytes + event.data.len() <= LIMIT_BYTES {
            queue.bytes += event.data.len();
            queue.events.push_back((Instant::now(), event.clone()));
        }
    }

    /// Removes those that were kept for this long.
    pub(crate) fn older(&self, than: Duration) -> Vec<Event> {
        let mut queue = self.queue();
        let count = queue.events.iter().take_while(|(kept_at, _)| kept_at.elapsed() >= than).count();
        let events: Vec<Event> = queue.events.drain(..count).map(|(_, event)| event).collect();
        queue.bytes -= events.iter().map(|event| event.data.len()).sum::<usize>();
        events
    }
}

impl Witness {
    /// The kept events are for [`report`].
    pub fn new(kept: Kept) -> Self {
        Self { kept }
    }
}

#[async_trait]
impl Observer for Witness {
    async fn observe(&self, events: &[&Event], store: &Store) {
        let now = event::now();
        let late: Vec<&Event> = events
            .iter()
            .copied()
            .filter(|event| now.duration_since(event.time).unsigned_abs() >= LATE)
            .collect();
        if late.is_empty() {
            return;
        }
        // What cannot be looked up is kept: it is looked up once more before it is sent.
        let recorded = recorded(store, late.iter().map(|event| event.id)).await.unwrap_or_default();
        late.into_iter()
            .filter(|event| !recorded.contains(&event.id))
            .for_each(|event| self.kept.push(event));
    }
}

/// Those of these events that are on record.
async fn recorded(store: &Store, ids: impl Iterator<Item = EventId>) -> Result<HashSet<EventId>, StoreError> {
    EVENTS.known(&mut *store.read().await?, &ids.collect::<Vec<_>>()).await
}

/// Why the report failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untold {
    #[error("the broker does not take it")]
    Publish(#[from] PublishError),
    #[error("the ledger's queue cannot be looked at")]
    Queue(#[from] BrokerError),
    #[error("the ledger has yet to read what is in its queue")]
    Behind,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sends missing events to the queue of the ledger, until `stop` is cancelled: part of every process with a
/// [`Witness`].
pub async fn report(kept: Kept, store: Store, broker: DynBroker, layout: Layout, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(PERIOD)).await.is_some() {
        let events = kept.older(GRACE);
        if events.is_empty() {
            continue;
        }
        if let Err(error) = send_unrecorded(&events, &store, &broker, &layout).await {
            warn!("events that may be missing in the record are looked at again later: {}", Chain(&error));
            events.iter().for_each(|event| kept.push(event));
        }
    }
}

/// Sends those of these events that are not on record to the ledger's queue.
pub(crate) async fn send_unrecorded(
    events: &[Event],
    store: &Store,
    broker: &DynBroker,
    layout: &Layout,
) -> Result<(), Untold> {
    let ledger = layout.queue(FixedQueue::Ledger);
    // What the ledger has yet to read is in flight.
    if broker.queues(std::slice::from_ref(&ledger)).await?.iter().any(|queue| queue.ready > 0) {
        return Err(Untold::Behind);
    }
    let recorded = recorded(store, events.iter().map(|event| event.id)).await?;
    for event in events.iter().filter(|event| !recorded.contains(&event.id)) {
        info!(event_id = %event.id, "handled, and not on record: sent to the ledger");
        broker.publish(&ExchangeName::default_exchange(), ledger.as_str(), event.to_message()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::tests::aged;
    use crate::tests::{fresh, invoice, receive};

    #[tokio::test]
    async fn only_what_is_late_and_not_on_record_is_kept_and_no_more_than_fits() {
        let (store, _folder) = fresh().await;
        let kept = Kept::default();
        let witness = Witness::new(kept.clone());
        let handle = async |events: &[&Event]| witness.observe(events, &store).await;
        let (recorded, lost) = (aged(invoice(), 60), aged(invoice(), 60));
        receive(&store, std::slice::from_ref(&recorded)).await;
        handle(&[&invoice(), &recorded, &lost]).await;
        assert!(kept.older(Duration::from_secs(30)).is_empty());
        let ids = |events: Vec<Event>| events.into_iter().map(|event| event.id).collect::<Vec<_>>();
        assert_eq!(ids(kept.older(Duration::ZERO)), [lost.id]);
        let large = || Event { data: vec![0; LIMIT_BYTES / 2].into(), ..aged(invoice(), 60) };
        let three = [large(), large(), large()];
        for _ in 0..2 {
            handle(&three.each_ref()).await;
            assert_eq!(ids(kept.older(Duration::ZERO)), [three[0].id, three[1].id]);
        }
    }

    #[tokio::test]
    async fn the_ledger_is_told_of_what_it_lacks_and_not_while_it_is_behind() {
        let (store, folder) = fresh().await;
        let broker: DynBroker =
            Arc::new(broker::embedded::Embedded::open(folder.path().join("broker.db")).unwrap());
        let layout = Layout::new("");
        broker.declare(&layout.topology(&[], &[])).await.unwrap();
        let depth = async || broker.queues(&[layout.queue(FixedQueue::Ledger)]).await.unwrap()[0].ready;
        let events = [invoice(), invoice()];
        receive(&store, &events[..1]).await;
        send_unrecorded(&events, &store, &broker, &layout).await.unwrap();
        assert_eq!(depth().await, 1);
        assert!(matches!(send_unrecorded(&events, &store, &broker, &layout).await, Err(Untold::Behind)));
        assert_eq!(depth().await, 1);
    }
}
