//! Reports events to the ledger that a consumer has handled and the ledger does not have.
//!
//! A killed broker may keep an unconfirmed message in one queue of several. If that is the queue of a consumer, the
//! event has its effect there and is missing in the record, and only this consumer has its content. A [`Witness`]
//! observes the consumer and keeps the events that it handles, in little memory, until they are on record. Those that are
//! still missing once the ledger must have read everything are sent to its queue under their own id, and the claim of the
//! consumer gets a note about it. Recording an event again changes nothing, so a wrong guess is harmless. A process that stops
//! checks once more.
//!
//! If the process is killed within that minute, or more is missing than fits, these events are lost: the message is acked,
//! and the inbox has the id, consumer and time, but neither source, topic nor body. The reconciliation lists them.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker::{BrokerError, DynBroker, ExchangeName, FixedQueue, Layout, PublishError};
use consumer::Observer;
use event::{Chain, Event, EventId};
use store::{Store, StoreError, inbox};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::record::EVENTS;

/// How long the ledger may take to record what a consumer has handled.
const GRACE: Duration = Duration::from_secs(60);

/// How often the kept events are looked up.
const PERIOD: Duration = Duration::from_secs(5);

/// How long a process that stops takes for the last check.
const LAST_CHECK: Duration = Duration::from_secs(5);

/// The maximum size of kept events; beyond it the newest are dropped, which the ledger most likely has yet to read.
const LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// What a kept event takes besides its body and headers.
const EVENT_BYTES: usize = 512;

/// Compares the events that a consumer handles with the record.
pub struct Witness {
    consumer: Arc<str>,
    kept: Kept,
}

/// The handled events that are not known to be on record.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    events: VecDeque<Handled>,
    bytes: usize,
}

/// An event that a consumer has handled.
pub(crate) struct Handled {
    at: Instant,
    consumer: Arc<str>,
    pub(crate) event: Event,
}

fn bytes(event: &Event) -> usize {
    let headers = event.headers.iter().map(|(name, value)| name.len() + value.len());
    EVENT_BYTES + event.data.len() + headers.sum::<usize>()
}

impl Queue {
    fn push(&mut self, consumer: &Arc<str>, event: &Event) {
        let bytes = bytes(event);
        if self.bytes + bytes <= LIMIT_BYTES {
            self.bytes += bytes;
            let (consumer, event) = (consumer.clone(), event.clone());
            self.events.push_back(Handled { at: Instant::now(), consumer, event });
        }
    }
}

impl Kept {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ids(&self) -> Vec<EventId> {
        self.queue().events.iter().map(|handled| handled.event.id).collect()
    }

    /// Removes those that are on record.
    fn forget(&self, recorded: &HashSet<EventId>) {
        let mut queue = self.queue();
        queue.events.retain(|handled| !recorded.contains(&handled.event.id));
        queue.bytes = queue.events.iter().map(|handled| bytes(&handled.event)).sum();
    }

    /// Removes those that were kept for this long.
    pub(crate) fn take_older(&self, than: Duration) -> Vec<Handled> {
        let mut queue = self.queue();
        let count = queue.events.iter().take_while(|handled| handled.at.elapsed() >= than).count();
        let old: Vec<Handled> = queue.events.drain(..count).collect();
        queue.bytes -= old.iter().map(|handled| bytes(&handled.event)).sum::<usize>();
        old
    }

