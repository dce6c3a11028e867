//! What tests need of a broker, in this crate and in those above it: a broker that fails on demand, events and messages.
//!
//! Compiled with the feature `test-support` alone, which no binary has.

use bytes::Bytes;
use event::{Event, Message, Source, Topic};

mod recording;

pub use recording::{Answer, Published, RecordingBroker};

/// A message that is told from others by its `message_id`.
pub fn message(id: impl ToString) -> Message {
    let id = id.to_string();
    Message {
        body: format!("body of {id}").into(),
        message_id: id,
        r#type: "order.created".to_owned(),
        timestamp: 1_700_000_000,
        content_type: "application/json".to_owned(),
        app_id: event::APP_ID.to_owned(),
        ..Message::default()
    }
}

/// An event received now from this source, such as `/gestao-online/go`.
pub fn event(source: &str, topic: &str, body: impl Into<Bytes>) -> Event {
    let source = Source::parse(source).expect("a test names a valid source");
    Event::new(source, Topic::new(topic).expect("a test names a valid topic"), body.into())
}
