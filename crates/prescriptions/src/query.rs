//! The lists.

use consumer::Expectation;
use providers::TaxId;
use serde::Deserialize;
use serde_json::Value;
use store::{AnyRow, Conditions, List, StoreError};
use utoipa::IntoParams;
use view::{Column, Form, Reading, Shown, TableRow, Tone, Tones, View, column, dropped, read_rows, shown};

use crate::{Eye, PRESCRIPTION_HISTORY, Prescription, PrescriptionFile, PrescriptionState};

/// Which prescriptions: those that agree with every field given. It may name a person, so it has no `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// The source's name.
    pub source: Option<String>,
    /// The outcome of the request.
    pub state: Option<PrescriptionState>,
    /// The person's CPF, bare or formatted.
    pub document: Option<String>,
}

impl TableRow for Prescription {
    type Filter = Filter;

    const LIST: List<'static> = List::new(
        "SELECT source, document, email, state, reason, right_spherical, right_cylindrical, right_axis, \
         right_add, left_spherical, left_cylindrical, left_axis, left_add, files, first_event FROM prescriptions",
        // An event writes one row at most. A cursor is part of addresses, so it contains no personal data.
        &["first_event", "source"],
    );

    const READ: fn(&AnyRow) -> Result<Self, StoreError> = Self::read;

    fn conditions(filter: &Filter) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("state =", filter.state.map(PrescriptionState::as_str));
        conditions.with("document =", filter.document.as_deref().map(TaxId::sought));
        conditions
    }
}

/// What the states mean to those who read them.
const TONES: Tones = &[
    ("renewed", Tone::Good),
    ("pending", Tone::Waiting),
    ("in_analysis", Tone::Waiting),
    ("rejected", Tone::Bad),
];

/// The measurements of an eye: sphere, cylinder × axis, addition.
fn measurements(eye: Option<&Eye>) -> Value {
    let Some(Eye { spherical, cylindrical, axis, add }) = eye else { return Value::Null };
    let [spherical, cylindrical, axis, add] = [shown(spherical), shown(cylindrical), shown(axis), shown(add)]
        .map(|value| match value {
            Value::Null => "–".to_owned(),
            Value::String(text) => text,
            other => other.to_string(),
        });
    format!("sph {spherical} cyl {cylindrical} × {axis}° add {add}").into()
}

impl Shown for Prescription {
    const COLUMNS: &'static [Column<Self>] = &[
        dropped(2, column("Source", |row| shown(&row.source), Form::Text)),
        column("CPF", |row| shown(&row.document), Form::TaxId),
        column("E-mail", |row| shown(&row.email), Form::Text),
        column("State", |row| shown(&row.state), Form::State(TONES)),
        dropped(5, column("Reason", |row| shown(&row.reason), Form::Text)),
        dropped(4, column("Right", |row| measurements(row.right.as_ref()), Form::Text)),
        dropped(3, column("Left", |row| measurements(row.left.as_ref()), Form::Text)),
        dropped(1, column("Files", |row| shown(&row.files), Form::Count)),
        column("Event", |row| shown(&row.event_id), Form::Id),
    ];

    const PERSONAL: &'static [&'static str] =
        &["document", "email", "reason", "right", "left", "file_name", "file_url"];
}

/// `prescriptions`
pub static PRESCRIPTIONS: View = View {
    name: "prescriptions",
    tag: "books",
    about: "Prescription renewals",
    row: "prescription",
    rows: "prescriptions",
    example: "state=renewed",
    empty: "No prescriptions yet. They come from beneficio-visao; see `malote events list`.",
    reading: Reading::new::<Prescription>(),
};

/// Which files: those that agree with every field given. It may name a person, so it has no `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FileFilter {
    /// The source's name.
    pub source: Option<String>,
    /// The person's CPF, bare or formatted.
    pub document: Option<String>,
    /// The event that names them.
    pub event_id: Option<String>,
}

impl TableRow for PrescriptionFile {
    type Filter = FileFilter;

    const LIST: List<'static> = List::new(
        "SELECT source, document, file_name, archive_id, archived_at, size, sha256, event_id, file_key \
         FROM prescription_files",
        &["event_id", "source", "file_key"],
    );

    const READ: fn(&AnyRow) -> Result<Self, StoreError> = Self::read;

    fn conditions(filter: &FileFilter) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("document =", filter.document.as_deref().map(TaxId::sought));
        conditions.with("event_id =", filter.event_id.as_ref());
        conditions
    }
}

impl Shown for PrescriptionFile {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Archived as", |row| shown(&row.archive_id), Form::Id),
        dropped(2, column("Source", |row| shown(&row.source), Form::Text)),
        column("CPF", |row| shown(&row.document), Form::TaxId),
        column("File", |row| shown(&row.file_name), Form::Text),
        column("Archived", |row| shown(&row.archived_at), Form::Time),
        dropped(1, column("Size", |row| shown(&row.size), Form::Number)),
    ];

    const PERSONAL: &'static [&'static str] = &["document", "file_name"];
}

/// `prescriptions/files`
pub static FILES: View = View {
    name: "prescriptions/files",
    tag: "books",
    about: "The files of prescriptions, and their copies in the archive: `malote documents open` opens one",
    row: "file",
    rows: "files",
    example: "document=52998224725",
    empty: "No files yet. They come with renewed; see `malote documents list --where entity=file`.",
    reading: Reading::new::<PrescriptionFile>(),
};

/// Every list of this domain.
pub static VIEWS: [&View; 3] = [&PRESCRIPTIONS, &FILES, &PRESCRIPTION_HISTORY];

/// What the documented examples amount to.
pub(crate) static EXPECTATIONS: [Expectation; 2] = [
    Expectation {
        view: &PRESCRIPTIONS,
        after: None,
        text: "a prescription is renewed, with both PDFs",
        is_met: |rows| {
            let is_it = |row: &Prescription| row.state == PrescriptionState::Renewed && row.files.len() == 2;
            Ok(read_rows(rows)?.iter().any(is_it))
        },
    },
    Expectation {
        view: &FILES,
        after: None,
        text: "both PDFs of a prescription are archived",
        is_met: |rows| {
            let rows: Vec<PrescriptionFile> = read_rows(rows)?;
            Ok(rows.iter().filter(|row| row.archive_id.is_some()).count() == 2)
        },
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eye_is_shown_as_opticians_write_it() {
        let eye = r#"{"spherical": -0.75, "cylindrical": 0, "axis": 0, "add": null}"#;
        let eye: Eye = serde_json::from_str(eye).unwrap();
        assert_eq!(measurements(Some(&eye)), "sph -0.75 cyl 0 × 0° add –");
        assert_eq!(measurements(None), Value::Null);
    }
}
