//! Instructions of the processor per event on the way through an ingress, counted by valgrind: figures that noise does not
//! move, so that a later change can be compared with them.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::product::{Poster, Product};
use tokio::time::sleep;

use super::{Bench, NO_DATABASE, start_without_database};
use crate::limits::smallest::{self, Attributes};
use crate::limits::smallest_sqlite;
use crate::load::Connection;
use crate::mix;
use crate::report::{Section, Table, grouped};

/// Valgrind runs a program some fifty times slower.
const PATIENCE: Duration = Duration::from_secs(300);

/// The end of the names of those that believe everyone.
const NO_CREDENTIALS: &str = "no credentials asked for";

/// Who is counted.
#[derive(Clone, Copy)]
enum Party {
    Smallest(Attributes),
    SmallestSqlite,
    /// With the arguments of the process.
    Malote(&'static str),
}

/// Counts each ingress and the smallest handler beside it.
pub async fn run(bench: Bench<'_>) -> Result<Section> {
    let servers = bench.servers()?;
    let node = &servers.rabbitmq;
    let mut table = Table::new(&["handler", "instructions/event", "of the smallest handler"]);
    let events = bench.events(4_000);
    let mut limit = 0.0;
    // Under valgrind a start takes seconds: to see that it works, one run of each program does.
    let is_left_out = |name: &str, party: Party| {
        bench.quick && (name.ends_with(NO_CREDENTIALS) || matches!(party, Party::Smallest(Attributes::Event)))
    };
    // The smallest handler before those that are compared with it.
    for (name, vhost, party) in [
        ("smallest handler, RabbitMQ", Some("smallest"), Party::Smallest(Attributes::None)),
        ("the same with properties and headers", Some("attributes"), Party::Smallest(Attributes::Event)),
        ("malote, RabbitMQ", Some("malote"), Party::Malote("ingress")),
        ("malote, RabbitMQ, no credentials asked for", Some("open"), Party::Malote("ingress")),
        ("smallest handler, SQLite", None, Party::SmallestSqlite),
        ("malote, embedded", None, Party::Malote("up")),
        ("malote, embedded, no credentials asked for", None, Party::Malote("up")),
    ] {
        if is_left_out(name, party) {
            continue;
        }
        let url = match vhost {
            None => "embedded".to_owned(),
            // Queues of its own for each, empty at first.
            Some(vhost) => {
                node.create_vhost(vhost)?;
                node.url(vhost)
            }
        };
        let mut product = Product::configured(&url, NO_DATABASE, "")?;
        if name.ends_with(NO_CREDENTIALS) {
            product.ask_no_credentials()?;
        }
        // What the first start declares and creates counts for no event.
        let first = match party {
            Party::Smallest(_) => Some("ingress"),
            Party::SmallestSqlite => None,
            Party::Malote(role) => Some(role),
        };
        if let Some(role) = first {
            match role {
                "up" => start_without_database(&mut product).await?,
                _ => product.start(role, &[role]).await?,
            }
            product.terminate(role).await?;
        }
        let port = product.ingress_address()?.port();
        let command = |run: &str| match party {
            Party::Smallest(attributes) => smallest::command(&url, port, attributes),
            Party::SmallestSqlite => smallest_sqlite::command(&product.folder().join(run), port),
            Party::Malote(role) => product.command(&[role]),
        };
        let counted =
            Counting { port, poster: product.poster(), output: product.folder().join("callgrind.out") };
        // The difference of two runs is what the events of the longer one took.
        let few = if bench.quick { 0.0 } else { counted.run(command("few.db")?, 0..events).await? };
        let many = counted.run(command("many.db")?, events..events * 4).await?;
        let each = (many - few) / (events * 2) as f64;
        if matches!(party, Party::Smallest(Attributes::None) | Party::SmallestSqlite) {
            limit = each;
        }
        table.row([name.to_owned(), grouped(each, 0), format!("{:.2}", each / limit)]);
    }
    let text = "The whole process under `valgrind --tool=callgrind`, one connection, one request after another: from the \
                socket to the answer, the client of the broker included. The difference of two runs, so that start and end \
                do not count. Runs of the same binary differ by less than a hundredth, since threads wake each other. The \
                smallest handlers read the topic, store, and answer once that is confirmed or on the disk, with axum and \
                lapin or SQLite, and ask for no credentials; once more with the properties and headers of malote's messages. \
                Valgrind hides the processor's SHA instructions: a block of \
                SHA-256 counts 3,150 here."
        .to_owned();
    Ok(Section { title: "Instructions", text, tables: vec![table] })
}

/// What is posted, where, and where the count is.
struct Counting {
    port: u16,
    poster: Poster,
    output: PathBuf,
}

impl Counting {
    /// Instructions of a process that took these events.
    async fn run(&self, plain: Command, numbers: std::ops::Range<usize>) -> Result<f64> {
        let requests = mix::requests(&self.poster, numbers)?;
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--callgrind-out-file={}", self.output.display()))
            .arg(plain.get_program())
            .args(plain.get_args())
            .current_dir(self.output.parent().context("a folder")?)
            // One worker: which of several takes a task is not the same twice.
            .env("TOKIO_WORKER_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut process = Counted(command.spawn().context("starting valgrind (Debian package valgrind)")?);
        let deadline = Instant::now() + PATIENCE;
        let mut requests = requests.iter();
        let first = requests.next().context("a request")?;
        let mut connection = loop {
            if let Ok(mut connection) = Connection::open(self.port).await
                && connection.exchange(first).await.is_ok()
            {
                break connection;
            }
            ensure!(
                Instant::now() < deadline && process.0.try_wait()?.is_none(),
                "the handler does not answer"
            );
            sleep(Duration::from_millis(100)).await;
        };
        for request in requests {
            connection.exchange(request).await?;
        }
        drop(connection);
        let ended = Command::new("kill").args(["-TERM", &process.0.id().to_string()]).status()?;
        ensure!(ended.success(), "kill -TERM");
        process.0.wait()?;
        let text = std::fs::read_to_string(&self.output).context("what callgrind wrote")?;
        let total =
            text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
        Ok(total.context("a total")?.trim().parse()?)
    }
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
