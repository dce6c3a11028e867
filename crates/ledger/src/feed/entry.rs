//! An event as the feed shows it: a CloudEvent in the JSON format (CloudEvents JSON format 1.0.2), and its position.

use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use event::{EventId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use store::{AnyRow, Row, StoreError, id, optional_id};

use super::position::{Cursor, Position};
use crate::events::traceparent;
use store::time;

/// What events have in common: a row of `origins`.
#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) source: String,
    pub(super) provider: String,
    pub(super) topic: String,
}

/// An event on record, as the feed has it.
#[derive(Debug)]
pub struct FeedEvent {
    /// Its id.
    pub id: EventId,
    /// Its subject.
    pub subject: Option<String>,
    /// When it was received.
    pub received_at: Timestamp,
    /// The content type of the body; empty if the sender gave none.
    pub content_type: String,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
    /// The event that this one repeats.
    pub replay_of: Option<EventId>,
    /// Of a domain event, the event that caused it.
    pub caused_by: Option<EventId>,
    /// The event that this one is a redelivery of.
    pub duplicate_of: Option<EventId>,
    /// Whether the body was malformed and could be read all the same.
    pub is_repaired: bool,
    /// The body as it was received.
    pub body: Bytes,
    pub(super) origin: Arc<Origin>,
    /// The CloudEvent without its first brace, once somebody has asked for it.
    json: OnceLock<String>,
}

/// An event that was read, and where.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) position: Position,
    pub(super) event: Arc<FeedEvent>,
}

/// What an event takes besides its body, about.
pub(super) const OVERHEAD: i64 = 512;

/// The columns of `events e` that [`Entry::new`] reads.
pub(super) const COLUMNS: &str = "e.id, e.origin, e.subject, e.received_at, e.content_type, e.traceparent, e.replay_of, e.caused_by, \
                                  e.repaired, e.duplicate_of, e.body";

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    time: Timestamp,
    #[serde(skip_serializing_if = "str::is_empty")]
    datacontenttype: &'a str,
    provider: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replayof: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causedby: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicateof: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<bool>,
    #[serde(flatten)]
    data: Data,
}

/// What a client shows of a line of the feed.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct FeedLine {
    /// The event's id.
    pub id: String,
    /// The source of the CloudEvent: `/<provider>/<source>`.
    pub source: String,
    /// The topic.
    #[serde(rename = "type")]
    pub topic: String,
    /// The event's subject.
    pub subject: Option<String>,
    /// When it was received.
    pub time: Timestamp,
}

#[derive(Serialize)]
enum Data {
    #[serde(rename = "data")]
    Value(Box<RawValue>),
    #[serde(rename = "data_base64")]
    Bytes(String),
}

impl FeedEvent {
    /// The event of a row with [`COLUMNS`].
    pub(super) fn new(row: &AnyRow, origin: &Arc<Origin>) -> Result<Self, StoreError> {
        let event = id(row, "id")?;
        let repaired: i64 = row.try_get("repaired")?;
        Ok(Self {
            id: event,
            subject: row.try_get("subject")?,
            received_at: time(row, "received_at")?,
            content_type: row.try_get("content_type")?,
            traceparent: traceparent(row, event)?,
            replay_of: optional_id(row, "replay_of")?,
            caused_by: optional_id(row, "caused_by")?,
            duplicate_of: optional_id(row, "duplicate_of")?,
            is_repaired: repaired == 1,
            body: Bytes::from(row.try_get::<Vec<u8>, _>("body")?),
            origin: Arc::clone(origin),
            json: OnceLock::new(),
        })
    }

    /// The provider.
    pub fn provider(&self) -> &str {
        &self.origin.provider
    }

    /// The name of the source.
    pub fn source_name(&self) -> &str {
        &self.origin.source
    }

    /// The topic: the type of the CloudEvent.
    pub fn topic(&self) -> &str {
        &self.origin.topic
    }

    /// The source of the CloudEvent: `/<provider>/<source>`.
    pub fn source(&self) -> String {
        format!("/{}/{}", self.origin.provider, self.origin.source)
    }

    /// The event as a CloudEvent in the JSON format, on one line.
    pub fn json(&self) -> String {
        format!("{{{}", self.tail())
    }

