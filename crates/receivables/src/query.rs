//! The lists.

use providers::TaxId;
use serde::Deserialize;
use store::{Conditions, Connection, List, Page, Paged, StoreError};
use utoipa::IntoParams;
use view::{Column, Form, Reading, Shown, View, column, shown};

use crate::{Agreement, AgreementState, Kind, Receivable, ReceivableState};

/// Which receivables: those that agree with every field given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// The source's name.
    pub source: Option<String>,
    /// Instalments or orders.
    pub kind: Option<Kind>,
    /// Whether they are owed.
    pub state: Option<ReceivableState>,
    /// The agreement whose instalments they are.
    pub agreement_id: Option<String>,
}

/// Which agreements: those that agree with every field given.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AgreementFilter {
    /// The source's name.
    pub source: Option<String>,
    /// Their state.
    pub state: Option<AgreementState>,
    /// The client's CPF or CNPJ, bare or formatted.
    pub document: Option<String>,
}

impl view::Row for Receivable {
    type Filter = Filter;

    async fn page(
        connection: &mut Connection,
        filter: &Filter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        const LIST: List<'_> = List::new(
            "SELECT source, external_id, kind, agreement_id, due_date, amount_centavos, paid_date, state, \
             provider_status, first_event FROM receivables",
            &["first_event", "external_id"],
        );
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("kind =", filter.kind.map(Kind::as_str));
        conditions.with("state =", filter.state.map(ReceivableState::as_str));
        conditions.with("agreement_id =", filter.agreement_id.as_ref());
        LIST.page(connection, conditions, page, Self::read).await
    }
}

impl view::Row for Agreement {
    type Filter = AgreementFilter;

    async fn page(
        connection: &mut Connection,
        filter: &AgreementFilter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        const LIST: List<'_> = List::new(
            "SELECT source, external_id, client_name, document, agreed_centavos, original_centavos, instalments, \
             state, first_event FROM agreements",
            &["first_event", "external_id"],
        );
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("state =", filter.state.map(AgreementState::as_str));
        conditions.with("document =", filter.document.as_deref().map(TaxId::sought));
        LIST.page(connection, conditions, page, Self::read).await
    }
}

impl Shown for Receivable {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Source", |row| shown(&row.source), Form::Text),
        column("Id", |row| shown(&row.external_id), Form::Text),
        column("Kind", |row| shown(&row.kind), Form::Text),
        column("Agreement", |row| shown(&row.agreement_id), Form::Text),
        column("Due", |row| shown(&row.due_date), Form::Text),
        column("Amount", |row| shown(&row.amount_centavos), Form::Money),
        column("Paid", |row| shown(&row.paid_date), Form::Text),
        column("State", |row| shown(&row.state), Form::State),
    ];
}

/// `receivables`
pub static RECEIVABLES: View = View {
    name: "receivables",
    tag: "books",
    about: "Contas a receber: instalments of agreements, and orders",
    row: "receivable",
    rows: "receivables",
    example: "state=open",
    empty: "No receivables yet. They come with acordo.*, ORDER_* and FINANCIAL_*; see `malote events list`.",
    reading: Reading::new::<Receivable>(),
};

impl Shown for Agreement {
    const COLUMNS: &'static [Column<Self>] = &[
        column("Source", |row| shown(&row.source), Form::Text),
        column("Agreement", |row| shown(&row.external_id), Form::Text),
        column("Client", |row| shown(&row.client_name), Form::Text),
        column("CPF / CNPJ", |row| shown(&row.document), Form::TaxId),
        column("Agreed", |row| shown(&row.agreed_centavos), Form::Money),
        column("Original", |row| shown(&row.original_centavos), Form::Money),
        column("Instalments", |row| shown(&row.instalments), Form::Number),
        column("State", |row| shown(&row.state), Form::State),
    ];
}

/// `agreements`
pub static AGREEMENTS: View = View {
    name: "agreements",
    tag: "books",
    about: "Debt-settlement agreements",
    row: "agreement",
    rows: "agreements",
    example: "state=active",
    empty: "No agreements yet. They come with acordo.*; see `malote events list`.",
    reading: Reading::new::<Agreement>(),
};

/// Every list of this domain.
pub static VIEWS: [&View; 2] = [&RECEIVABLES, &AGREEMENTS];
