//! Messages that only this process holds, because their queue is deleted. They are published until the broker has
//! confirmed all of them.

use std::collections::VecDeque;
use std::time::Duration;

use broker::{ExchangeName, Publisher, QueueName};
use event::{Chain, Message};
use tokio::time::sleep;

/// The pause after a failed publish; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The messages of a deleted queue. If it is dropped before all are published, the log names the lost ones.
pub(crate) struct InHand {
    from: QueueName,
    messages: VecDeque<(ExchangeName, String, Message)>,
}

impl InHand {
    pub(crate) fn new(from: QueueName) -> Self {
        Self { from, messages: VecDeque::new() }
    }

    /// Adds a message, with the exchange and the routing key to which it is to be published.
    pub(crate) fn push(&mut self, onward: (ExchangeName, String, Message)) {
        self.messages.push_back(onward);
    }

    /// Publishes everything in order, retrying without limit; returns the number of messages.
    pub(crate) async fn publish(mut self, broker: &impl Publisher) -> u64 {
        let mut published = 0;
        let mut pause = FIRST_PAUSE;
        while let Some((exchange, routing_key, message)) = self.messages.front() {
            match broker.publish(exchange, routing_key, message.clone()).await {
                Ok(()) => {
                    self.messages.pop_front();
                    published += 1;
                    pause = FIRST_PAUSE;
                }
                Err(error) => {
                    tracing::warn!(
                        queue = %self.from,
                        messages = self.messages.len(),
                        "messages of a deleted queue are held in memory until the broker takes them, \
                         do not end this process: {}",
                        Chain(&error)
                    );
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        published
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        for (exchange, routing_key, message) in &self.messages {
            tracing::error!(
                event_id = message.message_id,
                queue = %self.from,
                %exchange,
                routing_key,
                "an event of a deleted queue is lost: replay it"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use broker::test_support::{RecordingBroker, message};

    use super::*;

    #[tokio::test]
    async fn a_refused_message_of_a_deleted_queue_is_published_again_until_it_is_taken() {
        let broker = RecordingBroker::alone();
        let mut refusals = 0;
        broker.refuse(move |_| {
            refusals += 1;
            refusals <= 4
        });
        let mut in_hand = InHand::new(QueueName::new("old"));
        for id in 0..3 {
            in_hand.push((ExchangeName::default_exchange(), "new".to_owned(), message(id)));
        }
        assert_eq!(in_hand.publish(&*broker).await, 3);
        let taken: Vec<_> =
            broker.published().into_iter().map(|published| published.message.message_id).collect();
        assert_eq!(taken, ["0", "1", "2"]);
    }
}
