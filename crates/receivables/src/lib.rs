//! Receivables: what is owed to the company, from recuperador's agreements and Gestão Online's orders.
//!
//! Place in the flow: the consumer runtime has [`Receivables`] read each event of its bindings and write its facts;
//! screens and the command line read the rows through [`VIEWS`]. Current state and history are tables of the domain; no
//! other crate writes them. Each change of a state is announced as a domain event.
//!
//! An agreement's body is a snapshot of it with its debts and instalments, and the `id` of the webhook orders the snapshots;
//! of two with the same `id`, the one received later is newer. A notice that an instalment was paid pays that one instalment,
//! unless a newer snapshot states otherwise; the days that both name decide which is newer, then the receipt. A reversal
//! whose snapshot names no day later than that of the payment is therefore not seen. Each event of an order is about one
//! thing, and the one received later is newer; an event does not change what it does not mention.
//!
//! ```
//! use event::{ProviderName, Topic};
//!
//! let (provider, topic) = (ProviderName::new("recuperador")?, Topic::new("acordo.quitado")?);
//! assert!(receivables::DOMAIN.bindings.takes(&provider, &topic));
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
pub use handler::Receivables;
pub use history::{
    AGREEMENT_HISTORY, AgreementFact, AgreementFactFilter, RECEIVABLE_HISTORY, ReceivableFact,
    ReceivableFactFilter,
};
pub use model::{Agreement, AgreementState, Kind, Receivable, ReceivableRow, ReceivableState};
pub use query::{AGREEMENTS, AgreementFilter, Filter, RECEIVABLES, VIEWS};
use store::{Component, Migration};

/// The domain.
pub static DOMAIN: Domain = Domain {
    bindings: Bindings {
        consumer: "receivables",
        purpose: "books agreements and orders, their instalments and payments",
        topics: &[
            (providers::recuperador::NAME, &["acordo.*", "parcela.aprovada"]),
            (
                providers::gestao_online::NAME,
                &["ORDER_CREATED", "ORDER_CANCEL", "FINANCIAL_PAYMENT_DISCHARGE", "FINANCIAL_PAYMENT_STATUS"],
            ),
            (ProviderName::OWN, &["order.fetched"]),
        ],
        prefetch: 1_024,
        retry: DEFAULT_RETRY,
    },
    component: Component {
        name: "receivables",
        migrations: &[
            Migration {
                version: 1,
                description: "receivables and agreements",
                copies: false,
                sqlite: include_str!("../migrations/0001_receivables.sql"),
                postgres: concat!(
                    include_str!("../migrations/0001_receivables.sql"),
                    include_str!("../migrations/0001_receivables.postgres.sql")
                ),
            },
            Migration::postgres(
                2,
                "readable views",
                include_str!("../migrations/0002_readable.postgres.sql"),
            ),
            Migration::portable(3, "webhook receipt", include_str!("../migrations/0003_webhook_receipt.sql")),
            Migration::portable(4, "before", include_str!("../migrations/0004_before.sql")),
            Migration::postgres(5, "refusal", include_str!("../migrations/0005_refuse.postgres.sql")),
            Migration {
                version: 6,
                description: "instalments by agreement",
                copies: true,
                sqlite: concat!(
                    include_str!("../migrations/0006_items.sql"),
                    include_str!("../migrations/0006_after.sqlite.sql"),
                ),
                postgres: concat!(
                    include_str!("../migrations/0006_items.sql"),
                    include_str!("../migrations/0006_after.postgres.sql"),
                ),
            },
            Migration::postgres(7, "what is copied", include_str!("../migrations/0007_empty.postgres.sql")),
            Migration {
                version: 8,
                description: "documents",
                copies: false,
                sqlite: include_str!("../migrations/0008_documents.sql"),
                postgres: concat!(
                    include_str!("../migrations/0008_documents.sql"),
                    include_str!("../migrations/0008_documents.postgres.sql")
                ),
            },
        ],
    },
    events: events::ALL,
    views: &VIEWS,
    expectations: &query::EXPECTATIONS,
    consumer: |zone, runtime| {
        Consumer::new(&DOMAIN.bindings, Arc::new(Receivables { zone: zone.clone() }), runtime)
    },
    check: |zone, event| Receivables { zone: zone.clone() }.read(event).map(drop),
};
