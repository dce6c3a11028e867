//! The SQLite file of the embedded broker: schema, statements, transactions.
//!
//! Every queue is a table of its own, so that appending and taking from the head stay as cheap with a long queue
//! beside it as without. A message is stored once, whatever number of queues it is in, and deleted with the last of
//! them. The file belongs to one process at a time. This module knows rows; what they mean is for
//! [`state`](super::state).
//!
//! Two connections of this process share the file: the writer's, and that of the [`checkpointer`](super::checkpointer).

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::path::{self, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params};

use super::checkpointer::{Checkpointer, checkpoint};
use super::schema::{MESSAGE, SCHEMA, queue_table};
use super::{Contents, OpenError, upgrade};
use crate::{Binding, Destination, Exchange, ExchangeKind, ExchangeName, Queue, QueueName};

/// `malo`: distinguishes the file from other SQLite files.
const APPLICATION_ID: i64 = 0x6d61_6c6f;

/// Of the schema.
const VERSION: i64 = 4;

/// Names a message in the file. The places in the queues that hold it have numbers of their own.
pub(super) type MessageId = i64;

/// The write-ahead log is moved into the database file when it has this many pages of 4 KiB. What is acked before is never
/// written there.
const CHECKPOINT_PAGES: i64 = 8_000;

/// When no more pages than these are left to move, the writer moves them itself, in a few milliseconds, and the log begins again
/// from its start. Beside a writer that never pauses, the checkpointer alone would never come to its end.
const LAST_PAGES: i64 = 500;

/// A log of this length is moved while everyone waits: the checkpointer does not keep up.
const LOG_PAGES: i64 = 16_000;

/// What a write-ahead log that grew beyond this is cut to, once it is in the database file.
const LOG_LIMIT_BYTES: i64 = 64 * 1024 * 1024;

/// Pages that stay in memory: the tail of a busy broker's queues, so that handing out reads no file.
const CACHE_KIB: i64 = 8 * 1024;

/// More statements than 50 queues have.
const CACHED_STATEMENTS: usize = 512;

/// A message as it lies in a queue.
pub(super) struct StoredMessage {
    /// In the queue.
    pub id: i64,
    /// The message's own.
    pub message: MessageId,
    /// How often it came back unsettled.
    pub deliveries: u32,
    pub routing_key: String,
    pub properties: Vec<u8>,
    pub body: Bytes,
}

impl StoredMessage {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            deliveries: row.get(1)?,
            message: row.get(2)?,
            routing_key: row.get(3)?,
            // A text in files of version 3.
            properties: row.get_ref(4)?.as_bytes()?.to_owned(),
            body: row.get::<_, Vec<u8>>(5)?.into(),
        })
    }
}

/// A queue's table: its statements.
pub(super) struct Table {
    number: i64,
    insert: String,
    after: String,
    one: String,
    head: String,
    delete: String,
    count_delivery: String,
}

impl Table {
    fn new(number: i64) -> Self {
        let name = format!("queue_{number}");
        // The queue first, in its order.
        let messages = format!(
            "SELECT queue.id, deliveries, message, routing_key, properties, body FROM {name} AS queue \
             CROSS JOIN message ON message.id = queue.message"
        );
        Self {
            number,
            insert: format!(
                "INSERT INTO {name} (id, deliveries, expires_at, message) VALUES (?1, 0, ?2, ?3)"
            ),
            after: format!("{messages} WHERE queue.id > ?1 ORDER BY queue.id LIMIT ?2"),
            one: format!("{messages} WHERE queue.id = ?1"),
            head: format!("SELECT id, expires_at FROM {name} WHERE id >= ?1 ORDER BY id LIMIT 1"),
            delete: format!("DELETE FROM {name} WHERE id BETWEEN ?1 AND ?2"),
            count_delivery: format!(
                "UPDATE {name} SET deliveries = deliveries + 1 WHERE id BETWEEN ?1 AND ?2"
            ),
        }
    }
}

fn kind_and_name(destination: &Destination) -> (&'static str, &str) {
    match destination {
        Destination::Queue(name) => ("queue", name.as_str()),
        Destination::Exchange(name) => ("exchange", name.as_str()),
    }
}

