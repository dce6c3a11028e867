//! Documents: what thin events only name is fetched from the API of their provider, and files before their addresses expire.
//!
//! Place in the flow: the ledger's feed has every event. A provider declares which documents its events name and where its API
//! has them ([`providers::documents`]). For each source with an `api`, one replica at a time
//!
//! ```text
//! feed ──▶ rows of what is named ──▶ fetch, at the pace of the API ──▶ version, announcement (`invoice.fetched`), row: one transaction
//! ```
//!
//! Promises: a document that an event names is fetched, or its row says why it is not; a process may be killed anywhere; each
//! distinct version is kept and announced once. A failing API delays its own documents alone, and is never asked earlier than it
//! allows. What is old is deleted, if the configuration says when. This crate knows no provider's contract and no domain.

mod archive;
mod config;
mod document;
mod engine;
mod events;
mod fetch;
#[cfg(any(test, feature = "test-support"))]
pub mod laws;
mod named;
mod pace;
mod retain;
mod table;
#[cfg(test)]
mod tests;
mod views;
mod worker;
mod writes;

pub use archive::Archive;
pub use config::{ApiConfig, Config, Source};
pub use document::DocumentState;
pub use engine::Engine;
pub use events::EVENTS;
pub use named::Cause;
pub use table::{Body, Failing, ask_for, body, failing};
pub use views::{
    DOCUMENTS, DocumentDetail, DocumentFilter, DocumentRow, SourceApi, VERSIONS, VIEWS, VersionRow, show,
    source_api,
};

use store::{Component, Migration};

/// The tables of documents.
pub const COMPONENT: Component = Component {
    name: "documents",
    migrations: &[
        Migration::portable(1, "documents", include_str!("../migrations/0001_documents.sql")),
        Migration::portable(2, "retention", include_str!("../migrations/0002_retention.sql")),
        Migration::postgres(3, "views", include_str!("../migrations/0003_views.postgres.sql")),
        Migration::portable(4, "due", include_str!("../migrations/0004_due.sql")),
    ],
};
