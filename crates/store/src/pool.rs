//! Opens either database and hands out transactions.

use std::fmt;
use std::fs;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use event::ClientTls;
use serde::Deserialize;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Any, AnyConnection, AnyPool, ConnectOptions, Connection, Executor};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, watch};
use tokio::time::timeout;

use crate::{BoxFuture, Component, Dialect, StoreError, Tx, checkpoints, migrate, sql};

/// Why PostgreSQL accepts no writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnly {
    /// It is a standby, or restores a backup.
    Recovery,
    /// `default_transaction_read_only` is on, for the server, the database or the user.
    Setting,
}

/// The address of the database and how it is used. `Debug` shows only the address: the URL may contain a password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sqlite` (a file in the data directory), `sqlite:<file>` or `postgres://user:password@host/database`.
    pub url: String,
    /// The most connections a process opens.
    pub max_connections: u32,
    /// How long to wait for a connection before the database counts as unavailable, in milliseconds.
    pub acquire_timeout_ms: u64,
    /// Allows a PostgreSQL over the network whose certificate is not verified.
    #[serde(default)]
    pub insecure: bool,
    /// The TLS settings of PostgreSQL.
    #[serde(default)]
    pub tls: ClientTls,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("address", &address_of(&self.url)).finish_non_exhaustive()
    }
}

impl Config {
    /// SQLite in the data directory, or the database of a URL, with few connections and a short time-out.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            max_connections: 8,
            acquire_timeout_ms: 5_000,
            insecure: false,
            tls: ClientTls::default(),
        }
    }

    /// Whether the URL asks for a connection over the network without verification of the server: then the password and
    /// every row can be read on the network.
    pub fn is_exposed(&self) -> bool {
        let verifies = |mode: PgSslMode| matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull);
        match self.url.parse::<PgConnectOptions>() {
            Ok(options) => states_mode(&self.url) && !is_local(&options) && !verifies(options.get_ssl_mode()),
            Err(_) => false,
        }
    }

    /// The URL with the settings of [`ClientTls`]. Over the network, the certificate and the host name are verified
    /// unless the URL or `insecure` turns that off.
    fn postgres_url(&self) -> String {
        let is_remote = self.url.parse::<PgConnectOptions>().is_ok_and(|options| !is_local(&options));
        let mut url = self.url.clone();
        let mut add = |name: &str, value: &str| {
            let separator = if url.contains('?') { '&' } else { '?' };
            url += &format!("{separator}{name}={value}");
        };
        if !states_mode(&self.url) && (is_remote && !self.insecure || self.tls.ca.is_some()) {
            add("sslmode", "verify-full");
        }
        let ClientTls { ca, certificate, key } = &self.tls;
        for (name, file) in [("sslrootcert", ca), ("sslcert", certificate), ("sslkey", key)] {
            if let Some(file) = file {
                // What is not plain in a path must be escaped in a URL.
                let escape = |byte: u8| match byte {
                    b'/' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
                    _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                    _ => format!("%{byte:02X}"),
                };
                add(name, &file.display().to_string().bytes().map(escape).collect::<String>());
            }
        }
        url
    }
}

fn states_mode(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|one| one.starts_with("sslmode=") || one.starts_with("ssl-mode="))
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host().trim_matches(['[', ']']);
    let is_loopback = || match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    };
    options.get_socket().is_some() || host.starts_with('/') || is_loopback()
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
    /// Of SQLite, once there was a transaction.
    checkpoints: Arc<OnceLock<watch::Sender<()>>>,
    check_timeout: Duration,
    outbox_filled: Arc<Notify>,
    exclusive: Arc<Mutex<()>>,
}

/// Work that nobody else does meanwhile: see [`Store::exclusive`].
#[derive(Debug)]
pub struct Exclusive {
    _turn: OwnedMutexGuard<()>,
    _connection: Option<AnyConnection>,
}

/// SQLite keeps a committed transaction through a power cut only with `synchronous=FULL`: the inbox relies on it. What
/// [`checkpoints`] have left of a log of 5,000 pages of 4 KiB is moved by the writer.
const SQLITE_PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; \
     PRAGMA foreign_keys = ON; PRAGMA cache_size = -8000; PRAGMA temp_store = MEMORY; \
     PRAGMA wal_autocheckpoint = 5000; PRAGMA journal_size_limit = 67108864;";

