//! Opens either database and hands out transactions.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use serde::Deserialize;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyPool, ConnectOptions, Connection, Executor};
use tokio::time::timeout;

use crate::{Component, StoreError, migrate, sql};

/// A transaction. Dropped without [`sqlx::Transaction::commit`], it rolls back.
pub type Tx = sqlx::Transaction<'static, Any>;

/// Which database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite: one file, one writer at a time.
    Sqlite,
    /// PostgreSQL 15 or newer.
    Postgres,
}

/// Where the database is and how it is used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sqlite` (a file in the data directory), `sqlite:<file>` or `postgres://user:password@host/database`.
    pub url: String,
    /// The most connections a process opens.
    pub max_connections: u32,
    /// How long to wait for a connection before the database counts as unavailable, in milliseconds.
    pub acquire_timeout_ms: u64,
}

/// Which database this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreInfo {
    /// Its name, such as `PostgreSQL`.
    pub product: &'static str,
    /// Its version.
    pub version: String,
    /// Where it is, without credentials.
    pub address: String,
}

/// An open database. Cloning shares the connections.
#[derive(Clone, Debug)]
pub struct Store {
    dialect: Dialect,
    address: String,
    /// Transactions. SQLite has one writer at a time; waiting for it here is fair, in the database it is not.
    writers: AnyPool,
    /// Reads outside a transaction.
    readers: AnyPool,
    check_timeout: Duration,
}

/// SQLite keeps a committed transaction through a power cut only with `synchronous=FULL`: the inbox relies on it.
const SQLITE_PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; \
     PRAGMA foreign_keys = ON; PRAGMA cache_size = -8000; PRAGMA temp_store = MEMORY;";

/// Waiting for a lock ends before the consumer runtime loses patience, so that a stuck lock holds no connection.
const POSTGRES_SETTINGS: &str = "SET lock_timeout = '10s'";

impl Store {
    /// Prepares the pools; connects when first used, so that a role starts while its database is down.
    ///
    /// `sqlite` without a file means `store.db` in `data_dir`, which must exist.
    pub fn open(config: &Config, data_dir: &Path) -> Result<Self, StoreError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);

        let sqlite = match config.url.as_str() {
            "sqlite" => Some(data_dir.join("store.db")),
            url => url.strip_prefix("sqlite:").map(|file| Path::new(file).to_owned()),
        };
        let (dialect, url, address) = match sqlite {
            Some(file) => {
                // For this user only: it holds personal data. Where this fails, connecting says why.
                let _ = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&file);
                let file = file.display().to_string();
                // The driver reads a URL: what is not plain in a path must be escaped.
                let escaped = file.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
                (Dialect::Sqlite, format!("sqlite://{escaped}?mode=rwc"), file)
            }
            None if config.url.starts_with("postgres://") || config.url.starts_with("postgresql://") => {
                (Dialect::Postgres, config.url.clone(), address_of(&config.url))
            }
            None => return Err(StoreError::Address),
        };
        let options: AnyConnectOptions = url.parse().map_err(|_| StoreError::Address)?;
        let options = options.disable_statement_logging();
        let pool = |max_connections: u32| {
            let acquire_timeout = Duration::from_millis(config.acquire_timeout_ms);
            let pool =
                AnyPoolOptions::new().max_connections(max_connections).acquire_timeout(acquire_timeout);
            let pool = match dialect {
                Dialect::Sqlite => pool
                    .after_connect(|connection, _| {
                        Box::pin(async move { connection.execute(SQLITE_PRAGMAS).await.map(drop) })
                    })
                    // SQLite ends a transaction by itself when the disk is full, and the driver then believes that
                    // it is still open: such a connection is of no more use.
                    .before_acquire(|connection, _| {
                        Box::pin(async move { Ok(!connection.is_in_transaction()) })
                    }),
                Dialect::Postgres => pool.after_connect(|connection, _| {
                    Box::pin(async move { connection.execute(POSTGRES_SETTINGS).await.map(drop) })
                }),
            };
            pool.connect_lazy_with(options.clone())
        };
        let (writers, readers) = match dialect {
            Dialect::Sqlite => (pool(1), pool(config.max_connections)),
            Dialect::Postgres => {
                let shared = pool(config.max_connections);
                (shared.clone(), shared)
            }
        };
        let check_timeout = Duration::from_millis(config.acquire_timeout_ms);
        Ok(Self { dialect, address, writers, readers, check_timeout })
    }

    /// Which database it is.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(match self.dialect {
            // Taking the lock at once avoids the deadlock of two readers that both want to write.
            Dialect::Sqlite => self.writers.begin_with("BEGIN IMMEDIATE").await?,
            Dialect::Postgres => self.writers.begin().await?,
        })
    }

    /// A connection for reading.
    pub async fn read(&self) -> Result<sqlx::pool::PoolConnection<Any>, StoreError> {
        Ok(self.readers.acquire().await?)
    }

    /// Brings the tables of each component, and the inbox, up to date. Replicas may do so at the same time.
    pub async fn migrate(&self, components: &[Component]) -> Result<(), StoreError> {
        for component in [&crate::inbox::COMPONENT].into_iter().chain(components) {
            migrate::run(&self.writers, self.dialect, component).await?;
        }
        Ok(())
    }

    /// Reaches the database and asks who it is, within the configured time.
    pub async fn check(&self) -> Result<StoreInfo, StoreError> {
        let (product, question) = match self.dialect {
            Dialect::Sqlite => ("SQLite", "SELECT sqlite_version()"),
            Dialect::Postgres => ("PostgreSQL", "SHOW server_version"),
        };
        let ask = async {
            let mut connection = self.read().await?;
            Ok::<String, StoreError>(sql::scalar(question).fetch_one(&mut *connection).await?)
        };
        let version = timeout(self.check_timeout, ask)
            .await
            .map_err(|_| StoreError::Unavailable(sqlx::Error::PoolTimedOut))??;
        Ok(StoreInfo { product, version, address: self.address.clone() })
    }

    /// Like [`Self::check`], but commits a write: a full disk and a read-only replica answer questions, too.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        let write = async {
            let mut tx = self.begin().await?;
            sql::query("UPDATE writable SET checked_at = $1")
                .bind(event::now().as_microsecond())
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok::<(), StoreError>(())
        };
        timeout(self.check_timeout, write)
            .await
            .map_err(|_| StoreError::Unavailable(sqlx::Error::PoolTimedOut))?
    }

    /// Waits for transactions under way and closes every connection.
    pub async fn close(&self) {
        self.writers.close().await;
        self.readers.close().await;
    }
}

/// Host and database of a PostgreSQL URL, without user and password.
fn address_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('?').next().unwrap_or(rest);
    rest.rsplit_once('@').map_or(rest, |(_, address)| address).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_never_shows_the_password() {
        assert_eq!(
            address_of("postgres://malote:se@cret@db.example:5432/malote?x=y"),
            "db.example:5432/malote"
        );
        assert_eq!(address_of("postgres://localhost/malote"), "localhost/malote");
    }

    #[test]
    fn an_unknown_kind_of_address_is_refused() {
        let config = Config { url: "mysql://x".into(), max_connections: 1, acquire_timeout_ms: 1000 };
        assert!(matches!(Store::open(&config, Path::new(".")), Err(StoreError::Address)));
    }
}
