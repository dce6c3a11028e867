//! The views for people who query PostgreSQL by hand: no stored row makes one of them fail.

use anyhow::{Context, Result};
use store::many::{Value, fetch};
use store::{Config, Row, Store};
use tests::domains::DOMAINS;

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

async fn database() -> Result<Store> {
    let url = harness::Shared::from_env()?.fresh_database()?;
    let config = Config { max_connections: 2, acquire_timeout_ms: 5_000, ..Config::new(url) };
    let store = Store::open(&config, std::path::Path::new("."))?;
    store.migrate(&DOMAINS.map(|domain| domain.component)).await?;
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

/// A value of its own for each column, so that no row collides with another.
fn plain(is_number: bool, number: usize) -> Value {
    match is_number {
        true => Value::from(i64::try_from(number).expect("a small number")),
        false => Value::from(format!("x{number}")),
    }
}

#[tokio::test]
async fn no_row_makes_a_view_fail() -> Result<()> {
    let store = database().await?;
    let views =
        "SELECT viewname::text FROM pg_views WHERE schemaname = current_schema() ORDER BY 1".to_owned();
    let views: Vec<String> = rows(&store, views, vec![]).await?.concat();
    assert_eq!(views.len(), 9, "{views:?}");
    let mut number = 0;
    for view in views {
        let table = view.strip_suffix("_view").context("a view is named for its table")?;
        let text = "SELECT column_name::text, data_type::text FROM information_schema.columns \
                    WHERE table_schema = current_schema() AND table_name = $1"
            .to_owned();
        let columns = rows(&store, text, vec![Value::from(table.to_owned())]).await?;
        let is_number = |column: usize| columns[column][1] == "bigint";
        let names: Vec<&str> = columns.iter().map(|column| column[0].as_str()).collect();
        for hostile in 0..columns.len() {
            let values: Vec<Value> = match is_number(hostile) {
                true => NUMBERS.into_iter().map(Value::from).collect(),
                false => TEXTS.into_iter().map(|text| Value::from(text.to_owned())).collect(),
            };
            for value in values {
                number += 1;
                let mut row: Vec<Value> =
                    (0..columns.len()).map(|column| plain(is_number(column), number)).collect();
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
            counts[0] == counts[1] && counts[0].parse::<usize>()? >= columns.len() * NUMBERS.len(),
            "{view}: {counts:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_view_of_the_record_shows_ids_as_uuids() -> Result<()> {
    let store = database().await?;
    store.migrate(&[ledger::COMPONENT]).await?;
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
    let insert = "INSERT INTO receivables (source, kind, external_id, due_date, amount_centavos, paid_date, state, \
                  state_order, state_event, status_order, status_event, first_event) \
                  VALUES ('s', 'order', '1', '2024-02-29', -138060, '0000-00-00', 'paid', 1, '', 0, '', '')";
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
