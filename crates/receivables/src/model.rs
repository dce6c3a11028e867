//! The rows that screens and programs see.

use serde::{Deserialize, Serialize};
use store::{AnyRow, DriverError, Row, StoreError, stored_enum};
use utoipa::ToSchema;

stored_enum! {
    /// What is owed.
    #[derive(Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "lowercase")]
    Kind {
        /// An instalment of an agreement.
        Instalment = "instalment",
        /// An order.
        Order = "order",
    }
}

stored_enum! {
    /// Whether it still is owed.
    #[derive(Serialize, Deserialize, ToSchema)]
    #[schema(as = State)]
    #[serde(rename_all = "lowercase")]
    ReceivableState {
        /// It is.
        Open = "open",
        /// It was paid.
        Paid = "paid",
        /// It is not, although it was not paid.
        Canceled = "canceled",
    }
}

stored_enum! {
    /// The state of an agreement.
    #[derive(Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "lowercase")]
    AgreementState {
        /// Its instalments are awaited.
        Active = "active",
        /// All is paid.
        Settled = "settled",
        /// It was cancelled.
        Canceled = "canceled",
        /// The provider calls it inactive.
        Inactive = "inactive",
    }
}

/// An instalment or an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receivable {
    /// The source's name.
    pub source: String,
    /// The provider's id of the instalment, which is unique within its agreement, or the order's code; of an instalment of
    /// an order, the order's code and its number.
    pub external_id: String,
    /// Which of the two it is.
    pub kind: Kind,
    /// The agreement of an instalment.
    pub agreement_id: Option<String>,
    /// The order of an instalment.
    pub order_id: Option<String>,
    /// The day on which an instalment falls due, `YYYY-MM-DD`. Of an order, the first one of its instalments, once its document
    /// was fetched.
    pub due_date: Option<String>,
    /// The amount in centavos. Nothing is known of an order's before its document was fetched, nor of an instalment's
    /// of which only the payment was received.
    pub amount_centavos: Option<i64>,
    /// The day of the payment, `YYYY-MM-DD`. For an order, which has no payment day of the provider, it is the day on
    /// which the first notice of the payment was received; it stays when a paid order is cancelled.
    pub paid_date: Option<String>,
    /// Whether it is owed.
    pub state: ReceivableState,
    /// The provider's number for the status of an order's payment.
    pub provider_status: Option<String>,
}

impl Receivable {
    pub(crate) fn read(row: &AnyRow) -> Result<Self, DriverError> {
        Ok(Self {
            source: row.try_get("source")?,
            external_id: row.try_get("external_id")?,
            kind: Kind::read(row, "kind")?,
            agreement_id: row.try_get("agreement_id").map(not_empty)?,
            order_id: row.try_get("order_id")?,
            due_date: row.try_get("due_date")?,
            amount_centavos: row.try_get("amount_centavos")?,
            paid_date: row.try_get("paid_date")?,
            state: ReceivableState::read(row, "state")?,
            provider_status: row.try_get("provider_status")?,
        })
    }
}

/// A receivable in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceivableRow {
    /// The receivable.
    #[serde(flatten)]
    pub receivable: Receivable,
    /// The first event that it was booked from.
    pub event_id: String,
}

impl ReceivableRow {
    /// A receivable from its row.
    pub(crate) fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self { receivable: Receivable::read(row)?, event_id: row.try_get("first_event")? })
    }
}

/// The table has the empty text for no agreement, since its key has no column without a value.
fn not_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// An agreement. It names a person, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agreement {
    /// The source's name.
    pub source: String,
    /// The provider's id.
    pub external_id: String,
    /// The debtor.
    pub client_name: Option<String>,
    /// The client's CPF or CNPJ, bare.
    pub document: Option<String>,
    /// The final value in centavos.
    pub agreed_centavos: i64,
    /// The debts before any discount, in centavos.
    pub original_centavos: i64,
    /// The number of instalments, the down payment included.
    pub instalments: i64,
    /// Its state.
    pub state: AgreementState,
    /// The first event that it was booked from.
    pub event_id: String,
}

impl Agreement {
    pub(crate) fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            source: row.try_get("source")?,
            external_id: row.try_get("external_id")?,
            client_name: row.try_get("client_name")?,
            document: row.try_get("document")?,
            agreed_centavos: row.try_get("agreed_centavos")?,
            original_centavos: row.try_get("original_centavos")?,
            instalments: row.try_get("instalments")?,
            state: AgreementState::read(row, "state")?,
            event_id: row.try_get("first_event")?,
        })
    }
}
