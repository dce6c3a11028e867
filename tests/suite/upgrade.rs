//! An upgrade while providers post: processes of the previous version and of this one work side by side.

use anyhow::{Result, ensure};

use crate::product::Product;

/// Events that are posted in each phase.
const EACH: usize = 60;

/// The domains of the previous version.
const PREVIOUS_DOMAINS: [&str; 3] = ["invoices", "receivables", "prescriptions"];

async fn post(product: &Product, phase: usize) -> Result<()> {
    for n in phase * EACH..(phase + 1) * EACH {
        let body = format!(
            r#"{{"event_id": "ORDER_CREATED", "data": {{"id": "{n}", "code": "{n:010}", "status": 1}}}}"#
        );
        product.post("go", body).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_rolling_upgrade_loses_nothing_and_books_nothing_twice() -> Result<()> {
    let shared = harness::Shared::from_env()?;
    let mut product = Product::configured(&shared.fresh_vhost()?, &shared.fresh_database()?, "")?;
    let new = harness::malote_binary()?;

    product.set_binary(harness::previous_binary()?);
    product.start("ingress", &["ingress"]).await?;
    product.start("old-ledger", &["ledger"]).await?;
    for domain in PREVIOUS_DOMAINS {
        product.start(&format!("old-{domain}"), &["consume", domain]).await?;
    }
    post(&product, 0).await?;

    // The previous ingress, and consumers of both versions on the same queues.
    product.set_binary(new);
    product.start("ledger", &["ledger"]).await?;
    for domain in domains::ALL.iter().map(|domain| domain.name()) {
        product.start(domain, &["consume", domain]).await?;
    }
    post(&product, 1).await?;

    // The new ingress, and still both.
    product.terminate("ingress").await?;
    product.start("ingress", &["ingress"]).await?;
    post(&product, 2).await?;

    // The new version alone, and then on its own topology.
    for name in ["ledger"].into_iter().chain(PREVIOUS_DOMAINS) {
        product.terminate(&format!("old-{name}")).await?;
    }
    product.start("console", &["console"]).await?;
    product.run(&["topology", "apply"])?;
    post(&product, 3).await?;

    let events = product.settled(4 * EACH).await?;
    ensure!(events.iter().all(|event| event["state"] == "handled"), "{events:#?}");
    ensure!(
        product.rows(&["receivables", "list"])?.len() == 4 * EACH,
        "an order is booked twice or not at all"
    );
    ensure!(product.rows(&["dead", "list"])?.is_empty(), "a dead letter");
    // Each ingress reports what it answered a few seconds late, and once more when it ends.
    product.terminate("ingress").await?;
    product.run(&["reconcile"])?;
    Ok(())
}
