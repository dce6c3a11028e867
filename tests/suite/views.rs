//! The views for people who query PostgreSQL by hand: no stored row makes one of them fail.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use store::many::{Value, fetch};
use store::{Config, Row, Store};

/// Texts that no column of a view takes for what it shows.
const TEXTS: [&str; 14] = [
    "",
    "abc",
    "0000-00-00",
    "0000-01-01",
    "2026-02-30",
    "-0001-11-30",
    "99999-12-31",
    "NaN",
    "Infinity",
    "1e999999",
    r#"{"a": 1e999999}"#,
    r#"{"a": "\u0000"}"#,
    r#"["\ud83d"]"#,
    "😀'\"\\\u{1}",
];

/// Numbers at the edges of what times and amounts can be.
const NUMBERS: [i64; 6] =
    [i64::MIN, i64::MAX, -1, -62_135_596_800_000_001, 253_402_300_800_000_000, 1_000_000_000_000];

/// The number of an origin, which the rows of the record have.
const ORIGIN: i64 = 7;

async fn database() -> Result<Store> {
    let url = harness::Shared::from_env()?.fresh_database()?;
    let config = Config { max_connections: 2, acquire_timeout_ms: 5_000, ..Config::new(url) };
    let store = Store::open(&config, std::path::Path::new("."))?;
    let domains = domains::ALL.iter().map(|domain| domain.component);
    store.migrate(&domains.chain([ledger::COMPONENT, documents::COMPONENT]).collect::<Vec<_>>()).await?;
    Ok(store)
}

async fn rows(store: &Store, text: String, values: Vec<Value>) -> Result<Vec<Vec<String>>> {
    let mut tx = store.begin().await?;
    let rows = fetch(&mut tx, text.clone(), values).await.with_context(|| text)?;
    tx.commit().await?;
    let row =
        |row: &store::AnyRow| (0..row.len()).map(|index| Ok(row.try_get::<String, _>(index)?)).collect();
    rows.iter().map(row).collect()
}

/// A column of a table.
struct Stored {
    name: String,
    /// PostgreSQL's type, one of those that malote uses.
    kind: String,
}

impl Stored {
    /// A value of its own for each row, so that none collides with another.
    fn plain(&self, row: i64) -> Value {
        match (self.kind.as_str(), self.name.as_str()) {
            (_, "origin") => Value::from(ORIGIN),
            ("smallint", _) => Value::from(0_i64),
            ("bytea", _) => Value::from(i128::from(row).to_be_bytes().to_vec()),
            ("text", _) => Value::from(format!("x{row}")),
            _ => Value::from(row),
        }
    }

    /// Everything that the table takes and the view must not stumble over.
    fn hostile(&self) -> Vec<Value> {
        let numbers = |edges: &[i64]| edges.iter().copied().map(Value::from).collect::<Vec<_>>();
        match (self.kind.as_str(), self.name.as_str()) {
            ("smallint", _) => numbers(&[i16::MIN.into(), i16::MAX.into(), -1, 2]),
            ("integer", _) => numbers(&[i32::MIN.into(), i32::MAX.into(), -1, ORIGIN]),
            ("bigint", _) => numbers(&NUMBERS),
            // What is 16 bytes long by a check.
            ("bytea", "id" | "event_id") => [0_u8, 0xff].map(|byte| Value::from(vec![byte; 16])).into(),
            ("bytea", _) => [0, 1, 15, 16, 17].map(|length| Value::from(vec![0xff_u8; length])).into(),
            _ => TEXTS.into_iter().map(|text| Value::from(text.to_owned())).collect(),
        }
    }
}

async fn columns(store: &Store, table: &str) -> Result<Vec<Stored>> {
    let text = "SELECT column_name::text, data_type::text FROM information_schema.columns \
                WHERE table_schema = current_schema() AND table_name = $1";
    let rows = rows(store, text.to_owned(), vec![Value::from(table.to_owned())]).await?;
    let kinds = ["bigint", "integer", "smallint", "text", "bytea"];
    let column = |row: Vec<String>| match <[String; 2]>::try_from(row) {
        Ok([name, kind]) if kinds.contains(&kind.as_str()) => Ok(Stored { name, kind }),
        row => anyhow::bail!("a column of {table} is of another type: {row:?}"),
    };
    rows.into_iter().map(column).collect()
}

/// The names of the views that migrations make.
fn declared() -> BTreeSet<&'static str> {
    let domains = domains::ALL.iter().map(|domain| domain.component);
    let migrations =
        domains.chain([ledger::COMPONENT, documents::COMPONENT]).flat_map(|component| component.migrations);
    let made = migrations.flat_map(|migration| migration.postgres.split("CREATE VIEW ").skip(1));
    made.filter_map(|view| view.split_whitespace().next()).collect()
}

