//! The lists.

use std::collections::HashMap;

use serde::Deserialize;
use store::sql::{assembled, rows};
use store::{Connection, List, Page, Paged, Row, StoreError};
use utoipa::IntoParams;

use crate::Invoice;

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

/// A page of invoices, newest first.
pub async fn list(
    connection: &mut Connection,
    filter: &Filter,
    page: &Page,
) -> Result<Paged<Invoice>, StoreError> {
    const LIST: List = List {
        select: "SELECT source, external_id, status, previous_status, credit_memo_requested, first_event \
                 FROM invoices",
        key: ["first_event", "external_id"],
    };
    let equal = [
        ("source", filter.source.as_deref()),
        ("external_id", filter.external_id.as_deref()),
        ("status", filter.status.as_deref()),
    ];
    let mut page = LIST.page(connection, &equal, page, Invoice::read).await?;
    attach(connection, &mut page.items).await?;
    Ok(page)
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
