//! HTTP out: the one client for addresses that people configure, such as those of push subscriptions.
//!
//! A [`Client`] connects only to public addresses and to those that `[outbound] allow` lists, so that a configured URL reaches
//! nothing behind the firewall. A name is resolved for each new connection, every address that it has must be allowed, and
//! the connection goes to one of those that were checked: a name that resolves differently later (DNS rebinding) gains
//! nothing. Redirects are not followed. An answer is bounded in size, and the whole exchange, with connecting and the
//! body, in time. TLS is always verified, and answers are never decompressed.
//!
//! Connections are kept open and used again, with HTTP/2 where the server offers it. A request that is dropped closes its
//! connection, or its stream; a client that is dropped closes the rest. A request is never repeated on its own, unless
//! nothing of it was sent, or its access token was rejected ([`Credentials`]).
//!
//! This crate knows no event, no subscription and no store.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use outbound::{Client, Config, Credentials, Request};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(&Config::default());
//! let request = Request {
//!     method: http::Method::POST,
//!     url: "https://billing.example.com/events".parse()?,
//!     headers: http::HeaderMap::new(),
//!     body: r#"{"type":"receivable.paid"}"#.into(),
//!     timeout: Duration::from_secs(15),
//!     max_answer: 64 * 1024,
//! };
//! let answer = client.send(request, &Credentials::bearer("a-token")?).await?;
//! assert!(answer.status.is_success());
//! # Ok(())
//! # }
//! ```

mod address;
mod breaker;
mod client;
mod config;
mod connect;
mod credentials;
mod error;
mod guard;
mod oauth2;
mod pool;
mod rate_limit;
mod resolve;
mod retry_after;
mod send;
mod tls;

pub use address::{Address, BadAddress};
pub use breaker::{Breaker, Permit};
pub use client::{Answer, Client, Request};
pub use config::{Config, Exception, NotAProxy, NotAnException, Proxy, ProxyUrl};
pub use credentials::{BadCredential, BadHeader, Credentials, header_name, static_headers};
pub use error::{SendError, Step, TokenError};
pub use guard::Refused;
pub use oauth2::{ClientAuthentication, JsonTokenSettings, OAuth2, OAuth2Settings};
pub use rate_limit::{RateLimit, rate_limit};
pub use retry_after::retry_after;
pub use send::Denied;
pub use tls::{Tls, TlsError};

#[cfg(test)]
mod tests;
