//! The history of agreements: every fact that was received, as a list.

use event::Timestamp;
use serde::{Deserialize, Serialize};
use store::{AnyRow, Conditions, List, Row, StoreError};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Form, Reading, Shown, TableRow, View, column, dropped, shown};

use crate::AgreementState;

/// Which facts: those that agree with every field given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AgreementFactFilter {
    /// The source's name.
    pub source: Option<String>,
    /// The provider's id of the agreement.
    pub external_id: Option<String>,
}

/// A fact about an agreement: one snapshot of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgreementFact {
    /// The event that says it.
    pub event_id: String,
    /// When it was received.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// The source's name.
    pub source: String,
    /// The provider's id of the agreement.
    pub external_id: String,
    /// Its state.
    pub state: AgreementState,
    /// What was agreed, in centavos.
    pub agreed_centavos: i64,
    /// How many instalments it has.
    pub instalments: i64,
    /// How many of them are paid.
    pub paid_instalments: i64,
    /// Its topic.
    pub topic: String,
}

impl TableRow for AgreementFact {
    type Filter = AgreementFactFilter;

    const LIST: List<'static> = List::new(
        "SELECT event_id, source, external_id, topic, state, agreed_centavos, instalments, paid_instalments, received_at \
         FROM agreement_history",
        &["event_id"],
    );

    const READ: fn(&AnyRow) -> Result<Self, StoreError> = Self::read;

    fn conditions(filter: &AgreementFactFilter) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("external_id =", filter.external_id.as_ref());
        conditions
    }
}

impl AgreementFact {
    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            event_id: row.try_get("event_id")?,
            received_at: store::time(row, "received_at")?,
            source: row.try_get("source")?,
            external_id: row.try_get("external_id")?,
            state: AgreementState::read(row, "state")?,
            agreed_centavos: row.try_get("agreed_centavos")?,
            instalments: row.try_get("instalments")?,
            paid_instalments: row.try_get("paid_instalments")?,
            topic: row.try_get("topic")?,
        })
    }
}

impl Shown for AgreementFact {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Received", |row| shown(&row.received_at), Form::Time),
        dropped(3, column("Source", |row| shown(&row.source), Form::Text)),
        column("Agreement", |row| shown(&row.external_id), Form::Text),
        column("State", |row| shown(&row.state), Form::Text),
        column("Agreed", |row| shown(&row.agreed_centavos), Form::Money),
        dropped(2, column("Instalments", |row| shown(&row.instalments), Form::Number)),
        dropped(1, column("Paid", |row| shown(&row.paid_instalments), Form::Number)),
        dropped(4, column("Topic", |row| shown(&row.topic), Form::Text)),
        column("Event", |row| shown(&row.event_id), Form::Id),
    ];
}

/// `agreements/history`
pub static AGREEMENT_HISTORY: View = View {
    name: "agreements/history",
    tag: "books",
    about: "Every snapshot of an agreement that was received",
    row: "snapshot of an agreement",
    rows: "snapshots of agreements",
    example: "external_id=1",
    empty: "Nothing was received about such an agreement.",
    reading: Reading::new::<AgreementFact>(),
};
