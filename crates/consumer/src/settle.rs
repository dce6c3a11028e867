//! What becomes of a message that failed: the next delay, or the dead letters. Confirmed before the original is acked.

use broker::{DynBroker, ExchangeName, Layout, PublishError, QueueName};
use event::{Message, header};

use crate::RetryDelay;

/// A consumer's way to its retries and dead letters.
pub(crate) struct Settlement {
    pub(crate) consumer: String,
    pub(crate) queue: QueueName,
    pub(crate) retry: &'static [RetryDelay],
    /// Where messages go that are given up.
    pub(crate) give_up: ExchangeName,
    pub(crate) layout: Layout,
    pub(crate) broker: DynBroker,
}

/// Where a failed message went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is tried again after this delay.
    Retry(RetryDelay),
    /// It is a dead letter.
    Dead,
}

/// How often a consumer has tried the message before: 0 on its first delivery.
fn attempts_before(message: &Message) -> usize {
    message.long(header::ATTEMPT).and_then(|attempts| usize::try_from(attempts).ok()).unwrap_or(0)
}

impl Settlement {
    /// Publishes the message to its next place. The original may be acked once this is `Ok`.
    pub(crate) async fn fail(
        &self,
        mut message: Message,
        error: &str,
        permanent: bool,
    ) -> Result<Sent, PublishError> {
        let before = attempts_before(&message);
        let attempts = i64::try_from(before + 1).unwrap_or(i64::MAX);
        message.headers.insert(header::ATTEMPT.to_owned(), attempts.into());
        message.headers.insert(header::ERROR.to_owned(), error.into());
        message.headers.insert(header::CONSUMER.to_owned(), self.consumer.as_str().into());
        message
            .headers
            .entry(header::FIRST_FAILED_AT.to_owned())
            .or_insert_with(|| event::now().to_string().into());
        match self.retry.get(before).filter(|_| !permanent) {
            Some(delay) => {
                // The retry queue dead-letters to the default exchange: the routing key is the way back.
                self.broker.publish(&self.layout.retry(*delay), self.queue.as_str(), message).await?;
                Ok(Sent::Retry(*delay))
            }
            None => {
                message.headers.insert(header::GIVEN_UP_AT.to_owned(), event::now().to_string().into());
                let topic = message.r#type.clone();
                self.broker.publish(&self.give_up, &topic, message).await?;
                Ok(Sent::Dead)
            }
        }
    }
}