/// Opens a connection of this process. SQLite's VFS `unix-excl` keeps other processes out for as long as one is open, and the
/// index of the log in the memory of the process.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), c"unix-excl")?;
    connection.busy_timeout(Duration::ZERO)?;
    Ok(connection)
}

/// The files that are open in this process. The operating system's locks are for other processes.
static OPEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A path in [`OPEN`].
struct Opened(PathBuf);

impl Opened {
    /// None while it is open already.
    fn new(path: &Path) -> Option<Self> {
        let path = path::absolute(path).unwrap_or_else(|_| path.to_owned());
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone()).then(|| Self(path))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// A queue as the file has it.
pub(super) struct StoredQueue {
    pub queue: Queue,
    pub table: Table,
    pub length: i64,
    pub highest_id: i64,
}

/// The open file. Writing begins a transaction, which ends with [`File::commit`] or [`File::roll_back`].
pub(super) struct File {
    connection: Connection,
    checkpointer: Checkpointer,
    /// The last to be dropped.
    _opened: Opened,
}

impl File {
    /// Opens the file, or creates it, readable by its owner only. One of an earlier version is upgraded.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_on(path, crate::free_bytes)
    }

    /// The same on a disk with so many bytes available.
    pub fn open_on(path: &Path, available: impl Fn(&Path) -> Option<u64>) -> Result<Self, OpenError> {
        let opened = Opened::new(path).ok_or_else(|| OpenError::InUse { path: path.to_owned() })?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path).map_err(|source| OpenError::File { path: path.to_owned(), source })?;