    /// Whether a consumer is still observed.
    fn may_grow(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Witness {
    /// The kept events are for [`report`].
    pub fn new(consumer: &str, kept: Kept) -> Self {
        Self { consumer: consumer.into(), kept }
    }
}

impl Observer for Witness {
    fn observe(&self, events: &[&Event]) {
        let mut queue = self.kept.queue();
        events.iter().for_each(|event| queue.push(&self.consumer, event));
    }
}

/// Those of these events that are on record.
async fn recorded(store: &Store, ids: &[EventId]) -> Result<HashSet<EventId>, StoreError> {
    match ids {
        [] => Ok(HashSet::new()),
        ids => EVENTS.known(&mut *store.read().await?, ids).await,
    }
}

/// Why the report failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    #[error("the broker does not accept it")]
    Publish(#[from] PublishError),
    #[error("the ledger's queue cannot be inspected")]
    Queue(#[from] BrokerError),
    #[error("the ledger has yet to read what is in its queue")]
    Behind,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sends missing events to the queue of the ledger, until `stop` is cancelled and every [`Witness`] of these events is gone:
/// part of every process with one.
pub async fn report(kept: Kept, store: Store, broker: DynBroker, layout: Layout, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(PERIOD)).await.is_some() {
        check(&kept, GRACE, &store, &broker, &layout).await;
    }
    // The consumers finish what they have begun.
    while kept.may_grow() {
        sleep(Duration::from_millis(10)).await;
    }
    if timeout(LAST_CHECK, check(&kept, Duration::ZERO, &store, &broker, &layout)).await.is_err() {
        warn!("events that may be missing in the record could not be checked before the end");
    }
}

/// Sends what was kept for this long and is not on record.
async fn check(kept: &Kept, than: Duration, store: &Store, broker: &DynBroker, layout: &Layout) {
    let checked = async {
        kept.forget(&recorded(store, &kept.ids()).await?);
        let missing = kept.take_older(than);
        let sent = match missing.as_slice() {
            [] => Ok(()),
            missing => send_unrecorded(missing, store, broker, layout).await,
        };
        if sent.is_err() {
            let mut queue = kept.queue();
            missing.iter().for_each(|handled| queue.push(&handled.consumer, &handled.event));
        }
        sent
    };
    if let Err(error) = checked.await {
        warn!("events that may be missing in the record are checked again later: {}", Chain(&error));
    }
}

/// Sends those of these events that are not on record to the ledger's queue, and notes that.
pub(crate) async fn send_unrecorded(
    events: &[Handled],
    store: &Store,
    broker: &DynBroker,
    layout: &Layout,
) -> Result<(), ReportError> {
    let ledger = layout.queue(FixedQueue::Ledger);
    // What the ledger has yet to read is in flight.
    if broker.queues(std::slice::from_ref(&ledger)).await?.iter().any(|queue| queue.ready > 0) {
        return Err(ReportError::Behind);
    }
    let ids: Vec<EventId> = events.iter().map(|handled| handled.event.id).collect();
    let recorded = recorded(store, &ids).await?;
    for Handled { consumer, event, .. } in events {
        if recorded.contains(&event.id) {
            continue;
        }
        warn!(event_id = %event.id, %consumer, "handled, and not on record: sent to the ledger");
        broker.publish(&ExchangeName::default_exchange(), ledger.as_str(), event.to_message()).await?;
        let text = format!("missing in the record: sent to the ledger at {}", event::now());
        let mut tx = store.begin().await?;
        inbox::note(&mut tx, consumer, &[inbox::Note { event_id: event.id, text }]).await?;
        tx.commit().await.map_err(StoreError::from)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{fresh, invoice, receive};
    use store::Row;
    use store::many::{Value, fetch};

    struct Setting {
        store: Store,
        broker: DynBroker,
        layout: Layout,
        _folder: tempfile::TempDir,
    }

    async fn setting() -> Setting {
        let (store, folder) = fresh().await;
        let broker = broker::embedded::Embedded::open(folder.path().join("broker.db")).unwrap();
        let (broker, layout): (DynBroker, _) = (Arc::new(broker), Layout::new(""));
        broker.declare(&layout.topology(&[], &[])).await.unwrap();
        Setting { store, broker, layout, _folder: folder }
    }

    impl Setting {
        /// How many messages wait for the ledger.
        async fn depth(&self) -> u64 {
            self.broker.queues(&[self.layout.queue(FixedQueue::Ledger)]).await.unwrap()[0].ready
        }

        async fn handle(&self, witness: &Witness, events: &[&Event]) {
            let ids: Vec<_> = events.iter().map(|event| event.id).collect();
            let mut tx = self.store.begin().await.unwrap();
            inbox::claim(&mut tx, "invoices", &ids, event::now()).await.unwrap();
            tx.commit().await.unwrap();
            witness.observe(events);
        }

        async fn note(&self, event: &Event) -> Option<String> {
            let text = "SELECT note FROM claims WHERE event_id = $1".to_owned();
            let rows = fetch(&mut self.store.read().await.unwrap(), text, [Value::from(event.id)]).await;
            rows.unwrap()[0].try_get("note").unwrap()
        }

        async fn check(&self, kept: &Kept, than: Duration) {
            check(kept, than, &self.store, &self.broker, &self.layout).await;
        }
    }

    #[tokio::test]
    async fn what_is_handled_at_once_and_not_on_record_is_sent_to_the_ledger_and_noted() {
        let setting = setting().await;
        let kept = Kept::default();
        let witness = Witness::new("invoices", kept.clone());
        let (recorded, lost) = (invoice(), invoice());
        setting.handle(&witness, &[&recorded, &lost]).await;
        receive(&setting.store, std::slice::from_ref(&recorded)).await;
        setting.check(&kept, GRACE).await;
        assert_eq!((kept.ids(), setting.depth().await), (vec![lost.id], 0));
        setting.check(&kept, Duration::ZERO).await;
        assert_eq!((kept.ids(), setting.depth().await), (vec![], 1));
        let note = setting.note(&lost).await.unwrap();
        assert!(note.starts_with("missing in the record: sent to the ledger at 2"), "{note}");
        assert_eq!(setting.note(&recorded).await, None);

        // The ledger is behind: what is missing may be in its queue.
        let next = invoice();
        setting.handle(&witness, &[&next]).await;
        setting.check(&kept, Duration::ZERO).await;
        assert_eq!((kept.ids(), setting.depth().await), (vec![next.id], 1));
    }

    #[tokio::test]
    async fn a_process_that_stops_sends_what_is_missing() {
        let setting = setting().await;
        let kept = Kept::default();
        let witness = Witness::new("invoices", kept.clone());
        let stop = CancellationToken::new();
        let (store, broker, layout) = (setting.store.clone(), setting.broker.clone(), setting.layout.clone());
        let reporting = tokio::spawn(report(kept, store, broker, layout, stop.clone()));
        stop.cancel();
        // The last batch of a consumer.
        let lost = invoice();
        setting.handle(&witness, &[&lost]).await;
        drop(witness);
        reporting.await.unwrap();
        assert_eq!(setting.depth().await, 1);
        assert!(setting.note(&lost).await.is_some());
    }

    #[tokio::test]
    async fn no_more_is_kept_than_fits_and_headers_count() {
        let kept = Kept::default();
        let witness = Witness::new("invoices", kept.clone());
        let large = || Event { data: vec![0; LIMIT_BYTES / 2 - EVENT_BYTES].into(), ..invoice() };
        let padded = Event { headers: [("x".to_owned(), "x".repeat(LIMIT_BYTES))].into(), ..invoice() };
        let events = [large(), padded, large(), large()];
        for _ in 0..2 {
            witness.observe(&events.each_ref());
            assert_eq!(kept.ids(), [events[0].id, events[2].id]);
            kept.forget(&kept.ids().into_iter().collect());
        }
    }
}
