//! What happens to a message that failed: the next delay, or the dead letters. Confirmed before the original is acked.

use broker::backoff::random;
use broker::{DynBroker, ExchangeName, Layout, PublishError, QueueName};
use event::{EventId, HeaderValue, Message, header};
use serde::{Deserialize, Serialize};

use crate::{Policy, RetryDelay};

/// A consumer's way to its retries and dead letters.
pub(crate) struct Settlement {
    pub(crate) consumer: String,
    pub(crate) queue: QueueName,
    pub(crate) policy: Policy,
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

/// How much of the last error a message says: all headers have to fit into a frame, and an error may quote the body.
const ERROR_CHARS: usize = 2_000;

/// How many failed attempts a message lists, and how much of each error.
const HISTORY_LENGTH: usize = 20;
const HISTORY_ERROR_CHARS: usize = 300;

/// One failed attempt.
#[derive(Serialize, Deserialize)]
struct Attempt {
    /// From 1, over all that the message lists, including those before it was sent again.
    attempt: u64,
    at: String,
    error: String,
}

/// The history with one more attempt.
fn appended(history: Option<&str>, error: &str) -> String {
    let mut attempts: Vec<Attempt> =
        history.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let attempt = attempts.last().map_or(0, |last| last.attempt) + 1;
    let error = error.chars().take(HISTORY_ERROR_CHARS).collect();
    attempts.push(Attempt { attempt, at: event::now().to_string(), error });
    let surplus = attempts.len().saturating_sub(HISTORY_LENGTH);
    serde_json::to_string(&attempts[surplus..]).expect("texts and numbers are JSON")
}

/// The headers about attempts.
pub(crate) struct History {
    pub(crate) attempt: &'static str,
    error: &'static str,
    /// Whether the headers name this consumer as the one that failed, as the ledger files them.
    is_own: bool,
}

impl History {
    /// Those of a consumer of events.
    pub(crate) const EVENTS: Self = Self { attempt: header::ATTEMPT, error: header::ERROR, is_own: true };
    /// Those of a recorder: the headers about the consumer that failed stay as they are.
    pub(crate) const RECORDS: Self =
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
        let last: String = error.chars().take(ERROR_CHARS).collect();
        message.headers.insert(error_header.to_owned(), last.into());
        let now = || HeaderValue::from(event::now().to_string());
        message.expiration = None;
        if is_own {
            let history = appended(message.text(header::HISTORY), error);
            message.headers.insert(header::HISTORY.to_owned(), history.into());
            message.headers.insert(header::CONSUMER.to_owned(), self.consumer.as_str().into());
            if !message.headers.contains_key(header::FIRST_FAILED_AT) {
                message.headers.insert(header::FIRST_FAILED_AT, now());
            }
        }
        match self.policy.delay(before).filter(|_| !permanent) {
            Some(delay) => {
                message.expiration = self.policy.shortened(delay, random());
                message.headers.insert(header::RETRY_COPY.to_owned(), EventId::generate().to_string().into());
                // The exchange `requeue` routes it back by this key.
                self.broker.publish(&self.layout.retry_exchange(delay), self.queue.as_str(), message).await?;
                Ok(Sent::Retry(delay))
            }
            None => {
                message.headers.remove(header::RETRY_COPY);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_keeps_the_last_attempts_and_counts_all() {
        let mut history = None;
        for n in 1..=25 {
            history = Some(appended(history.as_deref(), &format!("{n} {}", "é".repeat(1_000))));
        }
        let attempts: Vec<Attempt> = serde_json::from_str(&history.unwrap()).unwrap();
        assert_eq!(attempts.len(), HISTORY_LENGTH);
        assert_eq!(
            attempts.iter().map(|attempt| attempt.attempt).collect::<Vec<_>>(),
            (6..=25).collect::<Vec<_>>()
        );
        assert!(attempts[19].error.starts_with("25 é") && attempts[19].error.chars().count() == 300);
        assert!(appended(Some("no history"), "x").starts_with(r#"[{"attempt":1,"#));
    }
}
