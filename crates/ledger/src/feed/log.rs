//! Reading the log: a part of it after a position.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use event::EventId;
use store::many::{Value, chunks, fetch};
use store::{Connection, Dialect, Row, Store, StoreError, id, sql};

use super::cluster;
use super::entry::{COLUMNS, Entry, FeedEvent, Origin};
use super::position::Position;
use super::topics::Topics;

/// How many events one statement looks at. A reader with a rare topic goes through the log in steps of this size.
const WINDOW: usize = 512;

/// How much is read at once. At least one event is, however large.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) events: usize,
    pub(super) bytes: i64,
}

/// A part of the log.
pub(super) struct Part {
    /// The events that are wanted.
    pub(super) entries: Vec<Entry>,
    /// Up to where the log was read: nothing will ever appear at or before it.
    pub(super) reached: Position,
    /// Whether that was the end of the log.
    pub(super) is_end: bool,
}

/// An event found: where it is, without its contents.
struct Found {
    position: Position,
    origin: i64,
    bytes: i64,
}

/// The log in the store.
pub(crate) struct Log {
    pub(super) store: Store,
    /// Rows of `origins`, which never change.
    origins: RwLock<HashMap<i64, Arc<Origin>>>,
}

/// The position of row `e` on SQLite.
pub(super) const SQLITE_NUMBER: &str =
    "e.rowid + (SELECT s.shift FROM feed_shift s WHERE s.above < e.rowid ORDER BY s.above DESC LIMIT 1)";

/// The last row up to the position `$1` on SQLite: in the last range of rows that begins before it, at most the range's end.
pub(super) const SQLITE_ROW: &str = "coalesce((SELECT min($1 - s.shift, coalesce((SELECT min(n.above) FROM feed_shift n \
     WHERE n.above > s.above), $1 - s.shift)) FROM feed_shift s WHERE s.above + s.shift <= $1 \
     ORDER BY s.above DESC LIMIT 1), 0)";

