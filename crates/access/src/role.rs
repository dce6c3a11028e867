//! Roles.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

store::stored_enum! {
    /// What the owner of a token may do. Each role allows what the one before it allows.
    #[derive(PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "lowercase")]
    Role {
        /// Reads lists; no bodies.
        Viewer = "viewer",
        /// Reads bodies; retries, replays, discards, pauses.
        Operator = "operator",
        /// Changes subscriptions and tokens, and reads the audit.
        Admin = "admin",
    }
}

impl Role {
    pub(crate) fn from_row(row: &store::AnyRow) -> Result<Self, store::StoreError> {
        Ok(Self::read(row, "role")?)
    }
}
