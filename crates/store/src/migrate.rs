//! Brings a component's tables up to date, each component with its own record of what was applied.

use std::path::Path;

use sqlx::migrate::{MigrateError, MigrationType, Migrator};
use sqlx::{AnyPool, AssertSqlSafe, Executor, SqlSafeStr};

use crate::{Dialect, StoreError, Tx, sql};

/// One step, never changed after its release.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number within the component, from 1.
    pub version: i64,
    /// What it does, in a few words.
    pub description: &'static str,
    /// Whether it copies what is there, and needs as much room.
    pub copies: bool,
    /// The statements for SQLite.
    pub sqlite: &'static str,
    /// The statements for PostgreSQL.
    pub postgres: &'static str,
}

impl Migration {
    /// A step whose one text serves both databases. On PostgreSQL `BLOB` becomes `BYTEA`, `unhex` a function of
    /// ours, and `WITHOUT ROWID` is left out.
    pub const fn portable(version: i64, description: &'static str, sql: &'static str) -> Self {
        Self { version, description, copies: false, sqlite: sql, postgres: sql }
    }

    /// A step that SQLite does not need.
    pub const fn postgres(version: i64, description: &'static str, sql: &'static str) -> Self {
        Self { version, description, copies: false, sqlite: "SELECT 1", postgres: sql }
    }
}

/// The tables of one crate.
#[derive(Clone, Copy, Debug)]
pub struct Component {
    /// The crate's name; part of the name of the table that records what was applied.
    pub name: &'static str,
    /// Its steps, in order.
    pub migrations: &'static [Migration],
}

pub(crate) async fn run(pool: &AnyPool, dialect: Dialect, component: &Component) -> Result<(), StoreError> {
    let steps = component.migrations.iter().map(|step| {
        let sql = match dialect {
            Dialect::Sqlite => step.sqlite.to_owned(),
            Dialect::Postgres => {
                let text = step.postgres.replace(" BLOB", " BYTEA").replace(" WITHOUT ROWID", "");
                text.replace(" unhex(", " malote_unhex(")
            }
        };
        let sql = AssertSqlSafe(sql).into_sql_str();
        sqlx::migrate::Migration::new(
            step.version,
            step.description.into(),
            MigrationType::Simple,
            sql,
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    migrator.dangerous_set_table_name(format!("migrations_{}", component.name));
    // A newer version may have run more migrations: the previous version still starts, beside it or after a rollback.
    migrator.set_ignore_missing(true);
    match dialect {
        Dialect::Postgres => on_postgres(pool, &migrator, component.name).await,
        Dialect::Sqlite => on_sqlite(pool, &migrator, component).await,
    }
}

/// Turns off the limits of the role or the database, which are for queries: a copy of the record takes longer.
const NO_LIMITS: &str = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN \
     ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')";

/// A lock of the driver's own keeps replicas apart. It belongs to the session, and the driver leaves it there after a failure:
/// the connection ends here.
async fn on_postgres(pool: &AnyPool, migrator: &Migrator, name: &'static str) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?;
    connection.close_on_drop();
    connection.execute(NO_LIMITS).await?;
    let ran = migrator.run_direct(None, &mut *connection, false).await;
    // Whatever it reports, the server gives the lock back.
    let _ = connection.close().await;
    ran.map_err(|cause| sorted(name, cause))
}

async fn on_sqlite(pool: &AnyPool, migrator: &Migrator, component: &Component) -> Result<(), StoreError> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let is_copied = is_to_be_copied(&mut tx, component).await?;
    if is_copied {
        require_room(&mut tx).await?;
    }
    migrator.run_direct(None, &mut *tx, false).await.map_err(|cause| sorted(component.name, cause))?;
    tx.commit().await?;
    if is_copied {
        // The log is as large as the copy. It is not shortened while a reader still uses it.
        let _ = pool.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
    }
    Ok(())
}

/// Whether rows of an earlier release are about to be copied.
async fn is_to_be_copied(tx: &mut Tx, component: &Component) -> Result<bool, StoreError> {
    let Some(step) = component.migrations.iter().rfind(|step| step.copies) else { return Ok(false) };
    let table = format!("migrations_{}", component.name);
    let is_known = sql::query("SELECT 1 FROM sqlite_master WHERE name = $1").bind(table.clone());
    if is_known.fetch_optional(&mut **tx).await?.is_none() {
        return Ok(false);
    }
    let run = sql::assembled(format!("SELECT 1 FROM {table} WHERE version = {}", step.version));
    Ok(run.fetch_optional(&mut **tx).await?.is_none())
}

/// Before the copy reaches the file it is in the log, both on one disk.
async fn require_room(tx: &mut Tx) -> Result<(), StoreError> {
    let file: String =
        sql::scalar("SELECT file FROM pragma_database_list WHERE name = 'main'").fetch_one(&mut **tx).await?;
    let bytes: i64 = sql::scalar("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        .fetch_one(&mut **tx)
        .await?;
    let needed = 2 * bytes.unsigned_abs();
    let disk = Path::new(&file).parent().and_then(|folder| rustix::fs::statvfs(folder).ok());
    match disk.map(|disk| disk.f_bavail * disk.f_frsize) {
        Some(free) if free < needed => Err(StoreError::Room { file, needed, free }),
        _ => Ok(()),
    }
}

/// An outage or a conflict passes, in the middle of a step, too.
fn sorted(component: &'static str, cause: MigrateError) -> StoreError {
    let (error, version) = match cause {
        MigrateError::Execute(error) => (error, None),
        MigrateError::ExecuteMigration(error, version) => (error, Some(version)),
        cause => return StoreError::Migration { component, cause },
    };
    match StoreError::from(error) {
        StoreError::Query(error) | StoreError::Unfit(error) => {
            let cause = match version {
                Some(version) => MigrateError::ExecuteMigration(error, version),
                None => MigrateError::Execute(error),
            };
            StoreError::Migration { component, cause }
        }
        passing => passing,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::{Config, Store};

    static STEPS: [Migration; 2] = [
        Migration::portable(1, "a table", "CREATE TABLE thing (id TEXT NOT NULL PRIMARY KEY)"),
        Migration::portable(2, "a column", "ALTER TABLE thing ADD COLUMN name TEXT"),
    ];

    #[tokio::test]
    async fn a_version_with_fewer_steps_starts_on_the_tables_of_a_later_one() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { max_connections: 2, acquire_timeout_ms: 5_000, ..Config::new("sqlite") };
        let store = Store::open(&config, folder.path()).unwrap();
        for steps in [&STEPS[..], &STEPS[..1], &STEPS[..]] {
            let component = Component { name: "things", migrations: steps };
            store.migrate(&[component]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_copy_that_the_disk_has_no_room_for_is_not_begun() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { max_connections: 2, acquire_timeout_ms: 5_000, ..Config::new("sqlite") };
        let store = Store::open(&config, folder.path()).unwrap();
        store.migrate_as_before(&[]).await.unwrap();
        store.close().await;
        // 4 TiB, by its header and its length; nothing of it takes room.
        let pages = 1_u32 << 30;
        let path = folder.path().join("store.db");
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(u64::from(pages) * 4096).unwrap();
        file.write_all_at(&pages.to_be_bytes(), 28).unwrap();
        let store = Store::open(&config, folder.path()).unwrap();
        let refused = store.migrate(&[]).await.unwrap_err();
        assert!(matches!(refused, StoreError::Room { needed: 0x800_0000_0000, .. }), "{refused:?}");
        let mut connection = store.read().await.unwrap();
        sql::query("SELECT 1 FROM inbox").fetch_optional(&mut *connection).await.unwrap();
    }
}
