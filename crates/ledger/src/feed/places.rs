//! Places of the log to begin at: its ends, an event, a time; and how much is after one.
//!
//! The caller knows that older events may be deleted: a reader that begins there is not told.

use event::{EventId, Timestamp};
use store::many::{Value, fetch};
use store::{AnyRow, Conditions, Connection, Dialect, Row, Store, StoreError, id};

use super::entry::Origin;
use super::log::{Log, SQLITE_NUMBER, SQLITE_ROW};
use super::marks;
use super::position::{Cursor, Position};
use super::topics::Topics;
use crate::predicates::duplicate;

/// The cursor of a reader that has read nothing.
pub async fn beginning(store: &Store) -> Result<Cursor, StoreError> {
    Log::new(store.clone()).beginning().await
}

/// The cursor of a reader that has read everything.
pub async fn end(store: &Store) -> Result<Cursor, StoreError> {
    Ok(Cursor { position: Log::new(store.clone()).end().await?, known_deleted: None })
}

/// The same cursor for a reader that knows of every event that was deleted.
pub async fn knowing_deleted(store: &Store, cursor: Cursor) -> Result<Cursor, StoreError> {
    Log::new(store.clone()).place(cursor.position).await
}

/// The cursor before an event; `None` if it is not on record.
pub async fn before_event(store: &Store, event: EventId) -> Result<Option<Cursor>, StoreError> {
    Log::new(store.clone()).before("e.id = $1", vec![event.into()]).await
}

/// The cursor before the first event of the log that was received at this time or later; its end if there is none yet.
pub async fn before_time(store: &Store, time: Timestamp) -> Result<Cursor, StoreError> {
    let log = Log::new(store.clone());
    let marked = marks::before(&mut *store.read().await?, time).await?;
    let values = vec![Value::from(marked), time.into()];
    match log.before(&since(store.dialect()), values).await? {
        Some(cursor) => Ok(cursor),
        None => end(store).await,
    }
}

/// The cursor before the last events of the log, so many of them; its beginning if there are fewer.
pub async fn before_last(store: &Store, events: u32) -> Result<Cursor, StoreError> {
    let log = Log::new(store.clone());
    let order = match store.dialect() {
        Dialect::Postgres => "e.written_in DESC, e.id DESC",
        Dialect::Sqlite => "e.rowid DESC",
    };
    let text =
        format!("SELECT e.id FROM events e ORDER BY {order} LIMIT 1 OFFSET {}", events.saturating_sub(1));
    let rows = fetch(&mut *store.read().await?, text, []).await?;
    let before = match rows.first() {
        Some(row) => log.before("e.id = $1", vec![id(row, "id")?.into()]).await?,
        None => None,
    };
    match before {
        Some(before) => Ok(before),
        None => log.beginning().await,
    }
}

/// How many of the next events after a cursor are wanted, without duplicates; looks at so many at most. Counts also events that
/// no reader gets yet, since an older transaction is still running.
pub async fn ahead(
    connection: &mut Connection,
    topics: &Topics,
    after: Cursor,
    most: u32,
) -> Result<i64, StoreError> {
    let rows = wanted(connection, "count(*)", topics, after, most).await?;
    rows.first().map_or(Ok(0), |row| Ok(row.try_get(0)?))
}

/// When the first of them was received, if there is one.
pub async fn first_ahead(
    connection: &mut Connection,
    topics: &Topics,
    after: Cursor,
    most: u32,
) -> Result<Option<Timestamp>, StoreError> {
    let rows = wanted(connection, "min(t.received_at)", topics, after, most).await?;
    let first: Option<i64> = rows.first().map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(first.and_then(|at| Timestamp::from_microsecond(at).ok()))
}

