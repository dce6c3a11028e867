//! Where the demo runs: its folder, its ports, and a source for each provider with new secrets.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use super::program;
use crate::config::{Config, load_parts};
use crate::data_dir::{DataDir, random_hex};
use crate::roles::Running;

/// The demo's configuration, and the folder that holds it.
pub struct Setting {
    /// What is in force.
    pub config: Config,
    file: PathBuf,
    token: String,
    /// Removed at the end.
    folder: Option<TempDir>,
    /// What is to be known of the ports.
    ports: String,
    /// Where the APIs of the providers are.
    apis: SocketAddr,
}

/// How the source of each provider is authenticated.
const MECHANISMS: [(&str, &str); 4] = [
    ("mercado-eletronico", "HMAC-SHA256 of the body, and Basic"),
    ("gestao-online", "token in the query"),
    ("recuperador", "token in the query, and network"),
    ("beneficio-visao", "header x-api-key"),
];

/// In words, how a source is authenticated.
pub fn mechanisms(source: &str) -> &'static str {
    MECHANISMS.iter().find(|(name, _)| *name == source).map_or("", |(_, mechanisms)| mechanisms)
}

impl Setting {
    /// Makes the folder, a temporary one if none is named, and the configuration in it.
    pub fn make(keep: Option<&Path>) -> Result<Self> {
        let (path, folder) = match keep {
            Some(path) => (path.to_owned(), None),
            None => {
                let folder = tempfile::Builder::new()
                    .prefix("malote-demo-")
                    .tempdir()
                    .context("cannot make a folder")?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        if path.join("data").exists() {
            let file = path.join("malote.toml");
            bail!(
                "{} holds a demo already: name another folder, or go on with `malote --config {} up`",
                path.display(),
                file.display()
            );
        }
        DataDir::open(&path)?;
        let token = random_hex();
        let (ingress, console, operations) = (port(INGRESS)?, port(CONSOLE)?, port(OPERATIONS)?);
        let apis = port("127.0.0.1:0")?;
        let text = configuration(&path, &token, [ingress, console, operations], apis);
        let taken = [(INGRESS, ingress), (CONSOLE, console), (OPERATIONS, operations)].into_iter();
        let taken = taken.filter(|(wanted, found)| *wanted != found.to_string());
        let ports = taken
            .map(|(wanted, found)| format!("{wanted} is taken: this demo uses {found} instead.\n"))
            .collect();
        let file = path.join("malote.toml");
        write_private(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
        let name = file.display().to_string();
        // The environment is that of another installation.
        let (config, _) = load_parts(&name, &text, []).map_err(|mistakes| anyhow!(mistakes))?;
        Ok(Self { config, file, token, folder, ports, apis })
    }

    /// Where the APIs of the providers are.
    pub fn apis(&self) -> SocketAddr {
        self.apis
    }

    /// A line for each port that is another than usual.
    pub fn ports(&self) -> &str {
        &self.ports
    }

    /// Removes what nobody asked to keep, and says what is left.
    pub fn clear(self) -> String {
        match self.folder.map(|folder| (folder.path().to_owned(), folder.close())) {
            None => {
                let file = self.file.display();
                format!("`{} --config {file} up` continues with its data.", program())
            }
            Some((_, Ok(()))) => "nothing is left behind.".to_owned(),
            Some((path, Err(error))) => format!("{} could not be removed: {error}.", path.display()),
        }
    }

    /// What to try next: commands that work as they are.
    pub fn invitation(&self, running: &Running) -> String {
        let address =
            |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
        let (ingress, console) = (address(running.ingress), address(running.console));
        let code = running.rotation.token.as_ref().map(console::Token::login_code).unwrap_or_default();
        let (program, file) = (program(), self.file.display());
        format!(
            "
It keeps running; Ctrl-C ends it.

  webhooks  http://{ingress}/webhooks/<source>
  console   http://{console}/login?once={code}
            (logs in once; later with the token: {})
  api       http://{console}/api/v1  (the same token)
  metrics   http://{}/metrics

Post an order yourself:

  curl -X POST 'http://{ingress}/webhooks/gestao-online?token={}' -H 'content-type: application/json' \\
    -d '{{\"event_id\": \"ORDER_CREATED\", \"data\": {{\"code\": \"0000700001\", \"status\": 1}}}}'

Then, in another terminal:

  {program} --config {file} receivables list
  {program} --config {file} events list
  {program} --config {file} documents list
  {program} --config {file} simulate --count 1000
",
            self.file.with_file_name("data").join("token").display(),
            running.operations,
            self.token,
        )
    }
}

/// Where the demo takes webhooks, where it can.
const INGRESS: &str = "127.0.0.1:8080";

/// Where its administration API is, where it can be.
const CONSOLE: &str = "127.0.0.1:8081";

/// Where its metrics are, where they can be.
const OPERATIONS: &str = "127.0.0.1:8082";

fn configuration(path: &Path, token: &str, ports: [SocketAddr; 3], apis: SocketAddr) -> String {
    let [ingress, console, operations] = ports;
    let mut secrets = std::iter::repeat_with(random_hex);
    let mut secret = || secrets.next().unwrap_or_default();
    let data = toml::Value::from(path.join("data").display().to_string());
    format!(
        r#"# Made by `malote demo`.
data.dir = {data}
ingress.listen = "{ingress}"
console.listen = "{console}"
operations.listen = "{operations}"
log.filter = "warn"
log.format = "text"
# The demo plays the APIs of the providers itself.
outbound.allow = ["127.0.0.1"]

[[sources]]
name = "mercado-eletronico"
provider = "mercado-eletronico"
auth.basic = {{ username = "malote", passwords = ["{}"] }}
auth.hmac = {{ header = "x-me-webhook-signature", algorithm = "sha256", encoding = "base64", secrets = ["{}"] }}
api = {{ base_url = "http://{apis}", client_id = "malote", client_secret = "{}" }}

[[sources]]
name = "gestao-online"
provider = "gestao-online"
auth.query = {{ name = "token", secrets = ["{token}"] }}
api = {{ base_url = "http://{apis}", headers = {{ x-api-key = "{}" }} }}

[[sources]]
name = "recuperador"
provider = "recuperador"
auth.query = {{ name = "token", secrets = ["{}"] }}
auth.networks = ["127.0.0.0/8", "::1"]

[[sources]]
name = "beneficio-visao"
provider = "beneficio-visao"
auth.header = {{ name = "x-api-key", secrets = ["{}"] }}
api = {{ base_url = "http://{apis}" }}
"#,
        secret(),
        secret(),
        secret(),
        secret(),
        secret(),
        secret(),
    )
}

/// The address if it is free, else one with a port that is.
fn port(wanted: &str) -> Result<SocketAddr> {
    let listener = TcpListener::bind(wanted).or_else(|_| TcpListener::bind("127.0.0.1:0"));
    listener.and_then(|listener| listener.local_addr()).context("no port is free")
}

fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(file)?.write_all(text.as_bytes())
}
