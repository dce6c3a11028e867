//! HTTP in: authenticates a provider's POST, reads its topic, publishes it, and answers once it is durable.
//!
//! ```text
//! POST /webhooks/{source}
//!   address ▸ credentials ▸ size ▸ signature ▸ topic ▸ publish ▸ confirm ▸ 200 {"id", "topic"}
//!                                                └─(unusable)▸ rejected ▸ confirm ▸ 400
//! ```
//!
//! A 2xx answer means that the event is durable in every queue bound to its topic. Any other answer is a problem (RFC
//! 9457) that says what to do. This crate knows no table and no domain: `providers` reads bodies, and `broker` stores
//! them.

mod coding;
mod config;
mod memory;
mod misses;
mod quota;
mod receive;
mod recent;
mod refusal;
mod refusal_log;
mod source;
mod tally;
#[cfg(test)]
mod tests;
mod trace;

pub use config::Config;
pub use quota::Quota;
pub use receive::Ingress;
pub use source::Source;
