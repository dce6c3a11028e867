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
