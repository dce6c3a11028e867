//! Subscriptions: every internal service gets the topics it asks for, through one of three doors.
//!
//! Place in the flow: the ledger's feed has every event in one order. A subscription names topics and a filter, and
//!
//! ```text
//!         ┌──▶ push    HTTP requests to the service, signed, in order of subject where asked for, retried
//! feed ───┼──▶ pull    a cursor that the service moves
//!         └──▶ queue   a queue of the broker, bound to the topics
//! ```
//!
//! Promises: every event that a subscription asks for is delivered at least once, or listed as undelivered; nothing is
//! skipped while a subscription is paused or its endpoint is down; secrets are stored encrypted. This crate knows no provider's
//! contract and no domain.

mod attempts;
mod closing;
mod config;
mod declaration;
mod expression;
pub mod file;
mod given;
#[cfg(any(test, feature = "test-support"))]
pub mod laws;
mod outcomes;
pub mod pull;
pub mod push;
pub mod queue;
mod requests;
mod sealed;
mod secrets;
mod signature;
mod table;
mod takers;
mod trial;
mod views;

pub use closing::{Closed, Discarding, Resending, discard, resend};
pub use config::Config;
pub use declaration::{
    Auth, BadDeclaration, Declaration, Door, DoorKind, Order, Pull, Push, QueueDoor, Tls, Wait,
};
pub use expression::{EvaluationError, Expression, ExpressionError, Input};
pub use given::{BadSecrets, GivenSecrets, Merged, OVERLAP};
pub use outcomes::{
    ATTEMPTS, AttemptDetail, AttemptFilter, AttemptRow, REPORT, ReportFilter, ReportRow, UNDELIVERED,
    UndeliveredFilter, UndeliveredRow, show_attempts,
};
pub use requests::{
    Acknowledged, Added, BadPlace, BadResume, Edited, Editing, NewSubscription, Pausing, Removing, Resuming,
    Rotation, Seeking, ShownOnce, SubscriptionDetail, Trial, TrialDelivery, TrialOutcome,
};
pub use sealed::{Seal, SealError};
pub use secrets::{Secrets, SigningKey};
pub use signature::{NotASigningSecret, SigningSecret, sign};
pub use table::{
    Backfill, Resume, Seek, State, Subscription, SubscriptionError, add, by_id, edit, get, list, names,
    pause, remove, resume, rotate_secret, seal_again, seek, set_token, unseal,
};
pub use takers::{Taken, Taker, takers};
pub use trial::{Masked, TrialError, Tried, try_out};
pub use views::{SUBSCRIPTIONS, SubscriptionFilter, SubscriptionRow, VIEWS};

use ledger::feed::FeedEvent;
use store::{Component, Migration};

/// Whether subscriptions are given an event at all: what the sender sent a second time is recorded, and not delivered.
pub(crate) fn is_delivered(event: &FeedEvent) -> bool {
    event.duplicate_of.is_none()
}

/// The tables of subscriptions.
pub const COMPONENT: Component = Component {
    name: "subscriptions",
    migrations: &[
        Migration::portable(1, "subscriptions", include_str!("../migrations/0001_subscriptions.sql")),
        Migration::portable(2, "queues", include_str!("../migrations/0002_queues.sql")),
        Migration::portable(3, "probe", include_str!("../migrations/0003_probe.sql")),
    ],
};
