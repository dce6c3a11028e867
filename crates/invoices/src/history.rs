//! The history of invoices: every fact that was received, as a list.

use event::Timestamp;
use serde::{Deserialize, Serialize};
use store::{AnyRow, Conditions, List, Row, StoreError};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Form, Reading, Shown, TableRow, View, column, dropped, shown};

/// Which facts: those that agree with every field given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct InvoiceFactFilter {
    /// The source's name.
    pub source: Option<String>,
    /// The provider's id of the invoice.
    pub external_id: Option<String>,
}

/// A fact about an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceFact {
    /// The event that says it.
    pub event_id: String,
    /// When it was received.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// The source's name.
    pub source: String,
    /// The provider's id of the invoice.
    pub external_id: Option<String>,
    /// The provider's code for the status.
    pub status: Option<String>,
    /// The code of the status before.
    pub previous_status: Option<String>,
    /// The attachment that it is about.
    pub attachment_id: Option<String>,
    /// Its topic.
    pub topic: String,
}

impl TableRow for InvoiceFact {
    type Filter = InvoiceFactFilter;

    const LIST: List<'static> = List::new(
        "SELECT event_id, source, external_id, topic, status, previous_status, attachment_id, received_at FROM invoice_history",
        &["event_id"],
    );

    const READ: fn(&AnyRow) -> Result<Self, StoreError> = Self::read;

    fn conditions(filter: &InvoiceFactFilter) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("external_id =", filter.external_id.as_ref());
        conditions
    }
}

impl InvoiceFact {
    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            event_id: row.try_get("event_id")?,
            received_at: store::time(row, "received_at")?,
            source: row.try_get("source")?,
            external_id: row.try_get("external_id")?,
            status: row.try_get("status")?,
            previous_status: row.try_get("previous_status")?,
            attachment_id: row.try_get("attachment_id")?,
            topic: row.try_get("topic")?,
        })
    }
}

impl Shown for InvoiceFact {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Received", |row| shown(&row.received_at), Form::Time),
        dropped(3, column("Source", |row| shown(&row.source), Form::Text)),
        column("Invoice", |row| shown(&row.external_id), Form::Text),
        column("Status", |row| shown(&row.status), Form::Text),
        dropped(2, column("Before", |row| shown(&row.previous_status), Form::Text)),
        dropped(1, column("Attachment", |row| shown(&row.attachment_id), Form::Text)),
        dropped(4, column("Topic", |row| shown(&row.topic), Form::Text)),
        column("Event", |row| shown(&row.event_id), Form::Id),
    ];
}

/// `invoices/history`
pub static INVOICE_HISTORY: View = View {
    name: "invoices/history",
    tag: "books",
    about: "What was received about invoices",
    row: "fact about an invoice",
    rows: "facts about invoices",
    example: "external_id=1",
    empty: "Nothing was received about such an invoice.",
    reading: Reading::new::<InvoiceFact>(),
};
