//! Columns of times.

use event::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{DriverError, StoreError};

/// A column of microseconds.
pub fn time(row: &AnyRow, column: &str) -> Result<Timestamp, StoreError> {
    let microseconds: i64 = row.try_get(column)?;
    Timestamp::from_microsecond(microseconds)
        .map_err(|error| DriverError::ColumnDecode { index: column.to_owned(), source: error.into() }.into())
}

/// A column of microseconds that may be empty.
pub fn optional_time(row: &AnyRow, column: &str) -> Result<Option<Timestamp>, StoreError> {
    let microseconds: Option<i64> = row.try_get(column)?;
    microseconds.map(|_| time(row, column)).transpose()
}
