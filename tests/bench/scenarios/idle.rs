//! What each role takes with nothing to do, and how soon it works.

use std::time::{Duration, Instant};

use anyhow::Result;
use tests::product::Product;
use tests::roles;
use tests::usage::{cpu, rss_mb};
use tokio::time::sleep;

use super::Bench;
use crate::load::Connection;
use crate::mix;
use crate::report::{Figures, Section, Table};

/// The seventh scenario.
pub async fn run(bench: Bench<'_>) -> Result<Section> {
    let servers = bench.servers()?;
    let (node, postgres) = (&servers.rabbitmq, &servers.postgres);
    let mut table =
        Table::new(&["role", "ready after ms", "first 200 after ms", "memory MB", "processor ms/s"]);
    node.create_vhost("idle")?;
    postgres.create_database("idle")?;
    let product = Product::configured(&node.url("idle"), &postgres.url("idle"), "")?;
    measure(bench, product, roles(), &mut table).await?;
    let product = Product::configured("embedded", "sqlite", "")?;
    measure(bench, product, vec![("up", vec!["up"])], &mut table).await?;
    let text = "From the start of the process until /readyz answers 200, or the first POST; then memory and processor time \
                over some seconds without a request. The topology and the tables are there from the first round on."
        .to_owned();
    Ok(Section { title: "Idle and start-up", text, tables: vec![table] })
}

async fn measure(
    bench: Bench<'_>,
    mut product: Product,
    roles: Vec<(&'static str, Vec<&str>)>,
    table: &mut Table,
) -> Result<()> {
    let mut next = 0;
    for (name, arguments) in &roles {
        // The first start makes topology and tables.
        product.start(name, arguments).await?;
        product.terminate(name).await?;
        let (mut ready, mut first) = (Figures::default(), Figures::default());
        let (mut rss, mut busy) = (Figures::default(), Figures::default());
        for _ in 0..bench.rounds() {
            let start = Instant::now();
            product.start(name, arguments).await?;
            ready.add(start.elapsed().as_secs_f64() * 1e3);
            if matches!(*name, "ingress" | "up") {
                product.terminate(name).await?;
                let requests = mix::requests(&product.poster(), next..next + 1)?;
                next += 1;
                let start = Instant::now();
                product.launch(name, arguments)?;
                while accepted(product.port(name), &requests[0]).await.is_err() {
                    sleep(Duration::from_millis(1)).await;
                }
                first.add(start.elapsed().as_secs_f64() * 1e3);
            }
            let (settling, time) = if bench.quick { (0, 200) } else { (1_000, 5_000) };
            let time = Duration::from_millis(time);
            sleep(Duration::from_millis(settling)).await;
            let before = cpu(product.pid(name))?;
            sleep(time).await;
            busy.add((cpu(product.pid(name))? - before).as_secs_f64() * 1e3 / time.as_secs_f64());
            rss.add(rss_mb(product.pid(name))?);
            product.terminate(name).await?;
        }
        table.row([(*name).to_owned(), ready.show(0), first.show(0), rss.show(1), busy.show(1)]);
    }
    Ok(())
}

async fn accepted(port: u16, request: &[u8]) -> Result<()> {
    Connection::open(port).await?.exchange(request).await.map(drop)
}
