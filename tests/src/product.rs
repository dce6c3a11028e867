//! The product as a black box: processes of the `malote` binary with a data directory of their own, spoken to through
//! HTTP and the command line.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use event::ProviderName;
use harness::free_port;
use providers::auth::Auth;
use serde_json::Value;
use tempfile::TempDir;

/// The longest wait for something that takes milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Held while a demo runs: it prefers the default ports, and uses others only if they are taken.
pub static DEMO: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// The sources of every product here: name, provider, authentication.
const SOURCES: [(&str, &str, &str); 4] = [
    (
        "me",
        "mercado-eletronico",
        r#"{ hmac = { header = "x-me-webhook-signature", algorithm = "sha256", encoding = "base64", secrets = ["hmac-new", "hmac-old"] }, basic = { username = "me", passwords = ["basic-1"] } }"#,
    ),
    ("go", "gestao-online", r#"{ query = { name = "token", secrets = ["go-token"] } }"#),
    (
        "rec",
        "recuperador",
        r#"{ query = { name = "token", secrets = ["rec-token"] }, networks = ["127.0.0.0/8"] }"#,
    ),
    ("visao", "beneficio-visao", r#"{ header = { name = "x-api-key", secrets = ["visao-key"] } }"#),
];

/// One installation: a configuration, its processes, and a client.
pub struct Product {
    folder: TempDir,
    /// The address of the ingress: `http://127.0.0.1:<port>`.
    pub ingress: String,
    /// The address of the console.
    pub console: String,
    processes: BTreeMap<String, Child>,
    ports: BTreeMap<String, u16>,
    /// Where the processes answer to their operators.
    operations: BTreeMap<String, u16>,
    /// What a process of this name has in its environment.
    environment: BTreeMap<String, Vec<(String, String)>>,
    /// What the processes run that are started from here on.
    binary: PathBuf,
    /// The limit of file descriptors of every process, soft and hard; `None` leaves the machine's.
    descriptors: Option<(u64, u64)>,
    client: reqwest::Client,
    auth: BTreeMap<&'static str, Auth>,
}

/// Posts as the providers would; a clone is the same client.
#[derive(Clone)]
pub struct Poster {
    client: reqwest::Client,
    auth: BTreeMap<&'static str, Auth>,
}

impl Poster {
    /// A request as the source's provider would send it to this ingress.
    pub fn request(&self, ingress: &str, source: &str, body: impl Into<Vec<u8>>) -> reqwest::RequestBuilder {
        let body = body.into();
        let signed = self.auth[source].sign(&body, event::now());
        let mut request = self
            .client
            .post(format!("{ingress}/webhooks/{source}"))
            .header("content-type", "application/json")
            .query(&signed.query);
        for (name, value) in signed.headers {
            request = request.header(name, value);
        }
        request.body(body)
    }
}

impl Product {
    /// Everything embedded, in one process.
    pub async fn embedded() -> Result<Self> {
        let mut product = Self::configured("embedded", "sqlite", "")?;
        product.start("up", &["up"]).await?;
        Ok(product)
    }

    /// On RabbitMQ and PostgreSQL: one ingress, ledger and console, two replicas of each domain consumer.
    pub async fn scaled(broker_url: &str, store_url: &str) -> Result<Self> {
        let mut product = Self::configured(broker_url, store_url, "")?;
        product.start("console", &["console"]).await?;
        product.start("ingress", &["ingress"]).await?;
        product.start("ledger", &["ledger"]).await?;
        for consumer in domains::ALL.iter().map(|domain| domain.name()) {
            for replica in 1..=2 {
                product.start(&format!("{consumer}-{replica}"), &["consume", consumer]).await?;
            }
        }
        Ok(product)
    }

    /// A configuration with the four sources, and nothing started. `extra` is appended to the file.
    pub fn configured(broker_url: &str, store_url: &str, extra: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (ingress, console, operations) = (free_port()?, free_port()?, free_port()?);
        // Ingress and console make none of their own.
        let subject_key = if broker_url == "embedded" { String::new() } else { "0a".repeat(32) };
        let mut text = format!(
            "[data]\ndir = {:?}\n[broker]\nurl = {broker_url:?}\n[store]\nurl = {store_url:?}\n\
             [ingress]\nlisten = \"127.0.0.1:{ingress}\"\nsubject_key = {subject_key:?}\n[console]\nlisten = \"127.0.0.1:{console}\"\n\
             [operations]\nlisten = \"127.0.0.1:{operations}\"\n\
             [ingress.limits]\nbody_timeout_ms = 15000\n",
            folder.path().join("data")
        );
        let mut auth = BTreeMap::new();
        for (name, provider, table) in SOURCES {
            text += &format!("[[sources]]\nname = {name:?}\nprovider = {provider:?}\nauth = {table}\n");
            let value: BTreeMap<String, Auth> = toml::from_str(&format!("auth = {table}"))?;
            auth.extend(value.into_values().map(|parsed| (name, parsed)));
        }
        text += extra;
        fs::write(folder.path().join("malote.toml"), text)?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            folder,
            ingress: format!("http://127.0.0.1:{ingress}"),
            console: format!("http://127.0.0.1:{console}"),
            processes: BTreeMap::new(),
            ports: BTreeMap::new(),
            // Commands ask the ingress for its spool.
            operations: ["up", "ingress"].map(|name| (name.to_owned(), operations)).into(),
            environment: BTreeMap::new(),
            binary: harness::malote_binary()?,
            descriptors: None,
            client: reqwest::Client::builder().timeout(PATIENCE).build()?,
            auth,
        })
    }

    /// Has every source believe everyone from the next start on.
    pub fn ask_no_credentials(&self) -> Result<()> {
        let file = self.folder.path().join("malote.toml");
        let text = fs::read_to_string(&file)?;
        let line = |line: &str| if line.starts_with("auth = ") { "auth = \"none\"" } else { line }.to_owned();
        Ok(fs::write(file, text.lines().map(line).collect::<Vec<_>>().join("\n"))?)
    }

    /// Gives a source an API from the next start on, as the configuration has it.
    pub fn set_api(&self, source: &str, api: &str) -> Result<()> {
        let file = self.folder.path().join("malote.toml");
        let (text, name) = (fs::read_to_string(&file)?, format!("name = {source:?}\n"));
        ensure!(text.contains(&name), "no source {source}");
        Ok(fs::write(file, text.replace(&name, &format!("{name}api = {api}\n")))?)
    }

    /// A command of this installation, not started.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = match self.descriptors {
            None => Command::new(&self.binary),
            Some((soft, hard)) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={soft}:{hard}")).arg(&self.binary);
                command
            }
        };
        command.current_dir(self.folder.path()).args(["--config", "malote.toml"]).args(arguments);
        Ok(command)
    }

    /// Gives the ingress of a process, from its next start on, a second for each head and each body: tests of what is slow.
    pub fn hurry(&mut self, name: &str) {
        for limit in ["HEADER", "BODY"] {
            let variable = format!("MALOTE__INGRESS__LIMITS__{limit}_TIMEOUT_MS");
            self.set_environment(name, [(variable, "1000".to_owned())]);
        }
    }

    /// From here on processes and commands are of this binary.
    pub fn set_binary(&mut self, binary: PathBuf) {
        self.binary = binary;
    }

    /// Limits the file descriptors of every process that is started from now on: soft and hard.
    pub fn limit_descriptors(&mut self, limits: Option<(u64, u64)>) {
        self.descriptors = limits;
    }

    /// What a source requires, as the configuration file has it.
    pub fn auth(&self, source: &str) -> Result<Auth> {
        let text = fs::read_to_string(self.folder.path().join("malote.toml"))?;
        let file: toml::Table = text.parse()?;
        let sources = file["sources"].as_array().context("sources")?;
        let named = sources.iter().find(|entry| entry["name"].as_str() == Some(source));
        Ok(named.context("no such source")?["auth"].clone().try_into()?)
    }

    /// The socket address of the ingress.
    pub fn ingress_address(&self) -> Result<SocketAddr> {
        Ok(self.ingress.trim_start_matches("http://").parse()?)
    }

    /// The socket address of the console.
    pub fn console_address(&self) -> Result<SocketAddr> {
        Ok(self.console.trim_start_matches("http://").parse()?)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// What a process has written so far.
    pub fn output(&self, name: &str) -> String {
        fs::read_to_string(self.log(name)).unwrap_or_default()
    }

    /// Starts a role, and waits for nothing.
    pub fn launch(&mut self, name: &str, arguments: &[&str]) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log(name))?;
        self.spawn(name, arguments, log.try_clone()?.into(), log.into())
    }

    /// Starts a role whose log is a pipe, which nobody reads until the caller does.
    pub fn launch_unread(&mut self, name: &str, arguments: &[&str]) -> Result<ChildStderr> {
        self.spawn(name, arguments, Stdio::null(), Stdio::piped())?;
        self.processes.get_mut(name).and_then(|child| child.stderr.take()).context("just started")
    }

    fn spawn(&mut self, name: &str, arguments: &[&str], stdout: Stdio, stderr: Stdio) -> Result<()> {
        let fixed = |ports: &BTreeMap<String, u16>| ports.get(name).copied().map_or_else(free_port, Ok);
        let operations = fixed(&self.operations)?;
        let has_port = matches!(arguments, ["up" | "ingress" | "console", ..]);
        let port = match name {
            "up" | "ingress" => self.ingress.rsplit(':').next().context("a port")?.parse()?,
            "console" => self.console.rsplit(':').next().context("a port")?.parse()?,
            _ if has_port => fixed(&self.ports)?,
            _ => operations,
        };
        self.ports.insert(name.to_owned(), port);
        self.operations.insert(name.to_owned(), operations);
        let mut command = self.command(arguments)?;
        command.env("MALOTE__OPERATIONS__LISTEN", format!("127.0.0.1:{operations}"));
        command.envs(self.environment.get(name).into_iter().flatten().map(|(name, value)| (name, value)));
        if !matches!(name, "up" | "ingress" | "console") {
            command.args(["--listen", &format!("127.0.0.1:{port}")]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .context("the binary starts")?;
        self.processes.insert(name.to_owned(), child);
        Ok(())
    }

    fn is_previous(&self) -> bool {
        harness::previous_binary().is_ok_and(|previous| previous == self.binary)
    }

    /// Starts a role and waits until it says that it is ready.
    pub async fn start(&mut self, name: &str, arguments: &[&str]) -> Result<()> {
        self.launch(name, arguments)?;
        self.ready(name).await
    }

    /// Waits until a launched role says that it is ready.
    pub async fn ready(&mut self, name: &str) -> Result<()> {
        // The previous version answers on the port of its role, and may have no other.
        let address = if self.is_previous() { self.address(name) } else { self.operations(name) };
        let ready = format!("{address}/readyz");
        let started = Instant::now();
        loop {
            let answer = self.client.get(&ready).send().await;
            match answer {
                Ok(answer) if answer.status() == 200 => return Ok(()),
                _ if started.elapsed() > PATIENCE => {
                    bail!("{name} does not get ready:\n{}", self.output(name))
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            if let Some(status) = self.processes.get_mut(name).context("just started")?.try_wait()? {
                bail!("{name} ended with {status}:\n{}", self.output(name));
            }
        }
    }

    /// The process id of a running role.
    pub fn pid(&self, name: &str) -> u32 {
        self.processes[name].id()
    }

    /// Ends a process at once, as a power cut would.
    pub fn kill9(&mut self, name: &str) -> Result<()> {
        let mut child = self.processes.remove(name).with_context(|| format!("{name} is running"))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks a process to finish (SIGTERM) and waits until it has; its exit must be clean.
    pub async fn terminate(&mut self, name: &str) -> Result<()> {
        self.ask_to_finish(name)?;
        self.finished(name).await
    }

    /// Asks a process to finish (SIGTERM), and waits for nothing.
    pub fn ask_to_finish(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args(["-TERM", &self.pid(name).to_string()]).status()?;
        ensure!(status.success(), "kill -TERM");
        Ok(())
    }

    /// Whether a process has not ended yet.
    pub fn is_running(&mut self, name: &str) -> Result<bool> {
        let child = self.processes.get_mut(name).with_context(|| format!("{name} was started"))?;
        Ok(child.try_wait()?.is_none())
    }

    /// Waits until a process has finished; its exit must be clean.
    pub async fn finished(&mut self, name: &str) -> Result<()> {
        let mut child = self.processes.remove(name).with_context(|| format!("{name} is running"))?;
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "{name} ended with {status}:\n{}", self.output(name));
                return Ok(());
            }
            ensure!(started.elapsed() < PATIENCE, "{name} does not end:\n{}", self.output(name));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A request as the source's provider would send it.
    pub fn request(&self, source: &str, body: impl Into<Vec<u8>>) -> reqwest::RequestBuilder {
        self.poster().request(&self.ingress, source, body)
    }

    /// A client that others can have.
    pub fn poster(&self) -> Poster {
        Poster { client: self.client.clone(), auth: self.auth.clone() }
    }

    /// Gives processes of this name these variables from their next start on.
    pub fn set_environment(&mut self, name: &str, variables: impl IntoIterator<Item = (String, String)>) {
        self.environment.entry(name.to_owned()).or_default().extend(variables);
    }

    /// The names of the processes that run.
    pub fn running(&self) -> Vec<String> {
        self.processes.keys().cloned().collect()
    }

    /// The port that a process of this name answers on.
    pub fn port(&self, name: &str) -> u16 {
        self.ports[name]
    }

    /// Where a process of this name answers.
    pub fn address(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports[name])
    }

    /// Where a process of this name answers to its operators.
    pub fn operations(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}", self.operations[name])
    }

    /// Where the files are.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The status of a running process's `/readyz`.
    pub async fn readiness(&self, name: &str) -> Result<u16> {
        let url = format!("http://127.0.0.1:{}/readyz", self.ports[name]);
        Ok(self.client.get(url).send().await?.status().as_u16())
    }

    /// What a running process tells its operators on `/readyz`.
    pub async fn reasons(&self, name: &str) -> Result<Value> {
        let url = format!("{}/readyz", self.operations(name));
        Ok(self.client.get(url).send().await?.json().await?)
    }

    /// The text of a running process's `/metrics`.
    pub async fn metrics(&self, name: &str) -> Result<String> {
        let url = format!("{}/metrics", self.operations(name));
        Ok(self.client.get(url).send().await?.text().await?)
    }

    /// A client of its own, and the source's address with what the query string has to hold.
    pub fn target(&self, source: &str) -> (reqwest::Client, String) {
        let signed = self.auth[source].sign(b"", event::now());
        let query: Vec<String> = signed.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (self.client.clone(), format!("{}/webhooks/{source}?{}", self.ingress, query.join("&")))
    }

    /// Posts as the source's provider would; the answer must be 200. Returns the event's id.
    pub async fn post(&self, source: &str, body: impl Into<Vec<u8>>) -> Result<String> {
        let answer = self.request(source, body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == 200, "{source}: {status} {text}");
        let answer: Value = serde_json::from_str(&text)?;
        Ok(answer["id"].as_str().context("an id")?.to_owned())
    }

    /// Runs a command, which must succeed, and gives what it prints.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments)?.stdin(Stdio::null()).output()?;
        ensure!(
            output.status.success(),
            "malote {}: {}\n{}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What a command prints for programs.
    pub fn json(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.run(&[arguments, &["--json"]].concat())?)?)
    }

    /// The rows of a list command, oldest first.
    pub fn rows(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let mut rows = self.json(&[arguments, &["--limit", "100000"]].concat())?;
        rows.reverse();
        Ok(rows)
    }

    /// The events on record that were posted, oldest first: all but malote's own.
    pub fn received(&self) -> Result<Vec<Value>> {
        let mut events = self.rows(&["events", "list"])?;
        events.retain(|event| event["provider"] != ProviderName::OWN);
        Ok(events)
    }

    /// Waits until the ledger has `count` events that were posted and none of them is pending.
    pub async fn settled(&self, count: usize) -> Result<Vec<Value>> {
        let started = Instant::now();
        loop {
            let events = self.received()?;
            if events.len() == count && events.iter().all(|event| event["state"] != "pending") {
                return Ok(events);
            }
            if started.elapsed() > PATIENCE * 2 {
                let pending = events.iter().filter(|event| event["state"] == "pending").count();
                bail!("{} of {count} events in the ledger, {pending} pending", events.len());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        for (name, child) in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                let log = self.folder.path().join(format!("{name}.log"));
                let text = fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(30).collect();
                eprintln!("--- {name}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
    }
}

/// The documented body of a provider's topic.
pub fn example(provider: &str, topic: &str) -> &'static str {
    let provider = providers::Provider::named(provider).expect("a built-in provider");
    let topic = provider.topics().iter().find(|info| info.name == topic).expect("a documented topic");
    topic.example.expect("a documented example")
}
