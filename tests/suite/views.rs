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

/// A table whose columns a view has beside those of its own.
struct Joined {
    view: &'static str,
    table: &'static str,
    /// The columns that have to be the same, in this table and in the view's own.
    on: &'static [(&'static str, &'static str)],
    /// What rows of this table need for the view to show them.
    shown: &'static [(&'static str, i64)],
    /// What is not NULL in a row of the view that has one of this table.
    witness: &'static str,
}

const JOINED: [Joined; 5] = [
    Joined {
        view: "documents_view",
        table: "document_versions",
        on: &[("document", "id"), ("version", "version")],
        shown: &[],
        witness: "sha256",
    },
    Joined { view: "events_view", table: "origins", on: &[("id", "origin")], shown: &[], witness: "source" },
    Joined {
        view: "invoices_view",
        table: "invoice_attachments",
        on: &[("source", "source"), ("invoice_id", "external_id")],
        shown: &[("present", 1)],
        witness: "nullif(cardinality(v.attachments), 0)",
    },
    Joined {
        view: "invoices_view",
        table: "invoice_suppliers",
        on: &[("source", "source"), ("supplier_id", "supplier_id")],
        shown: &[],
        witness: "supplier_document",
    },
    Joined {
        view: "unrouted_events_view",
        table: "origins",
        on: &[("id", "origin")],
        shown: &[],
        witness: "source",
    },
];

/// Every part of an installation that has tables.
fn components() -> Vec<store::Component> {
    let others = [
        ledger::COMPONENT,
        documents::COMPONENT,
        subscriptions::COMPONENT,
        polling::COMPONENT,
        access::COMPONENT,
    ];
    domains::ALL.iter().map(|domain| domain.component).chain(others).collect()
}

async fn database() -> Result<Store> {
    let url = harness::Shared::from_env()?.fresh_database()?;
    let config = Config { max_connections: 2, acquire_timeout_ms: 5_000, ..Config::new(url) };
    let store = Store::open(&config, std::path::Path::new("."))?;
    store.migrate(&components()).await?;
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
    let migrations = components().into_iter().flat_map(|component| component.migrations);
    let made = migrations.flat_map(|migration| migration.postgres.split("CREATE VIEW ").skip(1));
    made.filter_map(|view| view.split_whitespace().next()).collect()
}

/// The table that a view is named for.
fn own_table(view: &str) -> Result<&str> {
    let named = view.strip_suffix("_view").context("a view is named for its table")?;
    // The table has another key and another name; the view is still found under its own.
    Ok(if named == "receivables" { "receivable_items" } else { named })
}

/// Writes a row, unless one with its key is there.
async fn write(store: &Store, table: &str, columns: &[Stored], row: Vec<Value>) -> Result<()> {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let values = store::sql::rows(1, row.len());
    let text = format!("INSERT INTO {table} ({}) VALUES {values} ON CONFLICT DO NOTHING", names.join(", "));
    rows(store, text, row).await.map(drop)
}

/// How many rows of a view have this, in each of which every column is computed.
async fn count(store: &Store, view: &str, witness: &str) -> Result<usize> {
    let read = format!("SELECT count(v::text)::text, count(*)::text, count({witness})::text FROM {view} v");
    let counts = rows(store, read, vec![]).await?.concat();
    anyhow::ensure!(counts[0] == counts[1], "{view}: {counts:?}");
    Ok(counts[2].parse()?)
}

