//! The lists.

use consumer::Expectation;
use providers::TaxId;
use serde::Deserialize;
use serde_json::value::RawValue;
use store::{AnyRow, Conditions, List, StoreError};
use utoipa::IntoParams;
use view::{Column, Form, Reading, Shown, TableRow, Tone, Tones, View, column, dropped, read_rows, shown};

use crate::{
    AGREEMENT_HISTORY, Agreement, AgreementState, Kind, RECEIVABLE_HISTORY, Receivable, ReceivableRow,
    ReceivableState,
};

/// Which receivables: those that agree with every field given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// The source's name.
    pub source: Option<String>,
    /// The provider's id.
    pub external_id: Option<String>,
    /// Instalments or orders.
    pub kind: Option<Kind>,
    /// Whether they are owed.
    pub state: Option<ReceivableState>,
    /// The agreement whose instalments they are.
    pub agreement_id: Option<String>,
    /// The order whose instalments they are.
    pub order_id: Option<String>,
}

/// Which agreements: those that agree with every field given.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AgreementFilter {
    /// The source's name.
    pub source: Option<String>,
    /// The provider's id.
    pub external_id: Option<String>,
    /// Their state.
    pub state: Option<AgreementState>,
    /// The client's CPF or CNPJ, bare or formatted.
    pub document: Option<String>,
}

impl TableRow for ReceivableRow {
    type Filter = Filter;

    const LIST: List<'static> = List::new(
        "SELECT source, external_id, kind, agreement_id, due_date, amount_centavos, paid_date, state, \
         provider_status, order_id, first_event FROM receivable_items",
        &["first_event", "external_id"],
    );

    const READ: fn(&AnyRow) -> Result<Self, StoreError> = Self::read;

    fn conditions(filter: &Filter) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("external_id =", filter.external_id.as_ref());
        conditions.with("kind =", filter.kind.map(Kind::as_str));
        conditions.with("state =", filter.state.map(ReceivableState::as_str));
        conditions.with("agreement_id =", filter.agreement_id.as_ref());
        conditions.with("order_id =", filter.order_id.as_ref());
        conditions
    }
}

impl TableRow for Agreement {
    type Filter = AgreementFilter;

    const LIST: List<'static> = List::new(
        "SELECT source, external_id, client_name, document, agreed_centavos, original_centavos, instalments, \
         state, first_event FROM agreements",
        &["first_event", "external_id"],
    );

    const READ: fn(&AnyRow) -> Result<Self, StoreError> = Self::read;

    fn conditions(filter: &AgreementFilter) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("external_id =", filter.external_id.as_ref());
        conditions.with("state =", filter.state.map(AgreementState::as_str));
        conditions.with("document =", filter.document.as_deref().map(TaxId::sought));
        conditions
    }
}

/// What the states mean to those who read them.
const TONES: Tones = &[
    ("paid", Tone::Good),
    ("settled", Tone::Good),
    ("open", Tone::Waiting),
    ("active", Tone::Waiting),
    ("canceled", Tone::Bad),
];

impl Shown for ReceivableRow {
    const COLUMNS: &'static [Column<Self>] = &[
        dropped(2, column("Source", |row| shown(&row.receivable.source), Form::Text)),
        column("Id", |row| shown(&row.receivable.external_id), Form::Text),
        dropped(1, column("Kind", |row| shown(&row.receivable.kind), Form::Text)),
        column("Agreement", |row| shown(&row.receivable.agreement_id), Form::Text),
        dropped(4, column("Order", |row| shown(&row.receivable.order_id), Form::Text)),
        column("Due", |row| shown(&row.receivable.due_date), Form::Text),
        column("Amount", |row| shown(&row.receivable.amount_centavos), Form::Money),
        dropped(3, column("Paid", |row| shown(&row.receivable.paid_date), Form::Text)),
        column("State", |row| shown(&row.receivable.state), Form::State(TONES)),
        column("Event", |row| shown(&row.event_id), Form::Id),
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
    empty: "No receivables yet. They come with acordo.*, parcela.aprovada, ORDER_* and FINANCIAL_*; see `malote events list`.",
    reading: Reading::new::<ReceivableRow>(),
};

impl Shown for Agreement {
    const COLUMNS: &'static [Column<Self>] = &[
        dropped(2, column("Source", |row| shown(&row.source), Form::Text)),
        column("Agreement", |row| shown(&row.external_id), Form::Text),
        column("Client", |row| shown(&row.client_name), Form::Text),
        dropped(4, column("CPF / CNPJ", |row| shown(&row.document), Form::TaxId)),
        column("Agreed", |row| shown(&row.agreed_centavos), Form::Money),
        dropped(1, column("Original", |row| shown(&row.original_centavos), Form::Money)),
        dropped(3, column("Instalments", |row| shown(&row.instalments), Form::Number)),
        column("State", |row| shown(&row.state), Form::State(TONES)),
        column("Event", |row| shown(&row.event_id), Form::Id),
    ];

    const PERSONAL: &'static [&'static str] = &["client_name", "document"];
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
pub static VIEWS: [&View; 4] = [&RECEIVABLES, &AGREEMENTS, &RECEIVABLE_HISTORY, &AGREEMENT_HISTORY];

/// What the documented examples amount to.
pub(crate) static EXPECTATIONS: [Expectation; 5] = [
    Expectation {
        view: &RECEIVABLES,
        after: Some("acordo.cadastrado"),
        text: "3 instalments of 460.20 are open",
        is_met: |rows| are_instalments(rows, ReceivableState::Open),
    },
    Expectation {
        view: &RECEIVABLES,
        after: None,
        text: "3 instalments of 460.20 are paid",
        is_met: |rows| are_instalments(rows, ReceivableState::Paid),
    },
    Expectation {
        view: &RECEIVABLES,
        after: None,
        text: "an order is opened and settled",
        is_met: |rows| {
            let is_it = |row: &Receivable| row.kind == Kind::Order && row.state == ReceivableState::Paid;
            Ok(receivables(rows)?.iter().any(is_it))
        },
    },
    Expectation {
        view: &RECEIVABLES,
        after: None,
        text: "an order has its amount, and two instalments with their due dates",
        is_met: |rows| {
            let rows = receivables(rows)?;
            let has_amount = |row: &&Receivable| row.kind == Kind::Order && row.amount_centavos.is_some();
            let is_instalment = |row: &&Receivable| row.order_id.is_some() && row.due_date.is_some();
            Ok(rows.iter().any(|row| has_amount(&row)) && rows.iter().filter(is_instalment).count() == 2)
        },
    },
    Expectation {
        view: &AGREEMENTS,
        after: None,
        text: "one agreement is settled",
        is_met: |rows| {
            let agreements = read_rows::<Agreement>(rows)?;
            Ok(matches!(&agreements[..], [agreement] if agreement.state == AgreementState::Settled))
        },
    },
];

fn receivables(rows: &[Box<RawValue>]) -> serde_json::Result<Vec<Receivable>> {
    Ok(read_rows::<ReceivableRow>(rows)?.into_iter().map(|row| row.receivable).collect())
}

/// Whether the instalments are those of the examples, in this state.
fn are_instalments(rows: &[Box<RawValue>], state: ReceivableState) -> serde_json::Result<bool> {
    let mut instalments = receivables(rows)?;
    instalments.retain(|row| row.kind == Kind::Instalment && row.order_id.is_none());
    let is_it = |row: &Receivable| row.amount_centavos == Some(46_020) && row.state == state;
    Ok(instalments.len() == 3 && instalments.iter().all(is_it))
}
