//! What a broker reports about a message that it gave up itself, in one form for every broker.
//!
//! RabbitMQ describes the path of a dead letter in its own headers. On receipt, what matters is copied to two of ours,
//! and theirs are never published: RabbitMQ up to 3.13 takes a message that arrives with an `x-death` for one in a
//! cycle, and silently drops it at its next dead-lettering.

use event::{Message, header};

use crate::QueueName;

/// The queue that gave the message up last. RabbitMQ writes it from 3.13 on.
pub const LAST_QUEUE: &str = "x-last-death-queue";

/// The reason: `expired`, `delivery_limit`, … RabbitMQ writes it from 3.13 on.
pub const LAST_REASON: &str = "x-last-death-reason";

/// The value of [`header::DEATH_REASON`] for a message that came back unsettled too often.
pub const DELIVERY_LIMIT: &str = "delivery_limit";

/// The value of [`header::DEATH_REASON`] for a message that a consumer rejected without having it delivered again.
pub const REJECTED: &str = "rejected";

/// The value of [`header::DEATH_REASON`] for a message whose queue was gone after its wait.
pub const MISSING_QUEUE: &str = "missing_queue";

/// Whether a header belongs to a broker: such headers are read and never published.
pub fn is_of_broker(name: &str) -> bool {
    // AMQP 0-9-1, section 3.1.4.1: names with this prefix belong to the server.
    name.starts_with("x-")
}

/// Writes [`header::DEATH_QUEUE`] and [`header::DEATH_REASON`] on a message from a queue, if its broker gave it up
/// before. The end of a wait for this queue does not count as giving up; earlier values stay.
pub fn mark(message: &mut Message, queue: &QueueName, routing_key: &str) {
    let (Some(died_in), Some(reason)) = (message.text(LAST_QUEUE), message.text(LAST_REASON)) else { return };
    let (queue, reason) = match reason {
        "expired" if routing_key == queue.as_str() => return,
        "expired" => (routing_key.to_owned(), MISSING_QUEUE.to_owned()),
        reason => (died_in.to_owned(), reason.to_owned()),
    };
    message.headers.insert(header::DEATH_QUEUE.to_owned(), queue.into());
    message.headers.insert(header::DEATH_REASON.to_owned(), reason.into());
}
