//! The lists.

use providers::TaxId;
use serde::Deserialize;
use store::{Conditions, Connection, List, Page, Paged, StoreError};
use utoipa::IntoParams;
use view::{Column, Form, Reading, Shown, View, column, shown};

use crate::{Prescription, PrescriptionState};

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

impl view::Row for Prescription {
    type Filter = Filter;

    async fn page(
        connection: &mut Connection,
        filter: &Filter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        const LIST: List<'_> = List::new(
            "SELECT source, document, email, state, reason, right_spherical, right_cylindrical, right_axis, \
             right_add, left_spherical, left_cylindrical, left_axis, left_add, files, first_event FROM prescriptions",
            // An event writes one row at most. A cursor is part of addresses, so it contains no personal data.
            &["first_event", "source"],
        );
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("state =", filter.state.map(PrescriptionState::as_str));
        conditions.with("document =", filter.document.as_deref().map(TaxId::sought));
        LIST.page(connection, conditions, page, Self::read).await
    }
}

impl Shown for Prescription {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Source", |row| shown(&row.source), Form::Text),
        column("CPF", |row| shown(&row.document), Form::TaxId),
        column("E-mail", |row| shown(&row.email), Form::Text),
        column("State", |row| shown(&row.state), Form::State),
        column("Reason", |row| shown(&row.reason), Form::Text),
        column("Right", |row| shown(&row.right), Form::Eye),
        column("Left", |row| shown(&row.left), Form::Eye),
        column("Files", |row| shown(&row.files), Form::Count),
    ];
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

/// Every list of this domain.
pub static VIEWS: [&View; 1] = [&PRESCRIPTIONS];
