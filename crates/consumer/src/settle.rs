//! What becomes of a message that failed: the next delay, or the dead letters. Confirmed before the original is acked.

use broker::{DynBroker, ExchangeName, Layout, PublishError, QueueName};
use event::{HeaderValue, Message, header};

use crate::RetryDelay;

/// A consumer's way to its retries and dead letters.
pub(crate) struct Settlement {
    pub(crate) consumer: String,
    pub(crate) queue: QueueName,
    pub(crate) retry: &'static [RetryDelay],
    pub(crate) history: History,
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

/// The headers that tell of attempts.
pub(crate) struct History {
    attempt: &'static str,
    error: &'static str,
    /// Whether the message becomes this consumer's: the headers of its failure, as the ledger files them.
    is_own: bool,
}

impl History {
    /// Of a consumer of events.
    pub(crate) const OF_EVENTS: Self = Self { attempt: header::ATTEMPT, error: header::ERROR, is_own: true };
    /// Of a recorder: what the message tells of the consumer that it failed at stays as it is.
    pub(crate) const OF_RECORDS: Self =
        Self { attempt: header::RECORD_ATTEMPT, error: header::RECORD_ERROR, is_own: false };
}

impl Settlement {
    /// Publishes the message to its next place. The original may be acked once this is `Ok`.
    pub(crate) async fn fail(
        &self,
        mut message: Message,
        error: &str,
        permanent: bool,
    ) -> Result<Sent, PublishError> {
        let History { attempt, error: error_header, is_own } = self.history;
        let before = message.long(attempt).and_then(|attempts| usize::try_from(attempts).ok()).unwrap_or(0);
        let attempts = i64::try_from(before + 1).unwrap_or(i64::MAX);
        message.headers.insert(attempt.to_owned(), attempts.into());
        message.headers.insert(error_header.to_owned(), error.into());
        let now = || HeaderValue::from(event::now().to_string());
        if is_own {
            message.headers.insert(header::CONSUMER.to_owned(), self.consumer.as_str().into());
            message.headers.entry(header::FIRST_FAILED_AT.to_owned()).or_insert_with(now);
        }
        match self.retry.get(before).filter(|_| !permanent) {
            Some(delay) => {
                // The retry queue dead-letters to the default exchange: the routing key is the way back.
                self.broker.publish(&self.layout.retry(*delay), self.queue.as_str(), message).await?;
                Ok(Sent::Retry(*delay))
            }
            None => {
                if is_own {
                    message.headers.insert(header::GIVEN_UP_AT.to_owned(), now());
                }
                let topic = message.r#type.clone();
                self.broker.publish(&self.give_up, &topic, message).await?;
                Ok(Sent::Dead)
            }
        }
    }
}
