//! A message's properties and headers as the file keeps them: everything but the body, in few bytes.
//!
//! The form: a byte for its version, the number of seconds, then texts: message id, type, content type, application, and
//! name and value of each header. A number is written seven bits at a time, the lowest first; the eighth bit says that more
//! follow. A text is a number and what it announces: an odd one is twice the length of the text that follows, plus one; an
//! even one is twice a place in [`TEXTS`], or stands for what [`SAME_AS_ID`] and the others say. Files of version 3 have JSON.

use std::borrow::Cow;
use std::str;

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

/// The first byte of the form.
const FORM: u8 = 1;

/// Of a value: the message id, the type, and an integer, whose eight bytes follow with the lowest first.
const SAME_AS_ID: u64 = 0;
const SAME_AS_TYPE: u64 = 1;
const LONG: u64 = 2;

/// The number of the first of [`TEXTS`].
const FIRST_TEXT: u64 = 16;

/// What many messages have. Files name these by their places: a new one is added at the end, and none is changed or removed.
static TEXTS: [&str; 18] = [
    "application/json",
    "malote",
    "cloudEvents_id",
    "cloudEvents_provider",
    "cloudEvents_source",
    "cloudEvents_specversion",
    "cloudEvents_subject",
    "cloudEvents_time",
    "cloudEvents_traceparent",
    "cloudEvents_type",
    "cloudEvents_causedby",
    "cloudEvents_replayof",
    "cloudEvents_repaired",
    "malote_answer",
    "malote_duplicate_key",
    "malote_duplicate_window_s",
    "malote_duplicate_of",
    "malote_to_consumer",
];

/// Properties that this malote cannot read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the properties of a message end too early, or are of a later form")]
    Form,
    #[error("the properties of a message are not text")]
    Text(#[from] str::Utf8Error),
    #[error("the properties of a message are not the expected JSON")]
    Json(#[from] serde_json::Error),
}

fn push_number(form: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        form.push(number as u8 | 0x80);
        number >>= 7;
    }
    form.push(number as u8);
}

fn push_text(form: &mut Vec<u8>, text: &str) {
    push_number(form, (text.len() as u64) << 1 | 1);
    form.extend_from_slice(text.as_bytes());
}

/// A text that is often one of [`TEXTS`].
fn push_usual(form: &mut Vec<u8>, text: &str) {
    match TEXTS.iter().position(|usual| *usual == text) {
        Some(place) => push_number(form, (FIRST_TEXT + place as u64) << 1),
        None => push_text(form, text),
    }
}

/// The properties of a message, without the headers of a broker.
pub(super) fn write(message: &Message) -> Vec<u8> {
    form(message, |name| !death::is_of_broker(name))
}

fn form(message: &Message, is_kept: impl Fn(&str) -> bool) -> Vec<u8> {
    let Message { message_id, r#type, timestamp, content_type, app_id, headers, .. } = message;
    // What those of an event need.
    let mut form = Vec::with_capacity(480);
    form.push(FORM);
    push_number(&mut form, *timestamp);
    push_text(&mut form, message_id);
    push_text(&mut form, r#type);
    push_usual(&mut form, content_type);
    push_usual(&mut form, app_id);
    for (name, value) in headers.iter().filter(|(name, _)| is_kept(name)) {
        push_usual(&mut form, name);
        match value {
            HeaderValue::Text(text) if text == message_id => push_number(&mut form, SAME_AS_ID << 1),
            HeaderValue::Text(text) if text == r#type => push_number(&mut form, SAME_AS_TYPE << 1),
            HeaderValue::Text(text) => push_text(&mut form, text),
            HeaderValue::Long(number) => {
                push_number(&mut form, LONG << 1);
                form.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
    form
}

/// What is left to read of a form.
struct Reader<'a>(&'a [u8]);

/// A text, or what stands for it.
enum Part<'a> {
    Text(&'a str),
    Usual(&'static str),
    Place(u64),
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed::Form)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.bytes(1)? else { return Err(Malformed::Form) };
            number |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed::Form)
    }

    fn part(&mut self) -> Result<Part<'a>, Malformed> {
        let number = self.number()?;
        if number & 1 == 1 {
            let length = usize::try_from(number >> 1).map_err(|_| Malformed::Form)?;
            return Ok(Part::Text(str::from_utf8(self.bytes(length)?)?));
        }
        let place = number >> 1;
        match place.checked_sub(FIRST_TEXT) {
            None => Ok(Part::Place(place)),
            Some(place) => {
                let usual = usize::try_from(place).ok().and_then(|place| TEXTS.get(place).copied());
                usual.map(Part::Usual).ok_or(Malformed::Form)
            }
        }
    }

    fn text(&mut self) -> Result<Cow<'static, str>, Malformed> {
        match self.part()? {
            Part::Text(text) => Ok(text.to_owned().into()),
            Part::Usual(text) => Ok(text.into()),
            Part::Place(_) => Err(Malformed::Form),
        }
    }

    fn value(&mut self, message_id: &str, r#type: &str) -> Result<HeaderValue, Malformed> {
        Ok(match self.part()? {
            Part::Text(text) | Part::Usual(text) => text.into(),
            Part::Place(SAME_AS_ID) => message_id.into(),
            Part::Place(SAME_AS_TYPE) => r#type.into(),
            Part::Place(LONG) => {
                let bytes = self.bytes(size_of::<i64>())?;
                i64::from_le_bytes(bytes.try_into().map_err(|_| Malformed::Form)?).into()
            }
            Part::Place(_) => return Err(Malformed::Form),
        })
    }
}

