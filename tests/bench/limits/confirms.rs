//! The broker's limit: a bare loop of lapin's that keeps 256 publishes in flight and waits for their confirms.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use axum::body::Bytes;
use event::{Event, HeaderValue, Message, Receipt, Source, Subject, Topic, header};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};

use crate::mix::{self, Post};

const IN_FLIGHT: usize = 256;

/// Publishes the messages that malote makes of these requests to the exchanges that malote publishes to. Gives
/// messages per second.
pub async fn rate(url: &str, numbers: Range<usize>) -> Result<f64> {
    let mut messages = Vec::with_capacity(numbers.len());
    for Post { source, provider, topic, body } in numbers.map(mix::post) {
        let message = message(source, provider, topic, body.into())?;
        messages.push((format!("received.{provider}"), topic, properties(&message), message.body));
    }
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let mut in_flight = VecDeque::with_capacity(IN_FLIGHT);
    let (count, start) = (messages.len(), Instant::now());
    for (exchange, topic, properties, body) in messages {
        if in_flight.len() == IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            confirmed(oldest).await?;
        }
        let publish = channel.basic_publish(exchange.into(), topic.into(), options, &body, properties);
        in_flight.push_back(publish.await?);
    }
    for last in in_flight {
        confirmed(last).await?;
    }
    let elapsed = start.elapsed();
    ensure!(elapsed > Duration::ZERO, "the clock stands still");
    connection.close(200, "done".into()).await?;
    Ok(count as f64 / elapsed.as_secs_f64())
}

async fn confirmed(confirm: impl Future<Output = lapin::Result<Confirmation>>) -> Result<()> {
    match confirm.await? {
        Confirmation::Ack(None) => Ok(()),
        other => bail!("not confirmed: {other:?}"),
    }
}

/// A message with the properties and headers that malote's ingress gives it, the subject and the receipt always the same.
pub fn message(source: &str, provider: &str, topic: &str, body: Bytes) -> Result<Message> {
    let source = Source::parse(&format!("/{provider}/{source}"))?;
    let mut event =
        Event::new(source, Topic::new(topic)?, body).with_subject(Subject::new("order", "0000593098"));
    event.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    let mut message = event.into_message();
    let receipt = Receipt { status: 200, client: Ipv4Addr::LOCALHOST.into(), sender_id: None };
    message.headers.insert(header::ANSWER, HeaderValue::Text(receipt.to_text()));
    Ok(message)
}

/// What a message has beside its body, in the client library's form.
pub fn properties(message: &Message) -> BasicProperties {
    let headers: std::collections::BTreeMap<_, _> = message
        .headers
        .iter()
        .map(|(name, value)| {
            let value = match value {
                HeaderValue::Long(number) => AMQPValue::LongLongInt(*number),
                HeaderValue::Text(text) => AMQPValue::LongString(text.as_bytes().into()),
            };
            (name.into(), value)
        })
        .collect();
    BasicProperties::default()
        .with_message_id(message.message_id.as_str().into())
        .with_type(message.r#type.as_str().into())
        .with_timestamp(message.timestamp)
        .with_content_type(message.content_type.as_str().into())
        .with_app_id(message.app_id.as_str().into())
        .with_delivery_mode(2)
        .with_headers(FieldTable::from(headers))
}
