//! Consumers of subscriptions in Rust, Python and Node, with the independent libraries of Standard Webhooks.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Shared, free_port};
use serde_json::Value;
use subscriptions::{SigningSecret, sign};

use crate::product::{PATIENCE, Product};

/// A program, and the command that runs it.
type Program = (&'static str, &'static [&'static str]);

const PUSH: [Program; 3] = [
    ("push.py", &["python3", "push.py"]),
    ("push.mjs", &["node", "push.mjs"]),
    ("push.rs", &[env!("CARGO_BIN_EXE_consumer-push")]),
];

const PULL: [Program; 3] = [
    ("pull.py", &["python3", "pull.py"]),
    ("pull.mjs", &["node", "pull.mjs"]),
    ("pull.rs", &[env!("CARGO_BIN_EXE_consumer-pull")]),
];

const CONSUME: [Program; 3] = [
    ("consume.py", &["python3", "consume.py"]),
    ("consume.mjs", &["node", "consume.mjs"]),
    ("consume.rs", &[env!("CARGO_BIN_EXE_consumer-consume")]),
];

/// The folder of the programs.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("consumers")
}

/// A folder with these programs and the libraries that they use, at the versions and with the hashes of the lock files. It is
/// made once.
fn installed() -> Result<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let install = || -> Result<PathBuf> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("consumers");
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(sources())? {
            let entry = entry?;
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
        let lock = |name: &str| fs::read_to_string(sources().join(name));
        let wanted = [lock("requirements.txt")?, lock("package-lock.json")?].concat();
        if fs::read_to_string(folder.join("installed")).is_ok_and(|installed| installed == wanted) {
            return Ok(folder);
        }
        let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--upgrade"];
        run(
            Command::new("python3").args(pip).args([
                "--target",
                "python",
                "--requirement",
                "requirements.txt",
            ]),
            &folder,
        )?;
        run(Command::new("npm").args(["ci", "--silent", "--ignore-scripts", "--no-audit"]), &folder)?;
        fs::write(folder.join("installed"), wanted)?;
        Ok(folder)
    };
    let folder = FOLDER.get_or_init(|| install().map_err(|error| format!("{error:#}")));
    folder.as_deref().map_err(|error| anyhow::anyhow!(error.clone()))
}

