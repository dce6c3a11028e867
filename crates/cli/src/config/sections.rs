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

impl Section for server::Config {}

impl Section for ledger::Retention {}

impl Config {
    /// The provider of a source; its presence was checked when the configuration was read.
    pub fn provider(&self, name: &ProviderName) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.name() == name)
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
