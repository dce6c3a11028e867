//! What a broker tells of a message that it gave up itself, in one form for every broker.
//!
//! RabbitMQ describes the way of a dead letter in headers of its own. They end here: what matters becomes two of ours
//! on receipt, and nothing of theirs is ever published. RabbitMQ up to 3.13 takes a message that arrives with an
//! `x-death` for one that goes in circles, and drops it without a word at its next dead-lettering.

use event::{Message, header};

use crate::QueueName;

/// The queue that gave the message up last. RabbitMQ writes it from 3.13 on.
pub const LAST_QUEUE: &str = "x-last-death-queue";

/// Why it did: `expired`, `delivery_limit`, … RabbitMQ writes it from 3.13 on.
pub const LAST_REASON: &str = "x-last-death-reason";

/// Why a message that came back unsettled too often is a dead letter, as [`header::DEATH_REASON`] tells it.
pub const DELIVERY_LIMIT: &str = "delivery_limit";

/// Why a message that waited is a dead letter, as [`header::DEATH_REASON`] tells it.
pub const MISSING_QUEUE: &str = "missing_queue";

/// Whether a header is a broker's: such headers are read, and never published.
pub fn is_of_broker(name: &str) -> bool {
    // AMQP 0-9-1, section 3.1.4.1: names that begin so are the server's.
    name.starts_with("x-")
}

/// Writes [`header::DEATH_QUEUE`] and [`header::DEATH_REASON`] on a message that was read from a queue, if its broker
/// gave it up before. One whose wait for this queue is over was not given up; what it told before stays.
pub fn tell(message: &mut Message, queue: &QueueName, routing_key: &str) {
    let (Some(died_in), Some(reason)) = (message.text(LAST_QUEUE), message.text(LAST_REASON)) else { return };
    let (queue, reason) = match reason {
        "expired" if routing_key == queue.as_str() => return,
        "expired" => (routing_key.to_owned(), MISSING_QUEUE.to_owned()),
        reason => (died_in.to_owned(), reason.to_owned()),
    };
    message.headers.insert(header::DEATH_QUEUE.to_owned(), queue.into());
    message.headers.insert(header::DEATH_REASON.to_owned(), reason.into());
}
