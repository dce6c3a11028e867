//! What an idle product takes. Memory and processor time are counted, not timed.

use std::time::Duration;

use anyhow::Result;
use tests::usage::{cpu, rss_mb};

use crate::product::{Product, example};

/// 60 MiB.
const RSS_LIMIT_MB: f64 = 60.0 * 1024.0 * 1024.0 / 1e6;
/// Processor time that an idle process may take in three seconds.
const CPU_LIMIT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn an_idle_product_takes_little_memory_and_no_processor_time() -> Result<()> {
    let product = Product::embedded().await?;
    product.post("go", example("gestao-online", "ORDER_CREATED")).await?;
    product.settled(1).await?;
    let pid = product.pid("up");
    let rss = rss_mb(pid)?;
    assert!(rss < RSS_LIMIT_MB, "{rss} MB");
    let before = cpu(pid)?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let taken = cpu(pid)? - before;
    assert!(taken <= CPU_LIMIT, "{taken:?} in 3 s");
    Ok(())
}
