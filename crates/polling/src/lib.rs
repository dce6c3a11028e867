//! Polling: asks the API of a sender for what it has not delivered, and acknowledges it there once it is durable here.
//!
//! Place in the flow: beside the sender's requests. Each item of an answer enters the ingress as the body of a request would,
//! with the same rule for duplicates, so that a notice that is posted and polled is one fact.
//!
//! ```text
//! API of the sender ──GET──▶ items ──▶ ingress ──confirm──▶ broker (or spool)
//!         ▲                                   │
//!         └──────────── acknowledge ◀─────────┘
//! ```
//!
//! Promises: an item is acknowledged only after it is durable, so one that is not acknowledged comes again and is recognised;
//! of several processes one polls a source at a time; a failing API is asked less and less often, and never before the time it
//! asks for. What it cannot promise: that an API lists an item until it is acknowledged. This crate knows no provider by name.

mod config;
#[cfg(any(test, feature = "test-support"))]
pub mod laws;
mod poll;
mod table;
mod template;
#[cfg(test)]
mod tests;
mod views;
mod worker;

pub use config::{Acknowledge, Poll, PollAuth};
pub use table::{Configured, forget, register, restore};
pub use template::{NotATemplate, Template};
pub use views::{SOURCES, SourceFilter, SourceRow, VIEWS};
pub use worker::{BadPoll, Polled, Poller};

use store::{Component, Migration};

/// The tables.
pub const COMPONENT: Component = Component {
    name: "polling",
    migrations: &[Migration::portable(1, "sources", include_str!("../migrations/0001_sources.sql"))],
};
