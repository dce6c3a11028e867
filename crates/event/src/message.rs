//! The AMQP form of an event, as plain values: properties, headers, body.

use std::time::Duration;

use bytes::Bytes;

use crate::headers::{HeaderValue, MessageHeaders};

/// The `app_id` of every message malote publishes.
pub const APP_ID: &str = "malote";

/// Names of the headers that malote writes on a message.
///
/// CloudEvents attributes are `cloudEvents_<name>` (CloudEvents AMQP binding, section 3.1.3.1); the rest is ours.
pub mod header {
    /// Prefix of a CloudEvents attribute.
    pub const CLOUD_EVENTS: &str = "cloudEvents_";
    /// Prefix of a header of the sender's HTTP request that is worth keeping; the rest is its lower-case name.
    pub const HTTP: &str = "http_";
    /// How many times a consumer has tried the event, as a long; absent on the first delivery.
    pub const ATTEMPT: &str = "malote_attempt";
    /// When a consumer's first attempt failed (RFC 3339).
    pub const FIRST_FAILED_AT: &str = "malote_first_failed_at";
    /// The consumer whose attempt failed last.
    pub const CONSUMER: &str = "malote_consumer";
    /// On a dead letter: when the consumer gave it up (RFC 3339). Missing where the broker itself did.
    pub const GIVEN_UP_AT: &str = "malote_given_up_at";
    /// On a dead letter: the last error. On a retried message: the error of the attempt before.
    pub const ERROR: &str = "malote_error";
    /// How many times the ledger has tried to file the message.
    pub const RECORD_ATTEMPT: &str = "malote_record_attempt";
    /// The error of the ledger's last attempt to file the message.
    pub const RECORD_ERROR: &str = "malote_record_error";
    /// On a retried message: the name of this copy, since a retry may be sent twice.
    pub const RETRY_COPY: &str = "malote_retry_copy";
    /// On a message that the broker gave up and the ledger sent back: when that was (RFC 3339). Its consumer tries it
    /// alone; the next time it becomes a dead letter.
    pub const ALONE: &str = "malote_alone";
    /// On what was posted: its [`Receipt`](crate::Receipt). Neither polled events nor domain events have one.
    pub const ANSWER: &str = "malote_answer";
    /// On a rejected body: why it could not be used.
    pub const CAUSE: &str = "malote_cause";
    /// Every failed attempt, the oldest first, as a JSON array of `{"attempt", "at", "error"}`; the last 20 are kept. It
    /// stays when a dead letter is sent again.
    pub const HISTORY: &str = "malote_history";
    /// On a message that the broker itself gave up: its queue, or the one that it was meant for.
    pub const DEATH_QUEUE: &str = "malote_death_queue";
    /// Why the broker gave it up: `delivery_limit`, or `missing_queue` if its queue did not exist after the wait.
    pub const DEATH_REASON: &str = "malote_death_reason";
    /// On what was sent again: the id of the job that did.
    pub const JOB: &str = "malote_job";
    /// On what was sent again to one consumer alone: its name.
    pub const TO_CONSUMER: &str = "malote_to_consumer";
    /// Two events of a source with the same key within the window are the same fact, sent twice.
    pub const DUPLICATE_KEY: &str = "malote_duplicate_key";
    /// On an event that the ingress recognised as a duplicate: the id of the event that it repeats. It is recorded as a
    /// duplicate, in whatever order the two arrive.
    pub const DUPLICATE_OF: &str = "malote_duplicate_of";
    /// How long after the first event with a key the others are its duplicates, in seconds, as a long.
    pub const DUPLICATE_WINDOW_S: &str = "malote_duplicate_window_s";
}

/// A message as AMQP 0-9-1 basic properties, headers and a body. Always persistent (`delivery_mode` 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `message_id`: the event's id.
    pub message_id: String,
    /// `type`: the event's topic. A message from a retry queue has another routing key.
    pub r#type: String,
    /// `timestamp`: seconds since 1970, UTC.
    pub timestamp: u64,
    /// `content_type` of the body.
    pub content_type: String,
    /// `app_id`: [`APP_ID`] on ours.
    pub app_id: String,
    /// `expiration`: in a queue with a message TTL, the message leaves after this time if that is shorter, once it is at
    /// the head. Gone when the message is dead-lettered. To the millisecond.
    pub expiration: Option<Duration>,
    /// `headers`.
    pub headers: MessageHeaders,
    /// The body, unchanged from receipt.
    pub body: Bytes,
}

impl Message {
    /// The text of a header, if it is there and is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.headers.get(name)? {
            HeaderValue::Text(text) => Some(text),
            HeaderValue::Long(_) => None,
        }
    }

    /// The number in a header, if it is there and is a number.
    pub fn long(&self, name: &str) -> Option<i64> {
        match self.headers.get(name)? {
            HeaderValue::Long(number) => Some(*number),
            HeaderValue::Text(_) => None,
        }
    }
}
