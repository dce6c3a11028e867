//! What an operator sets: every section as a parsed value.
//!
//! [`load`] reads the embedded defaults, the file and the environment, in this order, and either gives a [`Config`]
//! without any mistake or every mistake at once. Nothing else in malote reads a file of settings or the environment.
//! Secrets are values that cannot be printed.

mod changes;
mod check;
mod environment;
mod files;
mod management_url;
mod read;
mod warnings;

use std::path::PathBuf;
use std::str::FromStr;

use broker_rabbitmq::AmqpUrl;
use event::{ProviderName, SourceName, Zone};
use providers::auth::{Auth, Secret};
use providers::{Duplicates, Provider, SubjectKey, generic};
use serde::Deserialize;

pub use changes::{needs_restart, sources};
pub use check::{Mistake, Mistakes};
pub use files::Needed;
pub use management_url::ManagementUrl;
pub use read::{DEFAULT_FILE, Loaded, load, load_parts, resolved, shown};
pub(crate) use read::{is_token, parse_subject_key};
pub use warnings::warnings;

/// The commented defaults: also the reference of every setting.
pub const DEFAULT: &str = include_str!("default.toml");

/// Everything an operator sets.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[data]`
    pub data: Data,
    /// `time.zone`
    pub zone: Zone,
    /// `[broker]`
    pub broker: Broker,
    /// `[store]`
    pub store: store::Config,
    /// `[ingress]`
    pub ingress: ingress::Config,
    /// `[ingress.spool]`
    pub spool: SpoolSection,
    /// `ingress.subject_key`; without it, the data directory's.
    pub subject_key: Option<SubjectKey>,
    /// `[console]`
    pub console: server::Config,
    /// `console.token`; without it, the data directory's.
    pub console_token: Option<Secret>,
    /// `[operations]`
    pub operations: server::Config,
    /// `[consumer]`
    pub consumer: consumer::Config,
    /// `[ledger]`, with the sources' own.
    pub retention: ledger::Retention,
    /// `[log]`
    pub log: Log,
    /// `[telemetry]`
    pub telemetry: Telemetry,
    /// The built-in providers and those of `[[providers]]`.
    pub providers: Vec<Provider>,
    /// `[[sources]]`
    pub sources: Vec<Source>,
    /// The files that secrets were read from.
    pub secret_files: Vec<PathBuf>,
    /// Those of them whose secrets a running process can replace.
    pub reloadable_files: Vec<PathBuf>,
}

/// Where malote keeps its files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The data directory.
    pub dir: PathBuf,
    /// How many bytes have to stay free on the disk of the files that events are stored in.
    pub disk_free_limit_bytes: u64,
}

/// Whose days count.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// The time zone.
    pub zone: Zone,
}

/// Which broker, and under which names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Where it is.
    pub url: BrokerUrl,
    /// The file that the password of the URL was read from. Every new connection reads it again.
    #[serde(skip)]
    pub password_file: Option<PathBuf>,
    /// Allows RabbitMQ over the network without TLS.
    pub insecure: bool,
    /// What TLS to RabbitMQ is spoken with.
    #[serde(default)]
    pub tls: broker_rabbitmq::ClientTls,
    /// Stands before every name.
    pub prefix: String,
    /// Where RabbitMQ's management API is, if it may be asked.
    pub management_url: ManagementUrl,
    /// How long a host may take to be connected to.
    pub connection_timeout_ms: u64,
    /// How long a publish may take.
    pub confirm_timeout_ms: u64,
    /// How many channels publish.
    pub channels: usize,
    /// How many publishes one channel has in flight.
    pub window: usize,
    /// How often either side proves to be there.
    pub heartbeat_s: u16,
}

impl Broker {
    /// The settings of RabbitMQ at this address.
    pub fn rabbitmq(&self, url: AmqpUrl) -> broker_rabbitmq::Config {
        broker_rabbitmq::Config {
            connection_timeout_ms: self.connection_timeout_ms,
            confirm_timeout_ms: self.confirm_timeout_ms,
            channels: self.channels,
            window: self.window,
            heartbeat_s: self.heartbeat_s,
            tls: self.tls.clone(),
            password_file: self.password_file.clone(),
            ..broker_rabbitmq::Config::new(url)
        }
    }
}

