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
    /// The ids of the files attached, sorted.
    pub attachments: Vec<String>,
    /// Whether a credit memo was requested.
    pub credit_memo_requested: bool,
}

impl Invoice {
    /// An invoice from its row, without its attachments.
    pub(crate) fn read(row: &AnyRow) -> Result<Self, DriverError> {
        Ok(Self {
            source: row.try_get("source")?,
            external_id: row.try_get("external_id")?,
            status: row.try_get("status")?,
            previous_status: row.try_get("previous_status")?,
            attachments: Vec::new(),
            credit_memo_requested: row.try_get::<i64, _>("credit_memo_requested")? == 1,
        })
    }
}
