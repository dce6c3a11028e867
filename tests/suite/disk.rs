//! A nearly full disk: new events are refused before anything breaks.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::SmallDisk;
use tokio::time::sleep;

use crate::product::{PATIENCE, Product};

/// What has to stay free: the default of `data.disk_free_limit_bytes`.
const LIMIT_BYTES: u64 = 64 << 20;

fn order(n: usize) -> String {
    format!(r#"{{"event_id": "ORDER_CREATED", "data": {{"id": "{n}", "code": "{n:010}", "status": 1}}}}"#)
}

/// Posts until the answer has this status, and returns how many were answered 200 on the way.
async fn post_until(
    product: &Product,
    numbers: &mut std::ops::RangeFrom<usize>,
    status: u16,
) -> Result<usize> {
    let (started, mut accepted) = (Instant::now(), 0);
    loop {
        let number = numbers.next().expect("there is always another number");
        let answer = product.request("go", order(number)).send().await?;
        accepted += usize::from(answer.status() == 200);
        if answer.status() == status {
            ensure!(status == 200 || answer.headers().contains_key("retry-after"), "no Retry-After");
            return Ok(accepted);
        }
        ensure!(started.elapsed() < PATIENCE, "the answer stays {}", answer.status());
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn events_are_refused_while_the_disk_is_nearly_full_and_taken_again_once_there_is_room() -> Result<()> {
    let disk = SmallDisk::mount(4 * LIMIT_BYTES)?;
    let mut product = Product::configured("embedded", "sqlite", "")?;
    let data = disk.path().join("data");
    fs::create_dir(&data)?;
    std::os::unix::fs::symlink(&data, product.folder().join("data"))?;
    product.start("up", &["up"]).await?;
    let mut numbers = 0..;
    let mut accepted = post_until(&product, &mut numbers, 200).await?;

    // Room is left, for what is stored already and has to be handled.
    let filler = disk.path().join("others");
    fs::write(&filler, vec![0; usize::try_from(3 * LIMIT_BYTES + LIMIT_BYTES / 2)?])?;
    accepted += post_until(&product, &mut numbers, 507).await?;
    product.settled(accepted).await?;
    let output = product.output("up");
    ensure!(output.contains("data.disk_free_limit_bytes") && !output.contains("disk is full"), "{output}");

    fs::remove_file(&filler)?;
    accepted += post_until(&product, &mut numbers, 200).await?;
    let events = product.settled(accepted).await?;
    ensure!(events.iter().all(|event| event["state"] == "handled"), "{events:#?}");
    Ok(())
}
