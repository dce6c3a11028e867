//! Declares exchanges, queues and bindings, and asks how full queues are.
//!
//! Promises quorum queues only, with a delivery limit, `reject-publish` and at-least-once dead-lettering; everything
//! of a topology goes out at once and is answered in order. The server closes the channel on the first error, so
//! every call opens one of its own. Deletes only what it is asked to delete.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::{
    Binding, BrokerError, Cause, Destination, Exchange, ExchangeKind, Queue, QueueName, QueueStatus, Topology,
};
use event::HeaderValue;
use futures_util::future::{BoxFuture, try_join_all};
use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeUnbindOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ErrorKind};
use tokio::time::{Instant, timeout_at};

use crate::Unavailable;
use crate::link::Link;
use crate::message::{amqp_value, short};

/// How long a whole topology may take: some twenty quorum queues at 10 to 50 ms each, many times over.
const DECLARE_PATIENCE: Duration = Duration::from_secs(30);

/// Declares a topology on this connection. Returns what is in force: a queue that exists with another delivery limit
/// keeps it, since the arguments of a queue cannot change.
pub(crate) async fn on_link(link: &Link, mut topology: Topology) -> Result<Topology, BrokerError> {
    // The server reports one queue at a time, and closes the channel.
    for _ in 0..=topology.queues.len() {
        match once(link, &topology).await {
            Ok(()) => break,
            Err(BrokerError::Conflict { what, cause }) => {
                let existing = existing_limit(&cause.to_string());
                let is_it = |queue: &&mut Queue| what == format!("queue {}", queue.name);
                match (topology.queues.iter_mut().find(is_it), existing) {
                    (Some(queue), Some(limit)) if queue.delivery_limit != limit => {
                        queue.delivery_limit = limit
                    }
                    _ => return Err(BrokerError::Conflict { what, cause }),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(topology)
}

async fn once(link: &Link, topology: &Topology) -> Result<(), BrokerError> {
    let deadline = Instant::now() + DECLARE_PATIENCE;
    let channel = link.open_channel(deadline).await.map_err(BrokerError::Unavailable)?;
    let declarations = topology
        .exchanges
        .iter()
        .map(|exchange| declare_exchange(&channel, exchange))
        .chain(topology.queues.iter().map(|queue| declare_queue(&channel, queue)))
        .chain(topology.bindings.iter().map(|binding| bind(&channel, binding)))
        .collect::<Result<Vec<_>, Cause>>()
        .map_err(BrokerError::Unavailable)?;
    match timeout_at(deadline, in_order(declarations)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(declare_error(error)),
        Err(_) => Err(BrokerError::Unavailable(Unavailable::Silent("the declarations").into())),
    }
}

type Declaration<'a> = BoxFuture<'a, lapin::Result<()>>;

/// Sends all at once, in this order, and waits for every answer. A lapin call is sent when it is first polled.
async fn in_order(declarations: Vec<Declaration<'_>>) -> lapin::Result<()> {
    try_join_all(declarations).await.map(drop)
}

fn declare_exchange<'a>(channel: &'a Channel, exchange: &Exchange) -> Result<Declaration<'a>, Cause> {
    let kind = match exchange.kind {
        ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
        ExchangeKind::Direct => lapin::ExchangeKind::Direct,
        ExchangeKind::Topic => lapin::ExchangeKind::Topic,
    };
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let name = short(exchange.name.as_str())?;
    Ok(Box::pin(channel.exchange_declare(name, kind, options, table(&exchange.arguments()))))
}

fn declare_queue<'a>(channel: &'a Channel, queue: &Queue) -> Result<Declaration<'a>, Cause> {
    let name = short(queue.name.as_str())?;
    let arguments = table(&queue.arguments());
    Ok(Box::pin(async move {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name, options, arguments).await.map(drop)
    }))
}

/// Arguments as AMQP carries them.
fn table(arguments: &BTreeMap<&'static str, HeaderValue>) -> FieldTable {
    let fields = arguments.iter().map(|(name, value)| ((*name).into(), amqp_value(value)));
    FieldTable::from(fields.collect::<BTreeMap<ShortString, AMQPValue>>())
}

