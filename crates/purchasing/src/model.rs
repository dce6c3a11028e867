//! The rows that screens and programs see.

use event::Timestamp;
use serde::{Deserialize, Serialize};
use store::{AnyRow, DriverError, Row, StoreError, stored_enum};
use utoipa::ToSchema;

stored_enum! {
    /// What is bought, and how far that is.
    #[derive(PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
    #[schema(as = PurchaseKind)]
    #[serde(rename_all = "snake_case")]
    Kind {
        /// An order.
        Order = "order",
        /// A pre-order.
        Preorder = "preorder",
        /// A pre-request.
        Prerequest = "prerequest",
        /// A request.
        Request = "request",
        /// A request for quotation.
        Rfq = "rfq",
        /// A contract.
        Contract = "contract",
        /// A service sheet.
        ServiceSheet = "service_sheet",
        /// The document of a service sheet.
        ServiceSheetDocument = "service_sheet_document",
    }
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Order,
        Self::Preorder,
        Self::Prerequest,
        Self::Request,
        Self::Rfq,
        Self::Contract,
        Self::ServiceSheet,
        Self::ServiceSheetDocument,
    ];

    /// What [`entity`](Self::entity) gives for each of them.
    pub const ENTITIES: [&'static str; Self::ALL.len()] = {
        let mut entities = [""; Self::ALL.len()];
        let mut at = 0;
        while at < entities.len() {
            entities[at] = Self::ALL[at].entity();
            at += 1;
        }
        entities
    };

    /// The first part of the subject of the provider's events about one.
    pub const fn entity(self) -> &'static str {
        match self {
            Self::ServiceSheet => "service-sheet",
            Self::ServiceSheetDocument => "service-sheet-document",
            other => other.as_str(),
        }
    }

    /// The kind whose entity this is.
    pub(crate) fn with_entity(entity: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.entity() == entity)
    }
}

/// An order, a request, a contract or the like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Purchase {
    /// The source's name.
    pub source: String,
    /// What it is.
    pub kind: Kind,
    /// The provider's id.
    pub external_id: String,
    /// The provider's code for the status; before it sends one, the last word of the topic that says a state, such as `approved`.
    pub status: Option<String>,
    /// The code of the status before, where the provider sent it.
    pub previous_status: Option<String>,
    /// The total in centavos, once the document is fetched.
    pub total_centavos: Option<i64>,
    /// The currency of the total, such as `BRL`.
    pub currency: Option<String>,
    /// The provider's id of the supplier, as the document says it, else the webhooks.
    pub supplier_id: Option<String>,
    /// When the last event about it was received.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// The first event that it was booked from.
    pub event_id: String,
}

impl Purchase {
    pub(crate) fn read(row: &AnyRow) -> Result<Self, StoreError> {
        let updated_at = Timestamp::from_microsecond(row.try_get("updated_at")?)
            .map_err(|_| DriverError::Decode("updated_at is no time".into()))?;
        Ok(Self {
            source: row.try_get("source")?,
            kind: Kind::read(row, "kind")?,
            external_id: row.try_get("external_id")?,
            status: row.try_get("status")?,
            previous_status: row.try_get("previous_status")?,
            total_centavos: row.try_get("total_centavos")?,
            currency: row.try_get("currency")?,
            supplier_id: row.try_get("supplier_id")?,
            updated_at,
            event_id: row.try_get("first_event")?,
        })
    }
}

/// A purchase of a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub source: String,
    pub kind: Kind,
    pub external_id: String,
}
