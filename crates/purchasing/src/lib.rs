//! Purchasing: the state of orders, requests, quotations, contracts and service sheets of Mercado Eletrônico.
//!
//! Place in the flow: the consumer runtime has [`Purchasing`] read each event of its bindings and write its facts;
//! screens and the command line read the rows through [`VIEWS`]. Current state and history are tables of the domain; no
//! other crate writes them. Each change is announced as a domain event.
//!
//! The provider sends thin notices, each about one thing, without an order of facts: of two notices about the same
//! thing, the one received later is newer. Only that something was created is older than whatever else is said of it. A notice
//! does not change what it does not mention. Total, currency and supplier come with the documents that malote fetches, whose
//! newest version counts.
//!
//! ```
//! use event::{ProviderName, Topic};
//!
//! let (provider, topic) = (ProviderName::new("mercado-eletronico")?, Topic::new("order.canceled")?);
//! assert!(purchasing::DOMAIN.bindings.takes(&provider, &topic));
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
pub use handler::Purchasing;
pub use history::{PURCHASE_HISTORY, PurchaseFact, PurchaseFactFilter};
pub use model::{Kind, Purchase};
pub use query::{Filter, PURCHASES, VIEWS};
use store::{Component, Migration};

/// The domain.
pub static DOMAIN: Domain = Domain {
    bindings: Bindings {
        consumer: "purchasing",
        purpose: "keeps the status and total of orders, requests, quotations, contracts and service sheets",
        topics: &[
            (
                providers::mercado_eletronico::NAME,
                &[
                    "order.#",
                    "preorder.#",
                    "prerequest.#",
                    "request.#",
                    "request-item.#",
                    "rfq.#",
                    "contract.#",
                    "service-sheet.#",
                    "service-sheet-document.#",
                ],
            ),
            (
                event::ProviderName::OWN,
                &[
                    "order.fetched",
                    "preorder.fetched",
                    "prerequest.fetched",
                    "request.fetched",
                    "rfq.fetched",
                    "contract.fetched",
                    "service-sheet.fetched",
                ],
            ),
        ],
        prefetch: 1_024,
        retry: DEFAULT_RETRY,
    },
    component: Component {
        name: "purchasing",
        migrations: &[
            Migration {
                version: 1,
                description: "purchases",
                copies: false,
                sqlite: include_str!("../migrations/0001_purchasing.sql"),
                postgres: concat!(
                    include_str!("../migrations/0001_purchasing.sql"),
                    include_str!("../migrations/0001_purchasing.postgres.sql")
                ),
            },
            Migration {
                version: 2,
                description: "documents",
                copies: false,
                sqlite: include_str!("../migrations/0002_documents.sql"),
                postgres: concat!(
                    include_str!("../migrations/0002_documents.sql"),
                    include_str!("../migrations/0002_documents.postgres.sql")
                ),
            },
        ],
    },
    events: events::ALL,
    views: &VIEWS,
    expectations: &query::EXPECTATIONS,
    consumer: |_, runtime| Consumer::new(&DOMAIN.bindings, Arc::new(Purchasing), runtime),
    check: |_, event| Purchasing.read(event).map(drop),
};
