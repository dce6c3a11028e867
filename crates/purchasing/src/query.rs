//! The lists.

use consumer::Expectation;
use serde::Deserialize;
use store::{AnyRow, Conditions, List, StoreError};
use utoipa::IntoParams;
use view::{Column, Form, Reading, Shown, TableRow, View, column, dropped, read_rows, shown};

use crate::{Kind, PURCHASE_HISTORY, Purchase};

/// Which purchases: those that agree with every field given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// The source's name.
    pub source: Option<String>,
    /// What they are.
    pub kind: Option<Kind>,
    /// The provider's id.
    pub external_id: Option<String>,
    /// The status.
    pub status: Option<String>,
    /// The provider's id of the supplier.
    pub supplier_id: Option<String>,
}

impl TableRow for Purchase {
    type Filter = Filter;

    const LIST: List<'static> = List::new(
        "SELECT source, kind, external_id, status, previous_status, total_centavos, currency, \
         coalesce(document_supplier_id, supplier_id) AS supplier_id, updated_at, first_event FROM purchases",
        &["first_event", "external_id"],
    );

    const READ: fn(&AnyRow) -> Result<Self, StoreError> = Self::read;

    fn conditions(filter: &Filter) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("kind =", filter.kind.map(Kind::as_str));
        conditions.with("external_id =", filter.external_id.as_ref());
        conditions.with("status =", filter.status.as_ref());
        conditions.with("coalesce(document_supplier_id, supplier_id) =", filter.supplier_id.as_ref());
        conditions
    }
}

impl Shown for Purchase {
    const COLUMNS: &'static [Column<Self>] = &[
        dropped(3, column("Source", |row| shown(&row.source), Form::Text)),
        column("Kind", |row| shown(&row.kind), Form::Text),
        column("Id", |row| shown(&row.external_id), Form::Text),
        column("Status", |row| shown(&row.status), Form::Text),
        dropped(1, column("Before", |row| shown(&row.previous_status), Form::Text)),
        column("Total", |row| shown(&row.total_centavos), Form::Money),
        dropped(2, column("Currency", |row| shown(&row.currency), Form::Text)),
        dropped(4, column("Supplier", |row| shown(&row.supplier_id), Form::Text)),
        dropped(5, column("Updated", |row| shown(&row.updated_at), Form::Time)),
        column("Event", |row| shown(&row.event_id), Form::Id),
    ];
}

/// `purchasing`
pub static PURCHASES: View = View {
    name: "purchasing",
    tag: "books",
    about: "Orders, requests, quotations, contracts and service sheets",
    row: "purchase",
    rows: "purchases",
    example: "kind=order",
    empty: "No purchases yet. They come with order.*, request.*, rfq.*, contract.* and others; see `malote events list`.",
    reading: Reading::new::<Purchase>(),
};

/// Every list of this domain.
pub static VIEWS: [&View; 2] = [&PURCHASES, &PURCHASE_HISTORY];

/// What the documented examples amount to.
pub(crate) static EXPECTATIONS: [Expectation; 2] = [
    Expectation {
        view: &PURCHASES,
        after: None,
        text: "an order is canceled, with its supplier",
        is_met: |rows| {
            let is_it = |row: &Purchase| {
                row.kind == Kind::Order
                    && row.status.as_deref() == Some("canceled")
                    && row.supplier_id.is_some()
            };
            Ok(read_rows(rows)?.iter().any(is_it))
        },
    },
    Expectation {
        view: &PURCHASES,
        after: None,
        text: "a contract of 1234.50 BRL has status 103, before it 101",
        is_met: |rows| {
            let is_it = |row: &Purchase| {
                row.kind == Kind::Contract
                    && row.status.as_deref() == Some("103")
                    && row.previous_status.as_deref() == Some("101")
                    && (row.total_centavos, row.currency.as_deref()) == (Some(123_450), Some("BRL"))
            };
            Ok(read_rows(rows)?.iter().any(is_it))
        },
    },
];