/// Where the broker is.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum BrokerUrl {
    /// In this process, with its file in the data directory.
    Embedded,
    /// RabbitMQ.
    Amqp(AmqpUrl),
}

impl TryFrom<String> for BrokerUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "embedded" => Ok(Self::Embedded),
            url => AmqpUrl::from_str(url).map(Self::Amqp).map_err(|error| {
                format!("{error}; allowed: \"embedded\" or \"amqp://user:password@host:5672/vhost\"")
            }),
        }
    }
}

/// How the log is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// What is written: a level, or levels of parts.
    pub filter: String,
    /// In which form.
    pub format: LogFormat,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One readable line for each.
    Text,
    /// One JSON object for each.
    Json,
}

/// Where spans go.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// The OTLP receiver's address; empty for none.
    pub otlp_endpoint: String,
}

/// One sender, as configuration gives it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name: the last part of its address.
    pub name: SourceName,
    /// The contract it keeps.
    pub provider: ProviderName,
    /// What it has to prove.
    pub auth: Auth,
    /// How it tells that it sends a fact again, where that is not as its provider does.
    #[serde(default)]
    pub duplicates: Option<DuplicatesRule>,
    /// How many days its events are kept, where that is not as `[ledger]` says.
    #[serde(default)]
    pub keep_days: Option<u32>,
    /// How much it may send.
    #[serde(default)]
    pub quota: ingress::Quota,
}

/// How a source tells that it sends a fact again.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub enum DuplicatesRule {
    /// It does not.
    Off,
    /// By this.
    By(Duplicates),
}

impl TryFrom<serde_json::Value> for DuplicatesRule {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        match value {
            serde_json::Value::String(word) if word == "none" => Ok(Self::Off),
            table @ serde_json::Value::Object(_) => {
                serde_json::from_value(table).map(Self::By).map_err(|error| error.to_string())
            }
            _ => {
                Err("expected \"none\", or a table such as { pointer = \"/id\", window_s = 86400 }"
                    .to_owned())
            }
        }
    }
}

/// `[console]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsoleSection {
    listen: std::net::SocketAddr,
    hosts: Vec<server::HostName>,
    token: Secret,
    #[serde(default)]
    limits: server::Limits,
    #[serde(default)]
    tls: Option<server::Tls>,
}

/// `[ingress]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IngressSection {
    listen: std::net::SocketAddr,
    hosts: Vec<server::HostName>,
    body_limit_bytes: usize,
    body_memory_bytes: Option<usize>,
    unproved_body_memory_bytes: Option<usize>,
    answer_timeout_ms: u64,
    source_requests: usize,
    trusted_proxies: Vec<ipnet::IpNet>,
    subject_key: Secret,
    spool: SpoolSection,
    #[serde(default)]
    limits: server::Limits,
    #[serde(default)]
    tls: Option<server::Tls>,
}

/// Where the ingress keeps what the broker does not take.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpoolSection {
    /// The file; empty for `spool.db` in the data directory.
    pub file: PathBuf,
    /// The most bytes that wait; 0 for no spool.
    pub limit_bytes: u64,
    /// How long the broker may take to confirm before an event goes to the spool.
    pub patience_ms: u64,
}

/// The tables of the file, each deserialised by itself so that a mistake in one hides none of another.
#[derive(Debug)]
pub(crate) struct Sections {
    data: Data,
    time: Time,
    broker: Broker,
    store: store::Config,
    ingress: IngressSection,
    console: ConsoleSection,
    operations: server::Config,
    consumer: consumer::Config,
    ledger: ledger::Retention,
    log: Log,
    telemetry: Telemetry,
    providers: Vec<(usize, generic::Config)>,
    sources: Vec<(usize, Source)>,
}

impl Config {
    /// The provider of a source; its presence was checked when the configuration was read.
    pub fn provider(&self, name: &ProviderName) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.name() == name)
    }

    /// Whether the broker is in this process, so that no other process can share it.
    pub fn is_embedded(&self) -> bool {
        matches!(self.broker.url, BrokerUrl::Embedded)
    }
}

#[cfg(test)]
mod tests;
