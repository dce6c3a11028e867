//! When a process says that it is ready.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use store::Store;
use store::many::fetch;
use tokio::time::sleep;

use crate::product::{PATIENCE, Product};

/// An ingress beside other roles accepts events before the tables exist; the process is ready only afterwards, so that a client
/// that waits for it finds the tables of every role.
#[tokio::test]
async fn a_process_is_ready_only_once_the_tables_of_all_its_roles_exist() -> Result<()> {
    let database = harness::Shared::from_env()?.fresh_database()?;
    let mut product = Product::configured("embedded", &database, "")?;
    let store = Store::open(&store::Config::new(database), product.folder())?;
    // The last migrations wait for this transaction, as they do for those of another process.
    let mut tx = store.begin().await?;
    fetch(&mut tx, "CREATE TABLE migrations_subscriptions (version BIGINT)".to_owned(), []).await?;
    product.launch("up", &["up"])?;
    let exists = async |table: &str| -> Result<bool> {
        let text = format!("SELECT 1 FROM {table} LIMIT 1");
        Ok(fetch(&mut *store.read().await?, text, []).await.is_ok())
    };
    let started = Instant::now();
    while !exists("receivables").await? || product.reasons("up").await.is_err() {
        ensure!(started.elapsed() < PATIENCE, "the first tables do not exist:\n{}", product.output("up"));
        sleep(Duration::from_millis(20)).await;
    }
    product.post("go", r#"{"event_id": "THEIRS", "data": {"code": "1"}}"#).await?;
    let reasons = product.reasons("up").await?;
    ensure!(reasons["status"] == "down" && reasons["components"]["store"]["status"] == "down", "{reasons:#}");
    ensure!(product.readiness("up").await? == 503, "strangers are not told");

    tx.rollback().await?;
    product.ready("up").await?;
    ensure!(exists("subscriptions").await? && exists("deliveries").await?);
    Ok(())
}
