//! A delivery that a consumer holds.

use broker::{Delivery, DeliveryTag};
use event::{Event, Message, header};

use crate::handler::AnyFact;

/// A delivery, read as far as this consumer needs.
pub(crate) struct Taken {
    pub(crate) tag: DeliveryTag,
    pub(crate) redelivered: bool,
    pub(crate) message: Message,
    /// The event and its fact, if the work needs them.
    pub(crate) read: Option<(Event, AnyFact)>,
}

impl Taken {
    /// Whether it is to be tried alone.
    pub(crate) fn is_alone(&self) -> bool {
        self.message.headers.contains_key(header::ALONE)
    }
}

impl From<Delivery> for Taken {
    fn from(delivery: Delivery) -> Self {
        Self { tag: delivery.tag, redelivered: delivery.redelivered, message: delivery.message, read: None }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A delivery with a body of this size.
    pub(crate) fn taken(size: usize, redelivered: bool) -> Taken {
        let message = Message { body: vec![0; size].into(), ..Message::default() };
        Taken { tag: 0, redelivered, message, read: None }
    }
}
