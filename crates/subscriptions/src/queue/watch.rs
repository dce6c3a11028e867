//! Keeps the queues of subscriptions as the store asks for them, and watches how full they are.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::BrokerError;
use event::{Chain, SubscriptionName};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::record::{self, Recorded, Sight, Wanted};
use super::{QueueError, Queues, unread};
use crate::table;

/// How often.
const PERIOD: Duration = Duration::from_secs(5);

/// What was seen of the queues so far.
#[derive(Default)]
struct Seen {
    /// Whether all were declared once.
    is_begun: bool,
    /// The last trouble with each.
    troubles: BTreeMap<SubscriptionName, String>,
    /// How many messages each had at the last warning.
    warned: BTreeMap<SubscriptionName, u64>,
    /// The trouble with all of them.
    trouble: Option<String>,
}

impl Queues {
    /// Declares what the store asks for: at the start of a process, since the broker may be a new one.
    pub async fn restore(&self) -> Result<(), QueueError> {
        let (recorded, wanted) = self.on_record().await?;
        for name in recorded.keys().chain(wanted.keys()) {
            self.settle(name).await?;
        }
        Ok(())
    }

    /// Until `stop` is cancelled: continues what a killed process began, declares again what the broker has lost, and
    /// reports queues with this many messages or more.
    pub async fn keep(&self, alarm_messages: u64, stop: CancellationToken) {
        let mut seen = Seen::default();
        while !stop.is_cancelled() {
            let trouble = match stop.run_until_cancelled(self.look(&mut seen, alarm_messages)).await {
                Some(Err(error)) => Some(Chain(&error).to_string()),
                Some(Ok(())) | None => None,
            };
            if trouble != seen.trouble {
                match &trouble {
                    Some(trouble) => warn!("the queues of subscriptions are not watched: {trouble}"),
                    None => info!("the queues of subscriptions are watched again"),
                }
                seen.trouble = trouble;
            }
            stop.run_until_cancelled(sleep(PERIOD)).await;
        }
    }

    async fn on_record(
        &self,
    ) -> Result<(BTreeMap<SubscriptionName, Recorded>, BTreeMap<SubscriptionName, Wanted>), QueueError> {
        // Before the subscriptions: a queue that is added in between is wanted, too.
        let recorded = record::all(&self.store).await?.into_iter().collect();
        let mut wanted = BTreeMap::new();
        for subscription in table::list(&self.store).await? {
            if let Some(one) = Wanted::from_subscription(&subscription)? {
                wanted.insert(subscription.name().clone(), one);
            }
        }
        Ok((recorded, wanted))
    }

    async fn look(&self, seen: &mut Seen, alarm_messages: u64) -> Result<(), QueueError> {
        let (recorded, wanted) = self.on_record().await?;
        if !self.is_amqp {
            return match wanted.is_empty() {
                true => Ok(()),
                false => Err(QueueError::Embedded),
            };
        }
        let removed = recorded.keys().filter(|name| !wanted.contains_key(*name));
        for name in removed {
            self.repair(name, seen).await;
        }
        for (name, one) in &wanted {
            let is_settled = recorded.get(name).is_some_and(|recorded| recorded.is(one));
            if !is_settled || !seen.is_begun || seen.troubles.contains_key(name) {
                self.repair(name, seen).await;
            }
            let sight = self.measure(name, alarm_messages, seen).await?;
            // Another process may have seen something else, and have ended since.
            let messages = recorded.get(name).and_then(|recorded| recorded.messages);
            if sight != (Sight { messages, trouble: one.trouble.clone() }) {
                record::see(&self.store, name, &sight).await?;
            }
        }
        seen.is_begun = true;
        seen.troubles.retain(|name, _| wanted.contains_key(name) || recorded.contains_key(name));
        let gone = seen.warned.keys().filter(|name| !wanted.contains_key(*name)).cloned();
        for name in gone.collect::<Vec<_>>() {
            seen.warned.remove(&name);
            gauges(&name, 0, 0);
        }
        Ok(())
    }

    /// One that does not work holds up no other.
    async fn repair(&self, name: &SubscriptionName, seen: &mut Seen) {
        match self.settle(name).await {
            Ok(()) => {
                if seen.troubles.remove(name).is_some() {
                    info!(subscription = %name, "the queue of a subscription is as asked for again");
                }
            }
            Err(error) => {
                let trouble = Chain(&error).to_string();
                if seen.troubles.get(name) != Some(&trouble) {
                    warn!(subscription = %name, "the queue of a subscription is not as asked for: {trouble}");
                    seen.troubles.insert(name.clone(), trouble);
                }
            }
        }
    }

    async fn measure(
        &self,
        name: &SubscriptionName,
        alarm_messages: u64,
        seen: &mut Seen,
    ) -> Result<Sight, QueueError> {
        let trouble = |seen: &Seen| seen.troubles.get(name).cloned();
        let status = match self.broker.queues(&[self.queue(name)]).await {
            Ok(statuses) => statuses.into_iter().next(),
            Err(BrokerError::MissingQueue { queue }) => {
                // What could not be declared was told already.
                if trouble(seen).is_none() {
                    warn!(%queue, "the queue of a subscription is gone: it is declared again, without its messages");
                    self.repair(name, seen).await;
                }
                None
            }
            Err(error) => return Err(error.into()),
        };
        let Some(status) = status else { return Ok(Sight { messages: None, trouble: trouble(seen) }) };
        gauges(name, status.ready, status.consumers);
        let warned = seen.warned.entry(name.clone()).or_default();
        if is_alarming(status.ready, *warned, alarm_messages) {
            *warned = status.ready;
            warn!(
                subscription = %name, messages = status.ready, consumers = status.consumers,
                "messages gather in the queue of a subscription: they take disk and memory of the broker, which stops \
                 every publish when it runs short; start its consumer, or remove the subscription"
            );
        } else if status.ready < alarm_messages / 2 {
            *warned = 0;
        }
        Ok(Sight {
            messages: i64::try_from(status.ready).ok(),
            trouble: trouble(seen).or_else(|| unread(&status)),
        })
    }
}

/// At the threshold, and again whenever there are twice as many.
fn is_alarming(messages: u64, warned: u64, alarm_messages: u64) -> bool {
    messages >= alarm_messages.max(warned.saturating_mul(2))
}

fn gauges(name: &SubscriptionName, messages: u64, consumers: u64) {
    let labels = [("subscription", name.to_string())];
    metrics::gauge!("subscription_queue_messages", &labels).set(messages as f64);
    metrics::gauge!("subscription_queue_consumers", &labels).set(consumers as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_reported_at_the_threshold_and_whenever_it_has_doubled() {
        let (mut warned, mut reported) = (0, Vec::new());
        for messages in [0, 99, 100, 101, 199, 200, 350, 400] {
            if is_alarming(messages, warned, 100) {
                warned = messages;
                reported.push(messages);
            }
        }
        assert_eq!(reported, [100, 200, 400]);
    }
}
