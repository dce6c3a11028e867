//! Outages of the database and orderly ends of every role, on RabbitMQ and PostgreSQL.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use broker::{Broker, QueueName};
use broker_rabbitmq::RabbitMq;
use store::{Store, Tx, sql};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::product::{PATIENCE, Product};

const ORDERS: usize = 200;

fn order(n: usize) -> String {
    format!(r#"{{"event_id": "ORDER_CREATED", "data": {{"id": "{n}", "code": "{n:010}", "status": 1}}}}"#)
}

#[tokio::test]
async fn an_outage_of_the_database_pauses_the_consumers_and_spends_no_attempt() -> Result<()> {
    let postgres = harness::Postgres::start()?;
    postgres.create_database("malote")?;
    let broker = harness::Shared::from_env()?.fresh_vhost()?;
    let mut product = Product::configured(&broker, &postgres.url("malote"), "")?;
    product.start("up", &["up"]).await?;
    product.post("go", order(0)).await?;
    product.settled(1).await?;

    postgres.kill9()?;
    for n in 1..ORDERS {
        product.post("go", order(n)).await?;
    }
    // The consumers have met the outage, and say so.
    let started = Instant::now();
    while !product.output("up").contains("pauses") {
        ensure!(started.elapsed() < PATIENCE, "no consumer pauses:\n{}", product.output("up"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    postgres.restart()?;
    let events = product.settled(ORDERS).await?;
    assert!(events.iter().all(|event| event["state"] == "handled"), "{events:#?}");
    assert!(product.rows(&["dead", "list"])?.is_empty());
    assert_eq!(product.rows(&["receivables", "list"])?.len(), ORDERS);
    assert!(!product.output("up").contains("tried again in"), "an attempt was spent");
    Ok(())
}

#[tokio::test]
async fn a_database_that_answers_but_takes_no_writes_is_an_outage_too() -> Result<()> {
    let postgres = harness::Postgres::start()?;
    postgres.create_database("malote")?;
    let broker = harness::Shared::from_env()?.fresh_vhost()?;
    let queues = RabbitMq::connect(broker_rabbitmq::Config::new(broker.parse()?));
    let hold = "[consumer]\nhold_ms = 500\n";
    let mut product = Product::configured(&broker, &postgres.url("malote"), hold)?;
    product.start("up", &["up"]).await?;
    product.post("go", order(0)).await?;
    product.settled(1).await?;

    postgres.set("default_transaction_read_only", "on")?;
    for n in 1..ORDERS {
        product.post("go", order(n)).await?;
    }
    // What the ledger and the receivables held has gone back to the queue, and is not asked for again.
    let names = ["ledger", "receivables"].map(QueueName::new);
    until("both queues are full and without consumers", async || {
        let status = queues.queues(&names).await?;
        Ok(status.iter().all(|queue| queue.consumers == 0 && queue.ready == ORDERS as u64 - 1))
    })
    .await?;
    postgres.set("default_transaction_read_only", "off")?;
    let events = product.settled(ORDERS).await?;
    assert!(events.iter().all(|event| event["state"] == "handled"), "{events:#?}");
    assert!(product.rows(&["dead", "list"])?.is_empty());
    assert!(!product.output("up").contains("tried again in"), "an attempt was spent");
    Ok(())
}

/// Waits for a condition.
async fn until(what: &str, is: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !is().await? {
        ensure!(started.elapsed() < PATIENCE, "it never comes to this: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Makes every transaction that wants this table wait, until the lock is dropped.
async fn locked(store: &Store, statement: &'static str) -> Result<Tx> {
    let mut tx = store.begin().await?;
    sql::query(statement).execute(&mut *tx).await?;
    Ok(tx)
}

/// Waits until this many transactions wait for a lock.
async fn waiting(store: &Store, count: i64) -> Result<()> {
    until("transactions wait for the lock", async || {
        let mut connection = store.read().await?;
        let text = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = \
                    (SELECT oid FROM pg_database WHERE datname = current_database())";
        let waiting: i64 = sql::scalar(text).fetch_one(&mut *connection).await?;
        Ok(waiting >= count)
    })
    .await
}

/// Asks processes to finish and waits until they have heard it. None ends yet.
async fn told_to_finish(product: &mut Product, names: &[&str]) -> Result<()> {
    for name in names {
        product.ask_to_finish(name)?;
    }
    for name in names {
        until("the process stops", async || Ok(product.output(name).contains("stopping"))).await?;
        ensure!(product.is_running(name)?, "{name} leaves its work behind:\n{}", product.output(name));
    }
    Ok(())
}

#[tokio::test]
async fn every_role_finishes_what_it_has_in_hand_and_its_successor_goes_on() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let database = shared.fresh_database()?;
    let mut product = Product::scaled(&shared.fresh_vhost()?, &database).await?;
    let folder = tempfile::tempdir()?;
    let config =
        store::Config { max_connections: 2, acquire_timeout_ms: 5_000, ..store::Config::new(database) };
    let store = Store::open(&config, folder.path())?;
    for n in 0..50 {
        product.post("go", order(n)).await?;
    }
    product.settled(50).await?;

    // Each replica has a batch in its transaction.
    let lock = locked(&store, "LOCK TABLE claims IN ACCESS EXCLUSIVE MODE").await?;
    for n in 50..100 {
        product.post("go", order(n)).await?;
    }
    until("both replicas wait with a batch", async || {
        let mut connection = store.read().await?;
        let text = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO claims%'";
        let waiting: i64 = sql::scalar(text).fetch_one(&mut *connection).await?;
        Ok(waiting >= 2)
    })
    .await?;
    let replicas = ["receivables-1", "receivables-2"];
    told_to_finish(&mut product, &replicas).await?;
    lock.rollback().await?;
    for name in replicas {
        product.finished(name).await?;
    }
    let booked = product.rows(&["receivables", "list"])?.len();
    assert!((52..=100).contains(&booked), "{booked} are booked");

    let lock = locked(&store, "LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await?;
    for n in 100..150 {
        product.post("go", order(n)).await?;
    }
    waiting(&store, 1).await?;
    told_to_finish(&mut product, &["ledger"]).await?;
    lock.rollback().await?;
    product.finished("ledger").await?;

    // A request of which half has come.
    let body = order(150);
    let head = format!(
        "POST /webhooks/go?token=go-token HTTP/1.1\r\nHost: malote\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let (half, rest) = body.split_at(body.len() / 2);
    let mut request = TcpStream::connect(product.ingress.trim_start_matches("http://")).await?;
    request.write_all(format!("{head}{half}").as_bytes()).await?;
    told_to_finish(&mut product, &["ingress"]).await?;
    request.write_all(rest.as_bytes()).await?;
    let mut answer = String::new();
    request.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    product.finished("ingress").await?;

    product.start("ingress", &["ingress"]).await?;
    product.start("receivables-1", &["consume", "receivables"]).await?;
    product.start("ledger", &["ledger"]).await?;
    for n in 151..ORDERS {
        product.post("go", order(n)).await?;
    }
    let events = product.settled(ORDERS).await?;
    assert!(events.iter().all(|event| event["state"] == "handled"), "{events:#?}");
    assert_eq!(product.rows(&["receivables", "list"])?.len(), ORDERS);
    Ok(())
}

#[tokio::test]
async fn a_consumer_whose_queue_is_deleted_under_a_batch_is_not_ready_until_it_is_back() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let (broker, database) = (shared.fresh_vhost()?, shared.fresh_database()?);
    let mut product = Product::configured(&broker, &database, "")?;
    for (name, arguments) in [
        ("console", ["console"].as_slice()),
        ("ingress", &["ingress"]),
        ("ledger", &["ledger"]),
        ("receivables", &["consume", "receivables"]),
    ] {
        product.start(name, arguments).await?;
    }
    let folder = tempfile::tempdir()?;
    let config =
        store::Config { max_connections: 2, acquire_timeout_ms: 5_000, ..store::Config::new(database) };
    let store = Store::open(&config, folder.path())?;
    let lock = locked(&store, "LOCK TABLE claims IN ACCESS EXCLUSIVE MODE").await?;
    product.post("go", order(0)).await?;
    waiting(&store, 1).await?;
    shared.delete_queue(&broker, "receivables")?;
    until("it is not ready", async || Ok(product.readiness("receivables").await? != 200)).await?;

    lock.rollback().await?;
    until("it is ready again", async || Ok(product.readiness("receivables").await? == 200)).await?;
    let queues = RabbitMq::connect(broker_rabbitmq::Config::new(broker.parse()?));
    let status = queues.queues(&[QueueName::new("receivables")]).await?;
    assert_eq!(status[0].consumers, 1);
    for n in 1..20 {
        product.post("go", order(n)).await?;
    }
    let events = product.settled(20).await?;
    assert!(events.iter().all(|event| event["state"] == "handled"), "{events:#?}");
    assert_eq!(product.rows(&["receivables", "list"])?.len(), 20);
    Ok(())
}