fn bind<'a>(channel: &'a Channel, binding: &Binding) -> Result<Declaration<'a>, Cause> {
    let source = short(binding.exchange.as_str())?;
    let key = short(&binding.routing_key)?;
    Ok(match &binding.destination {
        Destination::Queue(queue) => Box::pin(channel.queue_bind(
            short(queue.as_str())?,
            source,
            key,
            QueueBindOptions::default(),
            FieldTable::default(),
        )),
        Destination::Exchange(exchange) => Box::pin(channel.exchange_bind(
            short(exchange.as_str())?,
            source,
            key,
            ExchangeBindOptions::default(),
            FieldTable::default(),
        )),
    })
}

/// Removes bindings; RabbitMQ passes over what does not exist.
pub(crate) async fn unbind(
    channel: &Channel,
    bindings: &[Binding],
    deadline: Instant,
) -> Result<(), BrokerError> {
    let removals =
        bindings.iter().map(|binding| removal(channel, binding)).collect::<Result<Vec<_>, Cause>>();
    match timeout_at(deadline, in_order(removals.map_err(BrokerError::Unavailable)?)).await {
        Ok(removed) => removed.map_err(|error| BrokerError::Unavailable(error.into())),
        Err(_) => Err(BrokerError::Unavailable(Unavailable::Silent("queue.unbind").into())),
    }
}

fn removal<'a>(channel: &'a Channel, binding: &Binding) -> Result<Declaration<'a>, Cause> {
    let source = short(binding.exchange.as_str())?;
    let key = short(&binding.routing_key)?;
    Ok(match &binding.destination {
        Destination::Queue(queue) => {
            Box::pin(channel.queue_unbind(short(queue.as_str())?, source, key, FieldTable::default()))
        }
        Destination::Exchange(exchange) => Box::pin(channel.exchange_unbind(
            short(exchange.as_str())?,
            source,
            key,
            ExchangeUnbindOptions::default(),
            FieldTable::default(),
        )),
    })
}

/// Deletes a queue, if there is one of this name; returns how many of its messages were ready.
pub(crate) async fn delete_queue(
    channel: &Channel,
    queue: &QueueName,
    deadline: Instant,
) -> Result<u64, BrokerError> {
    let name = short(queue.as_str()).map_err(|error| BrokerError::Unavailable(error.into()))?;
    match timeout_at(deadline, channel.queue_delete(name, QueueDeleteOptions::default())).await {
        Ok(Ok(messages)) => Ok(messages.into()),
        Ok(Err(error)) => Err(BrokerError::Unavailable(error.into())),
        Err(_) => Err(BrokerError::Unavailable(Unavailable::Silent("queue.delete").into())),
    }
}

/// The status of each queue, in the order asked.
pub(crate) async fn statuses(
    channel: &Channel,
    queues: &[QueueName],
    deadline: Instant,
) -> Result<Vec<QueueStatus>, BrokerError> {
    let ask = async |queue: &QueueName| {
        let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
        let name = short(queue.as_str()).map_err(|error| BrokerError::Unavailable(error.into()))?;
        let status = channel
            .queue_declare(name, options, FieldTable::default())
            .await
            .map_err(|error| queue_error(queues, error))?;
        Ok(QueueStatus {
            queue: queue.clone(),
            ready: status.message_count().into(),
            // AMQP does not show it.
            unacked: None,
            consumers: status.consumer_count().into(),
        })
    };
    timeout_at(deadline, try_join_all(queues.iter().map(ask)))
        .await
        .map_err(|_| BrokerError::Unavailable(Unavailable::Silent("queue.declare").into()))?
}

/// The error of the server that an operation failed with, if it is one that closes the channel and no more.
pub(crate) fn soft_error(error: &lapin::Error) -> Option<(AMQPSoftError, &str)> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => soft(error),
        _ => None,
    }
}

