//! The lists.

use serde::Deserialize;
use store::{Connection, List, Page, Paged, StoreError};
use utoipa::IntoParams;

use crate::{Prescription, State};

/// Which prescriptions: those that agree with every field given. It may name a person, so it has no `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// The source's name.
    pub source: Option<String>,
    /// What became of the request.
    pub state: Option<State>,
    /// The person's CPF, bare or formatted.
    pub document: Option<String>,
}

/// A page of prescriptions, newest first.
pub async fn list(
    connection: &mut Connection,
    filter: &Filter,
    page: &Page,
) -> Result<Paged<Prescription>, StoreError> {
    const LIST: List = List {
        select: "SELECT source, document, email, state, reason, right_spherical, right_cylindrical, right_axis, \
                 right_add, left_spherical, left_cylindrical, left_axis, left_add, files, first_event \
                 FROM prescriptions",
        // An event makes one row at most. A cursor travels in addresses, so it names nobody.
        key: ["first_event", "source"],
    };
    // What holds no document matches none.
    let document = filter.document.as_deref();
    let bare = document.and_then(providers::TaxId::new);
    let equal = [
        ("source", filter.source.as_deref()),
        ("state", filter.state.map(State::as_str)),
        ("document", bare.as_ref().map(providers::TaxId::bare).or(document)),
    ];
    LIST.page(connection, &equal, page, Prescription::read).await
}