/// The message with these properties and this body.
pub(super) fn read(properties: &[u8], body: Bytes) -> Result<Message, Malformed> {
    let mut reader = match properties {
        [FORM, rest @ ..] => Reader(rest),
        [b'{', ..] => return Ok(serde_json::from_slice::<Former>(properties)?.into_message(body)),
        _ => return Err(Malformed::Form),
    };
    let timestamp = reader.number()?;
    let (message_id, r#type) = (reader.text()?.into_owned(), reader.text()?.into_owned());
    let (content_type, app_id) = (reader.text()?.into_owned(), reader.text()?.into_owned());
    let mut headers = MessageHeaders::with_room();
    while !reader.0.is_empty() {
        headers.insert(reader.text()?, reader.value(&message_id, &r#type)?);
    }
    // The expiration is gone once it is stored: the queue's table knows when the message leaves.
    Ok(Message { message_id, r#type, timestamp, content_type, app_id, expiration: None, headers, body })
}

/// The message id in these properties, for the log.
pub(super) fn message_id(properties: &[u8]) -> String {
    read(properties, Bytes::new()).map(|message| message.message_id).unwrap_or_default()
}

/// The properties of a dead letter: the same, and in the headers the queues and reasons of its first and last death.
pub(super) fn bury(properties: &[u8], queue: &str, death: Death) -> Vec<u8> {
    let reason = death.reason();
    let Ok(mut message) = read(properties, Bytes::new()) else {
        return properties.to_owned();
    };
    let headers = &mut message.headers;
    headers.insert(death::LAST_QUEUE, queue.into());
    headers.insert(death::LAST_REASON, reason.into());
    if !headers.contains_key(FIRST_DEATH_QUEUE) {
        headers.insert(FIRST_DEATH_QUEUE, queue.into());
        headers.insert(FIRST_DEATH_REASON, reason.into());
    }
    form(&message, |_| true)
}

/// The properties as files of version 3 and earlier have them.
#[derive(Deserialize)]
struct Former {
    message_id: String,
    r#type: String,
    timestamp: u64,
    content_type: String,
    app_id: String,
    headers: MessageHeaders,
}

impl Former {
    fn into_message(self, body: Bytes) -> Message {
        let Self { message_id, r#type, timestamp, content_type, app_id, headers } = self;
        Message { message_id, r#type, timestamp, content_type, app_id, expiration: None, headers, body }
    }
}

#[cfg(test)]
mod tests {
    use event::header;

    use super::*;

    fn odd() -> Message {
        let odd = "\"\\\u{0}\n\u{1f}\u{7f} ç \u{2028}😀";
        Message {
            message_id: odd.to_owned(),
            r#type: "order.created".to_owned(),
            timestamp: u64::MAX,
            content_type: "application/json".to_owned(),
            app_id: String::new(),
            expiration: None,
            headers: [
                (odd, "plain".into()),
                ("cloudEvents_id", odd.into()),
                ("cloudEvents_type", "order.created".into()),
                ("long", i64::MIN.into()),
                ("text", "x".repeat(300).as_str().into()),
                ("", "".into()),
            ]
            .into(),
            body: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn what_is_written_is_read_again_whatever_its_characters() {
        let message = odd();
        assert_eq!(read(&write(&message), message.body.clone()).unwrap(), message);
        let bare = Message { headers: Default::default(), ..message };
        assert_eq!(read(&write(&bare), bare.body.clone()).unwrap(), bare);
    }

    #[test]
    fn usual_texts_are_named_by_places_that_stay() {
        let message = Message {
            message_id: "m".to_owned(),
            r#type: "t".to_owned(),
            timestamp: 300,
            content_type: "application/json".to_owned(),
            app_id: event::APP_ID.to_owned(),
            expiration: None,
            headers: [
                ("cloudEvents_id", "m".into()),
                ("cloudEvents_type", "t".into()),
                (header::DUPLICATE_KEY, "k".into()),
                (header::TO_CONSUMER, "c".into()),
                (header::ATTEMPT, 1.into()),
            ]
            .into(),
            body: Bytes::new(),
        };
        let form = b"\x01\xac\x02\x03m\x03t\x20\x22\x24\x00\x32\x02\x1dmalote_attempt\x04\x01\0\0\0\0\0\0\0\x3c\x03k\x42\x03c";
        assert_eq!(write(&message), form);
        assert_eq!(read(form, Bytes::new()).unwrap(), message);
    }

    #[test]
    fn what_an_earlier_version_wrote_is_read() {
        let json = r#"{"message_id":"m","type":"t","timestamp":7,"content_type":"c","app_id":"a","headers":{"n":1,"t":"x"}}"#;
        let message = read(json.as_bytes(), Bytes::new()).unwrap();
        assert_eq!((message.message_id.as_str(), message.r#type.as_str(), message.timestamp), ("m", "t", 7));
        assert_eq!(message.headers, [("n", 1.into()), ("t", "x".into())].into());
        let buried = read(&bury(json.as_bytes(), "q", Death::Expired), Bytes::new()).unwrap();
        assert_eq!((buried.text(death::LAST_QUEUE), buried.long("n")), (Some("q"), Some(1)));
    }

    #[test]
    fn what_is_cut_off_or_of_a_later_form_is_refused() {
        let form = write(&odd());
        // Where a header ends, the others may be missing.
        let whole = (0..form.len()).filter(|length| read(&form[..*length], Bytes::new()).is_ok()).count();
        assert_eq!(whole, odd().headers.iter().count());
        for other in [
            [FORM + 1].as_slice(),
            &[],
            &[FORM, 0, 2],
            &[FORM, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
        ] {
            assert!(read(other, Bytes::new()).is_err(), "{other:?}");
        }
    }
}
