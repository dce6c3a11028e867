//! Reading a message that need not be an event: what can be read is kept beside it, and nothing is refused.

use std::collections::BTreeMap;

use broker::FixedQueue;
use event::{EventId, HeaderValue, Message, Source, Timestamp, header};

use store::many::Value;

/// What could be read of a message.
pub(crate) struct Filed<'a> {
    /// Its event id, or one derived from the message if it has none: every attempt to file it writes the same row.
    pub(crate) id: EventId,
    source: Option<Source>,
    /// Receipt, or else publication, or else now.
    pub(crate) received_at: Timestamp,
    message: &'a Message,
}

impl<'a> Filed<'a> {
    /// The readable fields of a message from this queue.
    pub(crate) fn new(message: &'a Message, queue: FixedQueue) -> Self {
        let attribute = |name: &str| message.text(&format!("{}{name}", header::CLOUD_EVENTS));
        let published = || {
            let seconds = i64::try_from(message.timestamp).ok().filter(|seconds| *seconds > 0)?;
            Timestamp::from_second(seconds).ok()
        };
        let time = attribute("time").and_then(|text| text.parse().ok()).or_else(published);
        Self {
            id: message.message_id.parse().unwrap_or_else(|_| id_of(message, queue, time)),
            source: attribute("source").and_then(|text| Source::parse(text).ok()),
            received_at: time.unwrap_or_else(event::now),
            message,
        }
    }

    pub(crate) fn source(&self) -> Value {
        Value::from(self.source.as_ref().map(|source| source.name.to_string()))
    }

    pub(crate) fn provider(&self) -> Value {
        Value::from(self.source.as_ref().map(|source| source.provider.to_string()))
    }

    /// A header's text; empty if it is missing.
    pub(crate) fn text(&self, name: &str) -> Value {
        text(self.message.text(name).unwrap_or_default())
    }

    /// Every header, and the properties that have no column.
    pub(crate) fn headers(&self) -> Value {
        let mut headers: BTreeMap<&str, HeaderValue> =
            self.message.headers.iter().map(|(name, value)| (name, value.clone())).collect();
        headers.insert("message_id", self.message.message_id.as_str().into());
        headers.insert("type", self.message.r#type.as_str().into());
        headers.insert("app_id", self.message.app_id.as_str().into());
        json(&headers)
    }
}

/// The id of a message without one. Headers that brokers and malote's own attempts add do not count.
fn id_of(message: &Message, queue: FixedQueue, time: Option<Timestamp>) -> EventId {
    let Message { message_id, r#type, content_type, app_id, headers, body, .. } = message;
    let texts = [queue.name(), message_id, r#type, content_type, app_id].map(str::as_bytes);
    let is_own = |name: &str| !name.starts_with("x-") && !name.starts_with("malote_");
    let headers: Vec<_> = headers
        .iter()
        .filter(|(name, _)| is_own(name))
        .map(|(name, value)| match value {
            HeaderValue::Text(text) => (name, text.clone()),
            HeaderValue::Long(number) => (name, number.to_string()),
        })
        .collect();
    let headers = headers.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    let milliseconds = time.and_then(|time| u64::try_from(time.as_millisecond()).ok()).unwrap_or(0);
    EventId::from_parts(milliseconds, texts.into_iter().chain([body.as_ref()]).chain(headers))
}

/// Headers as a JSON object.
pub(crate) fn json(headers: &impl serde::Serialize) -> Value {
    Value::from(Some(serde_json::to_string(headers).expect("a map of texts and numbers is JSON")))
}

/// A text that came from outside: PostgreSQL accepts no NUL in a text.
pub(crate) fn text(text: &str) -> Value {
    Value::from(Some(text.replace('\0', "\u{fffd}")))
}
