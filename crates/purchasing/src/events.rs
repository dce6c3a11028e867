//! The domain events: one for each change of what is known of a purchase. Their subjects are those of the provider's events,
//! such as `order/123`.

use consumer::{DomainEvent, EventType};
use event::Subject;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Kind;
use crate::model::Key;

/// A purchase.
#[derive(Serialize, ToSchema)]
pub(crate) struct PurchaseRef {
    /// The source's name.
    pub source: String,
    /// What it is.
    pub kind: Kind,
    /// The provider's id.
    pub external_id: String,
}

impl PurchaseRef {
    pub(crate) fn new(Key { source, kind, external_id }: Key) -> Self {
        Self { source, kind, external_id }
    }

    /// The subject of the provider's events about it.
    pub(crate) fn subject(&self) -> Subject {
        Subject::new(self.kind.entity(), &self.external_id)
    }
}

/// A status of a purchase.
#[derive(Serialize, ToSchema)]
pub(crate) struct StatusChange {
    /// The source's name.
    pub source: String,
    /// What it is.
    pub kind: Kind,
    /// The provider's id.
    pub external_id: String,
    /// The provider's code for its status, or the last word of the topic that says a state.
    pub status: String,
    /// The status that was known before.
    pub previous_status: Option<String>,
}

/// The total of a purchase.
#[derive(Serialize, ToSchema)]
pub(crate) struct TotalChange {
    /// The source's name.
    pub source: String,
    /// What it is.
    pub kind: Kind,
    /// The provider's id.
    pub external_id: String,
    /// The total in centavos.
    pub total_centavos: Option<i64>,
    /// Its currency.
    pub currency: Option<String>,
    /// The total that was known before.
    pub previous_total_centavos: Option<i64>,
    /// The currency that was known before.
    pub previous_currency: Option<String>,
}

/// A type about a purchase of any kind.
type PurchaseEvent<T> = EventType<T, &'static [&'static str]>;

pub(crate) const CREATED: PurchaseEvent<PurchaseRef> = EventType::new(
    "purchase.created",
    &Kind::ENTITIES,
    "When an order, a request, a contract or the like becomes known, whichever notice is the first: once for each.",
);
pub(crate) const UPDATED: PurchaseEvent<PurchaseRef> = EventType::new(
    "purchase.updated",
    &Kind::ENTITIES,
    "When the provider reports that one was changed, or a part of it, and does not say what: once for each notice.",
);
pub(crate) const STATUS_CHANGED: PurchaseEvent<StatusChange> = EventType::new(
    "purchase.status_changed",
    &Kind::ENTITIES,
    "When the status of an order, a request, a contract or the like becomes known or changes.",
);

pub(crate) const TOTAL_CHANGED: PurchaseEvent<TotalChange> = EventType::new(
    "purchase.total_changed",
    &Kind::ENTITIES,
    "When the total or the currency of an order, a request, a contract or the like becomes known or changes.",
);

/// Every type.
pub(crate) const ALL: &[DomainEvent] =
    &[CREATED.declared(), UPDATED.declared(), STATUS_CHANGED.declared(), TOTAL_CHANGED.declared()];
