//! An event as the feed shows it: a CloudEvent in the JSON format (CloudEvents JSON format 1.0.2), and its position.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use event::Timestamp;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use store::{AnyRow, Row, StoreError, id, optional_id};

use super::position::{Cursor, Position};
use crate::events::traceparent;
use crate::time::time;

/// What events have in common: a row of `origins`.
#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) source: String,
    pub(super) provider: String,
    pub(super) topic: String,
}

/// An event that was read.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) position: Position,
    pub(super) origin: Arc<Origin>,
    /// The CloudEvent without its first brace.
    pub(super) json: String,
}

/// The columns of `events e` that [`Entry::new`] reads.
pub(super) const COLUMNS: &str = "e.id, e.subject, e.received_at, e.content_type, e.traceparent, e.replay_of, e.repaired, \
                                  e.duplicate_of, e.body";

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    time: Timestamp,
    #[serde(skip_serializing_if = "str::is_empty")]
    datacontenttype: &'a str,
    provider: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replayof: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicateof: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<bool>,
    #[serde(flatten)]
    data: Data,
}

#[derive(Serialize)]
enum Data {
    #[serde(rename = "data")]
    Value(Box<RawValue>),
    #[serde(rename = "data_base64")]
    Bytes(String),
}

impl Entry {
    /// The event of a row with [`COLUMNS`].
    pub(super) fn new(row: &AnyRow, position: Position, origin: &Arc<Origin>) -> Result<Self, StoreError> {
        let event = id(row, "id")?;
        let content_type: String = row.try_get("content_type")?;
        let other = |column| Ok::<_, StoreError>(optional_id(row, column)?.map(|id| id.to_string()));
        let repaired: i64 = row.try_get("repaired")?;
        let cloud_event = CloudEvent {
            specversion: "1.0",
            id: event.to_string(),
            source: format!("/{}/{}", origin.provider, origin.source),
            r#type: &origin.topic,
            subject: row.try_get("subject")?,
            time: time(row, "received_at")?,
            datacontenttype: &content_type,
            provider: &origin.provider,
            traceparent: traceparent(row, event)?,
            replayof: other("replay_of")?,
            duplicateof: other("duplicate_of")?,
            repaired: (repaired == 1).then_some(true),
            data: Data::new(&content_type, row.try_get("body")?),
        };
        let json = serde_json::to_string(&cloud_event).expect("texts and a value are JSON");
        Ok(Self { position, origin: Arc::clone(origin), json: json[1..].to_owned() })
    }

    /// Its length in bytes, without the position.
    pub(super) fn size(&self) -> i64 {
        i64::try_from(self.json.len()).unwrap_or(i64::MAX)
    }

    /// The CloudEvent with its position as the extension attribute `position`, on one line.
    pub(super) fn line(&self, cursor: &Cursor) -> String {
        format!("{{\"position\":\"{cursor}\",{}", self.json)
    }
}

impl Data {
    /// Section 3.1 of the format: a JSON value as it is, another text as a string, other bytes in base64.
    fn new(content_type: &str, body: Vec<u8>) -> Self {
        let text = match String::from_utf8(body) {
            Ok(text) => text,
            Err(error) => return Self::Bytes(BASE64_STANDARD.encode(error.into_bytes())),
        };
        if !is_json(content_type) {
            return Self::Value(to_raw_value(&text).expect("a text is JSON"));
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
    fn data_is_a_value_a_text_or_bytes() {
        let check = |content_type: &str, body: &[u8], expect: &str| {
            assert_eq!(serde_json::to_string(&Data::new(content_type, body.to_vec())).unwrap(), expect);
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