#[tokio::test]
async fn no_row_of_a_joined_table_makes_a_view_fail() -> Result<()> {
    let store = database().await?;
    let used = "SELECT view_name::text, table_name::text FROM information_schema.view_table_usage \
                WHERE view_schema = current_schema()";
    let mut others = BTreeSet::new();
    for pair in rows(&store, used.to_owned(), vec![]).await? {
        if own_table(&pair[0])? != pair[1] {
            others.insert((pair[0].clone(), pair[1].clone()));
        }
    }
    let declared = JOINED.iter().map(|joined| (joined.view.to_owned(), joined.table.to_owned())).collect();
    assert_eq!(others, declared, "each table that a view joins is named in JOINED");
    // Above the numbers that stand for hostile values.
    let mut number = 1_000;
    for Joined { view, table, on, shown, witness } in JOINED {
        let own = own_table(view)?;
        let (columns, own_columns) = (columns(&store, table).await?, columns(&store, own).await?);
        let before = count(&store, view, witness).await?;
        let mut met = 0;
        for (hostile, column) in columns.iter().enumerate() {
            for value in column.hostile() {
                number += 1;
                let mut row: Vec<Value> = columns.iter().map(|column| column.plain(number)).collect();
                for (at, column) in columns.iter().enumerate() {
                    let fixed = shown.iter().find(|(name, _)| *name == column.name);
                    row[at] = fixed.map_or_else(|| row[at].clone(), |(_, value)| Value::from(*value));
                }
                row[hostile] = value;
                let same = |column: &Stored| {
                    let (joined, _) = on.iter().find(|(_, own)| *own == column.name)?;
                    columns.iter().position(|column| column.name == *joined).map(|at| row[at].clone())
                };
                let own_row =
                    own_columns.iter().map(|column| same(column).unwrap_or_else(|| column.plain(number)));
                let own_row = own_row.collect();
                write(&store, table, &columns, row.clone()).await?;
                write(&store, own, &own_columns, own_row).await?;
                // A row that is hidden by its value is none that the view could stumble over.
                met += usize::from(!shown.iter().any(|(name, _)| *name == column.name));
            }
        }
        let after = count(&store, view, witness).await?;
        assert!(
            met > columns.len() && after - before >= met,
            "{view} meets {table}: {before}, {after} of {met}"
        );
    }
    Ok(())
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
        let table = own_table(&view)?;
        let columns = columns(&store, table).await?;
        for (hostile, column) in columns.iter().enumerate() {
            for value in column.hostile() {
                number += 1;
                let mut row: Vec<Value> = columns.iter().map(|column| column.plain(number)).collect();
                row[hostile] = value;
                write(&store, table, &columns, row).await?;
            }
        }
        let count = count(&store, &view, "*").await?;
        assert!(count >= 2 * columns.len(), "{view}: {count}");
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

#[tokio::test]
async fn a_view_of_what_is_fetched_shows_the_newest_version_its_content_and_what_is_booked_of_it()
-> Result<()> {
    let store = database().await?;
    let (document, event) = ("0199d3c0-1f2e-7abc-8def-0123456789ab", "0199d3c0-1f2e-7abc-8def-0123456789ac");
    let ids = [document, event].map(|id| id.parse::<event::EventId>().map(Value::from));
    let [id, asked_by] = ids;
    let (id, asked_by) = (id?, asked_by?);
    let insert = "INSERT INTO documents (id, provider, source, entity, external_id, subject, place, state, reason, asked_by, asked, \
                  attempts, version, checked_at) VALUES ($1, 'mercado-eletronico', 'me', 'invoice', '32211', 'invoice/32211', \
                  '/v1/invoices/32211', 'fetched', '', $2, 2, 0, 2, 1764158400123456)";
    rows(&store, insert.to_owned(), vec![id.clone(), asked_by.clone()]).await?;
    for (version, body) in [(1_i64, r#"{"totalDue": 1}"#), (2, r#"{"totalDue": 1234.50}"#)] {
        let insert = "INSERT INTO document_versions (document, version, event_id, fetched_at, content_type, size, sha256, body) \
                      VALUES ($1, $2, $3, 1764158400000000, 'application/json', $4, 'ab', $5)";
        let size = i64::try_from(body.len())?;
        let values =
            vec![id.clone(), version.into(), asked_by.clone(), size.into(), body.as_bytes().to_vec().into()];
        rows(&store, insert.to_owned(), values).await?;
    }
    let insert = "INSERT INTO document_versions (document, version, event_id, fetched_at, content_type, size, sha256, body) \
                  VALUES ($1, 3, $1, 0, 'application/pdf', 9, 'cd', NULL)";
    rows(&store, insert.to_owned(), vec![asked_by]).await?;
    for insert in [
        "INSERT INTO invoices (source, external_id, status_order, status_event, credit_memo_requested, first_event, number, series, \
         issue_date, total_centavos, net_centavos, currency, supplier_id, document_version) \
         VALUES ('me', '32211', 0, '', 1, '', '4711', '001', '2026-11-20', 123450, -5, 'BRL', '900', 2)",
        "INSERT INTO invoice_suppliers (source, supplier_id, document, document_version) VALUES ('me', '900', '11222333000181', 1)",
        "INSERT INTO invoice_suppliers (source, supplier_id, document, document_version) VALUES ('other', '900', '191', 1)",
        "INSERT INTO invoice_attachments VALUES ('me', '32211', 'b', 1, 0, ''), ('me', '32211', 'a', 1, 0, ''), \
         ('me', '32211', 'c', 0, 0, ''), ('other', '32211', 'd', 1, 0, '')",
    ] {
        rows(&store, insert.to_owned(), vec![]).await?;
    }
    let plain = columns(&store, "purchases").await?;
    let row = plain.iter().map(|column| match column.name.as_str() {
        "kind" => Value::from("order".to_owned()),
        "external_id" => Value::from("123".to_owned()),
        "total_centavos" => Value::from(15_050_i64),
        "supplier_id" => Value::from("told".to_owned()),
        "document_supplier_id" => Value::from("900".to_owned()),
        "updated_at" => Value::from(1_764_158_400_123_456_i64),
        _ => column.plain(1),
    });
    let row = row.collect();
    write(&store, "purchases", &plain, row).await?;
    let check = async |text: &str, expect: &[&str]| -> Result<()> {
        assert_eq!(rows(&store, text.to_owned(), vec![]).await?.concat(), expect, "{text}");
        Ok(())
    };
    check(
        "SELECT id::text, asked_by::text, version::text, (fetched_at AT TIME ZONE 'UTC')::text, content_type, size::text, sha256, \
         (checked_at AT TIME ZONE 'UTC')::text FROM documents_view",
        &[document, event, "2", "2025-11-26 12:00:00", "application/json", "21", "ab", "2025-11-26 12:00:00.123456"],
    )
    .await?;
    check(
        "SELECT document::text, version::text, coalesce((content -> 'totalDue')::text, '-') FROM document_versions_view ORDER BY version",
        &[document, "1", "1", document, "2", "1234.50", event, "3", "-"],
    )
    .await?;
    check(
        "SELECT number, series, issue_date::text, round(total, 2)::text, round(net, 2)::text, currency, supplier_document, \
         array_to_string(attachments, ' '), credit_memo_requested::text FROM invoices_view",
        &["4711", "001", "2026-11-20", "1234.50", "-0.05", "BRL", "11222333000181", "a b", "true"],
    )
    .await?;
    check(
        "SELECT kind, external_id, supplier_id, round(total, 2)::text, (updated_at AT TIME ZONE 'UTC')::text FROM purchases_view",
        &["order", "123", "900", "150.50", "2025-11-26 12:00:00.123456"],
    )
    .await
}
