//! Receivables: what is owed to the company, from recuperador's agreements and Gestão Online's orders.
//!
//! Place in the flow: the consumer runtime has [`Receivables`] read each event of its bindings and write its facts;
//! screens and the command line read the rows through [`VIEWS`]. Current state and history are tables of the domain; no
//! other crate writes them.
//!
//! An agreement's body is a snapshot of it with its debts and instalments, and the `id` of the webhook orders the
//! snapshots; of two with the same `id`, the one received later is newer. Each event of an order is about one thing,
//! and the one received later is newer; an event does not change what it does not mention.
//!
//! ```
//! use event::{ProviderName, Topic};
//!
//! let (provider, topic) = (ProviderName::new("recuperador")?, Topic::new("acordo.quitado")?);
//! assert!(receivables::DOMAIN.bindings.takes(&provider, &topic));
//! # Ok::<(), event::BadName>(())
//! ```

mod handler;
#[cfg(any(test, feature = "test-support"))]
pub mod laws;
mod model;
mod query;
mod sql;

use std::sync::Arc;

use consumer::{Bindings, Consumer, DEFAULT_RETRY, Domain};
pub use handler::Receivables;
pub use model::{Agreement, AgreementState, Kind, Receivable, ReceivableState};
pub use query::{AGREEMENTS, AgreementFilter, Filter, RECEIVABLES, VIEWS};
use store::{Component, Migration};

/// The domain.
pub static DOMAIN: Domain = Domain {
    bindings: Bindings {
        consumer: "receivables",
        purpose: "books agreements, their instalments and the payment of orders",
        topics: &[
            (providers::recuperador::NAME, &["acordo.*"]),
            (
                providers::gestao_online::NAME,
                &["ORDER_CREATED", "ORDER_CANCEL", "FINANCIAL_PAYMENT_DISCHARGE", "FINANCIAL_PAYMENT_STATUS"],
            ),
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
        ],
    },
    views: &VIEWS,
    consumer: |zone, runtime| {
        Consumer::new(&DOMAIN.bindings, Arc::new(Receivables { zone: zone.clone() }), runtime)
    },
};