/// Runs a command in a folder; an error has what it prints.
pub fn run(command: &mut Command, folder: &Path) -> Result<()> {
    let output = command.current_dir(folder).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{command:?} does not run"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A running consumer, which ends with this value.
struct Consumer {
    process: Child,
    lines: Receiver<String>,
}

impl Consumer {
    /// Runs a program.
    fn start((program, command): Program, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let folder = installed()?;
        let mut process = Command::new(command[0]);
        process.args(&command[1..]);
        process.args(arguments).envs(environment.iter().copied());
        process.current_dir(folder).env("PYTHONPATH", folder.join("python"));
        let errors = File::create(folder.join(format!("{program}.log")))?;
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut process = process.spawn().with_context(|| format!("{command:?} does not start"))?;
        let output = process.stdout.take().context("its output is a pipe")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { process, lines })
    }

    /// The next line that it prints.
    fn line(&self) -> Result<String> {
        self.lines.recv_timeout(PATIENCE).context("the consumer prints nothing more")
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn post(port: u16, headers: &[(&str, &str)], body: &str) -> Result<u16> {
    let client = reqwest::Client::new();
    let mut pause = Duration::from_millis(10);
    loop {
        let mut request = client.post(format!("http://127.0.0.1:{port}/events")).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match request.send().await {
            Ok(answer) => return Ok(answer.status().as_u16()),
            // It has not begun to listen.
            Err(error) if error.is_connect() && pause < PATIENCE / 10 => {
                tokio::time::sleep(pause).await;
                pause = pause * 3 / 2;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The independent libraries accept what malote signs, with either secret while one is rotated, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_libraries_of_python_and_node_verify_what_malote_signs() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (old, new) = (SigningSecret::generate(), SigningSecret::generate());
    let body = r#"{"name": "João", "total": 120.50}"#;
    for (program, command) in PUSH {
        let port = free_port().unwrap();
        let environment = [("WEBHOOK_SECRET", old.expose())];
        let consumer = Consumer::start((program, command), &[&port.to_string()], &environment).unwrap();
        let now = event::now().as_second();
        let send = async |secrets: &[SigningSecret], id: &str, timestamp: i64, sent: &str| {
            let signature = sign(secrets, id, timestamp, body.as_bytes());
            let timestamp = timestamp.to_string();
            let headers = [
                ("content-type", "application/json"),
                ("webhook-id", id),
                ("webhook-timestamp", &timestamp),
                ("webhook-signature", &signature),
                ("ce-type", "order.created"),
            ];
            post(port, &headers, sent).await.unwrap()
        };
        let both = [new.clone(), old.clone()];
        assert_eq!(send(&both, "event-1", now, body).await, 204, "{program}");
        assert_eq!(consumer.line().unwrap(), format!("event-1 order.created {body}"), "{program}");
        let refused = [
            ("another secret", send(&both[..1], "event-2", now, body).await),
            ("another body", send(&both, "event-2", now, &body.replace("120", "999")).await),
            ("an old request", send(&both, "event-2", now - 3_600, body).await),
        ];
        for (what, status) in refused {
            assert_eq!(status, 401, "{program}: {what}");
        }
        // The same event again is accepted and not handled again.
        assert_eq!(send(&both[1..], "event-1", now, body).await, 204, "{program}");
        assert_eq!(send(&both[1..], "event-3", now, body).await, 204, "{program}");
        assert_eq!(consumer.line().unwrap(), format!("event-3 order.created {body}"), "{program}");
    }
}

/// Everything embedded, with a guard that lets requests to this machine pass.
async fn product() -> Result<Product> {
    let mut product = Product::configured("embedded", "sqlite", "[outbound]\nallow = [\"127.0.0.0/8\"]\n")?;
    product.start("up", &["up"]).await?;
    Ok(product)
}

fn order(id: usize) -> String {
    format!(
        r#"{{"topic": "order.created", "timestamp": "2026-11-22T12:00:00Z", "data": {{"orderId": {id}}}}}"#
    )
}

/// What `add` shows once.
fn added(product: &Product, arguments: &[&str], field: &str) -> Result<String> {
    let common = ["--topics", "mercado-eletronico:order.#", "--json"];
    let shown = product.run(&[&["subscriptions", "add"], arguments, &common].concat())?;
    let shown: Value = serde_json::from_str(&shown)?;
    Ok(shown[field].as_str().with_context(|| format!("no {field} in {shown}"))?.to_owned())
}

/// The id, the topic and the data of a line.
fn parts(line: &str) -> (String, String, Value) {
    let mut parts = line.splitn(3, ' ').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    (part(), part(), serde_json::from_str(&part()).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_consumer_of_a_pull_subscription_goes_on_where_it_stopped() -> Result<()> {
    let product = product().await?;
    for program in PULL {
        let name = program.0.replace('.', "-");
        let token = added(&product, &[&name, "--pull"], "token")?;
        let start = || Consumer::start(program, &[&product.console, &name], &[("MALOTE_TOKEN", &token)]);
        let position = || -> Result<Value> {
            let shown = product.run(&["subscriptions", "show", &name, "--json"])?;
            Ok(serde_json::from_str::<Value>(&shown)?["position"].take())
        };
        let before = position()?;
        let consumer = start()?;
        let first = product.post("me", order(1)).await?;
        let expect = (first, "order.created".to_owned(), serde_json::from_str(&order(1))?);
        assert_eq!(parts(&consumer.line()?), expect, "{program:?}");
        let begun = Instant::now();
        while position()? == before {
            ensure!(begun.elapsed() < PATIENCE, "{program:?} does not store its position");
        }
        drop(consumer);
        let second = product.post("me", order(2)).await?;
        assert_eq!(parts(&start()?.line()?).0, second, "{program:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_consumer_of_a_queue_subscription_acknowledges_what_it_handled() -> Result<()> {
    let shared = Shared::from_env()?;
    let (broker, database) = (shared.fresh_vhost()?, shared.fresh_database()?);
    let mut product = Product::configured(&broker, &database, "")?;
    product.start("up", &["up"]).await?;
    for program in CONSUME {
        let name = program.0.replace('.', "-");
        let topics = ["--queue", "--topics", "mercado-eletronico:order.#"];
        product.run(&[&["subscriptions", "add", &name][..], &topics].concat())?;
        let queue = format!("subscription.{name}");
        let first = product.post("me", order(1)).await?;
        let consumer = Consumer::start(program, &[&queue], &[("AMQP_URL", &broker)])?;
        let expect = (first, "order.created".to_owned(), serde_json::from_str(&order(1))?);
        assert_eq!(parts(&consumer.line()?), expect, "{program:?}");
        let second = product.post("me", order(2)).await?;
        assert_eq!(parts(&consumer.line()?).0, second, "{program:?}");
        product.run(&["subscriptions", "remove", &name, "--yes"])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_consumer_of_a_push_subscription_gets_verified_events() -> Result<()> {
    let product = product().await?;
    for program in PUSH {
        let (port, name) = (free_port()?, program.0.replace('.', "-"));
        let url = format!("http://127.0.0.1:{port}/events");
        let secret = added(&product, &[&name, "--push", &url], "secret")?;
        let consumer = Consumer::start(program, &[&port.to_string()], &[("WEBHOOK_SECRET", &secret)])?;
        for number in 1..=3 {
            let id = product.post("me", order(number)).await?;
            let expect = (id, "order.created".to_owned(), serde_json::from_str(&order(number))?);
            assert_eq!(parts(&consumer.line()?), expect, "{program:?}");
        }
        product.run(&["subscriptions", "remove", &name, "--yes"])?;
    }
    Ok(())
}

/// The reference shows every program as it is run here.
#[test]
fn the_programs_are_those_of_the_reference() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/subscribing.md");
    let reference = fs::read_to_string(reference).unwrap();
    for (program, _) in PUSH.into_iter().chain(PULL).chain(CONSUME) {
        let text = fs::read_to_string(sources().join(program)).unwrap();
        assert!(reference.contains(&format!("\n{text}```\n")), "docs/subscribing.md has another {program}");
    }
}
