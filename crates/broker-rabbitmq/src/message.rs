//! A message as lapin's basic properties, and back.
//!
//! Promises that malote's own messages arrive unchanged, and that no message of another publisher fails: missing
//! properties are empty, integers of every width become longs, and what has no counterpart is left out. The broker's
//! own headers are read and never sent.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::death;
use bytes::Bytes;
use event::{HeaderValue, Message, MessageHeaders};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString, ShortStringError};

use crate::link::PUBLISHING_FRAME_BYTES;

/// `delivery_mode` of a message that survives a restart (AMQP 0-9-1, basic class).
const PERSISTENT: u8 = 2;

/// What AMQP cannot carry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsendable {
    #[error("a property or the name of a header has more than 255 bytes")]
    Name(#[from] ShortStringError),
    #[error("the headers have {0} bytes, and {HEADERS_BYTES} fit into a frame")]
    Headers(usize),
}

/// The most bytes of all headers: they have to fit into one frame, beside the other properties. RabbitMQ answers a longer frame
/// by closing the connection, with everything else that is in flight.
const HEADERS_BYTES: usize = PUBLISHING_FRAME_BYTES as usize - 2 * 1024;

/// The properties and headers of a persistent message, without those of a broker.
pub(crate) fn to_properties(message: &Message) -> Result<BasicProperties, Unsendable> {
    let mut headers = BTreeMap::new();
    let mut bytes = 0;
    // From the last to the first: the tree looks for the place of each from its beginning, and has few entries.
    for (name, value) in message.headers.iter().rev().filter(|(name, _)| !death::is_of_broker(name)) {
        bytes += header_bytes(name, value);
        headers.insert(short(name)?, amqp_value(value));
    }
    if bytes > HEADERS_BYTES {
        return Err(Unsendable::Headers(bytes));
    }
    let properties = BasicProperties::default()
        .with_message_id(short(&message.message_id)?)
        .with_type(short(&message.r#type)?)
        .with_timestamp(message.timestamp)
        .with_content_type(short(&message.content_type)?)
        .with_app_id(short(&message.app_id)?)
        .with_delivery_mode(PERSISTENT)
        .with_headers(FieldTable::from(headers));
    Ok(match message.expiration {
        // AMQP 0-9-1 gives it no form; RabbitMQ reads milliseconds.
        Some(time) => properties.with_expiration(short(&time.as_millis().to_string())?),
        None => properties,
    })
}

/// The bytes of a header in a frame: the lengths of both, the type, the name and the value.
fn header_bytes(name: &str, value: &HeaderValue) -> usize {
    let value = match value {
        HeaderValue::Long(_) => size_of::<i64>(),
        HeaderValue::Text(text) => size_of::<u32>() + text.len(),
    };
    1 + name.len() + 1 + value
}

/// A header's or an argument's value.
pub(crate) fn amqp_value(value: &HeaderValue) -> AMQPValue {
    match value {
        HeaderValue::Long(number) => AMQPValue::LongLongInt(*number),
        HeaderValue::Text(text) => AMQPValue::LongString(text.as_bytes().into()),
    }
}

/// A short string, unless it is longer than AMQP's 255 bytes.
pub(crate) fn short(text: &str) -> Result<ShortString, ShortStringError> {
    ShortString::try_new(text)
}

/// A received message.
pub(crate) fn from_properties(properties: BasicProperties, body: Vec<u8>) -> Message {
    let text = |property: &Option<ShortString>| {
        property.as_ref().map(|text| text.as_str().to_owned()).unwrap_or_default()
    };
    let headers = properties.headers().iter().flat_map(FieldTable::inner).filter_map(|(name, value)| {
        let value = header_value(value)?;
        Some((name.as_str().to_owned(), value))
    });
    let mut headers: MessageHeaders = headers.collect();
    if !headers.contains_key(death::LAST_REASON)
        && let Some(deaths) = properties.headers().as_ref().and_then(|headers| headers.inner().get("x-death"))
    {
        headers.extend(last_death(deaths));
    }
    Message {
        message_id: text(properties.message_id()),
        r#type: text(properties.kind()),
        timestamp: properties.timestamp().unwrap_or_default(),
        content_type: text(properties.content_type()),
        app_id: text(properties.app_id()),
        expiration: text(properties.expiration()).parse().ok().map(Duration::from_millis),
        headers,
        body: Bytes::from(body),
    }
}

/// Queue and reason of a message's last death. RabbitMQ before 3.13 gives them only in `x-death`: an array of tables,
/// the last death first.
fn last_death(deaths: &AMQPValue) -> Vec<(String, HeaderValue)> {
    let Some(AMQPValue::FieldTable(last)) = deaths.as_array().and_then(|deaths| deaths.as_slice().first())
    else {
        return Vec::new();
    };
    [("queue", death::LAST_QUEUE), ("reason", death::LAST_REASON)]
        .into_iter()
        .filter_map(|(entry, name)| Some((name.to_owned(), header_value(last.inner().get(entry)?)?)))
        .collect()
}

/// The nearest of malote's two header types, if there is one. Tables (such as `x-death`), arrays and bytes have none.
fn header_value(value: &AMQPValue) -> Option<HeaderValue> {
    Some(match value {
        AMQPValue::LongLongInt(number) => HeaderValue::Long(*number),
        AMQPValue::LongString(text) => {
            HeaderValue::Text(String::from_utf8_lossy(text.as_bytes()).into_owned())
        }
        AMQPValue::ShortString(text) => HeaderValue::Text(text.as_str().to_owned()),
        AMQPValue::Boolean(value) => HeaderValue::Text(value.to_string()),
        AMQPValue::ShortShortInt(number) => HeaderValue::Long((*number).into()),
        AMQPValue::ShortShortUInt(number) => HeaderValue::Long((*number).into()),
        AMQPValue::ShortInt(number) => HeaderValue::Long((*number).into()),
        AMQPValue::ShortUInt(number) => HeaderValue::Long((*number).into()),
        AMQPValue::LongInt(number) => HeaderValue::Long((*number).into()),
        AMQPValue::LongUInt(number) => HeaderValue::Long((*number).into()),
        AMQPValue::Timestamp(seconds) => HeaderValue::Long(i64::try_from(*seconds).ok()?),
        AMQPValue::Float(number) => HeaderValue::Text(number.to_string()),
        AMQPValue::Double(number) => HeaderValue::Text(number.to_string()),
        AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_)
        | AMQPValue::Void => return None,
    })
}

#[cfg(test)]
mod tests {
    use lapin::types::{FieldArray, LongString};

    use super::*;

    #[test]
    fn our_own_message_comes_back_as_it_was() {
        let message = Message {
            message_id: "0199d3c0-1f2e-7abc-8def-0123456789ab".into(),
            r#type: "order.created".into(),
            timestamp: 1_790_000_000,
            content_type: "application/json".into(),
            app_id: event::APP_ID.into(),
            expiration: Some(Duration::from_millis(1_500)),
            headers: [
                ("cloudEvents_subject".to_owned(), HeaderValue::from("order/água")),
                ("malote_attempt".to_owned(), HeaderValue::from(3)),
            ]
            .into(),
            body: Bytes::from_static(b"{}"),
        };
        let properties = to_properties(&message).unwrap();
        assert_eq!(properties.delivery_mode(), &Some(2));
        assert_eq!(from_properties(properties, b"{}".to_vec()), message);
    }

    #[test]
    fn a_foreign_message_without_properties_is_empty() {
        let message = from_properties(BasicProperties::default(), b"x".to_vec());
        assert_eq!((message.message_id.as_str(), message.r#type.as_str(), message.timestamp), ("", "", 0));
        assert!(message.headers.is_empty());
    }

    #[test]
    fn foreign_headers_become_the_nearest_type_or_are_left_out() {
        let mut table = FieldTable::default();
        for (name, value) in [
            ("bool", AMQPValue::Boolean(true)),
            ("u8", AMQPValue::ShortShortUInt(200)),
            ("i16", AMQPValue::ShortInt(-3)),
            ("u32", AMQPValue::LongUInt(4_000_000_000)),
            ("time", AMQPValue::Timestamp(1_790_000_000)),
            ("beyond", AMQPValue::Timestamp(u64::MAX)),
            ("float", AMQPValue::Double(1.5)),
            ("short", AMQPValue::ShortString("s".into())),
            ("bytes", AMQPValue::LongString(LongString::from(vec![0xff, b'a']))),
            ("x-death", AMQPValue::FieldArray(FieldArray::default())),
            ("void", AMQPValue::Void),
        ] {
            table.insert(name.into(), value);
        }
        let message = from_properties(BasicProperties::default().with_headers(table), Vec::new());
        let expected = MessageHeaders::from([
            ("bool", HeaderValue::from("true")),
            ("u8", 200.into()),
            ("i16", (-3).into()),
            ("u32", 4_000_000_000.into()),
            ("time", 1_790_000_000.into()),
            ("float", "1.5".into()),
            ("short", "s".into()),
            ("bytes", "\u{fffd}a".into()),
        ]);
        assert_eq!(message.headers, expected);
    }

    #[test]
    fn the_last_death_is_read_and_no_header_of_the_broker_is_sent() {
        let death = |queue: &str, reason: &str| {
            let mut table = FieldTable::default();
            for (name, value) in [("queue", queue), ("reason", reason)] {
                table.insert(name.into(), AMQPValue::LongString(value.into()));
            }
            AMQPValue::FieldTable(table)
        };
        let deaths = vec![death("invoices", "delivery_limit"), death("wait.1s", "expired")];
        let mut table = FieldTable::default();
        table.insert("x-death".into(), AMQPValue::FieldArray(deaths.into()));
        table.insert("malote_attempt".into(), AMQPValue::LongLongInt(1));
        let message = from_properties(BasicProperties::default().with_headers(table.clone()), Vec::new());
        assert_eq!(message.text(death::LAST_QUEUE), Some("invoices"));
        assert_eq!(message.text(death::LAST_REASON), Some("delivery_limit"));

        let sent = to_properties(&message).unwrap();
        let names: Vec<_> =
            sent.headers().iter().flat_map(FieldTable::inner).map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["malote_attempt"]);

        // RabbitMQ 3.13 and later give it in headers of their own.
        for (name, value) in [(death::LAST_QUEUE, "a"), (death::LAST_REASON, "expired")] {
            table.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        let message = from_properties(BasicProperties::default().with_headers(table), Vec::new());
        assert_eq!(message.text(death::LAST_QUEUE), Some("a"));
        assert_eq!(message.text(death::LAST_REASON), Some("expired"));
    }

    #[test]
    fn a_property_that_amqp_cannot_carry_is_an_error() {
        let mut message = from_properties(BasicProperties::default(), Vec::new());
        message.r#type = "t".repeat(256);
        assert!(to_properties(&message).is_err());
        message.r#type = "t".repeat(255);
        assert!(to_properties(&message).is_ok());
    }

    #[test]
    fn headers_that_do_not_fit_into_a_frame_are_an_error() {
        let with = |bytes: usize| {
            let mut message = from_properties(BasicProperties::default(), Vec::new());
            message.headers.insert("malote_attempt", 1.into());
            message.headers.insert("http_x", "x".repeat(bytes).into());
            to_properties(&message)
        };
        let others = header_bytes("malote_attempt", &1.into()) + header_bytes("http_x", &"".into());
        assert!(with(HEADERS_BYTES - others).is_ok());
        let error = with(HEADERS_BYTES - others + 1).unwrap_err();
        assert_eq!(error.to_string(), "the headers have 63489 bytes, and 63488 fit into a frame");
    }
}
