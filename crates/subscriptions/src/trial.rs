//! A trial of a subscription on events on record: what would be delivered. Nothing is saved or sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event::EventId;
use ledger::feed::{After, Feed, FeedError, FeedEvent, Topics, before_last};
use serde_json::Value;
use store::{Store, StoreError};
use tokio::task::spawn_blocking;
use view::MASK;

use crate::requests::{TrialDelivery, TrialOutcome};
use crate::{BadDeclaration, Declaration, Expression, Input, is_delivered};

/// How many deliveries are shown.
const SHOWN: usize = 5;

/// How much is looked at, in bytes: large events are fewer.
const MOST_BYTES: i64 = 32 << 20;

/// What a subscription is tried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// One event.
    Event(EventId),
    /// The last events on record, so many of them.
    Last(u32),
}

/// What may be shown of the body of an event: a text of JSON in which nothing is personal; `None` if nothing may be.
pub type Masked = Box<dyn Fn(&FeedEvent) -> Option<String> + Send>;

/// Why nothing was tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The feed cannot be read.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The event is not on record.
    #[error("event {0} is not on record")]
    NoEvent(EventId),
    /// What is tried cannot be used.
    #[error(transparent)]
    Declaration(#[from] BadDeclaration),
}

impl From<StoreError> for TrialError {
    fn from(error: StoreError) -> Self {
        Self::Feed(error.into())
    }
}

/// Tries a declaration, which need not be saved. With `masked`, what is delivered is shown as if the body were that.
pub async fn try_out(
    feed: &Feed,
    store: &Store,
    declaration: &Declaration,
    tried: Tried,
    masked: Option<Masked>,
) -> Result<TrialOutcome, TrialError> {
    declaration.check()?;
    let trial = Trial {
        topics: declaration.topics()?,
        filter: declaration.filter.as_deref().map(Expression::filter).transpose().ok().flatten(),
        transform: declaration.transform.as_deref().map(Expression::transform).transpose().ok().flatten(),
        masked,
    };
    let events = match tried {
        Tried::Event(id) => vec![feed.events(&[id]).await?.remove(&id).ok_or(TrialError::NoEvent(id))?],
        Tried::Last(most) => last(feed, store, most as usize).await?,
    };
    // Some expressions take long on some bodies.
    Ok(spawn_blocking(move || trial.outcome(&events)).await.expect("an expression does not panic"))
}

/// The last events on record, oldest first.
async fn last(feed: &Feed, store: &Store, most: usize) -> Result<Vec<Arc<FeedEvent>>, TrialError> {
    let begin = before_last(store, u32::try_from(most).unwrap_or(u32::MAX)).await?;
    let mut reader = feed.reader(After::Cursor(begin), Topics::default()).await?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while events.len() < most && bytes < MOST_BYTES {
        for item in reader.next(most - events.len(), Duration::ZERO).await? {
            bytes += item.event().size();
            events.push(Arc::clone(item.event()));
        }
        if reader.is_end() {
            break;
        }
    }
    Ok(events)
}

struct Trial {
    topics: Topics,
    filter: Option<Expression>,
    transform: Option<Expression>,
    masked: Option<Masked>,
}

impl Trial {
    fn outcome(&self, events: &[Arc<FeedEvent>]) -> TrialOutcome {
        let mut outcome = TrialOutcome { looked_at: events.len() as u64, ..TrialOutcome::default() };
        for event in events.iter().rev().filter(|event| self.topics.takes(event) && is_delivered(event)) {
            outcome.of_topics += 1;
            let input = Input::new(event);
            match self.filter.as_ref().map_or(Ok(true), |filter| filter.matches(&input)) {
                Ok(true) => {
                    outcome.matching += 1;
                    if outcome.deliveries.len() < SHOWN {
                        outcome.deliveries.push(self.delivery(event, input));
                    }
                }
                Ok(false) => {}
                Err(error) => {
                    outcome.failing += 1;
                    outcome.failure.get_or_insert_with(|| format!("event {}: filter: {error}", event.id));
                }
            }
        }
        outcome
    }

    /// What is delivered of an event.
    fn delivery(&self, event: &FeedEvent, mut input: Input) -> TrialDelivery {
        let mut transformed = self.transform.as_ref().map(|transform| transform.apply(&input));
        let mut body = event.body.clone();
        let mut is_masked = false;
        if let Some(masked) = &self.masked {
            let shown = masked(event).unwrap_or_else(|| format!("\"{MASK}\""));
            is_masked = shown.as_bytes() != body.as_ref();
            if let (true, Some(Ok(_)), Some(transform)) = (is_masked, &transformed, &self.transform) {
                input.data = serde_json::from_str(&shown).unwrap_or_default();
                // What the transform does with a personal value may need that value.
                let hidden = || Ok(format!("\"{MASK}\"").into());
                transformed = Some(transform.apply(&input).or_else(|_| hidden()));
            }
            body = shown.into();
        }
        let (body, error) = match transformed {
            Some(Ok(body)) => (body, None),
            Some(Err(error)) => (Bytes::from_static(b"null"), Some(format!("transform: {error}"))),
            None => (body, None),
        };
        let text = || Value::from(String::from_utf8_lossy(&body));
        TrialDelivery {
            id: event.id.to_string(),
            topic: event.topic().to_owned(),
            subject: event.subject.clone(),
            body: serde_json::from_slice(&body).unwrap_or_else(|_| text()),
            error,
            masked: is_masked,
        }
    }
}
