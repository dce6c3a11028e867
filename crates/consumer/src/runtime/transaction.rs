//! One transaction for many deliveries: claims, effects, commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use event::{Event, Message, SourceName, header};
use futures_util::FutureExt;
use store::inbox::{self, Note};
use store::{StoreError, Tx, outbox, retry, seen};
use tokio::time::timeout;
use tracing::{Span, debug_span, warn};

use super::{Consumer, Work, one_line};
use crate::Failure;
use crate::handler::{AnyFact, AnyHandler};
use crate::panics::panicked;
use crate::taken::Taken;

/// Why a batch, or a single delivery, is not committed.
pub(super) enum Stop {
    /// The handler failed, or the database rejected a statement.
    Failed(Failure),
    /// It conflicts with another transaction.
    Conflict(String),
    /// The database is down, accepts no writes, or does not answer in time.
    StoreAway(String),
}

impl Consumer {
    /// One transaction for these deliveries: all of them have their effect, or none has.
    pub(super) async fn attempt(&self, batch: &[Taken]) -> Result<(), Stop> {
        if batch.is_empty() {
            return Ok(());
        }
        let limit = Duration::from_millis(self.config.batch_timeout_ms);
        let tried = timeout(limit, AssertUnwindSafe(self.transact(batch)).catch_unwind()).await;
        let failure = match tried {
            Ok(Ok(Ok(handled))) => {
                self.observe(&handled);
                return Ok(());
            }
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(_)) => Failure::Permanent(panicked()),
            // Handlers only use the database: either it is down, or a lock in it is held.
            Err(_) => {
                return Err(match self.store.check_writable().await {
                    Ok(()) => Stop::Conflict(format!("not done within {limit:?}")),
                    Err(away) => Stop::StoreAway(one_line(&away)),
                });
            }
        };
        Err(match failure {
            Failure::Store(away @ StoreError::Unavailable(_)) => Stop::StoreAway(one_line(&away)),
            Failure::Store(conflict @ StoreError::Conflict(_)) => Stop::Conflict(one_line(&conflict)),
            failure => Stop::Failed(failure),
        })
    }

    /// Gives the events that are handled now, whether by this transaction or before.
    async fn transact<'a>(&self, batch: &'a [Taken]) -> Result<Vec<&'a Event>, Failure> {
        let (mut of_sender, mut announced, mut events) = (0, false, Vec::new());
        let mut tx;
        let handled = match &self.work {
            Work::Whole(recorder) => {
                let messages: Vec<&Message> = batch.iter().map(|taken| &taken.message).collect();
                let recording = recorder.read(&messages)?;
                tx = self.store.begin().await?;
                recording.write(&mut tx).await?;
                batch.len()
            }
            Work::Each(handler) => {
                let sightings: Vec<_> = batch
                    .iter()
                    .filter_map(|taken| seen::Sighting::from_message(&taken.read.as_ref()?.0, &taken.message))
                    .collect();
                tx = self.store.begin().await?;
                let decision = seen::decide(&mut tx, &sightings).await?;
                of_sender = decision.duplicates.len();
                let originals = || {
                    let facts = batch.iter().filter_map(|taken| taken.read.as_ref());
                    facts.filter(|(event, _)| !decision.duplicates.contains_key(&event.id))
                };
                let ids: Vec<_> = originals().map(|(event, _)| event.id).collect();
                let mut new = inbox::claim(&mut tx, self.name(), &ids, event::now()).await?;
                // Removing it keeps a message that is in the batch twice from being handled twice.
                let new = originals().filter(|(event, _)| new.remove(&event.id));
                let facts: Vec<(&Event, &AnyFact)> = new.map(|(event, fact)| (event, fact)).collect();
                if !facts.is_empty() {
                    announced = self.write(handler.as_ref(), &facts, &mut tx).await?;
                }
                events.extend(originals().map(|(event, _)| event));
                let handled = facts.len();
                decision.claim(&mut tx).await?;
                handled
            }
        };
        let retried = batch.iter().filter(|taken| taken.message.headers.contains_key(header::RETRY_COPY));
        let retried: Vec<&str> = retried.map(|taken| taken.message.message_id.as_str()).collect();
        retry::forget(&mut tx, self.name(), &retried).await?;
        tx.commit().await.map_err(StoreError::from)?;
        if announced {
            self.store.outbox_filled().notify_one();
        }
        self.metrics.batches.increment(1);
        self.metrics.handled.increment(handled as u64);
        self.metrics.duplicate.increment((batch.len() - handled - of_sender) as u64);
        self.metrics.sender_duplicate.increment(of_sender as u64);
        let now = event::now();
        for (event, _) in batch.iter().filter_map(|taken| taken.read.as_ref()) {
            self.metrics.latency.record(now.duration_since(event.time).as_secs_f64());
        }
        Ok(events)
    }

    /// These events are committed, and stay so if the observer fails.
    fn observe(&self, events: &[&Event]) {
        let Some(observer) = &self.observer else { return };
        if catch_unwind(AssertUnwindSafe(|| observer.observe(events))).is_err() {
            warn!(consumer = %self.name(), "the observer of a committed batch panicked");
        }
    }

    /// Writes the effects of these facts, their notes, and the domain events that they amount to; returns whether there are any.
    async fn write(
        &self,
        handler: &dyn AnyHandler,
        facts: &[(&Event, &AnyFact)],
        tx: &mut Tx,
    ) -> Result<bool, Failure> {
        let _spans: Vec<Span> = facts.iter().map(|(event, _)| span(event)).collect();
        let announcements = handler.write(facts, tx).await?;
        let note =
            |(event, fact): &(&Event, &AnyFact)| Some(Note { event_id: event.id, text: handler.note(fact)? });
        let notes: Vec<Note> = facts.iter().filter_map(note).collect();
        inbox::note(tx, self.name(), &notes).await?;
        if announcements.is_empty() {
            return Ok(false);
        }
        let consumer = SourceName::new(self.name()).expect("the name of a consumer is one of a source");
        let events: Vec<Event> = announcements.into_iter().map(|one| one.into_event(&consumer)).collect();
        outbox::write(tx, &events, event::now()).await?;
        Ok(true)
    }
}

/// A child of the event's own trace. At debug level, since only an exporter of spans uses it.
fn span(event: &Event) -> Span {
    debug_span!(
        "handle",
        event_id = %event.id,
        source = %event.source,
        topic = %event.topic,
        traceparent = event.traceparent.as_deref(),
    )
}
