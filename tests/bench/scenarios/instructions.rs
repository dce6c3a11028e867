//! Instructions of the processor per event on the way through an ingress, counted by valgrind: figures that noise does not
//! move, so that a later change can be compared with them.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::RabbitMq;
use tests::product::Product;
use tokio::time::sleep;

use super::{Bench, NO_DATABASE};
use crate::load::Connection;
use crate::mix;
use crate::report::{Section, Table, grouped};

/// Valgrind runs a program some fifty times slower.
const PATIENCE: Duration = Duration::from_secs(300);

/// Counts the ingress on both brokers.
pub async fn run(bench: Bench) -> Result<Section> {
    let node = RabbitMq::start()?;
    node.create_vhost("counted")?;
    let mut table = Table::new(&["ingress", "instructions/event"]);
    let events = bench.events(4_000);
    for (name, url, arguments) in
        [("RabbitMQ", node.url("counted"), ["ingress"]), ("embedded", "embedded".to_owned(), ["up"])]
    {
        let product = Product::configured(&url, NO_DATABASE, "")?;
        // The difference of two runs is what the events of the longer one took.
        let few = count(&product, &arguments, 0..events).await?;
        let many = count(&product, &arguments, events..events * 4).await?;
        table.row([name.to_owned(), grouped((many - few) / (events * 2) as f64, 0)]);
    }
    let text = "The whole process under `valgrind --tool=callgrind`, one connection, one request after another: from the \
                socket to the answer, the client of the broker included. The difference of two runs, so that start and end \
                do not count. Runs of the same binary differ by less than a hundredth, since threads wake each other."
        .to_owned();
    Ok(Section { title: "Instructions", text, tables: vec![table] })
}

/// Instructions of a process that took these events.
async fn count(product: &Product, arguments: &[&str], numbers: std::ops::Range<usize>) -> Result<f64> {
    let requests = mix::requests(&product.poster(), numbers)?;
    let output = product.folder().join("callgrind.out");
    let plain = product.command(arguments)?;
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(plain.get_program())
        .args(plain.get_args())
        .current_dir(product.folder())
        // One worker: which of several takes a task is not the same twice.
        .env("TOKIO_WORKER_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut process = Counted(command.spawn().context("starting valgrind (Debian package valgrind)")?);
    let port = product.ingress.rsplit(':').next().context("a port")?.parse()?;
    let deadline = Instant::now() + PATIENCE;
    let mut requests = requests.iter();
    let first = requests.next().context("a request")?;
    let mut connection = loop {
        if let Ok(mut connection) = Connection::open(port).await
            && connection.exchange(first).await.is_ok()
        {
            break connection;
        }
        ensure!(Instant::now() < deadline && process.0.try_wait()?.is_none(), "the ingress does not answer");
        sleep(Duration::from_millis(100)).await;
    };
    for request in requests {
        connection.exchange(request).await?;
    }
    drop(connection);
    let ended = Command::new("kill").args(["-TERM", &process.0.id().to_string()]).status()?;
    ensure!(ended.success(), "kill -TERM");
    process.0.wait()?;
    let text = std::fs::read_to_string(&output).context("what callgrind wrote")?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    Ok(total.context("a total")?.trim().parse()?)
}

/// A process that ends with this value.
struct Counted(Child);

impl Drop for Counted {
    fn drop(&mut self) {
        // Fails when it has ended, as it should have.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
