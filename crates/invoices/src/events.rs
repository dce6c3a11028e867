//! The domain events: one for each change of what is known of an invoice.

use consumer::{DomainEvent, EventType};
use serde::Serialize;
use utoipa::ToSchema;

/// An invoice.
#[derive(Serialize, ToSchema)]
pub(crate) struct InvoiceRef {
    /// The source's name.
    pub source: String,
    /// The provider's id of the invoice; at Gestão Online the order's code.
    pub external_id: String,
}

/// A status of an invoice.
#[derive(Serialize, ToSchema)]
pub(crate) struct StatusChange {
    /// The source's name.
    pub source: String,
    /// The provider's id of the invoice; at Gestão Online the order's code.
    pub external_id: String,
    /// The provider's code for its status.
    pub status: String,
    /// The status that was known before.
    pub previous_status: Option<String>,
}

/// A file of an invoice.
#[derive(Serialize, ToSchema)]
pub(crate) struct AttachmentRef {
    /// The source's name.
    pub source: String,
    /// The provider's id of the invoice.
    pub external_id: String,
    /// The provider's id of the file.
    pub attachment_id: String,
}

pub(crate) const CREATED: EventType<InvoiceRef> = EventType::new(
    "invoice.created",
    "invoice",
    "When an invoice becomes known, whichever notice is the first: once for each invoice.",
);
pub(crate) const UPDATED: EventType<InvoiceRef> = EventType::new(
    "invoice.updated",
    "invoice",
    "When the provider reports that an invoice was changed and does not say what: once for each notice.",
);
pub(crate) const STATUS_CHANGED: EventType<StatusChange> = EventType::new(
    "invoice.status_changed",
    "invoice",
    "When the status of an invoice becomes known or changes.",
);
pub(crate) const ATTACHMENT_ADDED: EventType<AttachmentRef> =
    EventType::new("invoice.attachment_added", "invoice", "When a file is attached to an invoice.");
pub(crate) const ATTACHMENT_REMOVED: EventType<AttachmentRef> = EventType::new(
    "invoice.attachment_removed",
    "invoice",
    "When a file of an invoice is deleted, also one that was not known.",
);
pub(crate) const CREDIT_MEMO_REQUESTED: EventType<InvoiceRef> = EventType::new(
    "invoice.credit_memo_requested",
    "invoice",
    "When a credit memo is requested for an invoice: once for each invoice.",
);

/// Every type.
pub(crate) const ALL: &[DomainEvent] = &[
    CREATED.declared(),
    UPDATED.declared(),
    STATUS_CHANGED.declared(),
    ATTACHMENT_ADDED.declared(),
    ATTACHMENT_REMOVED.declared(),
    CREDIT_MEMO_REQUESTED.declared(),
];
