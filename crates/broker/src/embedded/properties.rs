//! A message's properties and headers as the file keeps them: one JSON object, everything but the body.

use std::borrow::Cow;

use bytes::Bytes;
use event::{Message, MessageHeaders};
use serde::{Deserialize, Serialize};

use crate::death;

/// Further headers that RabbitMQ adds to a dead letter: those with a plain text.
const FIRST_DEATH_QUEUE: &str = "x-first-death-queue";
const FIRST_DEATH_REASON: &str = "x-first-death-reason";

/// Why a queue gave a message up, in RabbitMQ's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// It was there for the queue's time to live.
    Expired,
    /// It came back unsettled more often than the queue's delivery limit.
    DeliveryLimit,
}

impl Death {
    /// The text of `x-first-death-reason`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Properties<'a> {
    #[serde(borrow)]
    message_id: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    timestamp: u64,
    #[serde(borrow)]
    content_type: Cow<'a, str>,
    #[serde(borrow)]
    app_id: Cow<'a, str>,
    headers: MessageHeaders,
}

fn text(properties: &Properties<'_>) -> String {
    serde_json::to_string(properties).expect("text, numbers and a map with text keys are JSON")
}

/// The properties of a message, without the headers of a broker.
pub(super) fn write(message: &Message) -> String {
    let mut headers = message.headers.clone();
    if headers.iter().any(|(name, _)| death::is_of_broker(name)) {
        headers.retain(|name| !death::is_of_broker(name));
    }
    text(&Properties {
        message_id: message.message_id.as_str().into(),
        r#type: message.r#type.as_str().into(),
        timestamp: message.timestamp,
        content_type: message.content_type.as_str().into(),
        app_id: message.app_id.as_str().into(),
        headers,
    })
}

/// The message with these properties and this body.
pub(super) fn read(properties: &str, body: Bytes) -> Result<Message, serde_json::Error> {
    let properties: Properties<'_> = serde_json::from_str(properties)?;
    Ok(Message {
        message_id: properties.message_id.into_owned(),
        r#type: properties.r#type.into_owned(),
        timestamp: properties.timestamp,
        content_type: properties.content_type.into_owned(),
        app_id: properties.app_id.into_owned(),
        // Gone once it is stored: the queue's table knows when the message leaves.
        expiration: None,
        headers: properties.headers,
        body,
    })
}

/// The message id in these properties, for the log.
pub(super) fn message_id(properties: &str) -> String {
    serde_json::from_str::<Properties<'_>>(properties)
        .map(|properties| properties.message_id.into_owned())
        .unwrap_or_default()
}

/// The properties of a dead letter: the same, and in the headers the queues and reasons of its first and last death.
pub(super) fn bury(properties: &str, queue: &str, death: Death) -> String {
    let reason = death.reason();
    let Ok(mut parsed) = serde_json::from_str::<Properties<'_>>(properties) else {
        return properties.to_owned();
    };
    let headers = &mut parsed.headers;
    headers.insert(death::LAST_QUEUE.to_owned(), queue.into());
    headers.insert(death::LAST_REASON.to_owned(), reason.into());
    if !headers.contains_key(FIRST_DEATH_QUEUE) {
        headers.insert(FIRST_DEATH_QUEUE.to_owned(), queue.into());
        headers.insert(FIRST_DEATH_REASON.to_owned(), reason.into());
    }
    text(&parsed)
}