#[tokio::test]
async fn no_row_makes_a_view_fail() -> Result<()> {
    let store = database().await?;
    let views =
        "SELECT viewname::text FROM pg_views WHERE schemaname = current_schema() ORDER BY 1".to_owned();
    let views: Vec<String> = rows(&store, views, vec![]).await?.concat();
    assert_eq!(views.iter().map(String::as_str).collect::<BTreeSet<_>>(), declared());
    let origin =
        format!("INSERT INTO origins (id, source, provider, topic) VALUES ({ORIGIN}, 's', 'p', 't')");
    rows(&store, origin, vec![]).await?;
    let mut number = 0;
    for view in views {
        let named = view.strip_suffix("_view").context("a view is named for its table")?;
        // The table has another key and another name; the view is still found under its own.
        let table = if named == "receivables" { "receivable_items" } else { named };
        let columns = columns(&store, table).await?;
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        for (hostile, column) in columns.iter().enumerate() {
            for value in column.hostile() {
                number += 1;
                let mut row: Vec<Value> = columns.iter().map(|column| column.plain(number)).collect();
                row[hostile] = value;
                let insert = format!(
                    "INSERT INTO {table} ({}) VALUES {}",
                    names.join(", "),
                    store::sql::rows(1, row.len())
                );
                rows(&store, insert, row).await?;
            }
        }
        // Every column of every row is computed.
        let read = format!("SELECT count(v::text)::text, count(*)::text FROM {view} v");
        let counts = rows(&store, read, vec![]).await?.concat();
        assert!(
            counts[0] == counts[1] && counts[0].parse::<usize>()? >= 2 * columns.len(),
            "{view}: {counts:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_view_of_the_record_shows_ids_as_uuids() -> Result<()> {
    let store = database().await?;
    let id = "0199d3c0-1f2e-7abc-8def-0123456789ab";
    let bytes = Value::from(id.parse::<event::EventId>()?);
    for insert in [
        "INSERT INTO origins (id, source, provider, topic) VALUES (7, 'go', 'gestao-online', 'ORDER_CREATED')",
        "INSERT INTO events (id, origin, received_at, consumers, content_type, repaired, headers, body) \
         VALUES ($1, 7, 1764158400123456, 'invoices receivables', 'application/json', 0, 'x', 'abc')",
        "INSERT INTO claims (event_id, consumer, handled_at) VALUES ($1, 'invoices', 9223372036854775807)",
        "INSERT INTO unrouted_events (event_id, origin, received_at, marked_at) VALUES ($1, 7, 0, 0)",
        "INSERT INTO rejected_bodies (id, received_at, cause, content_type, size, headers, body) \
         VALUES ($1, 0, '', '', 0, '{}', '')",
        "INSERT INTO dead_letters (event_id, consumer, topic, attempts, error, error_group, group_id, history, \
         first_failed_at, failed_at, content_type, headers, body) VALUES ($1, 'invoices', '', 1, '', '', '', '', 0, 0, '', '', '')",
    ] {
        let values = if insert.contains("$1") { vec![bytes.clone()] } else { vec![] };
        rows(&store, insert.to_owned(), values).await?;
    }
    let text = "SELECT id::text, source, topic, (received_at AT TIME ZONE 'UTC')::text, consumers[2], size::text, \
                coalesce(headers::text, '-') FROM events_view";
    let expect = [id, "go", "ORDER_CREATED", "2025-11-26 12:00:00.123456", "receivables", "3", "-"];
    assert_eq!(rows(&store, text.to_owned(), vec![]).await?.concat(), expect);
    let text = format!("SELECT content_type FROM events WHERE id = uuid_send('{id}')");
    assert_eq!(rows(&store, text, vec![]).await?.concat(), ["application/json"]);
    for (view, column) in [
        ("claims_view", "event_id"),
        ("unrouted_events_view", "event_id"),
        ("rejected_bodies_view", "id"),
        ("dead_letters_view", "event_id"),
    ] {
        let text = format!("SELECT {column}::text FROM {view} WHERE {column} = '{id}'");
        assert_eq!(rows(&store, text, vec![]).await?.concat(), [id], "{view}");
    }
    Ok(())
}

#[tokio::test]
async fn a_view_shows_amounts_days_and_times_as_what_they_are() -> Result<()> {
    let store = database().await?;
    let insert = "INSERT INTO receivable_items (source, kind, agreement_id, external_id, due_date, amount_centavos, \
                  paid_date, state, state_order, state_event, status_order, status_event, first_event) \
                  VALUES ('s', 'order', '', '1', '2024-02-29', -138060, '0000-00-00', 'paid', 1, '', 0, '', '')";
    rows(&store, insert.to_owned(), vec![]).await?;
    let insert = "INSERT INTO order_history VALUES ('e', 's', '1', 't', NULL, 1764158400123456)";
    rows(&store, insert.to_owned(), vec![]).await?;
    let insert = r#"INSERT INTO prescriptions (source, document, partner_hash, partner_params, state, files, state_order,
                   state_event, first_event, right_axis, left_add)
                   VALUES ('s', '1', 'h', '{"a":1}', 'renewed', '[]', 1, '', '', '-0.50', 'x')"#;
    rows(&store, insert.to_owned(), vec![]).await?;
    let check = async |text: &str, expect: &[&str]| -> Result<()> {
        assert_eq!(rows(&store, text.to_owned(), vec![]).await?.concat(), expect, "{text}");
        Ok(())
    };
    check(
        "SELECT due_date::text, round(amount, 2)::text, coalesce(paid_date::text, '-') FROM receivables_view",
        &["2024-02-29", "-1380.60", "-"],
    )
    .await?;
    check(
        "SELECT (received_at AT TIME ZONE 'UTC')::text FROM order_history_view",
        &["2025-11-26 12:00:00.123456"],
    )
    .await?;
    check(
        "SELECT (partner_params -> 'a')::text, right_axis::text, coalesce(left_add::text, '-') FROM prescriptions_view",
        &["1", "-0.50", "-"],
    )
    .await
}
