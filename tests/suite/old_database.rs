//! A database of the first release, with rows in every table, opened by the current program: it is migrated in place,
//! and all operations work on the old rows.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use event::{Event, EventId};
use serde_json::{Value, json};
use store::many::{Value as Cell, insert};
use store::{Component, Config, Migration, Store, StoreError, Tx, sql};
use tokio::time::timeout;

use crate::product::{PATIENCE, Product, example};

/// The day of every row, as the first release counted it: of UTC. At this hour it is the day before in Brazil.
const DAY: &str = "2026-10-20";
const HOUR: &str = "2026-10-20T01:30:00Z";

/// The tables as they were: migrations are added, never edited.
fn first(component: Component, steps: usize) -> Component {
    Component { migrations: &component.migrations[..steps], ..component }
}

fn id(number: u32) -> EventId {
    let milliseconds = HOUR.parse::<event::Timestamp>().expect("a time").as_millisecond();
    format!("{:08x}-{:04x}-7000-8000-{number:012x}", milliseconds >> 16, milliseconds & 0xffff)
        .parse()
        .expect("an id")
}

fn received(number: u32, source: &str, topic: &str, body: &str) -> Event {
    let event = broker::test_support::event(source, topic, body.to_owned());
    Event { id: id(number), time: HOUR.parse().expect("a time"), ..event }
}

fn cell(text: impl std::fmt::Display) -> Cell {
    Cell::from(&text)
}

/// A row of `event`, with the consumers that took it.
fn recorded(event: &Event, consumers: &str, duplicate_of: Option<EventId>) -> Vec<Cell> {
    vec![
        cell(event.id),
        cell(&event.source.name),
        cell(&event.source.provider),
        cell(&event.topic),
        Cell::from(event.time),
        cell(consumers),
        cell(&event.content_type),
        Cell::from(event.data.len() as i64),
        Cell::from(0),
        cell("{}"),
        Cell::from(event.data.to_vec()),
        Cell::from(duplicate_of.map(|id| id.to_string())),
    ]
}

