//! Prescriptions: renewals requested at Benefício Visão, and their outcome. Health data.
//!
//! Place in the flow: the consumer runtime has [`Prescriptions`] read each event of its bindings and write its facts;
//! screens and the command line read the rows through [`VIEWS`]. Current state and history are tables of the domain; no
//! other crate writes them. Each change of a state is announced as a domain event.
//!
//! The provider gives no id: a request is known by its source, the person's CPF and the `partnerParams`. It gives no
//! order of facts either: each body is the whole state, and the one received later is newer.
//!
//! ```
//! use event::{ProviderName, Topic};
//!
//! let (provider, topic) = (ProviderName::new("beneficio-visao")?, Topic::new("renewed")?);
//! assert!(prescriptions::DOMAIN.bindings.takes(&provider, &topic));
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
pub use handler::Prescriptions;
pub use history::{PRESCRIPTION_HISTORY, PrescriptionFact, PrescriptionFactFilter};
pub use model::{Eye, File, Prescription, PrescriptionFile, PrescriptionState};
pub use query::{FILES, FileFilter, Filter, PRESCRIPTIONS, VIEWS};
use store::{Component, Migration};

/// The domain.
pub static DOMAIN: Domain = Domain {
    // A status that the provider does not document is not bound, so it shows as unrouted and can be replayed once it has a meaning.
    bindings: Bindings {
        consumer: "prescriptions",
        purpose: "keeps the renewals of prescriptions and their archived files",
        topics: &[
            (providers::beneficio_visao::NAME, &["pending", "in_analysis", "rejected", "renewed"]),
            (ProviderName::OWN, &["file.fetched"]),
        ],
        prefetch: 1_024,
        retry: DEFAULT_RETRY,
    },
    component: Component {
        name: "prescriptions",
        migrations: &[
            Migration {
                version: 1,
                description: "prescriptions",
                copies: false,
                sqlite: include_str!("../migrations/0001_prescriptions.sql"),
                postgres: concat!(
                    include_str!("../migrations/0001_prescriptions.sql"),
                    include_str!("../migrations/0001_prescriptions.postgres.sql")
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
                description: "files",
                copies: false,
                sqlite: include_str!("../migrations/0004_files.sql"),
                postgres: concat!(
                    include_str!("../migrations/0004_files.sql"),
                    include_str!("../migrations/0004_files.postgres.sql")
                ),
            },
        ],
    },
    events: events::ALL,
    views: &VIEWS,
    expectations: &query::EXPECTATIONS,
    consumer: |_, runtime| Consumer::new(&DOMAIN.bindings, Arc::new(Prescriptions), runtime),
    check: |_, event| Prescriptions.read(event).map(drop),
};
