//! The exact accounting of a fault test, read from the database itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use store::{Dialect, Row, Store, sql};
use tokio::time::{Instant, sleep};

use super::load::{Load, Posted};
use super::rows::Servers;
use crate::product::{PATIENCE, Product};

/// How long the last event may take to be booked, once what was broken is back.
const SETTLING: Duration = Duration::from_secs(300);

/// The books as the database has them.
pub struct Books(Store);

/// The result of one fault.
#[derive(Debug)]
pub struct Account {
    pub sent: usize,
    pub accepted: usize,
    pub ledger: usize,
    pub domain: usize,
    pub lost: usize,
    pub dead: i64,
    pub twice: i64,
    /// Domain events on record.
    pub announced: i64,
    /// How many of them are missing, or too many.
    pub misannounced: i64,
}

impl Account {
    /// Whether nothing is lost, given up, or has come into being twice.
    pub fn is_clean(&self) -> bool {
        (self.lost, self.dead, self.twice, self.misannounced) == (0, 0, 0, 0)
    }
}

/// The tables that a handler writes to once for each event, with the condition and the column of the event.
const EFFECTS: [(&str, &str); 5] = [
    ("receivable_items", "NEW.kind = 'order'"),
    ("invoices", "1 = 1"),
    ("agreements", "1 = 1"),
    ("prescriptions", "1 = 1"),
    ("purchases", "1 = 1"),
];

/// The types of domain events that the facts of the load cause, each with the table that has a row for each of them.
const ANNOUNCED: [(&str, &str); 8] = [
    ("receivable.opened", "receivable_items"),
    ("invoice.created", "invoices"),
    ("invoice.status_changed", "invoices"),
    ("agreement.registered", "agreements"),
    ("prescription.renewed", "prescriptions"),
    ("purchase.created", "purchases"),
    ("purchase.status_changed", "purchases"),
    ("order.fetched", "document_versions"),
];

impl Books {
    /// Opens the database of a product whose tables are there.
    pub fn open(url: &str, folder: &Path) -> Result<Self> {
        let config =
            store::Config { max_connections: 2, acquire_timeout_ms: 10_000, ..store::Config::new(url) };
        Ok(Self(Store::open(&config, folder)?))
    }

