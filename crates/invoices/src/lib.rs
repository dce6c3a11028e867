//! Invoices (notas fiscais): their status, attachments and credit memos, from Mercado Eletrônico and Gestão Online; and number,
//! amounts and supplier, from the documents that are fetched from Mercado Eletrônico.
//!
//! Place in the flow: the consumer runtime has [`Invoices`] read each event of its bindings and write its facts;
//! screens and the command line read the rows through [`VIEWS`]. Current state and history are tables of the domain; no
//! other crate writes them. Each change of an invoice is announced as a domain event.
//!
//! The providers send thin notices, each about one thing, without an order of facts: of two notices about the same
//! thing, the one received later is newer. A notice does not change what it does not mention. Of documents, the greatest version
//! is the newest.
//!
//! ```
//! use event::{ProviderName, Topic};
//!
//! let (provider, topic) = (ProviderName::new("mercado-eletronico")?, Topic::new("invoice.status")?);
//! assert!(invoices::DOMAIN.bindings.takes(&provider, &topic));
//! # Ok::<(), event::BadName>(())
//! ```

mod events;
mod handler;
mod history;
#[cfg(any(test, feature = "test-support"))]
pub mod laws;
mod model;
mod query;
mod sql;

use std::sync::Arc;

use consumer::{Bindings, Consumer, DEFAULT_RETRY, Domain, Handler};
use event::ProviderName;
pub use handler::Invoices;
pub use history::{INVOICE_HISTORY, InvoiceFact, InvoiceFactFilter};
pub use model::Invoice;
pub use query::{Filter, INVOICES, VIEWS};
use store::{Component, Migration};

/// The domain.
pub static DOMAIN: Domain = Domain {
    bindings: Bindings {
        consumer: "invoices",
        purpose: "keeps invoices: their status, amounts, suppliers, attachments and credit memos",
        topics: &[
            (providers::mercado_eletronico::NAME, &["invoice.#"]),
            (providers::gestao_online::NAME, &["TAX_INVOICE_CHANGE_STATUS"]),
            (ProviderName::OWN, &["invoice.fetched", "supplier.fetched"]),
        ],
        prefetch: 1_024,
        retry: DEFAULT_RETRY,
    },
    component: Component {
        name: "invoices",
        migrations: &[
            Migration {
                version: 1,
                description: "invoices and their attachments",
                copies: false,
                sqlite: include_str!("../migrations/0001_invoices.sql"),
                postgres: concat!(
                    include_str!("../migrations/0001_invoices.sql"),
                    include_str!("../migrations/0001_invoices.postgres.sql")
                ),
            },
            Migration::postgres(
                2,
                "readable views",
                include_str!("../migrations/0002_readable.postgres.sql"),
            ),
            Migration::portable(3, "before", include_str!("../migrations/0003_before.sql")),
            Migration {
                version: 4,
                description: "documents",
                copies: false,
                sqlite: include_str!("../migrations/0004_documents.sql"),
                postgres: concat!(
                    include_str!("../migrations/0004_documents.sql"),
                    include_str!("../migrations/0004_documents.postgres.sql")
                ),
            },
        ],
    },
    events: events::ALL,
    views: &VIEWS,
    expectations: &query::EXPECTATIONS,
    consumer: |_, runtime| Consumer::new(&DOMAIN.bindings, Arc::new(Invoices), runtime),
    check: |_, event| Invoices.read(event).map(drop),
};
