//! What the providers send: who they are, how they prove it, what happened, to what, and the payloads in
//! full.
//!
//! The ingress asks an [`auth::Auth`] whether a request is authenticated and a [`Provider`] what it says; the
//! domain crates [`parse`] the recorded bytes into typed payloads. Everything here is pure: bytes and headers
//! in, values out. This crate knows no socket, no broker, no database and no clock.
//!
//! ```
//! use providers::{Inbound, Provider, SubjectKey, mercado_eletronico};
//!
//! let body = bytes::Bytes::from_static(br#"{"topic": "invoice.created", "data": {"invoiceId": "32211"}}"#);
//! let provider = Provider::named("mercado-eletronico").expect("it is one of the four");
//! let inbound = Inbound { headers: &http::HeaderMap::new(), body: &body };
//! let reading = provider.read(&inbound, &SubjectKey::from_bytes([7; 32]))?;
//! assert_eq!(reading.topic.as_str(), "invoice.created");
//! assert_eq!(reading.subject.expect("an invoice has an id").as_str(), "invoice/32211");
//!
//! let notice: providers::Parsed<mercado_eletronico::Notice<mercado_eletronico::Invoice>> =
//!     providers::parse(&body, "application/json")?;
//! assert_eq!(notice.payload.data.invoice_id.as_str(), "32211");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod auth;
pub mod beneficio_visao;
mod body;
mod canonical;
mod charset;
mod compact;
mod contract;
pub mod documents;
mod duplicates;
mod fields;
pub mod generic;
pub mod gestao_online;
mod header;
mod hex;
mod inbound;
pub mod mercado_eletronico;
mod pointer;
mod polled;
pub mod presets;
mod provider;
pub mod recuperador;
mod registry;
mod scan;
mod subject_key;
mod template;
mod unexpected;
mod unusable;
pub mod value;
mod xml;

pub use body::body_value;
pub use contract::{ContractError, Ignored, Object, Parsed, Payload, parse};
pub use documents::{ArchivedFile, Fetched, fetched, file_key};
pub use duplicates::{Duplicates, Fact};
pub use generic::{Answer, Challenge, Reply};
pub use header::HeaderName;
pub use hex::to_hex;
pub use inbound::Inbound;
pub use polled::{Item, NoItems, Polling, items};
pub use provider::{BodyEvent, Provider, Reading, TopicInfo};
pub use subject_key::SubjectKey;
pub use template::{NotATemplate, Template};
pub use unusable::Unusable;
pub use value::{Centavos, Date, Degrees, Dioptres, Id, Personal, Sequence, TaxId};