fn soft(error: &AMQPError) -> Option<(AMQPSoftError, &str)> {
    match error.kind() {
        AMQPErrorKind::Soft(kind) => Some((kind.clone(), error.get_message().as_str())),
        AMQPErrorKind::Hard(_) => None,
    }
}

/// What an operation on one of these queues failed with.
pub(crate) fn queue_error(queues: &[QueueName], error: lapin::Error) -> BrokerError {
    if let Some((AMQPSoftError::NOTFOUND, message)) = soft_error(&error)
        && let Some(queue) =
            queues.iter().find(|queue| message.contains(&format!("no queue '{queue}' in vhost")))
    {
        return BrokerError::MissingQueue { queue: queue.clone() };
    }
    BrokerError::Unavailable(error.into())
}

fn declare_error(error: lapin::Error) -> BrokerError {
    match soft_error(&error) {
        Some((AMQPSoftError::PRECONDITIONFAILED, message)) if is_conflict(message) => {
            BrokerError::Conflict { what: inequivalent(message), cause: error.into() }
        }
        Some(_) | None => BrokerError::Unavailable(error.into()),
    }
}

/// Whether waiting cannot fix this failed precondition: what exists differs, or an argument is not supported. RabbitMQ
/// also reports PRECONDITION_FAILED while a queue or its metadata has no majority.
fn is_conflict(message: &str) -> bool {
    ["inequivalent arg", "invalid arg"].iter().any(|words| message.contains(words))
}

/// The delivery limit of a queue that exists with another one than was asked for, in RabbitMQ's words: `… inequivalent
/// arg 'x-delivery-limit' for queue … but current is the value '20' of type 'long'`, or `… current is '20'`.
fn existing_limit(message: &str) -> Option<u32> {
    let (about, current) = message.split_once(" but current is ")?;
    let is_limit = about.contains("inequivalent arg 'x-delivery-limit' for queue");
    is_limit.then(|| current.split('\'').nth(1)?.parse().ok()).flatten()
}

/// What RabbitMQ's words are about: `… - inequivalent arg 'type' for exchange 'domain' in vhost '/': received …`.
fn inequivalent(message: &str) -> String {
    let what = message
        .split_once(" for ")
        .and_then(|(_, rest)| rest.split_once("' in vhost"))
        .map(|(what, _)| what.replacen('\'', "", 1));
    what.unwrap_or_else(|| "an exchange or a queue".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_delivery_limit_is_told_from_any_other_conflict() {
        let check = |message, expect| assert_eq!(existing_limit(message), expect, "{message}");
        check(
            "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'ledger' in vhost '/': received the \
             value '50000' of type 'long' but current is the value '20' of type 'long'",
            Some(20),
        );
        check(
            "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'ledger' in vhost '/': received \
             '50000' but current is '1000'",
            Some(1000),
        );
        check(
            "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'ledger' in vhost '/': received \
             '50000' but current is none",
            None,
        );
        check(
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'ledger' in vhost '/': received \
             '50000' but current is '1000'",
            None,
        );
    }

    #[test]
    fn a_conflict_names_what_exists() {
        let check = |message, expect: &str| assert_eq!(inequivalent(message), expect);
        check(
            "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'ledger' in vhost '/': received \
             '20' but current is '1000'",
            "queue ledger",
        );
        check(
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'a.domain' in vhost 'x': received 'topic' but \
             current is 'fanout'",
            "exchange a.domain",
        );
        check("PRECONDITION_FAILED - something else", "an exchange or a queue");
    }

    #[test]
    fn only_what_no_waiting_mends_is_a_conflict() {
        let check = |message, expect| assert_eq!(is_conflict(message), expect, "{message}");
        check("PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'a' in vhost '/'", true);
        check("PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'a' in vhost '/'", true);
        check("PRECONDITION_FAILED - could not perform the operation: no majority", false);
        check("PRECONDITION_FAILED - queue 'a' in vhost '/' process is stopped by supervisor", false);
    }
}