/// A row of `dead_letter`.
fn letter(event: &Event, discarded_in: Option<EventId>) -> Vec<Cell> {
    let message = event.to_message();
    let mut headers = message.headers;
    for (name, value) in
        [("message_id", message.message_id), ("type", message.r#type), ("app_id", message.app_id)]
    {
        headers.insert(name, value.into());
    }
    vec![
        cell(event.id),
        cell("receivables"),
        cell(&event.source.name),
        cell(&event.source.provider),
        cell(&event.topic),
        Cell::from(1),
        cell("it could not be booked"),
        Cell::from(event.time),
        Cell::from(event.time),
        cell(&event.content_type),
        cell(serde_json::to_string(&headers).expect("JSON")),
        Cell::from(event.data.to_vec()),
        cell("it could not be booked"),
        cell("0a1b2c3d"),
        Cell::from(discarded_in.map(|id| id.to_string())),
    ]
}

/// Rows in every table of the record.
async fn populate_record(tx: &mut Tx) -> Result<()> {
    let go = |number, topic| received(number, "/gestao-online/go", topic, example("gestao-online", topic));
    let (handled, dead) = (go(1, "ORDER_CREATED"), go(3, "FINANCIAL_PAYMENT_DISCHARGE"));
    let settled = example("recuperador", "acordo.quitado");
    let pending = received(2, "/recuperador/rec", "acordo.quitado", settled);
    let unrouted = received(4, "/mercado-eletronico/me", ::tests::UNROUTED, ::tests::unrouted());
    let duplicate = received(5, "/recuperador/rec", "acordo.quitado", settled);
    let discarded = go(6, "ORDER_CANCEL");
    let foreign = received(7, "/mercado-eletronico/me", "order.approved", "{}");
    let job = id(90);
    let rows = vec![
        recorded(&handled, "receivables", None),
        recorded(&pending, "receivables", None),
        recorded(&dead, "receivables", None),
        recorded(&unrouted, "", None),
        recorded(&duplicate, "", Some(pending.id)),
        recorded(&discarded, "receivables", None),
        recorded(&foreign, "", None),
    ];
    let event = "event (id, source, provider, topic, received_at, consumers, content_type, size, repaired, headers, \
                 body, duplicate_of)";
    insert(tx, event, "", rows).await?;
    insert(
        tx,
        "inbox (event_id, consumer, handled_at)",
        "",
        vec![vec![cell(handled.id), cell("receivables"), Cell::from(handled.time)]],
    )
    .await?;
    let owed = [&pending, &dead, &discarded].map(|event| vec![cell(event.id), cell("receivables")]);
    insert(tx, "unsettled (event_id, consumer)", "", owed.to_vec()).await?;
    let dead_letter = "dead_letter (event_id, consumer, source, provider, topic, attempts, error, first_failed_at, \
                       failed_at, content_type, headers, body, error_group, group_id, discarded_in)";
    insert(tx, dead_letter, "", vec![letter(&dead, None), letter(&discarded, Some(job))]).await?;
    let mark = vec![
        cell(unrouted.id),
        cell("me"),
        cell("mercado-eletronico"),
        cell(&unrouted.topic),
        Cell::from(unrouted.time),
        Cell::from(unrouted.time),
    ];
    insert(tx, "unrouted (event_id, source, provider, topic, received_at, marked_at)", "", vec![mark])
        .await?;
    let rejected = vec![
        cell(id(8)),
        cell("go"),
        cell("gestao-online"),
        Cell::from(handled.time),
        cell("not JSON: byte 1"),
        cell("application/json"),
        Cell::from(1),
        cell("{}"),
        Cell::from(b"{".to_vec()),
    ];
    let into = "rejected (id, source, provider, received_at, cause, content_type, size, headers, body)";
    insert(tx, into, "", vec![rejected]).await?;
    let mut done =
        vec![cell(job), cell("discard"), cell("dead"), cell("{}"), cell(json!({"reason": "known"}))];
    done.extend([cell("maria@host"), Cell::from(handled.time), cell("done")]);
    done.extend([Cell::from(1), Cell::from(1), Cell::from(1), cell(""), cell(""), Cell::from(handled.time)]);
    let into = "job (id, action, what, filter, options, requested_by, requested_at, state, total, progress, sent, \
                resume_after, trouble, finished_at)";
    insert(tx, into, "", vec![done]).await?;
    let tally = |source: &str, accepted: i64, rejected: i64| {
        let (run, day, at) = (cell(id(91)), cell(DAY), Cell::from(handled.time));
        vec![run, cell(source), day, Cell::from(accepted), Cell::from(rejected), at]
    };
    let rows = vec![tally("go", 3, 1), tally("rec", 2, 0), tally("me", 2, 0)];
    insert(tx, "tally (ingress, source, day, accepted, rejected, reported_at)", "", rows).await?;
    Ok(())
}

/// A row in each list of the domains.
async fn populate_books(tx: &mut Tx) -> Result<()> {
    let first = id(1).to_string();
    for text in [
        format!(
            "INSERT INTO receivables (source, kind, external_id, agreement_id, state, state_order, state_event, \
             status_order, status_event, first_event) \
             VALUES ('rec', 'instalment', 'before', 'before', 'open', 1, '{first}', 0, '', '{first}')"
        ),
        format!(
            "INSERT INTO agreements (source, external_id, agreed_centavos, original_centavos, instalments, state, \
             webhook_id, first_event) VALUES ('rec', 'before', 100, 100, 1, 'active', 1, '{first}')"
        ),
        format!(
            "INSERT INTO invoices (source, external_id, status_order, status_event, credit_memo_requested, first_event) \
             VALUES ('me', 'before', 0, '', 0, '{first}')"
        ),
        format!(
            "INSERT INTO prescriptions (source, document, partner_hash, partner_params, state, files, state_order, \
             state_event, first_event) VALUES ('visao', 'before', '', '{{}}', 'pending', '[]', 0, '', '{first}')"
        ),
    ] {
        store::many::fetch(tx, text, []).await?;
    }
    Ok(())
}

/// Waits until the event is in this state; the oldest is 0.
async fn becomes(product: &Product, index: usize, state: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let now = product.received()?[index]["state"].clone();
        if now == state {
            return Ok(());
        }
        ensure!(started.elapsed() < PATIENCE, "event {index} stays {now}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Brings the tables up to date by two processes at once, after one that was killed on the way. What a process of a release
/// before then writes is refused as in an outage.
async fn migrate(store_url: &str, folder: &Path) -> Result<()> {
    let components: Vec<Component> =
        domains::ALL.iter().map(|domain| domain.component).chain([ledger::COMPONENT]).collect();
    let config = Config { max_connections: 2, acquire_timeout_ms: 10_000, ..Config::new(store_url) };
    let process = || Store::open(&config, folder);
    for milliseconds in [2, 10, 25] {
        let killed = process()?;
        let _ = timeout(Duration::from_millis(milliseconds), killed.migrate(&components)).await;
        killed.close().await;
    }
    let (one, other) = (process()?, process()?);
    let (one_migrated, other_migrated) = tokio::join!(one.migrate(&components), other.migrate(&components));
    one_migrated.and(other_migrated)?;
    let mut tx = one.begin().await?;
    let refused = populate_record(&mut tx).await.expect_err("the earlier tables refuse every write");
    let refused = refused.downcast_ref::<StoreError>();
    assert!(matches!(refused, Some(StoreError::Unavailable(_))), "{refused:?}");
    drop(tx);
    let mut tx = one.begin().await?;
    let refused = populate_books(&mut tx).await.expect_err("so does the earlier table of receivables");
    let refused = refused.downcast_ref::<StoreError>();
    assert!(matches!(refused, Some(StoreError::Unavailable(_))), "{refused:?}");
    drop(tx);
    one.close().await;
    other.close().await;
    Ok(())
}

async fn upgrade(store_url: &str) -> Result<()> {
    let mut product = Product::configured("embedded", store_url, "")?;
    let folder = product.folder().join("data");
    std::fs::create_dir(&folder)?;
    let config = Config { max_connections: 2, acquire_timeout_ms: 10_000, ..Config::new(store_url) };
    let store = Store::open(&config, &folder)?;
    let old = [
        first(ledger::COMPONENT, 2),
        first(domains::invoices::DOMAIN.component, 1),
        first(domains::receivables::DOMAIN.component, 1),
        first(domains::prescriptions::DOMAIN.component, 1),
    ];
    store.migrate_as_before(&old).await?;
    let mut tx = store.begin().await?;
    populate_record(&mut tx).await?;
    populate_books(&mut tx).await?;
    tx.commit().await?;
    store.close().await;
    let printed = String::from_utf8(product.command(&["doctor"])?.output()?.stdout)?;
    assert!(printed.contains("the store's tables are of an earlier release"), "{printed}");
    migrate(store_url, &folder).await?;
    product.start("up", &["up"]).await?;

    let states = |product: &Product| -> Result<Vec<Value>> {
        Ok(product.received()?.iter().map(|event| event["state"].clone()).collect())
    };
    let before = ["handled", "pending", "dead", "unrouted", "duplicate", "discarded", "routed"];
    assert_eq!(states(&product)?, before);
    for state in before {
        assert_eq!(product.rows(&["events", "list", "--state", state])?.len(), 1, "{state}");
    }
    for list in
        ["receivables", "agreements", "invoices", "prescriptions", "dead", "rejected", "unrouted", "jobs"]
    {
        assert_eq!(product.rows(&[list, "list"])?.len(), 1, "{list}");
    }
    // In the order of their receipt. Transactions of other tests may hold back the feed for a moment.
    let started = Instant::now();
    let mut fed = product.run(&["feed", "--json"])?;
    while fed.lines().count() < before.len() && started.elapsed() < PATIENCE {
        fed = product.run(&["feed", "--json"])?;
    }
    let fed = fed.lines().map(|line| Ok(serde_json::from_str::<Value>(line)?["id"].clone()));
    let fed: Vec<Value> = fed.collect::<Result<_>>()?;
    assert_eq!(fed, (1..=7).map(|number| json!(id(number).to_string())).collect::<Vec<_>>());
    assert_eq!(product.json(&["dead", "list", "--group"])?[0]["group"], "0a1b2c3d");
    assert!(product.run(&["events", "show", &id(2).to_string()])?.contains("acordo.quitado"));

    // A day of the first release stays a day of UTC. What is pending was in a broker that is no more.
    let books: Value = serde_json::from_str(&product.run(&["reconcile", "--day", DAY, "--json"])?)?;
    assert_eq!(
        (&books["zone"], &books["balanced"], &books["sent"]),
        (&json!("UTC"), &json!(true), &json!(1))
    );
    let of_go = &books["sources"][0];
    assert_eq!(
        (&of_go["received"], &of_go["counted_accepted"], &of_go["rejected"]),
        (&json!(3), &json!(3), &json!(1))
    );
    assert_eq!(states(&product)?[1], "handled");

    // The commands wait 10 s at most for what they send again.
    product.command(&["dead", "retry", "--everything"])?.output()?;
    becomes(&product, 2, "handled").await?;
    assert!(!product.command(&["rejected", "retry", "--everything"])?.output()?.status.success());
    product.run(&["rejected", "discard", "--everything", "--reason", "known"])?;
    product.run(&["unrouted", "discard", "--everything", "--reason", "known"])?;
    product.command(&["events", "replay", &id(6).to_string()])?.output()?;
    becomes(&product, 5, "handled").await?;
    assert_eq!(
        states(&product)?,
        ["handled", "handled", "handled", "discarded", "duplicate", "handled", "routed"]
    );
    product.run(&["reconcile", "--day", DAY])?;

    // A correction of the earlier agreement, under the same id, is booked completely.
    let correction = json!({
        "id": 1, "id_acordo": "before", "valor_original": 1, "valor_acordo": 1, "situacao": "A",
        "lista_parcelas": [{"id": "corrected", "datavencto": "2026-12-15", "valor": 1, "situacao": "N"}]
    });
    product.post("rec", correction.to_string()).await?;
    product.settled(8).await?;
    let booked = |name: &str| -> Result<Value> {
        let rows = product.rows(&["receivables", "list"])?;
        let found = rows.iter().find(|row| row["external_id"] == name);
        Ok(found.map_or(Value::Null, |row| row["state"].clone()))
    };
    assert_eq!((booked("before")?, booked("corrected")?), (json!("canceled"), json!("open")));
    // A payment counts for the earlier instalment, and not for that of the same number of another agreement.
    let paid = json!({"id": 1, "id_acordo": "before", "id_parcela": "before", "data_pagto": "2026-12-15"});
    let another = correction.to_string().replace("before", "another").replace("corrected", "before");
    product.post("rec", paid.to_string()).await?;
    product.post("rec", another).await?;
    product.settled(10).await?;
    let rows = product.rows(&["receivables", "list"])?;
    let mut rows: Vec<_> = rows.iter().filter(|row| row["external_id"] == "before").collect();
    rows.sort_by_key(|row| row["agreement_id"].to_string());
    let states = rows.iter().map(|row| (&row["agreement_id"], &row["state"])).collect::<Vec<_>>();
    assert_eq!(states, [(&json!("another"), &json!("open")), (&json!("before"), &json!("paid"))]);
    Ok(())
}

/// Statements of a process of the release before this one, which counts an attempt where it waits for a lock for 10 s.
const EARLIER: [&str; 4] = [
    "INSERT INTO inbox (event_id, consumer, handled_at) VALUES ('0199d3c0-1f2e-7abc-8def-0123456789ab', 'c', 0)",
    "UPDATE writable SET checked_at = 1",
    "INSERT INTO unsettled (event_id, consumer) VALUES ('0199d3c0-1f2e-7abc-8def-0123456789ab', 'c')",
    "DELETE FROM event",
];

/// Holds up a copy just after its begin, by the name of its first table, and writes as an earlier process does.
async fn refuses_during(store: &Store, first_table: &'static str, earlier: &[&'static str]) -> Result<()> {
    let mut holding = store.begin().await?;
    sql::query(first_table).execute(&mut *holding).await?;
    let migrating = tokio::spawn({
        let store = store.clone();
        async move { store.migrate(&[ledger::COMPONENT]).await }
    });
    let started = Instant::now();
    loop {
        let mut connection = store.read().await?;
        let text = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waiting: i64 = sql::scalar(text).fetch_one(&mut *connection).await?;
        if waiting > 0 {
            break;
        }
        ensure!(started.elapsed() < PATIENCE && !migrating.is_finished(), "the copy does not wait");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for &text in earlier {
        let mut tx = store.begin().await?;
        let write = timeout(Duration::from_secs(3), sql::query(text).execute(&mut *tx)).await?;
        let refused = write.map(drop).map_err(StoreError::from);
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{text}: {refused:?}");
    }
    assert!(!migrating.is_finished(), "the copy is over");
    holding.rollback().await?;
    Ok(migrating.await??)
}

#[tokio::test]
async fn while_the_tables_are_copied_what_an_earlier_process_writes_is_refused_at_once() -> Result<()> {
    let store = postgresql(&harness::Shared::from_env()?.fresh_database()?)?;
    store.migrate_as_before(&[first(ledger::COMPONENT, 2)]).await?;
    let mut tx = store.begin().await?;
    populate_record(&mut tx).await?;
    tx.commit().await?;
    let (inbox, record) = EARLIER.split_at(2);
    refuses_during(&store, "CREATE TABLE claims (id INT)", inbox).await?;
    let mut connection = store.read().await?;
    let copied: i64 = sql::scalar("SELECT count(*) FROM events").fetch_one(&mut *connection).await?;
    assert_eq!(copied, 7);
    drop(connection);

    let store = postgresql(&harness::Shared::from_env()?.fresh_database()?)?;
    store.migrate_as_before(&[first(ledger::COMPONENT, 2)]).await?;
    refuses_during(&store, "CREATE TABLE origins (id INT)", record).await
}

fn postgresql(url: &str) -> Result<Store> {
    let config = Config { max_connections: 4, acquire_timeout_ms: 5_000, ..Config::new(url) };
    Ok(Store::open(&config, Path::new("."))?)
}

fn step(postgres: &'static str) -> &'static [Migration] {
    Box::leak(Box::new([Migration::postgres(1, "a step", postgres)]))
}

#[tokio::test]
async fn a_migration_that_fails_keeps_no_other_process_from_its_own() -> Result<()> {
    let url = harness::Shared::from_env()?.fresh_database()?;
    let (one, other) = (postgresql(&url)?, postgresql(&url)?);
    let failing = Component { name: "failing", migrations: step("SELECT nothing_of_the_kind") };
    let failed = one.migrate(&[failing]).await;
    assert!(matches!(failed, Err(StoreError::Migration { component: "failing", .. })), "{failed:?}");
    // The first process is still there, with its connections.
    other.migrate(&[]).await?;
    one.check_writable().await?;
    Ok(())
}

#[tokio::test]
async fn a_limit_of_the_database_for_statements_ends_no_migration() -> Result<()> {
    let url = harness::Shared::from_env()?.fresh_database()?;
    let store = postgresql(&url)?;
    let mut tx = store.begin().await?;
    let limit = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 500', current_database()); END $$";
    sql::query(limit).execute(&mut *tx).await?;
    tx.commit().await?;
    store.close().await;
    let store = postgresql(&url)?;
    let slow = Component { name: "slow", migrations: step("SELECT pg_sleep(1)") };
    store.migrate(&[slow]).await?;
    // Queries keep it.
    let mut connection = store.read().await?;
    assert!(sql::query("SELECT 1 FROM pg_sleep(1)").execute(&mut *connection).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_populated_database_of_the_first_release_is_upgraded_on_sqlite() -> Result<()> {
    upgrade("sqlite").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_populated_database_of_the_first_release_is_upgraded_on_postgresql() -> Result<()> {
    upgrade(&harness::Shared::from_env()?.fresh_database()?).await
}
