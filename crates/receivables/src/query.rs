//! The lists.

use serde::Deserialize;
use store::{Connection, List, Page, Paged, StoreError};
use utoipa::IntoParams;

use crate::{Agreement, AgreementState, Kind, Receivable, State};

/// Which receivables: those that agree with every field given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// The source's name.
    pub source: Option<String>,
    /// Instalments or orders.
    pub kind: Option<Kind>,
    /// Whether they are owed.
    pub state: Option<State>,
    /// The agreement whose instalments they are.
    pub agreement_id: Option<String>,
}

/// Which agreements: those that agree with every field given.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AgreementFilter {
    /// The source's name.
    pub source: Option<String>,
    /// What became of them.
    pub state: Option<AgreementState>,
    /// The client's CPF or CNPJ, bare or formatted.
    pub document: Option<String>,
}

/// A page of receivables, newest first.
pub async fn list(
    connection: &mut Connection,
    filter: &Filter,
    page: &Page,
) -> Result<Paged<Receivable>, StoreError> {
    const LIST: List = List {
        select: "SELECT source, external_id, kind, agreement_id, due_date, amount_centavos, paid_date, state, \
                 provider_status, first_event FROM receivables",
        key: ["first_event", "external_id"],
    };
    let equal = [
        ("source", filter.source.as_deref()),
        ("kind", filter.kind.map(Kind::as_str)),
        ("state", filter.state.map(State::as_str)),
        ("agreement_id", filter.agreement_id.as_deref()),
    ];
    LIST.page(connection, &equal, page, Receivable::read).await
}

/// A page of agreements, newest first.
pub async fn list_agreements(
    connection: &mut Connection,
    filter: &AgreementFilter,
    page: &Page,
) -> Result<Paged<Agreement>, StoreError> {
    const LIST: List = List {
        select: "SELECT source, external_id, client_name, document, agreed_centavos, original_centavos, instalments, \
                 state, first_event FROM agreements",
        key: ["first_event", "external_id"],
    };
    // What holds no document matches none.
    let document = filter.document.as_deref();
    let bare = document.and_then(providers::TaxId::new);
    let equal = [
        ("source", filter.source.as_deref()),
        ("state", filter.state.map(AgreementState::as_str)),
        ("document", bare.as_ref().map(providers::TaxId::bare).or(document)),
    ];
    LIST.page(connection, &equal, page, Agreement::read).await
}
