//! The database's limit: the rows that the consumers wrote, inserted into empty tables with no queue and no handler, many
//! to a statement as `VALUES` and a thousand to a transaction, all tables at once.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use store::many::{self, Value};
use store::{Dialect, Row, Store, sql};
use tokio::task::JoinSet;

/// Rows of a transaction, 256 to a statement.
const TRANSACTION: usize = 1_024;

/// The tables that the events of the mix end in.
const TABLES: [&str; 17] = [
    "origins",
    "events",
    "unsettled_events",
    "unrouted_events",
    "claims",
    "seen",
    "receivable_items",
    "instalment_history",
    "agreements",
    "agreement_debts",
    "agreement_history",
    "order_history",
    "invoices",
    "invoice_attachments",
    "invoice_history",
    "prescriptions",
    "prescription_history",
];

/// The rows of one table.
pub struct Copy {
    table: &'static str,
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

/// Opens a store by its address, as malote does.
pub fn open(url: &str) -> Result<Store> {
    let config = store::Config { max_connections: 8, acquire_timeout_ms: 30_000, ..store::Config::new(url) };
    Ok(Store::open(&config, Path::new("."))?)
}

/// The columns of a table, with their types in lower case.
pub async fn columns(store: &Store, table: &str) -> Result<Vec<(String, String)>> {
    let question = match store.dialect() {
        Dialect::Postgres => {
            "SELECT column_name::text, lower(data_type::text) FROM information_schema.columns WHERE table_name = $1 \
             AND table_schema = current_schema() ORDER BY ordinal_position"
        }
        Dialect::Sqlite => "SELECT name, lower(type) FROM pragma_table_info($1)",
    };
    let rows = sql::query(question).bind(table.to_owned()).fetch_all(&mut *store.read().await?).await?;
    Ok(rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, store::DriverError>>()?)
}

/// Reads every table.
pub async fn read(store: &Store) -> Result<Vec<Copy>> {
    let mut connection = store.read().await?;
    let mut copies = Vec::new();
    for table in TABLES {
        let columns = columns(store, table).await?;
        let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
        let text = format!("SELECT {} FROM {table}", names.join(", "));
        let mut rows = Vec::new();
        for row in sql::assembled(text).fetch_all(&mut *connection).await? {
            let value = |(at, (name, kind)): (usize, &(String, String))| {
                Ok(match kind.as_str() {
                    "text" => Value::Text(row.try_get(at)?),
                    "bigint" | "integer" | "smallint" => Value::Long(row.try_get(at)?),
                    "bytea" | "blob" => Value::Bytes(row.try_get::<Option<Vec<u8>>, _>(at)?.map(Into::into)),
                    other => anyhow::bail!("{table}.{name} has type {other}"),
                })
            };
            rows.push(columns.iter().enumerate().map(value).collect::<Result<Vec<_>>>()?);
        }
        copies.push(Copy { table, columns: names, rows });
    }
    Ok(copies)
}

/// Makes the tables and inserts everything. Gives the seconds that inserting took.
pub async fn insert(store: &Store, copies: Vec<Copy>) -> Result<f64> {
    store.migrate(&components()).await?;
    let start = Instant::now();
    let mut tables = JoinSet::new();
    for copy in copies {
        let store = store.clone();
        tables.spawn(async move {
            let table = copy.table;
            fill(&store, copy).await.with_context(|| table.to_owned())
        });
    }
    while let Some(filled) = tables.join_next().await {
        filled??;
    }
    Ok(start.elapsed().as_secs_f64())
}

async fn fill(store: &Store, Copy { table, columns, rows }: Copy) -> Result<()> {
    // The names live as long as the program: these are few.
    let into: &'static str = format!("{table} ({})", columns.join(", ")).leak();
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let rows: Vec<_> = rows.by_ref().take(TRANSACTION).collect();
        let mut tx = store.begin().await?;
        match store.dialect() {
            Dialect::Sqlite => drop(many::insert(&mut tx, into, "", rows).await?),
            Dialect::Postgres => {
                let lengths: Vec<usize> = many::chunks(&rows).map(<[_]>::len).collect();
                let mut rows = rows.into_iter();
                for length in lengths {
                    let text = format!("INSERT INTO {into} VALUES {}", sql::rows(length, columns.len()));
                    many::fetch(&mut tx, text, rows.by_ref().take(length).flatten()).await?;
                }
            }
        }
        tx.commit().await?;
    }
    Ok(())
}

fn components() -> Vec<store::Component> {
    domains::ALL.iter().map(|domain| domain.component).chain([ledger::COMPONENT]).collect()
}
