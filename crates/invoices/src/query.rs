//! The lists.

use std::collections::HashMap;

use consumer::Expectation;
use serde::Deserialize;
use store::sql::{assembled, rows};
use store::{Conditions, Connection, List, Page, Paged, Row, StoreError};
use utoipa::IntoParams;
use view::{Column, Form, Reading, Shown, View, column, dropped, read_rows, shown};

use crate::{INVOICE_HISTORY, Invoice};

/// Which invoices: those that agree with every field given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// The source's name.
    pub source: Option<String>,
    /// The provider's id.
    pub external_id: Option<String>,
    /// The provider's code for the status.
    pub status: Option<String>,
}

/// Fills in the attachments.
async fn attach(connection: &mut Connection, invoices: &mut [Invoice]) -> Result<(), StoreError> {
    if invoices.is_empty() {
        return Ok(());
    }
    let mut select = assembled(format!(
        "SELECT source, invoice_id, attachment_id FROM invoice_attachments \
         WHERE present = 1 AND (source, invoice_id) IN (VALUES {}) ORDER BY attachment_id",
        rows(invoices.len(), 2)
    ));
    for invoice in &*invoices {
        select = select.bind(invoice.source.clone()).bind(invoice.external_id.clone());
    }
    let mut attachments: HashMap<(String, String), Vec<String>> = HashMap::new();
    for row in select.fetch_all(&mut *connection).await? {
        attachments.entry((row.try_get(0)?, row.try_get(1)?)).or_default().push(row.try_get(2)?);
    }
    for invoice in invoices {
        let key = (invoice.source.clone(), invoice.external_id.clone());
        invoice.attachments = attachments.remove(&key).unwrap_or_default();
    }
    Ok(())
}

impl view::Row for Invoice {
    type Filter = Filter;

    async fn page(
        connection: &mut Connection,
        filter: &Filter,
        page: &Page,
    ) -> Result<Paged<Self>, StoreError> {
        const LIST: List<'_> = List::new(
            "SELECT source, external_id, status, previous_status, number, series, issue_date, total_centavos, net_centavos, \
             currency, supplier_id, (SELECT document FROM invoice_suppliers s WHERE s.source = invoices.source \
             AND s.supplier_id = invoices.supplier_id) AS supplier_document, credit_memo_requested, first_event \
             FROM invoices",
            &["first_event", "external_id"],
        );
        let mut conditions = Conditions::default();
        conditions.with("source =", filter.source.as_ref());
        conditions.with("external_id =", filter.external_id.as_ref());
        conditions.with("status =", filter.status.as_ref());
        let mut page = LIST.page(connection, conditions, page, Self::read).await?;
        attach(connection, &mut page.items).await?;
        Ok(page)
    }
}

impl Shown for Invoice {
    const COLUMNS: &'static [Column<Self>] = &[
        dropped(5, column("Source", |row| shown(&row.source), Form::Text)),
        column("Invoice", |row| shown(&row.external_id), Form::Text),
        column("Number", |row| shown(&row.number), Form::Text),
        dropped(6, column("Issued", |row| shown(&row.issue_date), Form::Text)),
        column("Total", |row| shown(&row.total_centavos), Form::Money),
        dropped(4, column("Supplier", |row| shown(&row.supplier_document), Form::TaxId)),
        column("Status", |row| shown(&row.status), Form::Text),
        dropped(3, column("Before", |row| shown(&row.previous_status), Form::Text)),
        dropped(2, column("Attachments", |row| shown(&row.attachments), Form::Count)),
        dropped(1, column("Credit memo", |row| shown(&row.credit_memo_requested), Form::Flag)),
        column("Event", |row| shown(&row.event_id), Form::Id),
    ];

    const PERSONAL: &'static [&'static str] = &["supplier_document"];
    const PARTIES: &'static [&'static str] = &["supplier_document"];
}

/// `invoices`
pub static INVOICES: View = View {
    name: "invoices",
    tag: "books",
    about: "Notas fiscais",
    row: "invoice",
    rows: "invoices",
    example: "status=103",
    empty: "No invoices yet. They come with invoice.* and TAX_INVOICE_CHANGE_STATUS; see `malote events list`.",
    reading: Reading::new::<Invoice>(),
};

/// Every list of this domain.
pub static VIEWS: [&View; 2] = [&INVOICES, &INVOICE_HISTORY];

/// What the documented examples amount to.
pub(crate) static EXPECTATIONS: [Expectation; 2] = [
    Expectation {
        view: &INVOICES,
        after: None,
        text: "an invoice has status 103, before it 101",
        is_met: |rows| {
            let is_it = |row: &Invoice| {
                row.status.as_deref() == Some("103") && row.previous_status.as_deref() == Some("101")
            };
            Ok(read_rows(rows)?.iter().any(is_it))
        },
    },
    Expectation {
        view: &INVOICES,
        after: None,
        text: "an invoice has its number, its total and the CNPJ of its supplier",
        is_met: |rows| {
            let is_it = |row: &Invoice| {
                row.number.is_some() && row.total_centavos.is_some() && row.supplier_document.is_some()
            };
            Ok(read_rows(rows)?.iter().any(is_it))
        },
    },
];
