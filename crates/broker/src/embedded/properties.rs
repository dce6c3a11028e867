//! A message's properties and headers as the file keeps them: one JSON object, everything but the body.

use std::borrow::Cow;

use bytes::Bytes;
use event::{HeaderValue, Message, MessageHeaders};
use serde::Deserialize;

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

#[derive(Deserialize)]
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

/// The JSON text. Every event has one written: most of its strings need no escape, and are copied whole.
fn text(properties: &Properties<'_>) -> String {
    let Properties { message_id, r#type, timestamp, content_type, app_id, headers } = properties;
    // What those of an event need.
    let mut text = String::with_capacity(1_000);
    text.push_str(r#"{"message_id":"#);
    quote(&mut text, message_id);
    text.push_str(r#","type":"#);
    quote(&mut text, r#type);
    text.push_str(r#","timestamp":"#);
    text.push_str(&timestamp.to_string());
    text.push_str(r#","content_type":"#);
    quote(&mut text, content_type);
    text.push_str(r#","app_id":"#);
    quote(&mut text, app_id);
    text.push_str(r#","headers":{"#);
    for (index, (name, value)) in headers.iter().enumerate() {
        text.push_str(if index == 0 { "" } else { "," });
        quote(&mut text, name);
        text.push(':');
        match value {
            HeaderValue::Long(number) => text.push_str(&number.to_string()),
            HeaderValue::Text(value) => quote(&mut text, value),
        }
    }
    text.push_str("}}");
    text
}

/// Appends a string as JSON.
fn quote(text: &mut String, plain: &str) {
    // Without a way out of the loop, so that many bytes are compared at a time.
    let needs_escape = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    match plain.bytes().fold(false, |found, byte| found | needs_escape(byte)) {
        true => text.push_str(&serde_json::to_string(plain).expect("a text is JSON")),
        false => {
            text.push('"');
            text.push_str(plain);
            text.push('"');
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_whatever_its_characters() {
        let odd = "\"\\\u{0}\n\u{1f}\u{7f} ç \u{2028}😀";
        let message = Message {
            message_id: odd.to_owned(),
            r#type: "order.created".to_owned(),
            timestamp: u64::MAX,
            content_type: "application/json".to_owned(),
            app_id: String::new(),
            expiration: None,
            headers: [
                (odd, "plain".into()),
                ("long", i64::MIN.into()),
                ("text", odd.into()),
                ("", "".into()),
            ]
            .into(),
            body: Bytes::from_static(b"{}"),
        };
        let text = write(&message);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        assert_eq!(read(&text, message.body.clone()).unwrap(), message);
        let bare = Message { headers: Default::default(), ..message };
        assert_eq!(read(&write(&bare), bare.body.clone()).unwrap(), bare);
    }
}
