//! What an idle product takes. Memory and processor time are counted, not timed.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::product::{Product, example};

const RSS_LIMIT_KIB: u64 = 60 * 1024;
/// Clock ticks (10 ms) of processor time that an idle process may take in three seconds.
const TICKS_LIMIT: u64 = 5;

fn rss_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}

/// User and system time (proc(5), fields 14 and 15 of `stat`).
fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(") ").context("the name's end")?.1.split(' ').collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

#[tokio::test]
async fn an_idle_product_takes_little_memory_and_no_processor_time() -> Result<()> {
    let product = Product::embedded().await?;
    product.post("go", example("gestao-online", "ORDER_CREATED")).await?;
    product.settled(1).await?;
    let pid = product.pid("up");
    let rss = rss_kib(pid)?;
    assert!(rss < RSS_LIMIT_KIB, "{rss} KiB");
    let before = ticks(pid)?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let taken = ticks(pid)? - before;
    assert!(taken <= TICKS_LIMIT, "{taken} ticks in 3 s");
    Ok(())
}
