//! A document: where it stands, what asks for it, and what is fetched of it.

use bytes::Bytes;
use event::{EventId, Timestamp};
use providers::documents::FILE;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::{AnyRow, stored_enum};
use utoipa::ToSchema;

stored_enum! {
    /// Where a document stands.
    #[derive(Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "lowercase")]
    DocumentState {
        /// It is fetched soon, or again later.
        Waiting = "waiting",
        /// The newest version is here.
        Fetched = "fetched",
        /// The provider does not have it any more.
        Gone = "gone",
        /// The provider refuses it, or it cannot be kept.
        Refused = "refused",
    }
}

impl DocumentState {
    pub(crate) fn from_row(row: &AnyRow) -> Result<Self, store::DriverError> {
        Self::read(row, "state")
    }
}

/// A document that is asked for.
pub(crate) struct Asked {
    pub(crate) entity: &'static str,
    pub(crate) external_id: String,
    pub(crate) subject: Option<String>,
    /// Where it is, if that is known.
    pub(crate) place: Option<String>,
    /// Why that is not known.
    pub(crate) reason: String,
    pub(crate) name: Option<String>,
    pub(crate) asked_by: EventId,
    pub(crate) traceparent: Option<String>,
}

/// A document to fetch.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) id: EventId,
    pub(crate) entity: String,
    pub(crate) external_id: String,
    pub(crate) subject: Option<String>,
    pub(crate) place: String,
    pub(crate) asked_by: EventId,
    pub(crate) traceparent: Option<String>,
    /// How often it had been asked for when the fetch began.
    pub(crate) asked: i64,
    pub(crate) attempts: i64,
    /// What the last attempt ended with; empty if there was none.
    pub(crate) reason: String,
}

impl Due {
    pub(crate) fn is_file(&self) -> bool {
        self.entity == FILE
    }
}

/// What was fetched.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) fetched_at: Timestamp,
    pub(crate) content_type: String,
    pub(crate) sha256: String,
    pub(crate) body: Bytes,
    /// The JSON text of a document; none of a file.
    pub(crate) document: Option<Box<RawValue>>,
}

impl Content {
    pub(crate) fn size(&self) -> i64 {
        i64::try_from(self.body.len()).unwrap_or(i64::MAX)
    }
}