impl Log {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, origins: RwLock::default() }
    }

    /// The end of the log.
    pub(super) async fn end(&self) -> Result<Position, StoreError> {
        let number = match self.store.dialect() {
            Dialect::Postgres => {
                let horizon = cluster::horizon(&mut *self.store.read().await?).await?;
                match horizon.is_foreign {
                    true => cluster::adopt(&self.store).await?.below,
                    false => horizon.below,
                }
            }
            Dialect::Sqlite => {
                let text = format!(
                    "SELECT max(coalesce((SELECT {SQLITE_NUMBER} FROM events e ORDER BY e.rowid DESC LIMIT 1), 0), \
                     coalesce((SELECT max(number) FROM feed_deleted), 0)) + 1"
                );
                let rows = fetch(&mut *self.store.read().await?, text, []).await?;
                rows[0].try_get(0)?
            }
        };
        Ok(Position::last(number - 1))
    }

    /// The wanted events after a position, the first ones.
    pub(super) async fn part(
        &self,
        topics: &Topics,
        after: Position,
        limits: Limits,
    ) -> Result<Part, StoreError> {
        self.part_of(|_, origin| topics.take(origin), after, limits).await
    }

    /// The same, of the origins that are wanted; each is asked about with its number.
    pub(super) async fn part_of(
        &self,
        mut takes: impl FnMut(i64, &Origin) -> bool,
        after: Position,
        limits: Limits,
    ) -> Result<Part, StoreError> {
        // Before the events: what is finished now is visible then.
        let end = self.end().await?;
        let mut connection = self.store.read().await?;
        let found = self.find(&mut connection, after, end).await?;
        let (mut wanted, mut bytes, mut reached, mut is_whole) = (Vec::new(), 0, after, true);
        for one in &found {
            let origin = self.origin(&mut connection, one.origin).await?;
            if takes(one.origin, &origin) {
                bytes += one.bytes;
                if wanted.len() == limits.events || bytes > limits.bytes && !wanted.is_empty() {
                    is_whole = false;
                    break;
                }
                wanted.push(one.position);
            }
            reached = one.position;
        }
        let is_end = is_whole && found.len() < WINDOW;
        if is_end {
            reached = reached.max(end);
        }
        let ids: Vec<EventId> = wanted.iter().map(|position| position.id).collect();
        let mut events = self.events(&mut connection, &ids).await?;
        // An event that was deleted meanwhile is missing.
        let entry =
            |position: &Position| Some(Entry { position: *position, event: events.remove(&position.id)? });
        Ok(Part { entries: wanted.iter().filter_map(entry).collect(), reached, is_end })
    }

    /// Those of these events that are on record.
    pub(super) async fn events(
        &self,
        connection: &mut Connection,
        ids: &[EventId],
    ) -> Result<HashMap<EventId, Arc<FeedEvent>>, StoreError> {
        let mut events = HashMap::with_capacity(ids.len());
        for chunk in chunks(ids) {
            let list = sql::list(1, chunk.len());
            let text = format!("SELECT {COLUMNS} FROM events e WHERE e.id IN ({list})");
            for row in fetch(connection, text, chunk.iter().copied().map(Value::from)).await? {
                let origin = self.origin(connection, row.try_get("origin")?).await?;
                events.insert(id(&row, "id")?, Arc::new(FeedEvent::new(&row, &origin)?));
            }
        }
        Ok(events)
    }

    async fn find(
        &self,
        connection: &mut Connection,
        after: Position,
        end: Position,
    ) -> Result<Vec<Found>, StoreError> {
        let (text, values) = match self.store.dialect() {
            Dialect::Postgres => {
                let text = "SELECT e.written_in AS number, e.id, e.origin, length(e.body)::BIGINT AS bytes FROM events e \
                            WHERE (e.written_in, e.id) > ($1, $2) AND e.written_in <= $3 \
                            ORDER BY e.written_in, e.id";
                (text.to_owned(), vec![after.number.into(), after.id.into(), Value::from(end.number)])
            }
            Dialect::Sqlite => {
                let text = format!(
                    "SELECT {SQLITE_NUMBER} AS number, e.id, e.origin, length(e.body) AS bytes FROM events e \
                     WHERE e.rowid > {SQLITE_ROW} ORDER BY e.rowid"
                );
                (text, vec![Value::from(after.number)])
            }
        };
        let rows = fetch(connection, format!("{text} LIMIT {WINDOW}"), values).await?;
        let found = rows.iter().map(|row| {
            let position = Position { number: row.try_get("number")?, id: id(row, "id")? };
            Ok(Found { position, origin: row.try_get("origin")?, bytes: row.try_get("bytes")? })
        });
        found.collect()
    }

    async fn origin(&self, connection: &mut Connection, number: i64) -> Result<Arc<Origin>, StoreError> {
        let known = || self.origins.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned();
        if let Some(origin) = known() {
            return Ok(origin);
        }
        let rows =
            fetch(connection, "SELECT id, source, provider, topic FROM origins".to_owned(), []).await?;
        let mut all = HashMap::with_capacity(rows.len());
        for row in rows {
            let origin =
                Origin { source: row.try_get(1)?, provider: row.try_get(2)?, topic: row.try_get(3)? };
            all.insert(row.try_get(0)?, Arc::new(origin));
        }
        let found = all.get(&number).cloned();
        *self.origins.write().unwrap_or_else(PoisonError::into_inner) = all;
        Ok(found.ok_or(store::DriverError::RowNotFound)?)
    }

    /// The last position that was deleted of the wanted events.
    pub(super) async fn last_deleted(&self, topics: &Topics) -> Result<Option<Position>, StoreError> {
        let mut connection = self.store.read().await?;
        let text = "SELECT origin, number, id FROM feed_deleted".to_owned();
        let mut last = None;
        for row in &fetch(&mut connection, text, []).await? {
            let origin = self.origin(&mut connection, row.try_get(0)?).await?;
            if topics.take(&origin) {
                last = last.max(Some(Position { number: row.try_get(1)?, id: id(row, 2)? }));
            }
        }
        Ok(last)
    }

    /// Whether the position is one of this log: that of an event on record or of a deleted one, or one between events.
    pub(super) async fn has(&self, position: Position) -> Result<bool, StoreError> {
        if position > self.end().await? {
            return Ok(false);
        }
        if !position.is_of_event() {
            return Ok(true);
        }
        let number = match self.store.dialect() {
            Dialect::Postgres => "e.written_in",
            Dialect::Sqlite => SQLITE_NUMBER,
        };
        let text = format!("SELECT {number} FROM events e WHERE e.id = $1");
        let rows = fetch(&mut *self.store.read().await?, text, [Value::from(position.id)]).await?;
        match rows.first() {
            Some(row) => Ok(row.try_get::<i64, _>(0)? == position.number),
            None => Ok(self.last_deleted(&Topics::default()).await?.is_some_and(|last| position <= last)),
        }
    }
}
