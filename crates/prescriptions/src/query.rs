//! The lists.

use providers::TaxId;
use serde::Deserialize;
use store::{Conditions, Connection, List, Page, Paged, StoreError};
use utoipa::IntoParams;
use view::{Form, Reading, View, column};

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

/// `prescriptions`
pub static PRESCRIPTIONS: View = View {
    name: "prescriptions",
    tag: "books",
    about: "Prescription renewals",
    row: "prescription",
    rows: "prescriptions",
    columns: &[
        column("Source", "source", Form::Text),
        column("CPF", "document", Form::TaxId),
        column("E-mail", "email", Form::Text),
        column("State", "state", Form::State),
        column("Reason", "reason", Form::Text),
        column("Right", "right", Form::Eye),
        column("Left", "left", Form::Eye),
        column("Files", "files", Form::Count),
    ],
    example: "state=renewed",
    empty: "No prescriptions yet. They come from beneficio-visao; see `malote events list`.",
    reading: Reading::new::<Prescription>(),
};

/// Every list of this domain.
pub static VIEWS: [&View; 1] = [&PRESCRIPTIONS];
