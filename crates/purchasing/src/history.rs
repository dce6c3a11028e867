//! The history of purchases: every fact that was received, as a list.

use event::Timestamp;
use serde::{Deserialize, Serialize};
use store::{AnyRow, Conditions, List, Row, StoreError};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Form, Reading, Shown, TableRow, View, column, dropped, shown};

use crate::Kind;

/// Which facts: those that agree with every field given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PurchaseFactFilter {
    /// The source's name.
    pub source: Option<String>,
    /// The provider's id of the purchase.
    pub external_id: Option<String>,
    /// What it is about.
    pub kind: Option<Kind>,
}

/// A fact about a purchase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurchaseFact {
    /// The event that says it.
    pub event_id: String,
    /// When it was received.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// The source's name.
    pub source: String,
    /// What it is about.
    pub kind: Option<String>,
    /// The provider's id of the purchase.
    pub external_id: Option<String>,
    /// The provider's code for the status.
    pub status: Option<String>,
    /// The code of the status before.
    pub previous_status: Option<String>,
    /// The provider's id of the supplier.
    pub supplier_id: Option<String>,
    /// Its topic.
    pub topic: String,
}

impl TableRow for PurchaseFact {
    type Filter = PurchaseFactFilter;

    const LIST: List<'static> = List::new(
        "SELECT event_id, source, kind, external_id, topic, status, previous_status, supplier_id, received_at \
         FROM purchase_history",
        &["event_id"],
    );

    const READ: fn(&AnyRow) -> Result<Self, StoreError> = Self::read;

    fn conditions(filter: &PurchaseFactFilter) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("external_id =", filter.external_id.as_ref());
        conditions.with("kind =", filter.kind.map(Kind::as_str));
        conditions
    }
}

impl PurchaseFact {
    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            event_id: row.try_get("event_id")?,
            received_at: store::time(row, "received_at")?,
            source: row.try_get("source")?,
            kind: row.try_get("kind")?,
            external_id: row.try_get("external_id")?,
            status: row.try_get("status")?,
            previous_status: row.try_get("previous_status")?,
            supplier_id: row.try_get("supplier_id")?,
            topic: row.try_get("topic")?,
        })
    }
}

impl Shown for PurchaseFact {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Received", |row| shown(&row.received_at), Form::Time),
        dropped(4, column("Source", |row| shown(&row.source), Form::Text)),
        dropped(1, column("Kind", |row| shown(&row.kind), Form::Text)),
        column("Id", |row| shown(&row.external_id), Form::Text),
        column("Status", |row| shown(&row.status), Form::Text),
        dropped(2, column("Before", |row| shown(&row.previous_status), Form::Text)),
        dropped(3, column("Supplier", |row| shown(&row.supplier_id), Form::Text)),
        dropped(4, column("Topic", |row| shown(&row.topic), Form::Text)),
        column("Event", |row| shown(&row.event_id), Form::Id),
    ];
}

/// `purchasing/history`
pub static PURCHASE_HISTORY: View = View {
    name: "purchasing/history",
    tag: "books",
    about: "What was received about purchases",
    row: "fact about a purchase",
    rows: "facts about purchases",
    example: "external_id=1",
    empty: "Nothing was received about such a purchase.",
    reading: Reading::new::<PurchaseFact>(),
};
