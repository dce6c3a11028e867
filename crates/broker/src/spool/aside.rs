//! What the broker does not take though it takes others of the same lane: out of their way, tried again without an end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use event::Message;
use tokio::time::{sleep, timeout};

use super::lanes::{self, Trouble};
use super::{ASIDE, EXCHANGE, Inner, READ_PATIENCE, REASON, ROUTING_KEY, peek, size, unwrapped};
use crate::embedded::Embedded;
use crate::{BrokerError, Deliveries, Delivery, DynBroker, ExchangeName, Publisher, QueueName, Subscriber};

/// The pauses between two rounds through what is aside: doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 60_000 });
const LONGEST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 900_000 });

/// How many are read at once; and at a start, to be listed: what is beyond is listed once it was tried.
const PREFETCH: u16 = 64;
const LISTED: u16 = 1_024;

/// A message that is aside.
struct Kept {
    /// The lane that it would be in.
    lane: String,
    reason: String,
    /// Seconds since 1970 at which it was made.
    time: u64,
    bytes: u64,
}

/// What is aside, by event.
#[derive(Default)]
pub(super) struct Aside(BTreeMap<String, Kept>);

/// What is aside of one lane.
pub(super) struct Group<'a> {
    pub lane: &'a str,
    pub reason: &'a str,
    pub events: u64,
}

impl Aside {
    /// What the file holds.
    pub(super) async fn read(file: &Embedded) -> Self {
        let queue = QueueName::new(ASIDE);
        let count = file.contents(&queue).await.unwrap_or_default().messages;
        let mut aside = Self::default();
        if count > 0 {
            for message in peek(file, &queue, u16::try_from(count).unwrap_or(LISTED).min(LISTED)).await {
                aside.insert(&message);
            }
        }
        aside
    }

    fn insert(&mut self, message: &Message) {
        let text = |name| message.text(name).unwrap_or_default().to_owned();
        let kept = Kept {
            lane: lanes::name(&ExchangeName::new(text(EXCHANGE)), &text(ROUTING_KEY)),
            reason: text(REASON),
            time: message.timestamp,
            bytes: size(message),
        };
        self.0.insert(message.message_id.clone(), kept);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn events(&self) -> u64 {
        self.0.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.values().map(|kept| kept.bytes).sum()
    }

    /// Seconds since 1970 at which the oldest was made.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.0.values().map(|kept| kept.time).min()
    }

    /// By lane and reason.
    pub(super) fn groups(&self) -> Vec<Group<'_>> {
        let mut groups = BTreeMap::<_, u64>::new();
        for kept in self.0.values() {
            *groups.entry((kept.lane.as_str(), kept.reason.as_str())).or_default() += 1;
        }
        groups.into_iter().map(|((lane, reason), events)| Group { lane, reason, events }).collect()
    }

    /// How many, where they go and why, for readiness.
    pub(super) fn summary(&self) -> Option<String> {
        const NAMED: usize = 3;
        let lanes: BTreeSet<_> = self
            .groups()
            .iter()
            .map(|group| format!("{}: {}", lanes::shown(group.lane), group.reason))
            .collect();
        let named: Vec<_> = lanes.into_iter().take(NAMED).collect();
        (!named.is_empty())
            .then(|| format!("{} set aside, tried again now and then ({})", self.0.len(), named.join("; ")))
    }
}

impl Inner {
    /// Keeps a message out of the way of the others in its lane.
    pub(super) async fn set_aside(
        &self,
        lane: &str,
        file: &Embedded,
        delivery: &Delivery,
        trouble: &Trouble,
        deliveries: &mut dyn Deliveries,
    ) -> Result<(), BrokerError> {
        let message = with_reason(delivery.message.clone(), trouble);
        keep(file, message.clone()).await?;
        deliveries.ack(&[delivery.tag]).await?;
        let event_id = &message.message_id;
        tracing::error!(
            event_id,
            lane = lanes::shown(lane),
            "the broker does not take this event, it is set aside and tried again: {}",
            trouble.text
        );
        let mut state = self.state();
        state.aside.insert(&message);
        // It leaves its lane; the file still holds it.
        state.release(lane, 0);
        self.show_change(&state);
        Ok(())
    }

    /// Goes through what is aside, again and again.
    pub(super) async fn try_aside(&self, broker: &DynBroker) {
        let mut pause = FIRST_PAUSE;
        loop {
            let (file, count) = {
                let state = self.state();
                (state.file.clone(), state.aside.events())
            };
            if let (Ok(file), true) = (file, count > 0) {
                // An error is the file's: the next round finds what it holds.
                let _ = self.round_aside(&file, broker, count).await;
            }
            let again = tokio::select! {
                () = sleep(pause) => false,
                () = self.again.notified() => true,
            };
            pause = if again { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        }
    }

    async fn round_aside(&self, file: &Embedded, broker: &DynBroker, count: u64) -> Result<(), BrokerError> {
        let mut deliveries = file.subscribe(&QueueName::new(ASIDE), PREFETCH).await?;
        for _ in 0..count {
            let Ok(delivery) = timeout(READ_PATIENCE, deliveries.next()).await else { break };
            let Delivery { tag, message, .. } = delivery?;
            let (exchange, routing_key, bare) = unwrapped(message.clone());
            let event_id = message.message_id.as_str();
            match broker.publish(&exchange, &routing_key, bare).await {
                Ok(()) => {
                    deliveries.ack(&[tag]).await?;
                    tracing::info!(event_id, "the broker has taken an event that was set aside");
                    let mut state = self.state();
                    state.aside.0.remove(event_id);
                    state.bytes = state.bytes.saturating_sub(size(&message));
                    self.show_change(&state);
                }
                Err(error) => {
                    let trouble = Trouble::new(&error);
                    // The broker's trouble is not this message's.
                    if !trouble.is_answer() {
                        break;
                    }
                    let message = with_reason(message, &trouble);
                    // Where there are more than are read at once: behind the others. Else it stays where it is.
                    if count > u64::from(PREFETCH) {
                        keep(file, message.clone()).await?;
                        deliveries.ack(&[tag]).await?;
                    }
                    let mut state = self.state();
                    state.aside.insert(&message);
                    self.show_change(&state);
                }
            }
        }
        Ok(())
    }
}

fn with_reason(mut message: Message, trouble: &Trouble) -> Message {
    message.headers.insert(REASON.to_owned(), trouble.text.as_str().into());
    message
}

async fn keep(file: &Embedded, message: Message) -> Result<(), BrokerError> {
    let kept = file.publish(&ExchangeName::default_exchange(), ASIDE, message).await;
    kept.map_err(|error| BrokerError::Unavailable(error.into()))
}
