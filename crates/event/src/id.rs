//! The identifier that an event keeps from its receipt to its last replay.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A UUIDv7 given at receipt: ids sort by time of receipt (to the millisecond; RFC 9562, section 5.7).
///
/// The same text is the CloudEvents `id`, the AMQP `message_id` and the `webhook-id` of a push.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// A new id, greater than every id this process gave before.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

/// The text is not a UUID.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected an event id (a UUID such as 0199d3c0-1f2e-7abc-8def-0123456789ab), got {0:?}")]
pub struct NotAnEventId(pub String);

impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        Uuid::parse_str(text).map(Self).map_err(|_| NotAnEventId(text.to_owned()))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_in_the_order_they_are_given() {
        let ids: Vec<_> = (0..1000).map(|_| EventId::generate()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1] && pair[0].to_string() < pair[1].to_string()));
    }

    #[test]
    fn an_id_survives_its_text_and_other_text_is_refused_by_name() {
        let id = EventId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("order-1".parse::<EventId>().unwrap_err().to_string().ends_with(r#"got "order-1""#));
    }
}
