//! The messages that a job sends: where each goes, and what of its history goes along.

use std::collections::BTreeMap;

use broker::{ExchangeName, FixedQueue, Layout};
use event::{EventId, HeaderValue, Message, header};

use super::selection::{Letter, Recorded};
use super::{Accepted, Job, NewJob};

/// A message to send.
pub(crate) struct Outgoing {
    pub(crate) exchange: ExchangeName,
    pub(crate) routing_key: String,
    pub(crate) message: Message,
}

/// Headers of the attempts so far, which restart; the history stays.
const OF_ATTEMPTS: &[&str] = &[
    header::ALONE,
    header::RETRY_COPY,
    header::ATTEMPT,
    header::ERROR,
    header::FIRST_FAILED_AT,
    header::CONSUMER,
    header::GIVEN_UP_AT,
    header::DEATH_QUEUE,
    header::DEATH_REASON,
    header::RECORD_ATTEMPT,
    header::RECORD_ERROR,
    header::TO_CONSUMER,
    // What is sent again must be handled.
    header::DUPLICATE_KEY,
    header::DUPLICATE_OF,
    header::DUPLICATE_WINDOW_S,
];

/// Properties that the record keeps among the headers.
const PROPERTIES: [&str; 3] = ["message_id", "type", "app_id"];

fn named(mut message: Message, job: &Job) -> Message {
    message.headers.insert(header::JOB.to_owned(), job.id.as_str().into());
    message
}

/// A replay of an event: to every queue of its topic, or to one consumer.
pub(crate) fn replay(recorded: &Recorded, job: &Job, layout: &Layout) -> Vec<Outgoing> {
    let mut event = recorded.event.clone();
    // What is received when it is replayed (`received_at`) still stands where its original does.
    if job.again {
        event.replay_of = Some(event.replay_of.unwrap_or(event.id));
        event.id = EventId::derived(job.id(), event.id);
    }
    let topic = event.topic.to_string();
    let received = layout.received(&event.source.provider);
    let mut message = named(event.to_message(), job);
    let Some(consumer) = &job.to_consumer else {
        return vec![Outgoing { exchange: received, routing_key: topic, message }];
    };
    let to_queue = |name: &str, message: Message| Outgoing {
        exchange: ExchangeName::default_exchange(),
        routing_key: layout.queue(name).to_string(),
        message,
    };
    message.headers.insert(header::TO_CONSUMER.to_owned(), consumer.as_str().into());
    match job.again {
        // An id of its own has to be on record, too.
        true => vec![to_queue(FixedQueue::Ledger.name(), message.clone()), to_queue(consumer, message)],
        false => vec![to_queue(consumer, message)],
    }
}

/// An event that was a rejected body. Its sender may have sent the fact again: which event is the first is decided when one
/// is recorded or handled.
pub(crate) fn accepted(Accepted { event, duplicate_key }: &Accepted, job: &Job, layout: &Layout) -> Outgoing {
    let mut message = named(event.to_message(), job);
    if let Some((key, window_s)) = duplicate_key {
        message.headers.insert(header::DUPLICATE_KEY.to_owned(), key.as_str().into());
        message.headers.insert(header::DUPLICATE_WINDOW_S.to_owned(), (*window_s).into());
    }
    Outgoing {
        exchange: layout.received(&event.source.provider),
        routing_key: event.topic.to_string(),
        message,
    }
}

/// A dead letter, back to the consumer that gave it up.
pub(crate) fn letter(letter: &Letter, job: &Job, layout: &Layout) -> Outgoing {
    Outgoing {
        exchange: ExchangeName::default_exchange(),
        routing_key: layout.queue(&letter.consumer).to_string(),
        message: named(first_message(letter), job),
    }
}

/// The message of a dead letter as it was before its first attempt, with its history.
pub(super) fn first_message(letter: &Letter) -> Message {
    let recorded: BTreeMap<String, HeaderValue> = serde_json::from_str(&letter.headers).unwrap_or_default();
    let property = |name: &str| match recorded.get(name) {
        Some(HeaderValue::Text(text)) => text.clone(),
        Some(HeaderValue::Long(_)) | None => String::new(),
    };
    let time = recorded.get(&format!("{}time", header::CLOUD_EVENTS)).and_then(|value| match value {
        HeaderValue::Text(text) => text.parse::<event::Timestamp>().ok(),
        HeaderValue::Long(_) => None,
    });
    let (message_id, app_id) = (property("message_id"), property("app_id"));
    let is_kept = |name: &String| {
        let name = name.as_str();
        !OF_ATTEMPTS.contains(&name) && !PROPERTIES.contains(&name) && !name.starts_with("x-")
    };
    Message {
        message_id,
        r#type: letter.topic.clone(),
        timestamp: u64::try_from(time.unwrap_or_else(event::now).as_second()).unwrap_or(0),
        content_type: letter.content_type.clone(),
        app_id,
        expiration: None,
        headers: recorded.into_iter().filter(|(name, _)| is_kept(name)).collect(),
        body: letter.body.clone().into(),
    }
}

impl NewJob {
    /// What is kept beside the filter.
    pub(crate) fn options(&self) -> serde_json::Value {
        let Self { to_consumer, again, rate, limit, reason, .. } = self;
        serde_json::json!({
            "to_consumer": to_consumer, "again": again, "rate": rate, "limit": limit, "reason": reason
        })
    }
}
