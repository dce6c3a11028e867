//! Ids as they are stored: 16 bytes, which sort as the ids do. No other place knows this form; everything outside the
//! database shows ids as text.

use std::collections::HashSet;

use event::EventId;
use sqlx::any::AnyRow;
use sqlx::{ColumnIndex, Row};

use crate::StoreError;
use crate::many::Value;

/// The length of an id.
const BYTES: usize = 16;

/// A column with an id.
pub fn id<I: ColumnIndex<AnyRow>>(row: &AnyRow, column: I) -> Result<EventId, StoreError> {
    Ok(read(&row.try_get::<Vec<u8>, _>(column)?)?)
}

/// A column with an id that may be missing.
pub fn optional_id<I: ColumnIndex<AnyRow>>(row: &AnyRow, column: I) -> Result<Option<EventId>, StoreError> {
    let bytes: Option<Vec<u8>> = row.try_get(column)?;
    Ok(bytes.map(|bytes| read(&bytes)).transpose()?)
}

/// A column with any number of ids, one after the other.
pub(crate) fn ids<I: ColumnIndex<AnyRow>>(row: &AnyRow, column: I) -> Result<HashSet<EventId>, StoreError> {
    let bytes: Option<Vec<u8>> = row.try_get(column)?;
    let ids = bytes.as_deref().unwrap_or_default().chunks(BYTES).map(read);
    Ok(ids.collect::<Result<_, _>>()?)
}

fn read(bytes: &[u8]) -> Result<EventId, sqlx::Error> {
    let bytes = <[u8; BYTES]>::try_from(bytes).map_err(|_| {
        sqlx::Error::Decode(format!("expected an id of {BYTES} bytes, got {}", bytes.len()).into())
    })?;
    Ok(EventId::from_bytes(bytes))
}

/// The bytes of an id, or of as much of its beginning as the text has: a bound of a range of ids. Ends before what is
/// not hexadecimal.
pub fn id_bound(text: &str) -> Value {
    let digits = text.chars().filter(|digit| *digit != '-').map_while(|digit| digit.to_digit(16));
    let digits: Vec<u32> = digits.take(2 * BYTES).collect();
    let byte =
        |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).expect("two hexadecimal digits are a byte");
    let bytes: Vec<u8> = digits.chunks_exact(2).map(byte).collect();
    match read(&bytes) {
        Ok(id) => id.into(),
        Err(_) => bytes.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_as_long_as_its_text() {
        let id = EventId::generate();
        assert_eq!(id_bound(&id.to_string()), Value::from(id));
        assert_eq!(id_bound("0199d3c0-1f2e"), Value::from(vec![0x01, 0x99, 0xd3, 0xc0, 0x1f, 0x2e]));
        for (text, bytes) in [("", vec![]), ("order-1", vec![]), ("01-9:7f", vec![1])] {
            assert_eq!(id_bound(text), Value::from(bytes), "{text}");
        }
    }
}
