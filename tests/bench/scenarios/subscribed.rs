//! Ingest with a hundred idle subscriptions, beside the same installation without any.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::consumers;
use tests::product::Product;
use tokio::time::sleep;

use super::{Bench, PUSHING, rates, start_consumers};
use crate::report::{Figures, Section, Table};

/// How many subscriptions one of the two installations has. RabbitMQ takes up to a second for each queue.
fn subscriptions(bench: Bench<'_>) -> usize {
    if bench.quick { 10 } else { 100 }
}

/// What is asked of the ratios.
const GOAL: &str = "0.95";

/// One of the two installations.
struct Side {
    product: Product,
    posted: usize,
    answered: Figures,
    committed: Figures,
}

impl Side {
    fn new(product: Product) -> Self {
        Self { product, posted: 0, answered: Figures::default(), committed: Figures::default() }
    }
}

/// On RabbitMQ and PostgreSQL: half of them are pushed, half have queues.
pub async fn scaled(bench: Bench<'_>) -> Result<Section> {
    let servers = bench.servers()?;
    let (node, postgres) = (&servers.rabbitmq, &servers.postgres);
    let mut sides = Vec::new();
    for name in ["none", "many"] {
        node.create_vhost(name)?;
        postgres.create_database(name)?;
        let mut product = Product::configured(&node.url(name), &postgres.url(name), PUSHING)?;
        for role in ["console", "ingress", "subscriptions"] {
            product.start(role, &[role]).await?;
        }
        start_consumers(&mut product).await?;
        sides.push(Side::new(product));
    }
    let all = subscriptions(bench);
    subscribe(&sides[1].product, "subscriptions", all, all / 2).await?;
    let table = measure(bench, &mut sides, ("ingress", &consumers())).await?;
    let doors = format!("{all}, half of them push, half queues");
    Ok(section("Ingest with idle subscriptions, RabbitMQ and PostgreSQL", &doors, table))
}

/// In one process: all of them are pushed.
pub async fn embedded(bench: Bench<'_>) -> Result<Section> {
    let mut sides = Vec::new();
    for _ in 0..2 {
        let mut product = Product::configured("embedded", "sqlite", PUSHING)?;
        product.start("up", &["up"]).await?;
        sides.push(Side::new(product));
    }
    let all = subscriptions(bench);
    subscribe(&sides[1].product, "up", all, all).await?;
    let table = measure(bench, &mut sides, ("up", &["up"])).await?;
    let doors = format!("{all}, all of them push");
    Ok(section("Ingest with idle subscriptions, embedded", &doors, table))
}

fn section(title: &'static str, doors: &str, table: Table) -> Section {
    let text = format!(
        "All roles, broker, database and the load on the same machine; 64 connections post without a pause to two installations \
         in turn. One has no subscriptions, the other {doors}, each with a topic of a provider that posts, \
         which no event has. Goal: {GOAL}."
    );
    Section { title, text, tables: vec![table] }
}

/// Declares so many subscriptions, the first `pushed` of them pushed and the others with queues, and waits until the role has
/// begun with them.
async fn subscribe(product: &Product, pusher: &str, all: usize, pushed: usize) -> Result<()> {
    let mut text = String::new();
    for number in 0..all {
        let door = if number < pushed { "push = { url = \"http://127.0.0.1:9/\" }" } else { "queue = {}" };
        let topic = format!("mercado-eletronico:idle-{number}.#");
        writeln!(text, "[[subscriptions]]\nname = \"idle-{number}\"\ntopics = [\"{topic}\"]\n{door}")?;
    }
    let file = product.folder().join("subscriptions.toml");
    fs::write(&file, text)?;
    product.run(&["subscriptions", "apply", file.to_str().context("a path")?, "--yes"])?;
    let begun = Instant::now();
    let delivered = || product.output(pusher).matches("delivers a push subscription").count();
    while delivered() < pushed {
        ensure!(begun.elapsed() < Duration::from_secs(60), "{} of {pushed} are delivered", delivered());
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn measure(bench: Bench<'_>, sides: &mut [Side], processes: (&str, &[&str])) -> Result<Table> {
    let (events, mut next) = (bench.events(40_000), 0);
    // The first round fills caches and makes what comes with the first event.
    for round in 0..=bench.rounds() {
        for side in &mut *sides {
            let Side { product, posted, answered, committed } = side;
            let (answers, commits) = rates(product, processes, posted, next, events).await?;
            if round > 0 {
                answered.add(answers);
                committed.add(commits);
            }
        }
        next += events;
    }
    let (none, many) = (&sides[0], &sides[1]);
    let mut table =
        Table::new(&["while everything runs", "no subscription", "idle subscriptions", "of that"]);
    for (name, none, many) in [
        ("answers/s", &none.answered, &many.answered),
        ("committed events/s", &none.committed, &many.committed),
    ] {
        table.row([name.to_owned(), none.show(0), many.show(0), many.by(none).show(2)]);
    }
    Ok(table)
}
