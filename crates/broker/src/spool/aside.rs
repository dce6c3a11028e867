//! Messages that the broker refuses although it accepts others of the same lane: set aside, and retried without limit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use event::Message;
use tokio::time::{sleep, timeout};

use super::lanes::{self, Trouble};
use super::{
    ASIDE, EXCHANGE, Inner, OVERHEAD_BYTES, READ_PATIENCE, REASON, ROUTING_KEY, peek, size, unwrapped,
};
use crate::embedded::{Contents, Embedded};
use crate::{BrokerError, Deliveries, Delivery, DynBroker, ExchangeName, Publisher, QueueName, Subscriber};

/// The pause between two rounds through what is set aside; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 60_000 });
const LONGEST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 900_000 });

/// How many are read at once, and listed at a start: further ones are listed once they were tried.
const PREFETCH: u16 = 64;
pub(super) const LISTED: u16 = if cfg!(test) { 8 } else { 1_024 };

/// A message that is set aside.
struct Kept {
    /// The lane that it belongs to.
    lane: String,
    reason: String,
    /// When it was created, in seconds since 1970.
    time: u64,
}

/// What is aside.
#[derive(Default)]
pub(super) struct Aside {
    /// How many the file holds. Every copy of an event counts, and so do messages that are not listed.
    events: u64,
    /// What is known about them, by event.
    listed: BTreeMap<String, Kept>,
}

/// What is set aside of one lane.
pub(super) struct Group<'a> {
    pub lane: &'a str,
    pub reason: &'a str,
    pub events: u64,
}

impl Aside {
    /// What the file holds, and its bytes.
    pub(super) async fn read(file: &Embedded) -> (Self, u64) {
        let queue = QueueName::new(ASIDE);
        let Contents { messages: events, body_bytes } = file.contents(&queue).await.unwrap_or_default();
        let mut aside = Self { events, ..Self::default() };
        if events > 0 {
            for message in peek(file, &queue, u16::try_from(events).unwrap_or(LISTED).min(LISTED)).await {
                aside.list(&message);
            }
        }
        (aside, body_bytes + events * OVERHEAD_BYTES)
    }

    fn list(&mut self, message: &Message) {
        let text = |name| message.text(name).unwrap_or_default().to_owned();
        let kept = Kept {
            lane: lanes::name(&ExchangeName::new(text(EXCHANGE)), &text(ROUTING_KEY)),
            reason: text(REASON),
            time: message.timestamp,
        };
        self.listed.insert(message.message_id.clone(), kept);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events == 0
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// When the oldest of those listed was created, in seconds since 1970.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.listed.values().map(|kept| kept.time).min()
    }

    /// Those listed, by lane and reason.
    pub(super) fn groups(&self) -> Vec<Group<'_>> {
        let mut groups = BTreeMap::<_, u64>::new();
        for kept in self.listed.values() {
            *groups.entry((kept.lane.as_str(), kept.reason.as_str())).or_default() += 1;
        }
        groups.into_iter().map(|((lane, reason), events)| Group { lane, reason, events }).collect()
    }

    /// How many, their destination and the reason, for readiness.
    pub(super) fn summary(&self) -> Option<String> {
        const NAMED: usize = 3;
        let lanes: BTreeSet<_> = self
            .groups()
            .iter()
            .map(|group| format!("{}: {}", lanes::shown(group.lane), group.reason))
            .collect();
        let named: Vec<_> = lanes.into_iter().take(NAMED).collect();
        (!self.is_empty())
            .then(|| format!("{} set aside and retried periodically ({})", self.events, named.join("; ")))
    }
}

impl Inner {
    /// Sets a message aside, so that it does not block the others of its lane.
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
            "the broker refuses this event, it is set aside and retried: {}",
            trouble.text
        );
        let mut state = self.state();
        state.aside.events += 1;
        state.aside.list(&message);
        // It leaves its lane; the file still holds it.
        state.release(lane, 0);
        self.show_change(&state);
        Ok(())
    }

    /// Retries what is set aside, round after round.
    pub(super) async fn try_aside(&self, broker: &DynBroker) {
        let mut pause = FIRST_PAUSE;
        loop {
            let file = self.state().file.clone();
            if let Ok(file) = file {
                // The error is one of the file: the next round reads it again.
                let _ = self.round_aside(&file, broker).await;
            }
            let again = tokio::select! {
                () = sleep(pause) => false,
                () = self.again.notified() => true,
            };
            pause = if again { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        }
    }

    async fn round_aside(&self, file: &Embedded, broker: &DynBroker) -> Result<(), BrokerError> {
        let queue = QueueName::new(ASIDE);
        let count = file.contents(&queue).await?.messages;
        {
            // A write that failed halfway was not counted.
            let mut state = self.state();
            state.aside.events = count;
            self.show_change(&state);
        }
        if count == 0 {
            return Ok(());
        }
        let mut deliveries = file.subscribe(&queue, PREFETCH).await?;
        for _ in 0..count {
            let Ok(delivery) = timeout(READ_PATIENCE, deliveries.next()).await else { break };
            let Delivery { tag, message, .. } = delivery?;
            let (exchange, routing_key, bare) = unwrapped(message.clone());
            let event_id = message.message_id.as_str();
            match broker.publish(&exchange, &routing_key, bare).await {
                Ok(()) => {
                    deliveries.ack(&[tag]).await?;
                    tracing::info!(event_id, "the broker has confirmed an event that was set aside");
                    let mut state = self.state();
                    state.aside.events = state.aside.events.saturating_sub(1);
                    state.aside.listed.remove(event_id);
                    state.bytes = state.bytes.saturating_sub(size(&message));
                    self.show_change(&state);
                }
                Err(error) => {
                    let trouble = Trouble::new(&error);
                    // A fault of the broker is not a fault of this message.
                    if !trouble.is_answer() {
                        break;
                    }
                    let message = with_reason(message, &trouble);
                    // If there are more than are read at once, it goes behind the others. Else it stays where it is.
                    if count > u64::from(PREFETCH) {
                        keep(file, message.clone()).await?;
                        deliveries.ack(&[tag]).await?;
                    }
                    let mut state = self.state();
                    state.aside.list(&message);
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