    /// The CloudEvent without its first brace.
    pub(super) fn tail(&self) -> &str {
        self.json.get_or_init(|| {
            let cloud_event = CloudEvent {
                specversion: "1.0",
                id: self.id.to_string(),
                source: self.source(),
                r#type: &self.origin.topic,
                subject: self.subject.as_deref(),
                time: self.received_at,
                datacontenttype: &self.content_type,
                provider: &self.origin.provider,
                traceparent: self.traceparent.as_deref(),
                replayof: self.replay_of.map(|id| id.to_string()),
                causedby: self.caused_by.map(|id| id.to_string()),
                duplicateof: self.duplicate_of.map(|id| id.to_string()),
                repaired: self.is_repaired.then_some(true),
                data: Data::new(&self.content_type, &self.body),
            };
            let json = serde_json::to_string(&cloud_event).expect("texts and a value are JSON");
            json[1..].to_owned()
        })
    }

    /// About what it takes, in bytes.
    pub fn size(&self) -> i64 {
        i64::try_from(self.body.len()).unwrap_or(i64::MAX - OVERHEAD) + OVERHEAD
    }

    /// An event that is not on record, for tests.
    #[cfg(any(test, feature = "test-support"))]
    pub fn example(id: EventId, subject: Option<&str>, received_at: Timestamp, body: Bytes) -> Self {
        Self {
            id,
            subject: subject.map(str::to_owned),
            received_at,
            content_type: "application/json".to_owned(),
            traceparent: None,
            replay_of: None,
            caused_by: None,
            duplicate_of: None,
            is_repaired: false,
            body,
            origin: Arc::default(),
            json: OnceLock::new(),
        }
    }
}

impl Entry {
    /// The CloudEvent with its position as the extension attribute `position`, on one line.
    pub(super) fn line(&self, cursor: &Cursor) -> String {
        format!("{{\"position\":\"{cursor}\",{}", self.event.tail())
    }
}

impl Data {
    /// Section 3.1 of the format: a JSON value as it is, another text as a string, other bytes in base64.
    fn new(content_type: &str, body: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(body) else {
            return Self::Bytes(BASE64_STANDARD.encode(body));
        };
        if !is_json(content_type) {
            return Self::Value(to_raw_value(text).expect("a text is JSON"));
        }
        // Line breaks of JSON are white space, never part of a string; the feed has one line for each event.
        match RawValue::from_string(text.replace(['\n', '\r'], " ")) {
            Ok(value) => Self::Value(value),
            Err(_) => Self::Bytes(BASE64_STANDARD.encode(text)),
        }
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.is_empty() || essence.ends_with("/json") || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_a_client_shows_of_it() {
        let received_at = "2026-11-22T12:00:00Z".parse().unwrap();
        for subject in [Some("agreement/1"), None] {
            let id = EventId::generate();
            let origin = Origin {
                source: "rec-1".to_owned(),
                provider: "recuperador".to_owned(),
                topic: "acordo.quitado".to_owned(),
            };
            let body = Bytes::from_static(b"{\"id\":1}");
            let event =
                FeedEvent { origin: Arc::new(origin), ..FeedEvent::example(id, subject, received_at, body) };
            let expect = FeedLine {
                id: id.to_string(),
                source: "/recuperador/rec-1".to_owned(),
                topic: "acordo.quitado".to_owned(),
                subject: subject.map(str::to_owned),
                time: received_at,
            };
            assert_eq!(serde_json::from_str::<FeedLine>(&event.json()).unwrap(), expect);
        }
    }

    #[test]
    fn data_is_a_value_a_text_or_bytes() {
        let check = |content_type: &str, body: &[u8], expect: &str| {
            assert_eq!(serde_json::to_string(&Data::new(content_type, body)).unwrap(), expect);
        };
        check("application/json", b"{\"a\":\r\n 1.50}", r#"{"data":{"a":   1.50}}"#);
        check("application/json; charset=utf-8", b"[1]", r#"{"data":[1]}"#);
        check("application/problem+json", b"null", r#"{"data":null}"#);
        check("", b"1", r#"{"data":1}"#);
        check("application/json", b"{'a': 1}", r#"{"data_base64":"eydhJzogMX0="}"#);
        check("application/json", b"", r#"{"data_base64":""}"#);
        check("application/x-www-form-urlencoded", b"a=\n", r#"{"data":"a=\n"}"#);
        check("text/plain", b"\xff\x00", r#"{"data_base64":"/wA="}"#);
    }
}
