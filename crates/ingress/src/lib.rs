//! HTTP in: authenticates a provider's POST, reads its topic, publishes it, and answers once it is durable.
//!
//! ```text
//! POST /webhooks/{source}
//!   address ▸ credentials ▸ size ▸ signature ▸ topic ▸ publish ▸ confirm ▸ 200 {"id", "topic"}
//!                                                └─(unusable)▸ rejected ▸ confirm ▸ 400
//! POST /oauth/token
//!   client ▸ access token, for sources that require one
//! ```
//!
//! A 2xx answer means that the event is durable in every queue bound to its topic. Any other answer is a problem (RFC
//! 9457) that says what to do. What was fetched from a sender's API enters by [`Ingress::keep_polled`], without a request of its
//! own. This crate knows no table and no domain: `providers` reads bodies, and `broker` stores
//! them.

mod coding;
mod config;
mod memory;
mod misses;
mod outcome;
mod quota;
mod receive;
mod recent;
mod refusal;
mod refusal_log;
mod several;
mod source;
mod source_report;
mod tally;
#[cfg(any(test, feature = "test-support"))]
pub mod test_support;
#[cfg(test)]
mod tests;
mod token;
mod token_endpoint;
mod trace;

pub use config::Config;
pub use quota::Quota;
pub use receive::{Ingress, Kept, NotKept};
pub use source::Source;
