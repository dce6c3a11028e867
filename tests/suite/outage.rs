//! Outages of the database and orderly ends of every role, on RabbitMQ and PostgreSQL.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

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
    let hold = "[consumer]\nhold_ms = 500\n";
    let mut product = Product::configured(&broker, &postgres.url("malote"), hold)?;
    product.start("up", &["up"]).await?;
    product.post("go", order(0)).await?;
    product.settled(1).await?;

    let read_only = |on: &str| -> Result<()> {
        postgres.query("malote", &format!("ALTER SYSTEM SET default_transaction_read_only = {on}"))?;
        postgres.query("malote", "SELECT pg_reload_conf()")?;
        Ok(())
    };
    read_only("on")?;
    for n in 1..ORDERS {
        product.post("go", order(n)).await?;
    }
    // The ledger and the receivables have met it. Long past the hold, what was held has gone back to its queue and is
    // not asked for again.
    let started = Instant::now();
    while product.output("up").matches("pauses").count() < 2 {
        ensure!(started.elapsed() < PATIENCE, "no consumer pauses:\n{}", product.output("up"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    read_only("off")?;
    let events = product.settled(ORDERS).await?;
    assert!(events.iter().all(|event| event["state"] == "handled"), "{events:#?}");
    assert!(product.rows(&["dead", "list"])?.is_empty());
    assert!(!product.output("up").contains("tried again in"), "an attempt was spent");
    Ok(())
}

#[tokio::test]
async fn every_role_ends_in_order_under_load_and_its_successor_goes_on() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let mut product = Product::scaled(&shared.fresh_vhost()?, &shared.fresh_database()?).await?;
    for n in 0..ORDERS {
        product.post("go", order(n)).await?;
        match n {
            50 => product.terminate("receivables-1").await?,
            60 => product.terminate("receivables-2").await?,
            70 => product.terminate("ledger").await?,
            100 => {
                product.terminate("ingress").await?;
                product.start("ingress", &["ingress"]).await?;
            }
            120 => product.start("receivables-1", &["consume", "receivables"]).await?,
            140 => product.start("ledger", &["ledger"]).await?,
            _ => {}
        }
    }
    let events = product.settled(ORDERS).await?;
    assert!(events.iter().all(|event| event["state"] == "handled"), "{events:#?}");
    assert_eq!(product.rows(&["receivables", "list"])?.len(), ORDERS);
    Ok(())
}