/// How long a database may take to report why a connection failed.
const REASON_PATIENCE: Duration = Duration::from_secs(2);

/// Waiting for a lock ends before the consumer runtime loses patience, so that a stuck lock holds no connection.
///
/// Rows are found by keys, most of them in pages that are in memory: the cost of a page is set accordingly, so that an index is used
/// from a few thousand rows on, whether or not there are statistics of the table.
const POSTGRES_SETTINGS: &str = "SET lock_timeout = '10s'; SET random_page_cost = 1.1";

/// The same for a transaction that can be tried again later.
const POSTGRES_BRIEF: &str = "SET LOCAL lock_timeout = '500ms'";

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
                (Dialect::Postgres, config.postgres_url(), address_of(&config.url))
            }
            None => return Err(StoreError::Address),
        };
        let options = options(&url)?;
        let pool = |max_connections: u32| {
            let acquire_timeout = Duration::from_millis(config.acquire_timeout_ms);
            let pool =
                AnyPoolOptions::new().max_connections(max_connections).acquire_timeout(acquire_timeout);
            let pool = match dialect {
                // A file does not go away as a server does.
                Dialect::Sqlite => pool
                    .test_before_acquire(false)
                    .after_connect(|connection, _| {
                        Box::pin(async move { connection.execute(SQLITE_PRAGMAS).await.map(drop) })
                    })
                    // SQLite ends a transaction by itself when the disk is full, and the driver still regards it
                    // as open: such a connection is of no more use.
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
        let (checkpoints, outbox_filled, exclusive) = Default::default();
        Ok(Self { dialect, address, writers, readers, checkpoints, check_timeout, outbox_filled, exclusive })
    }

    /// Uses the URL and the files of another configuration of the same database for the connections that are opened
    /// from now on: its password may have changed. Those that are open stay. For SQLite nothing changes.
    pub fn reconnect_with(&self, config: &Config) -> Result<(), StoreError> {
        if self.dialect == Dialect::Postgres {
            let options = options(&config.postgres_url())?;
            self.writers.set_connect_options(options.clone());
            self.readers.set_connect_options(options);
        }
        Ok(())
    }

    /// Which database it is.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Notified once this process has committed rows of the [`outbox`](crate::outbox).
    pub fn outbox_filled(&self) -> &Notify {
        &self.outbox_filled
    }

    /// Begins a transaction that may write.
    pub fn begin(&self) -> BoxFuture<'_, Result<Tx, StoreError>> {
        Box::pin(async {
            let begun = match self.dialect {
                Dialect::Sqlite => {
                    let checkpoints =
                        self.checkpoints.get_or_init(|| checkpoints::spawn(self.readers.clone()));
                    checkpoints.send_replace(());
                    // Taking the lock at once avoids the deadlock of two readers that both want to write.
                    self.writers.begin_with("BEGIN IMMEDIATE").await
                }
                Dialect::Postgres => self.writers.begin().await,
            };
            match begun {
                Ok(tx) => Ok(tx),
                Err(error) => Err(self.explained(error).await),
            }
        })
    }

    /// Begins a transaction that soon gives up waiting for another one, with [`StoreError::Conflict`]. SQLite has one writer
    /// at a time: there is none to wait for.
    pub async fn begin_brief(&self) -> Result<Tx, StoreError> {
        let mut tx = self.begin().await?;
        if self.dialect == Dialect::Postgres {
            tx.execute(POSTGRES_BRIEF).await?;
        }
        Ok(tx)
    }

    /// Waits until nobody does this work, in any process, and lets nobody begin it until the guard is dropped or the process
    /// ends. Every work of one process counts as the same. Where another process takes very long it is a
    /// [`StoreError::Conflict`]. No connection of the pool is used.
    pub async fn exclusive(&self, work: i64) -> Result<Exclusive, StoreError> {
        let turn = Arc::clone(&self.exclusive).lock_owned().await;
        let connection = match self.dialect {
            // It serves one process.
            Dialect::Sqlite => None,
            Dialect::Postgres => {
                let options = self.readers.connect_options();
                let connected = timeout(self.check_timeout, AnyConnection::connect_with(&options)).await;
                let connected =
                    connected.unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())));
                let mut connection = connected.map_err(StoreError::Unavailable)?;
                connection.execute(POSTGRES_SETTINGS).await?;
                // In a transaction, so that it holds through a pooler, too; it writes nothing, and holds nothing up.
                connection.execute("BEGIN").await?;
                let lock = format!("DO $$ BEGIN PERFORM pg_advisory_xact_lock({work}); END $$");
                sql::assembled(lock).execute(&mut connection).await?;
                Some(connection)
            }
        };
        Ok(Exclusive { _turn: turn, _connection: connection })
    }

    /// A connection for reading.
    pub fn read(&self) -> BoxFuture<'_, Result<sqlx::pool::PoolConnection<Any>, StoreError>> {
        Box::pin(async {
            match self.readers.acquire().await {
                Ok(connection) => Ok(connection),
                Err(error) => Err(self.explained(error).await),
            }
        })
    }

    /// The database and where it is, without credentials: `PostgreSQL at db.example/malote`.
    pub fn address(&self) -> String {
        format!("{} at {}", self.dialect.product(), self.address)
    }

    /// A pool only reports its time-out: one more connection shows the reason.
    async fn explained(&self, error: sqlx::Error) -> StoreError {
        if !matches!(error, sqlx::Error::PoolTimedOut) {
            return error.into();
        }
        let options = self.readers.connect_options();
        let setup = match self.dialect {
            Dialect::Sqlite => SQLITE_PRAGMAS,
            Dialect::Postgres => POSTGRES_SETTINGS,
        };
        let connect = async {
            let mut connection = AnyConnection::connect_with(&options).await?;
            connection.execute(setup).await?;
            connection.close().await
        };
        let why = match timeout(REASON_PATIENCE, connect).await {
            Ok(Err(error)) => return StoreError::Unavailable(error),
            Ok(Ok(())) => match self.dialect {
                Dialect::Sqlite => {
                    "its writer has been busy for seconds: another process may have locked the file"
                }
                Dialect::Postgres => "every connection of this process is in use; see store.max_connections",
            },
            Err(_) => "it does not answer",
        };
        StoreError::Unavailable(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, why)))
    }

    /// Brings the tables of each component, and those of the runtime, up to date. Replicas may do so at the same time.
    pub async fn migrate(&self, components: &[Component]) -> Result<(), StoreError> {
        let own = [
            &crate::inbox::COMPONENT,
            &crate::retry::COMPONENT,
            &crate::agreed::COMPONENT,
            &crate::outbox::COMPONENT,
        ];
        for component in own.into_iter().chain(components) {
            migrate::run(&self.writers, self.dialect, component).await?;
        }
        Ok(())
    }

    /// Makes the tables of the inbox as the release before ids of 16 bytes left them, and those of each component.
    #[cfg(any(test, feature = "test-support"))]
    pub async fn migrate_as_before(&self, components: &[Component]) -> Result<(), StoreError> {
        let inbox = crate::inbox::COMPONENT;
        let inbox = Component { migrations: &inbox.migrations[..4], ..inbox };
        for component in std::iter::once(&inbox).chain(components) {
            migrate::run(&self.writers, self.dialect, component).await?;
        }
        Ok(())
    }

    /// Reaches the database and asks who it is, within the configured time.
    pub async fn check(&self) -> Result<StoreInfo, StoreError> {
        let question = match self.dialect {
            Dialect::Sqlite => "SELECT sqlite_version()",
            Dialect::Postgres => "SHOW server_version",
        };
        let ask = async {
            let mut connection = self.read().await?;
            Ok::<String, StoreError>(sql::scalar(question).fetch_one(&mut *connection).await?)
        };
        let version = self.in_time(ask).await?;
        Ok(StoreInfo { product: self.dialect.product(), version, address: self.address.clone() })
    }

    /// Like [`Self::check`], but commits a write: a full disk and a read-only replica answer questions, too.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        self.in_time(self.write(event::now())).await
    }

    async fn write(&self, now: event::Timestamp) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sql::query("UPDATE probe SET checked_at = $1").bind(now.as_microsecond()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Like [`Self::check_writable`], and reads on another connection what was committed. False if something else is
    /// read.
    pub async fn check_kept(&self) -> Result<bool, StoreError> {
        let now = event::now();
        let ask = async {
            self.write(now).await?;
            let mut connection = self.read().await?;
            let read: i64 =
                sql::scalar("SELECT max(checked_at) FROM probe").fetch_one(&mut *connection).await?;
            // A concurrent check writes a later one.
            Ok(read >= now.as_microsecond())
        };
        self.in_time(ask).await
    }

    /// Why PostgreSQL accepts no writes, if it is read-only; `None` for another reason.
    pub async fn read_only(&self) -> Result<Option<ReadOnly>, StoreError> {
        if self.dialect != Dialect::Postgres {
            return Ok(None);
        }
        let ask = async {
            let mut connection = self.read().await?;
            let question = "SELECT CASE WHEN pg_is_in_recovery() THEN 2 \
                 WHEN current_setting('default_transaction_read_only') = 'on' THEN 1 ELSE 0 END::BIGINT";
            Ok::<i64, StoreError>(sql::scalar(question).fetch_one(&mut *connection).await?)
        };
        Ok(match self.in_time(ask).await? {
            2 => Some(ReadOnly::Recovery),
            1 => Some(ReadOnly::Setting),
            _ => None,
        })
    }

    async fn in_time<T>(&self, ask: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        // Acquiring a connection has its own time-out with a better error.
        match timeout(self.check_timeout + REASON_PATIENCE + Duration::from_secs(1), ask).await {
            Ok(answered) => answered,
            Err(_) => Err(self.explained(sqlx::Error::PoolTimedOut).await),
        }
    }

    /// Waits for transactions under way and closes every connection.
    pub async fn close(&self) {
        self.writers.close().await;
        self.readers.close().await;
    }
}

