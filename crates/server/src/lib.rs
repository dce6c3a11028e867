//! The HTTP server of every role: the accept loop with its limits, the operations endpoints, problem details.
//!
//! A request passes, in this order: the limits of connections and of the share of its client, the TLS handshake (if
//! configured), the time-outs of [`Limits`], the hosts that the port answers under ([`HostName`]), the operations
//! endpoints ([`Operations`]), and then the role's own service. Promises that a stalling peer is disconnected in every
//! phase, a panic in a handler fails one request, and a stop lets running requests finish. It knows no route, no
//! credential and no domain; the service is any tower `Service`, so an `axum::Router` fits without this crate naming
//! axum.
//!
//! Metrics, through the `metrics` facade (the recorder is installed before [`Server::bind`]):
//!
//! | name | kind | labels |
//! | --- | --- | --- |
//! | `http_connections` | gauge | |
//! | `http_connections_total` | counter | |
//! | `http_connections_waiting` | gauge: accepted, and waiting for a free place | |
//! | `http_connections_delayed_total` | counter: had to wait for a free place | |
//! | `http_connections_displaced_total` | counter: closed to make room for others | |
//! | `http_connections_refused_total` | counter: beyond the client's share, or too many were waiting | |
//! | `http_accept_errors_total` | counter | |
//! | `http_timeouts_total` | counter | `phase`: `first_byte`, `tls`, `head`, `idle`, `write`, `close` |
//! | `http_requests_total` | counter | `status`: `1xx` … `5xx` |
//! | `http_panics_total` | counter | |
//!
//! ```no_run
//! use server::{Config, Health, Operations, Server};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example() -> Result<(), server::BindError> {
//! let health = Health::default();
//! let broker = health.component("broker");
//! let operations = Operations::new(health, || String::new(), "0.1.0");
//! let stop = CancellationToken::new();
//! let server = Server::bind(&Config::new("127.0.0.1:8080".parse().expect("an address"))).await?;
//! broker.up();
//! server.serve_operations(operations, stop).await;
//! # Ok(())
//! # }
//! ```

pub mod body;
mod client;
mod client_certificate;
mod config;
mod connection;
mod connections;
mod cryptography;
mod descriptors;
mod entrance;
mod hosts;
mod known;
mod memory;
mod metrics;
mod operations;
mod peer;
mod problem;
mod serve;
mod tls;

pub use body::BodyError;
pub use client::{Client, ClientRequests, Turn};
pub use client_certificate::{ClientAuthority, ClientCertificate, Identity, NoAuthority};
pub use config::{Config, Limits};
pub use descriptors::raise_descriptor_limit;
pub use hosts::{HostName, NotAHostName};
pub use operations::{ComponentHealth, ComponentStatus, Health, HealthStatus, Operations, Readiness};
pub use peer::Peer;
pub use problem::Problem;
pub use serve::{BindError, Server};
pub use tls::{Certificate, Tls, TlsError};
