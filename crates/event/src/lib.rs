//! The event: what a provider's webhook becomes, and the only value that every part of malote shares.
//!
//! The envelope is CloudEvents 1.0; its data are the bytes as the provider sent them. This crate gives the
//! envelope's AMQP form as plain values ([`Message`]), so that a broker and the code on either side of it agree
//! without naming a protocol library. Beside it are the small values that several crates share: names, ids, days, and the files of
//! a client's TLS. It knows no provider, no broker and no database.
//!
//! ```
//! use event::{Event, EventId, ProviderName, Source, SourceName, Subject, Topic};
//!
//! let source = Source::new(ProviderName::new("mercado-eletronico")?, SourceName::new("me-filial-sul")?);
//! let event = Event::new(source, Topic::new("order.created")?, r#"{"topic":"order.created"}"#.into())
//!     .with_subject(Subject::new("order", "123"));
//! let message = event.to_message();
//! assert_eq!(message.r#type, "order.created");
//! assert_eq!(Event::from_message(&message)?, event);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chain;
mod client_tls;
mod day;
mod envelope;
mod headers;
mod id;
mod message;
mod name;
mod nearest;
mod receipt;
mod time;

pub use chain::Chain;
pub use client_tls::ClientTls;
pub use day::{ClockTime, Day, NoSuchZone, NotADay, UTC, Zone};
pub use envelope::{Event, Headers, MalformedEvent};
pub use headers::{HeaderValue, MessageHeaders};
pub use id::{EventId, NotAnEventId};
pub use message::{APP_ID, Message, header};
pub use name::{BadName, ProviderName, Source, SourceName, Subject, SubscriptionName, Topic};
pub use nearest::nearest;
pub use receipt::Receipt;

/// A point in time, UTC, with microseconds: what [`now`] gives and what every store keeps.
pub type Timestamp = jiff::Timestamp;

/// The present time, cut to whole microseconds so that it survives a round trip through any store.
pub fn now() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).expect("the present time is in range")
}