/// An aggregate over the wanted ones `t` of the next events after a cursor. No row if no topic that is wanted is on record.
async fn wanted(
    connection: &mut Connection,
    aggregate: &str,
    topics: &Topics,
    after: Cursor,
    most: u32,
) -> Result<Vec<AnyRow>, StoreError> {
    let mut wanted = Vec::new();
    for row in fetch(connection, "SELECT id, source, provider, topic FROM origins".to_owned(), []).await? {
        let origin = Origin { source: row.try_get(1)?, provider: row.try_get(2)?, topic: row.try_get(3)? };
        if topics.take(&origin) {
            wanted.push(row.try_get::<i64, _>(0)?.to_string());
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let dialect = Dialect::from_connection(connection);
    let mut conditions = Conditions::default();
    let after = is_after(dialect, &after, &mut conditions);
    let order = match dialect {
        Dialect::Postgres => "e.written_in, e.id",
        Dialect::Sqlite => "e.rowid",
    };
    let text = format!(
        "SELECT {aggregate} FROM (SELECT e.origin, e.received_at, e.duplicate_of FROM events e \
         WHERE {after} ORDER BY {order} LIMIT {most}) t WHERE t.origin IN ({}) AND NOT {}",
        wanted.join(", "),
        duplicate("t")
    );
    fetch(connection, text, conditions.values).await
}

/// The condition that an event `e` is after a cursor, with its values.
pub fn is_after(dialect: Dialect, after: &Cursor, conditions: &mut Conditions) -> String {
    let Position { number, id } = after.position;
    let number = conditions.bind(number.into());
    match dialect {
        Dialect::Postgres => format!("(e.written_in, e.id) > ({number}, {})", conditions.bind(id.into())),
        Dialect::Sqlite => format!("e.rowid > {}", SQLITE_ROW.replace("$1", &number)),
    }
}

/// The first event for which a condition holds.
fn first(dialect: Dialect, condition: &str) -> String {
    let (number, order) = match dialect {
        Dialect::Postgres => ("e.written_in", "e.written_in, e.id"),
        Dialect::Sqlite => (SQLITE_NUMBER, "e.rowid"),
    };
    format!("SELECT {number} AS number, e.id FROM events e WHERE {condition} ORDER BY {order} LIMIT 1")
}

/// The condition of being after the number `$1`, and received at the time `$2` or later.
fn since(dialect: Dialect) -> String {
    let after = match dialect {
        Dialect::Postgres => "e.written_in > $1".to_owned(),
        Dialect::Sqlite => format!("e.rowid > {SQLITE_ROW}"),
    };
    format!("{after} AND e.received_at >= $2")
}

/// The statement that finds the first event since a time, after the number `$1`.
#[cfg(any(test, feature = "test-support"))]
pub(crate) fn first_since(dialect: Dialect) -> String {
    first(dialect, &since(dialect))
}

impl Log {
    pub(super) async fn beginning(&self) -> Result<Cursor, StoreError> {
        self.place(Position::start()).await
    }

    /// The cursor before the first event for which a condition with these values holds.
    async fn before(&self, condition: &str, values: Vec<Value>) -> Result<Option<Cursor>, StoreError> {
        let mut connection = self.store.read().await?;
        let rows = fetch(&mut connection, first(self.store.dialect(), condition), values).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let at = Position { number: row.try_get("number")?, id: id(row, "id")? };
        let mut before = Position::last(at.number - 1);
        if self.store.dialect() == Dialect::Postgres {
            // One transaction writes many events.
            let text =
                "SELECT e.id FROM events e WHERE e.written_in = $1 AND e.id < $2 ORDER BY e.id DESC LIMIT 1";
            let rows =
                fetch(&mut connection, text.to_owned(), [Value::from(at.number), at.id.into()]).await?;
            if let Some(row) = rows.first() {
                before = Position { number: at.number, id: id(row, "id")? };
            }
        }
        drop(connection);
        // An event that no reader gets yet, since an older transaction is still running, is behind the end.
        self.place(before.min(self.end().await?)).await.map(Some)
    }

    async fn place(&self, position: Position) -> Result<Cursor, StoreError> {
        let known_deleted = self.last_deleted(&Topics::default()).await?;
        Ok(Cursor { position, known_deleted }.at(position))
    }
}
