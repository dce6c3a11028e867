//! Brings a component's tables up to date, each component with its own record of what was applied.

use sqlx::migrate::{MigrationType, Migrator};
use sqlx::{AnyPool, AssertSqlSafe, SqlSafeStr};

use crate::{Dialect, StoreError};

/// One step, never changed after its release.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number within the component, from 1.
    pub version: i64,
    /// What it does, in a few words.
    pub description: &'static str,
    /// The statements for SQLite.
    pub sqlite: &'static str,
    /// The statements for PostgreSQL.
    pub postgres: &'static str,
}

impl Migration {
    /// A step whose one text serves both databases. On PostgreSQL `BLOB` becomes `BYTEA`, and `WITHOUT ROWID` is left out.
    pub const fn portable(version: i64, description: &'static str, sql: &'static str) -> Self {
        Self { version, description, sqlite: sql, postgres: sql }
    }

    /// A step that SQLite does not need.
    pub const fn postgres(version: i64, description: &'static str, sql: &'static str) -> Self {
        Self { version, description, sqlite: "SELECT 1", postgres: sql }
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
            Dialect::Postgres => step.postgres.replace(" BLOB", " BYTEA").replace(" WITHOUT ROWID", ""),
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
    let ran = match dialect {
        // A lock of the driver's own keeps replicas apart.
        Dialect::Postgres => migrator.run(pool).await,
        Dialect::Sqlite => {
            let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
            match migrator.run_direct(None, &mut *tx, false).await {
                Ok(()) => tx.commit().await.map_err(Into::into),
                Err(error) => Err(error),
            }
        }
    };
    ran.map_err(|cause| match cause {
        sqlx::migrate::MigrateError::Execute(error) => match StoreError::from(error) {
            StoreError::Query(error) => StoreError::Migration {
                component: component.name,
                cause: sqlx::migrate::MigrateError::Execute(error),
            },
            passing => passing,
        },
        cause => StoreError::Migration { component: component.name, cause },
    })
}

#[cfg(test)]
mod tests {
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
}
