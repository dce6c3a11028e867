//! The sections of the configuration: one line for each.

use std::path::PathBuf;

use event::{ProviderName, Zone};
use providers::Provider;
use serde::Deserialize;
use serde_json::Value;

use super::broker::{Broker, BrokerUrl};
use super::check::{Gathered, MOST_BYTES, Mistake, Section, out_of_range};
use super::console::Console;
use super::ingress::Ingress;
use super::log::Log;
use super::senders::{Senders, Source};
use super::telemetry::Telemetry;

macro_rules! sections {
    ($($(#[$about:meta])* $name:ident: $section:ty,)*) => {
        /// The whole configuration.
        #[derive(Clone, Debug)]
        pub struct Config {
            $($(#[$about])* pub $name: $section,)*
            /// The built-in providers and those of `[[providers]]`.
            pub providers: Vec<Provider>,
            /// `[[sources]]`
            pub sources: Vec<Source>,
            /// The files that secrets were read from.
            pub secret_files: Vec<PathBuf>,
            /// Those whose secrets a running process can reload.
            pub reloadable_files: Vec<PathBuf>,
        }

        /// The names of all sections, in the order of the reference.
        pub(super) const NAMES: &[&str] = &[$(stringify!($name),)* "providers", "sources"];

        impl Config {
            /// Reads every section; `None` if one cannot be read, which is reported as a mistake.
            pub(super) fn read(tree: &Value, default: &Value, gathered: &mut Gathered) -> Option<Self> {
                $(let $name = gathered.section::<$section>(tree, default, stringify!($name));)*
                let senders = Senders::read(tree, gathered);
                // All are read before a missing one ends the function.
                $(let $name = $name?;)*
                $(gathered.add_within(stringify!($name), $name.mistakes());)*
                let (providers, sources) = senders.checked(gathered);
                let (secret_files, reloadable_files) = (Vec::new(), Vec::new());
                Some(Self { $($name,)* providers, sources, secret_files, reloadable_files })
            }
        }
    };
}

sections! {
    /// `[data]`
    data: Data,
    /// `[time]`
    time: Time,
    /// `[broker]`
    broker: Broker,
    /// `[store]`
    store: store::Config,
    /// `[ingress]`
    ingress: Ingress,
    /// `[console]`
    console: Console,
    /// `[operations]`
    operations: server::Config,
    /// `[consumer]`
    consumer: consumer::Config,
    /// `[ledger]`, without the overrides of sources: see [`Config::retention`].
    ledger: ledger::Retention,
    /// `[outbound]`
    outbound: outbound::Config,
    /// `[secrets]`
    secrets: SecretsKey,
    /// `[subscriptions]`
    subscriptions: subscriptions::Config,
    /// `[documents]`
    documents: documents::Config,
    /// `[log]`
    log: Log,
    /// `[telemetry]`
    telemetry: Telemetry,
}

/// The location of malote's files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The data directory.
    pub dir: PathBuf,
    /// How many bytes must stay free on the disks that events are stored on.
    pub disk_free_limit_bytes: u64,
}

impl Section for Data {
    fn mistakes(&self) -> Vec<Mistake> {
        // 0 turns it off.
        out_of_range(&[("disk_free_limit_bytes", self.disk_free_limit_bytes.max(1), MOST_BYTES)])
    }
}

/// The time zone of days.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// The time zone.
    pub zone: Zone,
}

impl Section for Time {}

/// The key that secrets are encrypted with in the store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsKey {
    /// The file of the key; empty for one in the data directory.
    pub key_file: PathBuf,
    /// The file of the key that it replaces; empty if there is none.
    pub replaced_key_file: PathBuf,
}

impl Section for SecretsKey {}

/// The most messages that a threshold may have.
const MOST_MESSAGES: u64 = 1_000_000_000;

impl Section for server::Config {}

impl Section for ledger::Retention {}

impl Section for subscriptions::Config {
    fn mistakes(&self) -> Vec<Mistake> {
        let days = u64::from(self.keep_attempts_days);
        // 0 turns the wait off.
        out_of_range(&[
            ("order_wait_ms", self.order_wait_ms.max(1), 60_000),
            ("pause_after_s", self.pause_after_s, 365 * 86_400),
            ("keep_attempts_days", days, 3_650),
            ("queue_alarm_messages", self.queue_alarm_messages, MOST_MESSAGES),
        ])
    }
}

impl Section for documents::Config {
    fn mistakes(&self) -> Vec<Mistake> {
        out_of_range(&[
            ("timeout_ms", self.timeout_ms, 600_000),
            ("concurrency", u64::from(self.concurrency), 64),
            ("document_limit_bytes", self.document_limit_bytes, 16 << 20),
            ("file_limit_bytes", self.file_limit_bytes, 256 << 20),
            // 0: forever.
            ("keep_days", u64::from(self.keep_days).max(1), 36_500),
        ])
    }
}

impl Config {
    /// The provider of a source; its presence was checked when the configuration was read.
    pub fn provider(&self, name: &ProviderName) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.name() == name)
    }

    /// Whether a source has certificates that the port of the ingress checks itself.
    pub fn asks_for_client_certificates(&self) -> bool {
        let required = self.sources.iter().filter_map(|source| source.auth.client_certificate());
        required.into_iter().any(|required| required.authorities.is_some())
    }

    /// Whether the broker is in this process, so that no other process can share it.
    pub fn is_embedded(&self) -> bool {
        matches!(self.broker.url, BrokerUrl::Embedded)
    }

    /// How long events are kept, with the overrides of the sources.
    pub fn retention(&self) -> ledger::Retention {
        let own = |source: &Source| Some((source.name.clone(), source.keep_days?));
        ledger::Retention {
            sources: self.sources.iter().filter_map(own).collect(),
            zone: self.time.zone.clone(),
            ..self.ledger.clone()
        }
    }
}
