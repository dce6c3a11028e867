//! The rows that screens and programs see.

use serde::{Deserialize, Serialize};
use store::{AnyRow, DriverError, Row};
use utoipa::ToSchema;

/// An invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invoice {
    /// The source's name.
    pub source: String,
    /// The provider's id; at Gestão Online the order's code.
    pub external_id: String,
    /// The provider's code for the status, once one was sent.
    pub status: Option<String>,
    /// The code of the status before, where the provider sent it.
    pub previous_status: Option<String>,
    /// The number of the nota fiscal, once its document was fetched.
    pub number: Option<String>,
    /// Its series.
    pub series: Option<String>,
    /// The day of issue, `YYYY-MM-DD`.
    pub issue_date: Option<String>,
    /// What is due, in centavos of the currency.
    pub total_centavos: Option<i64>,
    /// The price without freight and taxes, in centavos of the currency.
    pub net_centavos: Option<i64>,
    /// The currency, such as `BRL`.
    pub currency: Option<String>,
    /// The provider's id of the supplier.
    pub supplier_id: Option<String>,
    /// The CNPJ of the supplier, or the CPF of a person, bare.
    pub supplier_document: Option<String>,
    /// The ids of the files attached, sorted.
    pub attachments: Vec<String>,
    /// Whether a credit memo was requested.
    pub credit_memo_requested: bool,
    /// The first event that it was booked from.
    pub event_id: String,
}

impl Invoice {
    /// An invoice from its row, without its attachments.
    pub(crate) fn read(row: &AnyRow) -> Result<Self, DriverError> {
        Ok(Self {
            source: row.try_get("source")?,
            external_id: row.try_get("external_id")?,
            status: row.try_get("status")?,
            previous_status: row.try_get("previous_status")?,
            number: row.try_get("number")?,
            series: row.try_get("series")?,
            issue_date: row.try_get("issue_date")?,
            total_centavos: row.try_get("total_centavos")?,
            net_centavos: row.try_get("net_centavos")?,
            currency: row.try_get("currency")?,
            supplier_id: row.try_get("supplier_id")?,
            supplier_document: row.try_get("supplier_document")?,
            attachments: Vec::new(),
            credit_memo_requested: row.try_get::<i64, _>("credit_memo_requested")? == 1,
            event_id: row.try_get("first_event")?,
        })
    }
}
