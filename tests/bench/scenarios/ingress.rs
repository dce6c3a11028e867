//! From POST to 200: on RabbitMQ beside a bare confirm loop and the smallest handler, embedded beside an answer without
//! work and the smallest handler with SQLite.

use std::time::Duration;

use anyhow::Result;
use tests::product::Product;
use tests::usage::{cpu, rss_mb};

use super::{Bench, NO_DATABASE, per_event_us, start_without_database};
use crate::limits::confirms;
use crate::limits::empty::Empty;
use crate::limits::smallest::{self, Attributes, Smallest};
use crate::limits::smallest_sqlite;
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
    /// RabbitMQ's.
    broker_cpu: Figures,
    rss: Figures,
}

impl Way {
    /// Posts to a process and measures it.
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

    /// With the rate divided by that of each limit.
    fn row(&self, name: String, limits: &[&Figures]) -> Vec<String> {
        let Self { rate, p50, p99, cpu, broker_cpu, rss } = self;
        let ratios = limits.iter().map(|limit| rate.by(limit).show(2));
        let times = [p50.show(1), p99.show(1), cpu.show(1)];
        let broker = (!broker_cpu.is_empty()).then(|| broker_cpu.show(1));
        [name, rate.show(0)]
            .into_iter()
            .chain(ratios)
            .chain(times)
            .chain(broker)
            .chain([rss.show(0)])
            .collect()
    }
}

/// A table with the rates divided by those of these limits, and the broker's processor time if it is another process.
fn table(limits: &[&str], broker: Option<&str>) -> Table {
    let ratios: Vec<_> = limits.iter().map(|limit| format!("of {limit}")).collect();
    let before = ["what", "events/s"].into_iter().chain(ratios.iter().map(String::as_str));
    let all: Vec<_> =
        before.chain(["p50 ms", "p99 ms", "processor µs/event"]).chain(broker).chain(["memory MB"]).collect();
    Table::new(&all)
}

/// Who takes the events of a round.
#[derive(Clone, Copy)]
enum Party {
    Loop,
    /// With an index into the connections.
    Smallest(usize, Attributes),
    Malote(usize),
}

