//! The history of renewals: every fact that was received, as a list.

use event::Timestamp;
use serde::{Deserialize, Serialize};
use store::{AnyRow, Conditions, List, Row, StoreError};
use utoipa::{IntoParams, ToSchema};
use view::{Column, Form, Reading, Shown, TableRow, View, column, dropped, shown};

use crate::PrescriptionState;

/// Which facts: those that agree with every field given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PrescriptionFactFilter {
    /// The source's name.
    pub source: Option<String>,
    /// Any event about the prescription.
    pub event_id: Option<String>,
}

/// A fact about a prescription. It does not name the person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrescriptionFact {
    /// The event that says it.
    pub event_id: String,
    /// When it was received.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// The source's name.
    pub source: String,
    /// The outcome.
    pub state: PrescriptionState,
    /// How many files it names.
    pub files: i64,
    /// Its topic.
    pub topic: String,
}

impl TableRow for PrescriptionFact {
    type Filter = PrescriptionFactFilter;

    const LIST: List<'static> = List::new(
        "SELECT event_id, source, state, files, topic, received_at FROM prescription_history",
        &["event_id"],
    );

    const READ: fn(&AnyRow) -> Result<Self, StoreError> = Self::read;

    fn conditions(filter: &PrescriptionFactFilter) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        if let Some(event) = &filter.event_id {
            let event = conditions.bind(event.into());
            conditions.add(format!(
                "(document, partner_hash, source) IN \
                 (SELECT document, partner_hash, source FROM prescription_history WHERE event_id = {event})"
            ));
        }
        conditions
    }
}

impl PrescriptionFact {
    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            event_id: row.try_get("event_id")?,
            received_at: store::time(row, "received_at")?,
            source: row.try_get("source")?,
            state: PrescriptionState::read(row, "state")?,
            files: row.try_get("files")?,
            topic: row.try_get("topic")?,
        })
    }
}

impl Shown for PrescriptionFact {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Received", |row| shown(&row.received_at), Form::Time),
        dropped(1, column("Source", |row| shown(&row.source), Form::Text)),
        column("State", |row| shown(&row.state), Form::Text),
        column("Files", |row| shown(&row.files), Form::Number),
        dropped(4, column("Topic", |row| shown(&row.topic), Form::Text)),
        column("Event", |row| shown(&row.event_id), Form::Id),
    ];
}

/// `prescriptions/history`
pub static PRESCRIPTION_HISTORY: View = View {
    name: "prescriptions/history",
    tag: "books",
    about: "What was received about prescriptions",
    row: "fact about a prescription",
    rows: "facts about prescriptions",
    example: "source=saude",
    empty: "Nothing was received about such a prescription.",
    reading: Reading::new::<PrescriptionFact>(),
};