        let sqlite = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                OpenError::InUse { path: path.to_owned() }
            }
            Some(ErrorCode::NotADatabase) => OpenError::Foreign { path: path.to_owned() },
            _ => OpenError::Sqlite { path: path.to_owned(), source },
        };
        let connection = connect(path).map_err(sqlite)?;
        let checkpointer = Checkpointer::start(connect(path).map_err(sqlite)?)
            .map_err(|source| OpenError::File { path: path.to_owned(), source })?;
        let file = Self { connection, checkpointer, _opened: opened };
        let number = |pragma: &str| file.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let application = number("PRAGMA application_id").map_err(sqlite)?;
        let version = number("PRAGMA user_version").map_err(sqlite)?;
        let tables = number("SELECT count(*) FROM sqlite_schema").map_err(sqlite)?;
        match (application, version, tables) {
            (APPLICATION_ID, VERSION, _) => file.configure().map_err(sqlite)?,
            // Its messages stay as they are.
            (APPLICATION_ID, 3, _) => file
                .configure()
                .and_then(|()| file.upgrade(version))
                .and_then(|()| file.commit())
                .map_err(sqlite)?,
            (APPLICATION_ID, 1 | 2, _) => {
                let used = file.used_bytes().map_err(sqlite)?;
                upgrade::require_room(path, upgrade::needed_bytes(used), available(path))?;
                tracing::info!("upgrading {}: {used} bytes are copied", path.display());
                file.configure()
                    .and_then(|()| file.upgrade(version))
                    .and_then(|()| file.commit())
                    .map_err(sqlite)?;
            }
            (0, 0, 0) => file.configure().and_then(|()| file.create()).map_err(sqlite)?,
            (APPLICATION_ID, found, _) => {
                return Err(OpenError::Version { path: path.to_owned(), found, supported: VERSION });
            }
            _ => return Err(OpenError::Foreign { path: path.to_owned() }),
        }
        Ok(file)
    }

    fn configure(&self) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", LOG_LIMIT_BYTES)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        Ok(())
    }

    fn create(&self) -> rusqlite::Result<()> {
        self.begin()?;
        self.connection.execute_batch(SCHEMA)?;
        self.connection.execute_batch(MESSAGE)?;
        self.connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        self.connection.pragma_update(None, "user_version", VERSION)?;
        self.commit()
    }

    /// The size of the pages in use.
    fn used_bytes(&self) -> rusqlite::Result<u64> {
        let question = "SELECT (page_count - freelist_count) * page_size \
                        FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        self.connection.query_row(question, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
    }

    /// Leaves the new version to be committed.
    fn upgrade(&self, version: i64) -> rusqlite::Result<()> {
        self.begin()?;
        if version == 1 {
            upgrade::from_1(&self.connection)?;
        }
        if version <= 2 {
            upgrade::from_2(&self.connection)?;
        }
        self.connection.pragma_update(None, "user_version", VERSION)
    }

    fn begin(&self) -> rusqlite::Result<()> {
        if self.connection.is_autocommit() {
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        }
        Ok(())
    }

    fn write(&self, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<()> {
        self.begin()?;
        self.connection.prepare_cached(sql)?.execute(params)?;
        Ok(())
    }

    /// Whether something was written since the last commit.
    pub fn is_writing(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Makes what was written durable.
    pub fn commit(&self) -> rusqlite::Result<()> {
        self.connection.prepare_cached("COMMIT")?.execute([]).map(drop)
    }

    /// Forgets what was written since the last commit.
    pub fn roll_back(&self) {
        if self.is_writing()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::debug!(%error, "SQLite rolled back on its own");
        }
    }

    /// Has the log moved into the database file if it is long, after a commit.
    pub fn tend_log(&self) {
        // What keeps the log from being read fails the next commit, too.
        let Ok((pages, moved)) = self.log_pages() else { return };
        if pages >= LOG_PAGES || pages >= CHECKPOINT_PAGES && pages - moved <= LAST_PAGES {
            checkpoint(&self.connection);
        } else if pages >= CHECKPOINT_PAGES {
            self.checkpointer.request();
        }
    }

    /// The length of the log, and how much of it is in the database file already.
    fn log_pages(&self) -> rusqlite::Result<(i64, i64)> {
        let mut question = self.connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
        question.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
    }

    /// Moves the whole log into the database file and closes it.
    pub fn close(self) {
        self.checkpointer.end();
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        if let Err(error) = self.connection.query_row(checkpoint, [], |_| Ok(())) {
            tracing::warn!(%error, "the broker's log stays beside its file until the next start");
        }
    }

    /// Opens a file of an earlier version, and is killed before the upgrade is committed.
    #[cfg(test)]
    pub fn kill_in_upgrade(path: &Path, version: i64) {
        let file = Self {
            connection: connect(path).unwrap(),
            checkpointer: Checkpointer::start(connect(path).unwrap()).unwrap(),
            _opened: Opened::new(path).unwrap(),
        };
        file.configure().unwrap();
        file.upgrade(version).unwrap();
        file.kill();
    }

    /// Leaves files and process as a kill in the middle of a transaction does.
    #[cfg(test)]
    pub fn kill(self) {
        self.connection.cache_flush().unwrap();
        std::mem::forget(self);
    }

    /// Declares an exchange.
    pub fn insert_exchange(&self, exchange: &Exchange) -> rusqlite::Result<()> {
        let kind = match exchange.kind {
            ExchangeKind::Fanout => "fanout",
            ExchangeKind::Direct => "direct",
            ExchangeKind::Topic => "topic",
        };
        self.write(
            "INSERT INTO exchange (name, kind, alternate) VALUES (?1, ?2, ?3)",
            params![exchange.name.as_str(), kind, exchange.alternate.as_ref().map(ExchangeName::as_str)],
        )
    }

    /// Declares a binding.
    pub fn insert_binding(&self, binding: &Binding) -> rusqlite::Result<()> {
        let (kind, destination) = kind_and_name(&binding.destination);
        self.write(
            "INSERT INTO binding (exchange, kind, destination, routing_key) VALUES (?1, ?2, ?3, ?4)",
            params![binding.exchange.as_str(), kind, destination, binding.routing_key],
        )
    }

    /// Declares a queue.
    pub fn insert_queue(&self, queue: Queue) -> rusqlite::Result<StoredQueue> {
        self.write(
            "INSERT INTO queue (name, delivery_limit, message_ttl_ms, dead_letter_exchange) VALUES (?1, ?2, ?3, ?4)",
            params![
                queue.name.as_str(),
                queue.delivery_limit,
                queue.message_ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)),
                queue.dead_letter_exchange.as_ref().map(ExchangeName::as_str)
            ],
        )?;
        let number = self.connection.last_insert_rowid();
        self.connection.execute_batch(&queue_table(number))?;
        Ok(StoredQueue { queue, table: Table::new(number), length: 0, highest_id: 0 })
    }

    /// Deletes a binding.
    pub fn delete_binding(&self, binding: &Binding) -> rusqlite::Result<()> {
        let (kind, destination) = kind_and_name(&binding.destination);
        self.write(
            "DELETE FROM binding WHERE exchange = ?1 AND kind = ?2 AND destination = ?3 AND routing_key = ?4",
            params![binding.exchange.as_str(), kind, destination, binding.routing_key],
        )
    }

    /// Deletes a queue with its bindings. The messages that it had stay, for the caller to delete.
    pub fn delete_queue(&self, table: &Table, name: &QueueName) -> rusqlite::Result<()> {
        self.write("DELETE FROM binding WHERE kind = 'queue' AND destination = ?1", [name.as_str()])?;
        self.write("DELETE FROM queue WHERE number = ?1", [table.number])?;
        self.connection.execute_batch(&format!("DROP TABLE queue_{}", table.number))
    }

    /// Changes the delivery limit of a queue.
    pub fn limit_deliveries(&self, table: &Table, delivery_limit: u32) -> rusqlite::Result<()> {
        self.write(
            "UPDATE queue SET delivery_limit = ?2 WHERE number = ?1",
            params![table.number, delivery_limit],
        )
    }

    /// Every exchange.
    pub fn exchanges(&self) -> rusqlite::Result<Vec<Exchange>> {
        let mut statement = self.connection.prepare("SELECT name, kind, alternate FROM exchange")?;
        let rows = statement.query_map([], |row| {
            let kind = match row.get_ref(1)?.as_str()? {
                "direct" => ExchangeKind::Direct,
                "topic" => ExchangeKind::Topic,
                _ => ExchangeKind::Fanout,
            };
            let alternate = row.get_ref(2)?.as_str_or_null()?.map(ExchangeName::new);
            Ok(Exchange { name: ExchangeName::new(row.get_ref(0)?.as_str()?), kind, alternate })
        })?;
        rows.collect()
    }

    /// Every binding.
    pub fn bindings(&self) -> rusqlite::Result<Vec<Binding>> {
        let mut statement =
            self.connection.prepare("SELECT exchange, kind, destination, routing_key FROM binding")?;
        let rows = statement.query_map([], |row| {
            let destination = row.get_ref(2)?.as_str()?;
            let destination = match row.get_ref(1)?.as_str()? {
                "queue" => Destination::Queue(QueueName::new(destination)),
                _ => Destination::Exchange(ExchangeName::new(destination)),
            };
            let exchange = ExchangeName::new(row.get_ref(0)?.as_str()?);
            Ok(Binding { exchange, destination, routing_key: row.get(3)? })
        })?;
        rows.collect()
    }

    /// Every queue. What consumers had when the file was last used counts as delivered once more and is theirs no
    /// longer.
    pub fn recover_queues(&self) -> rusqlite::Result<Vec<StoredQueue>> {
        let mut statement = self.connection.prepare(
            "SELECT number, name, delivery_limit, message_ttl_ms, dead_letter_exchange, length, handed_out
             FROM queue ORDER BY number",
        )?;
        let rows = statement.query_map([], |row| {
            let queue = Queue {
                name: QueueName::new(row.get_ref(1)?.as_str()?),
                delivery_limit: row.get(2)?,
                message_ttl: row.get::<_, Option<i64>>(3)?.map(|ms| Duration::from_millis(ms.unsigned_abs())),
                dead_letter_exchange: row.get_ref(4)?.as_str_or_null()?.map(ExchangeName::new),
            };
            let stored =
                StoredQueue { queue, table: Table::new(row.get(0)?), length: row.get(5)?, highest_id: 0 };
            Ok((stored, row.get::<_, i64>(6)?))
        })?;
        let rows: Vec<(StoredQueue, i64)> = rows.collect::<rusqlite::Result<_>>()?;
        let mut queues = Vec::with_capacity(rows.len());
        for (mut stored, handed_out) in rows {
            if handed_out > 0 {
                self.count_delivery(&stored.table, 0, handed_out)?;
                self.save(&stored.table, stored.length, 0)?;
            }
            let highest = format!("SELECT ifnull(max(id), 0) FROM queue_{}", stored.table.number);
            stored.highest_id = self.connection.query_row(&highest, [], |row| row.get(0))?;
            queues.push(stored);
        }
        Ok(queues)
    }

    /// The highest id of a message; 0 if there is none.
    pub fn highest_message(&self) -> rusqlite::Result<MessageId> {
        self.connection.query_row("SELECT ifnull(max(id), 0) FROM message", [], |row| row.get(0))
    }

    /// Lists the message of every place in a queue.
    pub fn each_held(&self, table: &Table, mut tell: impl FnMut(MessageId)) -> rusqlite::Result<()> {
        let question = format!("SELECT message FROM queue_{}", table.number);
        let mut statement = self.connection.prepare(&question)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            tell(row.get(0)?);
        }
        Ok(())
    }

    /// Stores a message for queues to hold, under an id above every other.
    pub fn insert_message(
        &self,
        id: MessageId,
        routing_key: &str,
        properties: &[u8],
        body: &[u8],
    ) -> rusqlite::Result<()> {
        self.write(
            "INSERT INTO message (id, routing_key, properties, body) VALUES (?1, ?2, ?3, ?4)",
            params![id, routing_key, properties, body],
        )
    }

    /// Deletes messages that no queue holds any more; the ids are in order.
    pub fn delete_messages(&self, ids: &[MessageId]) -> rusqlite::Result<()> {
        for run in ids.chunk_by(|one, next| one + 1 == *next) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                self.write("DELETE FROM message WHERE id BETWEEN ?1 AND ?2", [first, last])?;
            }
        }
        Ok(())
    }

    /// Appends a message to a queue, under an id above every other in the table.
    pub fn insert(
        &self,
        table: &Table,
        id: i64,
        expires_at: Option<i64>,
        message: MessageId,
    ) -> rusqlite::Result<()> {
        self.write(&table.insert, params![id, expires_at, message])
    }

    /// The next messages after an id, oldest first: the first one, and more as long as their bodies have fewer bytes than
    /// these.
    pub fn after(
        &self,
        table: &Table,
        id: i64,
        limit: u32,
        mut bytes: usize,
    ) -> rusqlite::Result<Vec<StoredMessage>> {
        let mut statement = self.connection.prepare_cached(&table.after)?;
        let mut rows = statement.query(params![id, limit])?;
        let mut messages = Vec::new();
        while (messages.is_empty() || bytes > 0)
            && let Some(row) = rows.next()?
        {
            let message = StoredMessage::read(row)?;
            bytes = bytes.saturating_sub(message.body.len());
            messages.push(message);
        }
        Ok(messages)
    }

    /// One message.
    pub fn one(&self, table: &Table, id: i64) -> rusqlite::Result<Option<StoredMessage>> {
        self.connection.prepare_cached(&table.one)?.query_row([id], StoredMessage::read).optional()
    }

    /// Id and expiry of the first message from an id on.
    pub fn head(&self, table: &Table, from: i64) -> rusqlite::Result<Option<(i64, Option<i64>)>> {
        let mut statement = self.connection.prepare_cached(&table.head)?;
        statement.query_row([from], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    }

    /// How many messages a table has, and the length of their bodies.
    pub fn contents(&self, table: &Table) -> rusqlite::Result<Contents> {
        let question = format!(
            "SELECT count(*), ifnull(sum(length(body)), 0) FROM queue_{} AS queue \
             CROSS JOIN message ON message.id = queue.message",
            table.number
        );
        self.connection.query_row(&question, [], |row| {
            let count = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            Ok(Contents { messages: count(0)?, body_bytes: count(1)? })
        })
    }

    /// Deletes every message from one id to another.
    pub fn delete(&self, table: &Table, first: i64, last: i64) -> rusqlite::Result<()> {
        self.write(&table.delete, [first, last])
    }

    /// Counts one more delivery of every message from one id to another.
    pub fn count_delivery(&self, table: &Table, first: i64, last: i64) -> rusqlite::Result<()> {
        self.write(&table.count_delivery, [first, last])
    }

    /// Writes down how long a queue is, and up to which id consumers had it.
    pub fn save(&self, table: &Table, length: i64, handed_out: i64) -> rusqlite::Result<()> {
        self.write(
            "UPDATE queue SET length = ?2, handed_out = ?3 WHERE number = ?1",
            params![table.number, length, handed_out],
        )
    }
}
