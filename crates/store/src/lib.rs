//! The database: pools, transactions, migrations and the inbox.
//!
//! Place in the flow: the consumer runtime opens one [`Tx`] per batch, claims its events in the [`inbox`], hands the
//! transaction to the handlers and commits. Screens read through [`Store::read`]. SQLite and PostgreSQL stand behind
//! one portable SQL text: `$1` parameters, `TEXT`, `BIGINT` and `BLOB` columns, flags as 0 and 1, money in integer
//! centavos, time in integer microseconds UTC, an event's id in 16 bytes.
//!
//! This crate alone names sqlx. It owns no domain table: each crate brings its own [`Component`] of migrations.

pub mod agreed;
mod by_id;
mod checkpoints;
pub mod cursor;
mod dialect;
mod id;
mod id_prefix;
pub mod inbox;
#[cfg(any(test, feature = "test-support"))]
pub mod laws;
pub mod lease;
mod list;
pub mod many;
mod migrate;
pub mod outbox;
mod page;
mod pool;
pub mod retry;
pub mod seen;
pub mod sql;
mod stored_enum;
mod time;

use std::future::Future;
use std::pin::Pin;

pub use by_id::ById;
pub use dialect::Dialect;
pub use id::{id, id_bound, optional_id};
pub use id_prefix::{IdPrefix, NotAnIdPrefix};
pub use list::{Conditions, List};
pub use migrate::{Component, Migration};
pub use page::{Page, Paged};
pub use pool::{Config, Exclusive, ReadOnly, Store, StoreInfo};
/// The parts of sqlx that queries are written with.
pub use sqlx::{Error as DriverError, Row, any::AnyRow};
pub use time::{optional_time, time};

/// A connection to either database.
pub type Connection = sqlx::AnyConnection;

/// A future of a type without a name. What is awaited in many crates is one: the body of an `async fn` is compiled in each of them.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A transaction. Dropped without [`sqlx::Transaction::commit`], it rolls back.
pub type Tx = sqlx::Transaction<'static, sqlx::Any>;

/// Why the database did not do what was asked: one variant per decision of the caller.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is shutting down, is full or timed out: wait, then try again.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// Two transactions stood in each other's way (deadlock, serialization, lock): try again at once.
    #[error("another transaction was in the way")]
    Conflict(#[source] sqlx::Error),
    /// A value can never be stored, such as a text with a NUL in PostgreSQL: trying again changes nothing.
    #[error("a value does not fit the database")]
    Unfit(#[source] sqlx::Error),
    /// The database refused the statement.
    #[error("the database refused the statement")]
    Query(#[source] sqlx::Error),
    /// The database's tables could not be brought up to date.
    #[error("the tables of {component} could not be brought up to date")]
    Migration {
        /// The component whose migration failed.
        component: &'static str,
        /// Why.
        #[source]
        cause: sqlx::migrate::MigrateError,
    },
    /// The disk has no room for the copy that brings the tables up to date.
    #[error(
        "{file} is brought up to date by a copy that takes {needed} bytes of disk for a time, twice its size, and {free} \
         are free: make room there, or move it to a larger disk, and start again"
    )]
    Room {
        /// The file of the database.
        file: String,
        /// What the copy takes, in bytes.
        needed: u64,
        /// What is free, in bytes.
        free: u64,
    },
    /// The configured address is of no known kind.
    #[error(
        "store.url: expected \"sqlite\", \"sqlite:<file>\" or \"postgres://user:password@host/database\""
    )]
    Address,
}

impl StoreError {
    /// The message of the database, for an operator; `None` if it may contain a value that was to be stored.
    pub fn reason(&self) -> Option<String> {
        let (Self::Unavailable(cause) | Self::Conflict(cause) | Self::Query(cause)) = self else {
            return None;
        };
        match cause {
            // Without sqlx's own text around it.
            sqlx::Error::Io(error) => Some(error.to_string()),
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default();
                // Syntax error or access rule violation, SQLITE_ERROR: these only name tables, columns and roles.
                let names_objects = code.len() == 5 && code.starts_with("42") || code == "1";
                (!matches!(self, Self::Query(_)) || names_objects).then(|| error.message().to_owned())
            }
            _ if matches!(self, Self::Query(_)) => None,
            cause => Some(event::Chain(cause).to_string()),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    /// Sorts by SQLSTATE class (PostgreSQL, appendix A) or SQLite primary result code.
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error::{Database, Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
        match &error {
            Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed => {
                Self::Unavailable(error)
            }
            Database(database) => {
                let code = database.code().unwrap_or_default();
                match code.parse::<i32>().ok().filter(|_| code.len() != 5).map(|extended| extended & 0xff) {
                    // SQLITE_BUSY, SQLITE_LOCKED
                    Some(5 | 6) => Self::Conflict(error),
                    // SQLITE_READONLY, SQLITE_IOERR, SQLITE_CORRUPT, SQLITE_FULL, SQLITE_CANTOPEN, SQLITE_NOTADB
                    Some(8 | 10 | 11 | 13 | 14 | 26) => Self::Unavailable(error),
                    Some(_) => Self::Query(error),
                    None => match code.as_ref() {
                        // deadlock_detected, serialization_failure, lock_not_available
                        "40P01" | "40001" | "55P03" => Self::Conflict(error),
                        // connection exception, insufficient resources, operator intervention, system error,
                        // invalid authorization, read-only transaction (a replica after a failover)
                        code if ["08", "53", "57", "58", "28"]
                            .iter()
                            .any(|class| code.starts_with(class))
                            || code == "25006"
                            || code == "3D000" =>
                        {
                            Self::Unavailable(error)
                        }
                        // data exception, program limit exceeded
                        code if code.starts_with("22") || code.starts_with("54") => Self::Unfit(error),
                        _ => Self::Query(error),
                    },
                }
            }
            _ => Self::Query(error),
        }
    }
}
