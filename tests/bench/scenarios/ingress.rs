//! From POST to 200: on RabbitMQ beside a bare confirm loop, embedded beside an answer without work.

use std::time::Duration;

use anyhow::Result;
use harness::RabbitMq;
use tests::product::Product;
use tests::usage::{cpu, rss_mb};

use super::{Bench, NO_DATABASE, per_event_us};
use crate::limits::confirms;
use crate::limits::empty::Empty;
use crate::load::{Pace, post};
use crate::mix;
use crate::report::{Figures, Section, Table};

const CONNECTIONS: [usize; 2] = [64, 256];

/// The figures of one way to answer.
#[derive(Clone, Default)]
struct Way {
    rate: Figures,
    p50: Figures,
    p99: Figures,
    cpu: Figures,
    rss: Figures,
}

impl Way {
    /// Posts to a process and notes what came of it.
    async fn measure(
        &mut self,
        port: u16,
        pid: u32,
        requests: Vec<Vec<u8>>,
        connections: usize,
    ) -> Result<()> {
        let (events, before) = (requests.len(), cpu(pid)?);
        let posted = post(port, requests, connections, Pace::Closed).await?;
        self.cpu.add(per_event_us(cpu(pid)? - before, events));
        self.rate.add(posted.rate());
        self.p50.add(posted.percentile(0.5));
        self.p99.add(posted.percentile(0.99));
        self.rss.add(rss_mb(pid)?);
        Ok(())
    }

    fn row(&self, name: String, limit: &Figures) -> Vec<String> {
        let ratio = self.rate.by(limit);
        let Self { rate, p50, p99, cpu, rss } = self;
        vec![name, rate.show(0), ratio.show(2), p50.show(1), p99.show(1), cpu.show(1), rss.show(0)]
    }
}

fn table(limit_name: &str, limit: Vec<String>, ways: &[Way], limit_rate: &Figures) -> Table {
    let of = format!("of {limit_name}");
    let mut table =
        Table::new(&["what", "events/s", &of, "p50 ms", "p99 ms", "processor µs/event", "memory MB"]);
    table.row(limit);
    for (connections, way) in CONNECTIONS.into_iter().zip(ways) {
        table.row(way.row(format!("malote, {connections} connections"), limit_rate));
    }
    table
}

/// The first scenario.
pub async fn rabbitmq(bench: Bench) -> Result<Section> {
    let events = bench.events(60_000);
    let node = RabbitMq::start()?;
    let mut limit = Figures::default();
    let mut ways = vec![Way::default(); CONNECTIONS.len()];
    let (mut broker_limit, mut broker_malote) = (Figures::default(), Figures::default());
    let pid = node.pid().unwrap_or_default();
    for round in 0..bench.rounds() {
        for (at, connections) in [None].into_iter().chain(CONNECTIONS.map(Some)).enumerate() {
            // Queues of its own for each, empty at first.
            let vhost = format!("round-{round}-{at}");
            node.create_vhost(&vhost)?;
            let mut product = Product::configured(&node.url(&vhost), NO_DATABASE, "")?;
            product.start("ingress", &["ingress"]).await?;
            let before = cpu(pid)?;
            match connections {
                None => {
                    product.terminate("ingress").await?;
                    limit.add(confirms::rate(&node.url(&vhost), 0..events).await?);
                    broker_limit.add(per_event_us(cpu(pid)? - before, events));
                }
                Some(connections) => {
                    let requests = mix::requests(&product.poster(), 0..events)?;
                    let (port, pid) = (product.port("ingress"), product.pid("ingress"));
                    ways[at - 1].measure(port, pid, requests, connections).await?;
                    broker_malote.add(per_event_us(cpu(node.pid().unwrap_or_default())? - before, events));
                    product.terminate("ingress").await?;
                }
            }
            node.delete_vhost(&vhost)?;
            // What RabbitMQ does about a virtual host that is gone.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let dash = String::from("–");
    let limit_row = vec![
        "confirm loop, 256 in flight".to_owned(),
        limit.show(0),
        "1".to_owned(),
        dash.clone(),
        dash.clone(),
        dash.clone(),
        dash,
    ];
    let text = format!(
        "POST, authenticated, read, published to the full topology, confirmed by RabbitMQ, answered 200; {events} events \
         in each of {} rounds. Beside it a bare loop of the same client library that publishes the same messages to the \
         same exchanges, without HTTP. RabbitMQ itself took {} µs of processor time for each event of the loop and {} µs \
         for each of malote's.",
        bench.rounds(),
        broker_limit.show(0),
        broker_malote.show(0)
    );
    let tables = vec![table("the loop", limit_row, &ways, &limit)];
    Ok(Section { title: "Ingress, RabbitMQ", text, tables })
}

/// The second scenario.
pub async fn embedded(bench: Bench) -> Result<Section> {
    let events = bench.events(150_000);
    let mut empty = Way::default();
    let mut ways = vec![Way::default(); CONNECTIONS.len()];
    for _ in 0..bench.rounds() {
        let mut product = Product::configured("embedded", NO_DATABASE, "")?;
        let server = Empty::start()?;
        let requests = mix::requests(&product.poster(), 0..events)?;
        empty.measure(server.port, server.pid(), requests.clone(), CONNECTIONS[0]).await?;
        drop(server);
        for (at, connections) in CONNECTIONS.into_iter().enumerate() {
            product = Product::configured("embedded", NO_DATABASE, "")?;
            product.start("up", &["up"]).await?;
            let (port, pid) = (product.port("up"), product.pid("up"));
            ways[at].measure(port, pid, requests.clone(), connections).await?;
            product.kill9("up")?;
        }
    }
    let limit = empty.row("empty answer, 64 connections".to_owned(), &empty.rate);
    let text = format!(
        "POST, authenticated, read, stored in every queue it is routed to and on the disk (fsync), answered 200; {events} \
         events in each of {} rounds. Beside it the same HTTP server and router, which read the body and answer without \
         any work. The database is down meanwhile, so that nothing is drained at the same time.",
        bench.rounds()
    );
    let tables = vec![table("the empty answer", limit, &ways, &empty.rate)];
    Ok(Section { title: "Ingress, embedded", text, tables })
}
