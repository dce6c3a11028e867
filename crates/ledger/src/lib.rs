//! The ledger: the record of every event received, and of its outcome.
//!
//! Place in the flow: five recorders read the fixed queues and write one table each; the administration API reads them
//! joined.
//!
//! ```text
//! ledger   ──▶ events, unsettled_events   every accepted event, whole, and which of our consumers take it
//! unrouted ──▶ unrouted_events            the mark of an event whose topic no queue is bound to
//! rejected ──▶ rejected_bodies            authenticated bodies that could not be used, with the cause
//! dead     ──▶ dead_letters               dead letters, with the error
//! tallies  ──▶ tally                      how many requests each ingress accepted and rejected; also source_secrets and
//!                                         source_refusals, what it knows of its sources beside that
//! ```
//!
//! Promises: recording a message again changes nothing; an event, its mark and its dead letters may arrive in any
//! order; a filter by state agrees with the state shown. A consumer has handled an event exactly if the inbox of the
//! store says so, since that row is written with the effect. This crate knows no provider, no domain table and no HTTP,
//! and logs nothing of an event.
//!
//! ```
//! use ledger::{EventFilter, EventRow, EventState};
//! use store::Page;
//! use view::Row;
//!
//! # async fn example(store: &store::Store) -> Result<(), store::StoreError> {
//! let filter = EventFilter { state: Some(EventState::Pending), ..EventFilter::default() };
//! let page = EventRow::page(&mut *store.read().await?, &filter, &Page::first(50)).await?;
//! for event in page.items {
//!     println!("{} {} {:?}", event.id, event.topic, event.consumers);
//! }
//! # Ok(())
//! # }
//! ```

mod contents;
mod dead;
mod dead_groups;
mod events;
mod facets;
pub mod feed;
mod filed;
pub mod jobs;
#[cfg(any(test, feature = "test-support"))]
pub mod laws;
mod names;
mod origins;
mod overview;
mod predicates;
mod proofs;
mod receipt;
mod receipt_text;
mod reconcile;
mod record;
mod rejected;
mod retain;
mod state;
mod sweep;
#[cfg(test)]
mod tests;
mod unrouted;
mod views;
pub mod witness;

pub use contents::{Body, BodyInJson};
pub use dead::{DeadFilter, DeadLetter, DeadRow, FailedAttempt, show_dead};
pub use dead_groups::{DeadGroup, GroupNote, NewGroupNote, NoteError, note_group};
pub use events::{Caused, EventFilter, EventRow, Outcome, RecordedEvent, body, provider, show};
pub use facets::{FacetCount, Facets, facets, hourly, newest, next_newer};
pub use names::{Name, Senders, is_on_record, on_record, senders};
pub use overview::{Interval, Overview, OverviewFilter, Period, SourceOverview, overview};
pub use proofs::{
    SOURCE_REFUSALS, SOURCE_SECRETS, SecretState, SourceRefusal, SourceSecret, source_refusals,
    source_secrets,
};
pub use receipt::Receipt;
pub use reconcile::{Difference, DifferenceFilter, Reconciliation, SourceBooks, reconciliation};
pub use record::consumers;
pub use rejected::{Rejected, RejectedFilter, RejectedRow, show_rejected};
pub use retain::{Retention, retain};
pub use state::{ConsumerState, EventState};
pub use sweep::{sweep, sweep_until};
pub use unrouted::{UnroutedFilter, UnroutedRow};
pub use views::{DEAD, DEAD_GROUPS, DIFFERENCES, EVENTS, JOBS, REJECTED, UNROUTED, VIEWS};

use store::{Component, Migration};

/// The ledger's tables.
pub const COMPONENT: Component = Component {
    name: "ledger",
    migrations: &[
        Migration::portable(1, "ledger", include_str!("../migrations/0001_ledger.sql")),
        Migration::portable(2, "resending", include_str!("../migrations/0002_resending.sql")),
        Migration::portable(3, "routed", include_str!("../migrations/0003_routed.sql")),
        Migration::portable(4, "outcome", include_str!("../migrations/0004_outcome.sql")),
        Migration::portable(5, "reconciliation", include_str!("../migrations/0005_reconciliation.sql")),
        Migration::portable(6, "held", include_str!("../migrations/0006_held.sql")),
        Migration::postgres(7, "refusal", include_str!("../migrations/0007_refuse.postgres.sql")),
        Migration {
            version: 8,
            description: "ids of 16 bytes",
            copies: true,
            sqlite: concat!(
                include_str!("../migrations/0008_before.sqlite.sql"),
                include_str!("../migrations/0008_record.sql"),
                include_str!("../migrations/0008_after.sqlite.sql"),
            ),
            postgres: concat!(
                include_str!("../migrations/0008_before.postgres.sql"),
                include_str!("../migrations/0008_record.sql"),
                include_str!("../migrations/0008_after.postgres.sql"),
            ),
        },
        Migration::postgres(9, "what is copied", include_str!("../migrations/0009_empty.postgres.sql")),
        Migration {
            version: 10,
            description: "feed",
            copies: false,
            sqlite: include_str!("../migrations/0010_feed.sqlite.sql"),
            postgres: include_str!("../migrations/0010_feed.postgres.sql"),
        },
        Migration::postgres(
            11,
            "index of the feed",
            include_str!("../migrations/0011_feed_index.postgres.sql"),
        ),
        Migration {
            version: 12,
            description: "caused by",
            copies: false,
            sqlite: include_str!("../migrations/0012_caused_by.sqlite.sql"),
            postgres: include_str!("../migrations/0012_caused_by.postgres.sql"),
        },
        Migration::postgres(
            13,
            "index of causes",
            include_str!("../migrations/0013_caused_by_index.postgres.sql"),
        ),
        Migration::postgres(14, "views", include_str!("../migrations/0014_views.postgres.sql")),
        Migration::portable(15, "marks of the feed", include_str!("../migrations/0015_feed_marks.sql")),
        Migration {
            version: 16,
            description: "receipts",
            copies: false,
            sqlite: include_str!("../migrations/0016_receipts.sqlite.sql"),
            postgres: include_str!("../migrations/0016_receipts.postgres.sql"),
        },
        Migration {
            version: 17,
            description: "replaced letters",
            copies: false,
            sqlite: include_str!("../migrations/0017_replaced.sqlite.sql"),
            postgres: include_str!("../migrations/0017_replaced.postgres.sql"),
        },
        Migration::portable(18, "groups of dead letters", include_str!("../migrations/0018_dead_groups.sql")),
        Migration::portable(19, "sources", include_str!("../migrations/0019_sources.sql")),
    ],
};
