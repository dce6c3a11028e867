//! Rows that events have at most one of: which events have theirs, and the rows of those that have none yet.

use std::collections::HashSet;

use event::EventId;

use crate::id::ids;
use crate::many::{Value, Values, chunks, fetch, fetch_parts, given, insert, is_sqlite};
use crate::{Connection, StoreError, id, sql};

/// Rows of a table by the ids of their events.
#[derive(Clone, Copy, Debug)]
pub struct ById<'a> {
    /// The table and its columns, as for [`insert`].
    pub into: &'static str,
    /// The table.
    pub table: &'static str,
    /// The column of the id.
    pub id: &'static str,
    /// What else the key has: a column, and its value in every row.
    pub part: Option<(&'static str, &'a str)>,
}

impl ById<'_> {
    /// Inserts the rows of events that have none yet, and gives these events.
    ///
    /// A row of another transaction that is still open is waited for.
    pub async fn insert_new(
        &self,
        tx: &mut Connection,
        mut rows: Vec<(EventId, Values)>,
    ) -> Result<HashSet<EventId>, StoreError> {
        if rows.is_empty() {
            return Ok(HashSet::new());
        }
        let key = self.part.map(|(column, _)| format!(", {column}")).unwrap_or_default();
        let tail = format!("ON CONFLICT ({}{key}) DO NOTHING", self.id);
        if is_sqlite(tx) {
            // Its only writer can look first, which avoids hundreds of rows that come back one by one.
            let ids: Vec<EventId> = rows.iter().map(|(id, _)| *id).collect();
            let known = self.known(tx, &ids).await?;
            rows.retain(|(id, _)| !known.contains(id));
            let (new, rows) = rows.into_iter().unzip();
            insert(tx, self.into, &tail, rows).await?;
            return Ok(new);
        }
        // One row with all ids instead of hundreds that come back one by one, too.
        let Self { into, id: column, .. } = self;
        let (given, values) = given(rows.into_iter().map(|(_, row)| row).collect());
        let text = format!(
            "WITH new AS (INSERT INTO {into} {given} {tail} RETURNING {column}) \
             SELECT string_agg({column}, '') FROM new"
        );
        let new = fetch(tx, text, values).await?;
        new.first().map_or(Ok(HashSet::new()), |row| ids(row, 0))
    }

    /// Those of these events that have a row.
    pub async fn known(&self, tx: &mut Connection, ids: &[EventId]) -> Result<HashSet<EventId>, StoreError> {
        let mut known = HashSet::new();
        let Self { table, id: column, part, .. } = self;
        let text = |first: &str, ids: &str| {
            let part_is = part.map(|(column, _)| format!("{column} = {first} AND ")).unwrap_or_default();
            format!("SELECT {column} FROM {table} WHERE {part_is}{column} IN ({ids})")
        };
        let part: Values = part.iter().map(|(_, value)| Value::from(*value)).collect();
        if is_sqlite(tx) {
            let rows = ids.iter().map(|id| vec![Value::from(*id)]).collect();
            for row in fetch_parts(tx, |given| text("?", given), &part, rows).await? {
                known.insert(id(&row, 0)?);
            }
            return Ok(known);
        }
        for chunk in chunks(ids) {
            let ids = chunk.iter().copied().map(Value::from);
            let text = text("$1", &sql::list(1 + part.len(), chunk.len()));
            for row in fetch(tx, text, part.iter().cloned().chain(ids)).await? {
                known.insert(id(&row, 0)?);
            }
        }
        Ok(known)
    }
}