    /// Counts every run of a handler that is committed, whatever its statements then did: the trigger fires before an
    /// insert looks for a conflict.
    pub async fn watch_effects(&self) -> Result<()> {
        let mut statements = vec!["CREATE TABLE effects (event_id TEXT NOT NULL)".to_owned()];
        match self.0.dialect() {
            Dialect::Sqlite => statements.extend(EFFECTS.map(|(table, condition)| {
                format!(
                    "CREATE TRIGGER count_{table} BEFORE INSERT ON {table} WHEN {condition} \
                     BEGIN INSERT INTO effects VALUES (NEW.first_event); END"
                )
            })),
            Dialect::Postgres => {
                statements.push(
                    "CREATE FUNCTION count_effect() RETURNS trigger LANGUAGE plpgsql AS \
                     $$ BEGIN INSERT INTO effects VALUES (NEW.first_event); RETURN NEW; END $$"
                        .to_owned(),
                );
                statements.extend(EFFECTS.map(|(table, condition)| {
                    format!(
                        "CREATE TRIGGER count_effects BEFORE INSERT ON {table} FOR EACH ROW WHEN ({condition}) \
                         EXECUTE FUNCTION count_effect()"
                    )
                }));
            }
        }
        let mut tx = self.0.begin().await?;
        for statement in statements {
            sql::assembled(statement).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn texts(&self, statement: &str) -> Result<Vec<String>> {
        let mut connection = self.0.read().await?;
        let rows = sql::assembled(statement.to_owned()).fetch_all(&mut *connection).await?;
        rows.iter().map(|row| row.try_get(0).context("a text")).collect()
    }

    /// The ids of the events on record that were posted.
    async fn recorded(&self) -> Result<BTreeSet<String>> {
        let mut connection = self.0.read().await?;
        let posted =
            "SELECT e.id FROM events e JOIN origins o ON o.id = e.origin WHERE o.provider <> 'malote'";
        let rows = sql::query(posted).fetch_all(&mut *connection).await?;
        rows.iter().map(|row| Ok(store::id(row, 0)?.to_string())).collect()
    }

    async fn number(&self, statement: &str) -> Result<i64> {
        let mut connection = self.0.read().await?;
        Ok(sql::assembled(statement.to_owned()).fetch_one(&mut *connection).await?.try_get(0)?)
    }

    /// How many domain events are on record, and how many of them are missing or too many. Each fact of the load makes rows
    /// which change no more: receivables are opened, an invoice is created with a status, an agreement registered, a prescription
    /// renewed, an order created with a status, a document fetched.
    async fn announced(&self) -> Result<(i64, i64)> {
        let own = "FROM events e JOIN origins o ON o.id = e.origin WHERE o.provider = 'malote'";
        let all = self.number(&format!("SELECT count(*) {own}")).await?;
        let (mut expected, mut wrong) = (0, 0);
        for (topic, table) in ANNOUNCED {
            let rows = self.number(&format!("SELECT count(*) FROM {table}")).await?;
            // Instalments of two agreements may have the same number, and so the same subject.
            let distinct = format!("SELECT DISTINCT e.subject, e.caused_by {own} AND o.topic = '{topic}'");
            let announced = self.number(&format!("SELECT count(*) FROM ({distinct}) AS announced")).await?;
            expected += rows;
            wrong += (rows - announced).abs();
        }
        Ok((all, wrong + (all - expected).abs()))
    }

    /// What is not settled: accepted events that the ledger does not have, events that are pending at a consumer, and domain
    /// events that are not on record.
    async fn unsettled(&self, posted: &Posted) -> Result<(usize, i64, i64)> {
        let ledger = self.recorded().await?;
        let missing = posted.accepted.iter().filter(|event| !ledger.contains(&event.id)).count();
        let pending = self
            .number(
                "SELECT count(*) FROM unsettled_events s WHERE NOT EXISTS (SELECT 1 FROM claims i \
                 WHERE i.event_id = s.event_id AND i.consumer = s.consumer) AND NOT EXISTS (SELECT 1 \
                 FROM dead_letters d WHERE d.event_id = s.event_id AND d.consumer = s.consumer)",
            )
            .await?;
        Ok((missing, pending, self.announced().await?.1))
    }

    /// The account, once everything is settled or the time for it is over.
    pub async fn account(&self, posted: &Posted) -> Result<Account> {
        let started = Instant::now();
        let mut before = None;
        loop {
            match self.unsettled(posted).await {
                // Twice in a row: what was stored and not answered for may still be coming.
                Ok((0, 0, 0)) if before == Some((0, 0, 0)) => break,
                Ok(now) if started.elapsed() > SETTLING => {
                    eprintln!("not settled: (missing, pending, misannounced) {now:?}");
                    break;
                }
                Ok(now) => before = Some(now),
                Err(error) => ensure!(started.elapsed() < SETTLING, "the books cannot be read: {error:#}"),
            }
            sleep(Duration::from_millis(250)).await;
        }
        let ledger = self.recorded().await?;
        let mut domain: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (table, statement) in [
            ("receivables", "SELECT external_id FROM receivable_items WHERE kind = 'order'"),
            ("invoices", "SELECT external_id FROM invoices"),
            ("agreements", "SELECT external_id FROM agreements"),
            ("prescriptions", "SELECT document FROM prescriptions"),
            ("purchases", "SELECT external_id FROM purchases"),
        ] {
            domain.insert(table, self.texts(statement).await?.into_iter().collect());
        }
        let is_booked = |event: &&super::load::Accepted| domain[event.table].contains(&event.key);
        let lost =
            posted.accepted.iter().filter(|event| !ledger.contains(&event.id) || !is_booked(event)).count();
        let (announced, misannounced) = self.announced().await?;
        Ok(Account {
            announced,
            misannounced,
            sent: posted.sent,
            accepted: posted.accepted.len(),
            ledger: ledger.len(),
            domain: domain.values().map(BTreeSet::len).sum(),
            lost,
            dead: self.number("SELECT count(*) FROM dead_letters").await?,
            twice: self
                .number(
                    "SELECT count(*) FROM (SELECT event_id FROM effects GROUP BY event_id \
                     HAVING count(*) > 1) AS twice",
                )
                .await?,
        })
    }
}

/// Takes the inbox away from under the consumers, and sends everything again: every effect comes twice, and is counted.
async fn a_handler_that_runs_twice_is_seen(broker: &str, store: &str) -> Result<()> {
    const EVENTS: usize = 8;
    let mut product = Product::configured(broker, store, "")?;
    product.start("up", &["up"]).await?;
    let books = Books::open(store, &product.folder().join("data"))?;
    books.watch_effects().await?;
    let load = Load::start(&product.poster(), &[product.ingress.clone()], 0, EVENTS, Duration::ZERO);
    let posted = load.end().await?;
    let account = books.account(&posted).await?;
    assert!(account.is_clean(), "{account:?}");

    let mut tx = books.0.begin().await?;
    sql::query("DELETE FROM claims").execute(&mut *tx).await?;
    tx.commit().await?;
    product.run(&["events", "replay", "--everything", "--yes"])?;
    let started = Instant::now();
    loop {
        let account = books.account(&posted).await?;
        if account.twice == EVENTS as i64 {
            return Ok(());
        }
        ensure!(started.elapsed() < PATIENCE, "handlers ran again unseen: {account:?}");
    }
}

#[tokio::test]
async fn faults_that_run_a_handler_twice_are_seen_on_sqlite() -> Result<()> {
    a_handler_that_runs_twice_is_seen("embedded", "sqlite").await
}

#[tokio::test]
async fn faults_that_run_a_handler_twice_are_seen_on_postgresql() -> Result<()> {
    let servers = Servers::start()?;
    let (broker, store) = servers.urls()?;
    a_handler_that_runs_twice_is_seen(&broker, &store).await
}
