//! The history of orders and instalments: every fact that was received, as a list.

use event::Timestamp;
use serde::{Deserialize, Serialize};
use store::{AnyRow, Conditions, List, Row, StoreError};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Form, Reading, Shown, TableRow, View, column, dropped, shown};

use crate::Kind;

/// Which facts: those that agree with every field given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ReceivableFactFilter {
    /// The source's name.
    pub source: Option<String>,
    /// The provider's id of the receivable.
    pub external_id: Option<String>,
    /// Instalments or orders.
    pub kind: Option<Kind>,
    /// The agreement whose instalments they are.
    pub agreement_id: Option<String>,
}

/// A fact about an order or an instalment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceivableFact {
    /// The event that says it.
    pub event_id: String,
    /// When it was received.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// The source's name.
    pub source: String,
    /// What it is about.
    pub kind: Kind,
    /// The provider's id of the receivable.
    pub external_id: String,
    /// The agreement of an instalment.
    pub agreement_id: Option<String>,
    /// The provider's code for the status of an order.
    pub provider_status: Option<String>,
    /// When an instalment was paid.
    pub paid_date: Option<String>,
    /// Its topic.
    pub topic: String,
}

impl TableRow for ReceivableFact {
    type Filter = ReceivableFactFilter;

    const LIST: List<'static> = List::new(
        "SELECT event_id, source, kind, external_id, agreement_id, provider_status, paid_date, topic, received_at FROM \
         (SELECT event_id, source, 'order' AS kind, external_id, NULL AS agreement_id, provider_status, NULL AS paid_date, \
          topic, received_at FROM order_history UNION ALL \
          SELECT event_id, source, 'instalment' AS kind, external_id, agreement_id, NULL AS provider_status, paid_date, \
          topic, received_at FROM instalment_history) AS facts",
        &["event_id", "external_id"],
    );

    const READ: fn(&AnyRow) -> Result<Self, StoreError> = Self::read;

    fn conditions(filter: &ReceivableFactFilter) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("external_id =", filter.external_id.as_ref());
        conditions.with("kind =", filter.kind.map(Kind::as_str));
        conditions.with("agreement_id =", filter.agreement_id.as_ref());
        conditions
    }
}

impl ReceivableFact {
    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            event_id: row.try_get("event_id")?,
            received_at: store::time(row, "received_at")?,
            source: row.try_get("source")?,
            kind: Kind::read(row, "kind")?,
            external_id: row.try_get("external_id")?,
            agreement_id: row.try_get("agreement_id")?,
            provider_status: row.try_get("provider_status")?,
            paid_date: row.try_get("paid_date")?,
            topic: row.try_get("topic")?,
        })
    }
}

impl Shown for ReceivableFact {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Received", |row| shown(&row.received_at), Form::Time),
        dropped(4, column("Source", |row| shown(&row.source), Form::Text)),
        dropped(1, column("Kind", |row| shown(&row.kind), Form::Text)),
        column("Id", |row| shown(&row.external_id), Form::Text),
        dropped(3, column("Agreement", |row| shown(&row.agreement_id), Form::Text)),
        column("Status", |row| shown(&row.provider_status), Form::Text),
        dropped(2, column("Paid", |row| shown(&row.paid_date), Form::Text)),
        dropped(4, column("Topic", |row| shown(&row.topic), Form::Text)),
        column("Event", |row| shown(&row.event_id), Form::Id),
    ];
}

/// `receivables/history`
pub static RECEIVABLE_HISTORY: View = View {
    name: "receivables/history",
    tag: "books",
    about: "What was received about orders and paid instalments",
    row: "fact about a receivable",
    rows: "facts about receivables",
    example: "external_id=1",
    empty: "Nothing was received about such a receivable. Instalments come with their agreement; see its history.",
    reading: Reading::new::<ReceivableFact>(),
};