/// The first scenario.
pub async fn rabbitmq(bench: Bench<'_>) -> Result<Section> {
    let events = bench.events(60_000);
    let servers = bench.servers()?;
    let node = &servers.rabbitmq;
    let mut limit = Figures::default();
    let mut smallest = vec![Way::default(); CONNECTIONS.len()];
    let (mut attributes, mut ways) = (smallest.clone(), smallest.clone());
    let mut broker_limit = Figures::default();
    let of_connections = (0..CONNECTIONS.len()).flat_map(|at| {
        [Party::Smallest(at, Attributes::None), Party::Smallest(at, Attributes::Event), Party::Malote(at)]
    });
    let parties: Vec<_> = [Party::Loop].into_iter().chain(of_connections).collect();
    let node_pid = node.pid().unwrap_or_default();
    for round in 0..bench.rounds() {
        for (at, party) in parties.iter().enumerate() {
            // Queues of its own for each, empty at first.
            let vhost = format!("round-{round}-{at}");
            node.create_vhost(&vhost)?;
            let url = node.url(&vhost);
            let mut product = Product::configured(&url, NO_DATABASE, "")?;
            product.start("ingress", &["ingress"]).await?;
            let port = product.port("ingress");
            // The ingress has declared the topology.
            if !matches!(party, Party::Malote(_)) {
                product.terminate("ingress").await?;
            }
            let before = cpu(node_pid)?;
            let broker_cpu = || anyhow::Ok(per_event_us(cpu(node_pid)? - before, events));
            match *party {
                Party::Loop => {
                    limit.add(confirms::rate(&url, 0..events).await?);
                    broker_limit.add(broker_cpu()?);
                }
                Party::Smallest(at, given) => {
                    let way = match given {
                        Attributes::None => &mut smallest[at],
                        Attributes::Event => &mut attributes[at],
                    };
                    let requests = mix::requests(&product.poster(), 0..events)?;
                    let handler = Smallest::start(smallest::command(&url, port, given)?, port).await?;
                    way.measure(port, handler.pid(), requests, CONNECTIONS[at]).await?;
                    way.broker_cpu.add(broker_cpu()?);
                }
                Party::Malote(at) => {
                    let requests = mix::requests(&product.poster(), 0..events)?;
                    ways[at].measure(port, product.pid("ingress"), requests, CONNECTIONS[at]).await?;
                    ways[at].broker_cpu.add(broker_cpu()?);
                    product.terminate("ingress").await?;
                }
            }
            node.delete_vhost(&vhost)?;
            // What RabbitMQ does about a virtual host that is gone.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let mut table = table(&["the loop", "the smallest handler"], Some("RabbitMQ's, µs/event"));
    let mut row = vec!["–".to_owned(); 9];
    row[..3].clone_from_slice(&["confirm loop, 256 in flight".to_owned(), limit.show(0), "1".to_owned()]);
    row[7] = broker_limit.show(1);
    table.row(row);
    for (at, connections) in CONNECTIONS.into_iter().enumerate() {
        let ways = [
            ("smallest handler", &smallest[at]),
            ("the same with properties and headers", &attributes[at]),
            ("malote", &ways[at]),
        ];
        for (name, way) in ways {
            table.row(way.row(format!("{name}, {connections} connections"), &[&limit, &smallest[at].rate]));
        }
    }
    let text = format!(
        "POST, authenticated, read, published to the full topology, confirmed by RabbitMQ, answered 200 (rounds: {}, \
         events in each: {events}). Beside it a bare loop of the same client library that publishes the same messages to the \
         same exchanges, without HTTP; and the smallest handler, which reads the topic of a POST, publishes the body \
         without attributes over two channels and answers once it is confirmed, and asks for no credentials; once more \
         with the properties and headers of malote's messages.",
        bench.rounds()
    );
    Ok(Section { title: "Ingress, RabbitMQ", text, tables: vec![table] })
}

/// The second scenario.
pub async fn embedded(bench: Bench<'_>) -> Result<Section> {
    let events = bench.events(150_000);
    let mut empty = Way::default();
    let mut smallest = vec![Way::default(); CONNECTIONS.len()];
    let mut ways = smallest.clone();
    for _ in 0..bench.rounds() {
        let product = Product::configured("embedded", NO_DATABASE, "")?;
        let server = Empty::start()?;
        let requests = mix::requests(&product.poster(), 0..events)?;
        empty.measure(server.port, server.pid(), requests.clone(), CONNECTIONS[0]).await?;
        drop(server);
        for (at, connections) in CONNECTIONS.into_iter().enumerate() {
            let product = Product::configured("embedded", NO_DATABASE, "")?;
            let port = product.ingress_address()?.port();
            let command = smallest_sqlite::command(&product.folder().join("smallest.db"), port)?;
            let handler = Smallest::start(command, port).await?;
            smallest[at].measure(port, handler.pid(), requests.clone(), connections).await?;
            drop(handler);
            let mut product = Product::configured("embedded", NO_DATABASE, "")?;
            start_without_database(&mut product).await?;
            let (port, pid) = (product.port("up"), product.pid("up"));
            ways[at].measure(port, pid, requests.clone(), connections).await?;
            product.kill9("up")?;
        }
    }
    let mut table = table(&["the empty answer", "the smallest handler"], None);
    let mut row = empty.row("empty answer, 64 connections".to_owned(), &[&empty.rate]);
    row.insert(3, String::from("–"));
    table.row(row);
    for (at, connections) in CONNECTIONS.into_iter().enumerate() {
        for (name, way) in [("smallest handler", &smallest[at]), ("malote", &ways[at])] {
            table.row(
                way.row(format!("{name}, {connections} connections"), &[&empty.rate, &smallest[at].rate]),
            );
        }
    }
    let text = format!(
        "POST, authenticated, read, stored in every queue it is routed to and on the disk (fsync), answered 200 (rounds: \
         {}, events in each: {events}). Beside it the same HTTP server and router, which read the body and answer without \
         any work; and the smallest handler, which reads the topic of a POST and inserts the body and two rows of queues \
         into SQLite, with `synchronous=FULL` and as many events to a transaction as have gathered, and asks for no \
         credentials. The database is down meanwhile, so that nothing is drained at the same time.",
        bench.rounds()
    );
    Ok(Section { title: "Ingress, embedded", text, tables: vec![table] })
}
