//! Deliveries that move to another queue: published there and confirmed, then acked.

use std::collections::VecDeque;
use std::time::Duration;

use broker::{Backoff, Deliveries, PublishError};
use event::{Event, Message, header};
use store::{StoreError, inbox, retry, seen};
use tokio::time::{Instant, timeout};
use tracing::{debug, error, warn};

use super::{Consumer, End, LONGEST_PAUSE, one_line};
use crate::settle::Sent;
use crate::taken::Taken;
use crate::{Failure, Forward, Permanent};

/// Where a delivery is moved to.
pub(super) enum Fate {
    /// To the queue of its next attempt, or to the dead letters.
    Failed(Failure),
    /// To the dead letters, unless it was handled before: its handler cannot read the event.
    Unreadable(Event, Permanent),
    /// Where the recorder sends it.
    Forwarded(Forward),
}

/// Deliveries that are held until they are confirmed in another queue.
pub(super) struct Aside {
    pub(super) events: VecDeque<(Taken, Fate)>,
    /// When the broker is tried again.
    pub(super) again_at: Instant,
    /// Since when the broker accepts none of them.
    stuck_since: Option<Instant>,
    backoff: Backoff,
}

impl Default for Aside {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            again_at: Instant::now(),
            stuck_since: None,
            backoff: Backoff::up_to(LONGEST_PAUSE),
        }
    }
}

/// Why a message stays where it is.
#[derive(Debug, thiserror::Error)]
enum NotMoved {
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the database did not answer within {0:?}")]
    NotInTime(Duration),
}

impl Consumer {
    /// Publishes each message to its destination, then acks the original. What the broker does not accept is held
    /// without an ack and retried later; others are handled meanwhile. What still remains is given back to its queue:
    /// RabbitMQ stops a consumer that holds a delivery too long.
    pub(super) async fn put_aside(
        &self,
        aside: &mut Aside,
        deliveries: &mut dyn Deliveries,
    ) -> Result<(), End> {
        if aside.events.is_empty() || Instant::now() < aside.again_at {
            return Ok(());
        }
        while let Some((taken, fate)) = aside.events.front() {
            if let Err(why) = self.watched(self.move_on(taken, fate), deliveries).await {
                let why = format!("a failed event cannot be set aside: {}", one_line(&why));
                let since = *aside.stuck_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= Duration::from_millis(self.config.hold_ms) {
                    return Err(End::Held(why));
                }
                warn!("{why}");
                self.pause(why);
                aside.again_at = Instant::now() + aside.backoff.next_pause();
                // The originals are with the broker again: they will fail again wherever they are delivered next.
                return Ok(deliveries.ack(&[]).await?);
            }
            deliveries.ack(&[taken.tag]).await?;
            aside.events.pop_front();
        }
        *aside = Aside::default();
        self.running();
        Ok(())
    }

    /// Publishes one message to its destination.
    async fn move_on(&self, taken: &Taken, fate: &Fate) -> Result<(), NotMoved> {
        let message = &taken.message;
        let (event_id, topic) = (&message.message_id, &message.r#type);
        let failure = match fate {
            Fate::Failed(failure) => failure,
            Fate::Unreadable(event, why) => {
                if self.in_time(self.is_duplicate(event, message)).await? {
                    return Ok(());
                }
                &why.clone().into()
            }
            Fate::Forwarded(Forward { queue, message }) => {
                let (broker, requeue) = (&self.settlement.broker, self.settlement.layout.requeue());
                broker.publish(&requeue, queue.as_str(), message.clone()).await?;
                warn!(%event_id, topic, "given up by the broker: sent back to {queue}, to be tried alone");
                return Ok(());
            }
        };
        if self.in_time(self.is_superseded(message)).await? {
            self.metrics.duplicate.increment(1);
            debug!(%event_id, topic, "a second copy of a retry is dropped");
            return Ok(());
        }
        let text = one_line(failure);
        let permanent = matches!(failure, Failure::Permanent(_) | Failure::Store(StoreError::Unfit(_)));
        match self.settlement.fail(message.clone(), &text, permanent).await? {
            Sent::Retry(delay) => {
                self.metrics.retried.increment(1);
                warn!(%event_id, topic, "tried again in {delay}: {text}");
            }
            Sent::Dead => {
                self.metrics.dead.increment(1);
                error!(%event_id, topic, "now a dead letter: {text}");
            }
        }
        Ok(())
    }

    /// Bounds a question to the database as a batch is bounded.
    async fn in_time<T>(&self, ask: impl Future<Output = Result<T, StoreError>>) -> Result<T, NotMoved> {
        let limit = Duration::from_millis(self.config.batch_timeout_ms);
        Ok(timeout(limit, ask).await.map_err(|_| NotMoved::NotInTime(limit))??)
    }

    /// Whether the event was handled before or is a duplicate: then it is not a dead letter either.
    async fn is_duplicate(&self, event: &Event, message: &Message) -> Result<bool, StoreError> {
        // Never committed: which event is the first is decided together with an effect. The lookup is retried rather than
        // wait long for a claim of another replica, since healthy events would wait, too.
        let mut tx = self.store.begin_brief().await?;
        let sighting: Vec<_> = seen::Sighting::from_message(event, message).into_iter().collect();
        match seen::duplicates(&mut tx, &sighting).await {
            Ok(duplicates) if duplicates.is_empty() => {}
            Ok(_) => {
                self.metrics.sender_duplicate.increment(1);
                return Ok(true);
            }
            // No table accepts the key of such a foreign message.
            Err(StoreError::Unfit(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        let is_handled = inbox::holds(&mut tx, self.name(), event.id).await?;
        self.metrics.duplicate.increment(is_handled.into());
        Ok(is_handled)
    }

    /// Whether another copy of this retry continues instead. An original whose ack was lost is delivered again and
    /// sends a second retry; the copy that fails first goes on, and the other ends here.
    async fn is_superseded(&self, message: &Message) -> Result<bool, StoreError> {
        let Some(copy) = message.text(header::RETRY_COPY) else { return Ok(false) };
        let attempt = retry::Attempt {
            message_id: &message.message_id,
            consumer: self.name(),
            job: message.text(header::JOB).unwrap_or_default(),
            number: message.long(self.settlement.history.attempt).unwrap_or(0),
            copy,
        };
        let mut tx = self.store.begin_brief().await?;
        match retry::claim(&mut tx, &attempt).await {
            Ok(is_ours) => {
                tx.commit().await?;
                Ok(!is_ours)
            }
            // No table accepts the id of such a foreign message.
            Err(StoreError::Unfit(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
