//! The rows that screens and programs see. They hold personal and health data, so they have no `Debug`.

use providers::{Degrees, Dioptres};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store::{AnyRow, DriverError, Row, StoreError, stored_enum};
use utoipa::ToSchema;

stored_enum! {
    /// The outcome of a renewal.
    #[derive(Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "snake_case")]
    PrescriptionState {
        /// It was asked for.
        Pending = "pending",
        /// It is being looked at.
        InAnalysis = "in_analysis",
        /// It was refused.
        Rejected = "rejected",
        /// It was granted.
        Renewed = "renewed",
    }
}

/// What was measured of one eye.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Eye {
    /// Spherical power, in dioptres.
    #[schema(value_type = Option<f64>)]
    pub spherical: Option<Dioptres>,
    /// Cylindrical power, in dioptres.
    #[schema(value_type = Option<f64>)]
    pub cylindrical: Option<Dioptres>,
    /// The cylinder's axis, in degrees.
    #[schema(value_type = Option<f64>)]
    pub axis: Option<Degrees>,
    /// Addition for reading, in dioptres.
    #[schema(value_type = Option<f64>)]
    pub add: Option<Dioptres>,
}

impl Eye {
    /// Nothing, if nothing was measured.
    fn read(row: &AnyRow, columns: [&str; 4]) -> Result<Option<Self>, DriverError> {
        let eye = Self {
            spherical: number(row, columns[0])?,
            cylindrical: number(row, columns[1])?,
            axis: number(row, columns[2])?,
            add: number(row, columns[3])?,
        };
        let measured =
            eye.spherical.is_some() || eye.cylindrical.is_some() || eye.axis.is_some() || eye.add.is_some();
        Ok(measured.then_some(eye))
    }
}

/// A decimal from its text.
fn number<T: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<Option<T>, DriverError> {
    row.try_get::<Option<String>, _>(column)?.map(|text| json(column, &text)).transpose()
}

fn json<T: DeserializeOwned>(column: &str, text: &str) -> Result<T, DriverError> {
    serde_json::from_str(text)
        .map_err(|_| DriverError::Decode(format!("{column} does not hold its form").into()))
}

/// A document of a prescription.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct File {
    /// Its title.
    pub file_name: Option<String>,
    /// Where it is.
    pub file_url: String,
}

/// A file of a prescription, and its copy in the archive.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrescriptionFile {
    /// The source's name.
    pub source: String,
    /// The person's CPF, bare.
    pub document: Option<String>,
    /// Its title.
    pub file_name: Option<String>,
    /// The id of the copy, which `malote documents open` takes; null until it is archived.
    pub archive_id: Option<String>,
    /// When it was archived.
    pub archived_at: Option<String>,
    /// Its size in bytes.
    pub size: Option<i64>,
    /// Its SHA-256, in hexadecimal.
    pub sha256: Option<String>,
    /// The event that names it.
    pub event_id: String,
}

impl PrescriptionFile {
    pub(crate) fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            source: row.try_get("source")?,
            document: row.try_get("document")?,
            file_name: row.try_get("file_name")?,
            archive_id: row.try_get("archive_id")?,
            archived_at: row.try_get("archived_at")?,
            size: row.try_get("size")?,
            sha256: row.try_get("sha256")?,
            event_id: row.try_get("event_id")?,
        })
    }
}

/// A request for a renewal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Prescription {
    /// The source's name.
    pub source: String,
    /// The person's CPF, bare.
    pub document: String,
    /// The person's e-mail address.
    pub email: Option<String>,
    /// The outcome of the request.
    pub state: PrescriptionState,
    /// Why it was refused.
    pub reason: Option<String>,
    /// The right eye.
    pub right: Option<Eye>,
    /// The left eye.
    pub left: Option<Eye>,
    /// The prescriptions: for glasses, for contact lenses.
    pub files: Vec<File>,
    /// The first event that it was booked from.
    pub event_id: String,
}

impl Prescription {
    pub(crate) fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            source: row.try_get("source")?,
            document: row.try_get("document")?,
            email: row.try_get("email")?,
            state: PrescriptionState::read(row, "state")?,
            reason: row.try_get("reason")?,
            right: Eye::read(row, ["right_spherical", "right_cylindrical", "right_axis", "right_add"])?,
            left: Eye::read(row, ["left_spherical", "left_cylindrical", "left_axis", "left_add"])?,
            files: json("files", row.try_get("files")?)?,
            event_id: row.try_get("first_event")?,
        })
    }
}