fn options(url: &str) -> Result<AnyConnectOptions, StoreError> {
    let options: AnyConnectOptions = url.parse().map_err(|_| StoreError::Address)?;
    Ok(options.disable_statement_logging())
}

/// Host and database of a PostgreSQL URL, without user and password.
fn address_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let shown = match address.rsplit_once('@') {
        Some((_, address)) => address,
        // The question mark may belong to a password that was not escaped.
        None if query.contains('@') => address.split([':', '/']).next().unwrap_or_default(),
        None => address,
    };
    shown.to_owned()
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
        assert_eq!(address_of("postgres://malote:se?cret@db.example/malote"), "malote");
        let config = Config::new("postgres://malote:secret@db.example/malote?password=secret");
        assert_eq!(format!("{config:?}"), r#"Config { address: "db.example/malote", .. }"#);
    }

    #[test]
    fn over_the_network_the_server_is_verified_unless_it_is_said_otherwise() {
        let check = |url: &str, exposed: bool, expect: &str| {
            let config = Config::new(url);
            assert_eq!((config.is_exposed(), config.postgres_url().as_str()), (exposed, expect), "{url}");
        };
        let unchanged = |url: &str, exposed: bool| check(url, exposed, url);
        unchanged("postgres://u@127.0.0.1/malote", false);
        unchanged("postgres://u@localhost/malote?x=y", false);
        unchanged("postgres://u@[::1]/malote", false);
        unchanged("postgres:///malote?host=/var/run/postgresql", false);
        check("postgres://u:p@db/malote", false, "postgres://u:p@db/malote?sslmode=verify-full");
        // The host of the parameters is the one that counts.
        let detour = "postgres://u@localhost/malote?host=db.example";
        check(detour, false, &format!("{detour}&sslmode=verify-full"));
        for mode in ["disable", "allow", "prefer", "require"] {
            unchanged(&format!("postgres://u@db/malote?sslmode={mode}"), true);
            unchanged(&format!("postgres://u@127.0.0.1/malote?sslmode={mode}"), false);
        }
        unchanged("postgres://u@db/malote?sslmode=verify-ca", false);
        let insecure = Config { insecure: true, ..Config::new("postgres://u@db/malote") };
        assert_eq!(insecure.postgres_url(), "postgres://u@db/malote");
        let tls =
            ClientTls { ca: Some("/etc/a b/ca.pem".into()), certificate: None, key: Some("k.pem".into()) };
        let with_ca = Config { tls, ..Config::new("postgres://u@127.0.0.1/malote") };
        assert_eq!(
            with_ca.postgres_url(),
            "postgres://u@127.0.0.1/malote?sslmode=verify-full&sslrootcert=/etc/a%20b/ca.pem&sslkey=k.pem"
        );
    }

    #[test]
    fn an_unknown_kind_of_address_is_refused() {
        let config = Config::new("mysql://x");
        assert!(matches!(Store::open(&config, Path::new(".")), Err(StoreError::Address)));
    }
}
