//! The consumer runtime: takes deliveries in batches, gives each event its effect exactly once, and settles.
//!
//! Place in the flow: between a queue and a domain. A domain declares one [`Domain`] and implements [`Handler`]; the
//! ledger implements [`Recorder`]. Only this crate acks, retries and dead-letters:
//!
//! ```text
//! queue ──batch──▶ read each ──▶ one transaction: claim in the inbox ▸ write all ▸ outbox ▸ commit ──▶ ack together
//!                      │             │ failure: roll back, then retry in halves, down to the failing one
//!                      │             ├── Transient ──▶ wait.<delay>, confirmed ──▶ ack
//!                      │             └── Permanent, or the last attempt ──┐
//!                      └── unreadable ────────────────────────────────────┴──▶ dead, confirmed ──▶ ack
//! ```
//!
//! Handlers return the domain events that their effects amount to. They are written in the transaction, and [`Relay`] publishes
//! them.
//!
//! While the database is down the batch is held and retried; no attempt is counted, and it is given back before
//! RabbitMQ stops the consumer.
//!
//! This crate knows no provider and no domain table.

mod announcement;
mod bindings;
mod domain;
mod handler;
#[cfg(any(test, feature = "test-support"))]
pub mod laws;
mod panics;
mod policy;
mod relay;
mod runtime;
mod settle;
mod taken;
#[cfg(test)]
mod tests;
mod window;

pub use announcement::{Announcement, DomainEvent, Entity, EventType};
pub use bindings::{Bindings, DEFAULT_RETRY, takers};
pub use broker::layout::RetryDelay;
pub use domain::{Domain, Expectation};
pub use handler::{Failure, Forward, Handler, Observer, Permanent, Recorder, Recording};
pub use panics::remember_panic;
pub use policy::{Policy, PolicyChange};
pub use relay::Relay;
pub use runtime::{Config, Consumer, Runtime, Status};
