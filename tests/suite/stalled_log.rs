//! The reader of the log stalls: nothing waits for it, and a stranger cannot fill the log.

use std::io::Read;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;

use crate::product::Product;

/// Denied requests, each of which would be a line of the log; a pipe takes some hundreds.
const DENIED: usize = 3_000;

/// Events of the true sender, each with lines of its own at the level of debugging.
const EVENTS: usize = 1_000;

/// How many requests are in flight at once.
const AT_ONCE: usize = 50;

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing_and_a_stranger_does_not_fill_it() -> Result<()> {
    let mut product = Product::configured("embedded", "sqlite", "[log]\nfilter = \"info,ingress=debug\"\n")?;
    let mut log = product.launch_unread("up", &["up"])?;
    product.ready("up").await?;

    let order =
        |n: usize| format!(r#"{{"event_id": "ORDER_CREATED", "data": {{"id": "{n}", "code": "{n}"}}}}"#);
    let (client, _) = product.target("go");
    let stranger = format!("{}/webhooks/go?token=guessed", product.ingress);
    let (client, stranger) = (&client, &stranger);
    for round in 0..DENIED / AT_ONCE {
        let denied = (0..AT_ONCE).map(|_| async move {
            let json = client.post(stranger).header("content-type", "application/json");
            let answer = json.body("{}").send().await?;
            ensure!(answer.status() == 401, "{}", answer.status());
            anyhow::Ok(())
        });
        let posted = (0..EVENTS * AT_ONCE / DENIED).map(|n| product.post("go", order(round * AT_ONCE + n)));
        tokio::try_join!(try_join_all(denied), try_join_all(posted))?;
    }

    // Read to the end, which comes with the end of the process.
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text)
    });
    product.terminate("up").await?;
    let text = reading.await??;
    let lines = |part: &str| text.lines().filter(|line| line.contains(part)).collect::<Vec<_>>();
    assert_eq!(lines("denied: ").len(), 1, "{:#?}", lines("denied: "));
    let summaries = lines("refused more requests of this client");
    let counted = summaries.iter().filter_map(|line| {
        let (_, rest) = line.split_once("\"requests\":")?;
        rest.split([',', '}']).next()?.parse::<usize>().ok()
    });
    assert_eq!(counted.sum::<usize>(), DENIED - 1, "{summaries:#?}");
    assert!(lines("accepted").len() > 300, "a pipe would not have been full");
    assert!(text.lines().last().is_some_and(|line| line.contains("stopped")), "the last line is lost");
    Ok(())
}
