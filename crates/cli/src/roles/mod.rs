//! The roles of a process: opens broker and store, starts the requested roles, and stops them in order.
//!
//! Promises that ports answer while the broker or the database is down, and readiness shows what is missing; and that a
//! stop loses nothing: first the ingress finishes its requests, then the consumers their batches, then broker and store
//! close. Knows no HTTP and no domain beyond its row in [`domains`].

mod console;
mod consumers;
mod disk;
mod documents;
mod follow;
mod ingress;
mod keys;
mod log_queue;
mod polls;
mod ports;
mod preparation;
mod reread;
mod rotation;
mod run;
mod running;
mod shared;
pub mod signals;
mod subscriptions;
pub mod telemetry;
mod welcome;

use std::path::PathBuf;

use anyhow::{Result, bail};
use consumer::Domain;

use crate::config::Config;
use crate::data_dir;
use crate::installation;
use crate::registry;

pub use log_queue::flush as flush_log;
pub use run::run;
pub use running::Running;

/// The roles of a process.
#[derive(Clone, Copy, Default)]
pub struct Roles {
    /// Receives webhooks.
    pub ingress: bool,
    /// Records every event.
    pub ledger: bool,
    /// Runs these consumers.
    pub domains: &'static [&'static Domain],
    /// Serves the administration API.
    pub console: bool,
    /// Delivers push subscriptions, and keeps the queues of others.
    pub subscriptions: bool,
    /// Fetches documents.
    pub documents: bool,
}

impl Roles {
    /// All roles.
    pub fn all() -> Self {
        Self {
            ingress: true,
            ledger: true,
            domains: registry::ALL,
            console: true,
            subscriptions: true,
            documents: true,
        }
    }

    fn is_all(self) -> bool {
        self.ingress
            && self.ledger
            && self.console
            && self.subscriptions
            && self.documents
            && self.domains.len() == registry::ALL.len()
    }

    fn has_store(self) -> bool {
        self.ledger || self.console || self.subscriptions || self.documents || !self.domains.is_empty()
    }

    /// Why these roles cannot run as a process of their own.
    fn check(self, config: &Config) -> Result<()> {
        if self.is_all() {
            return Ok(());
        }
        if config.is_embedded() {
            bail!(
                "the embedded broker serves one process: run all roles with `malote up`, or set broker.url to \
                 RabbitMQ and store.url to PostgreSQL"
            );
        }
        if self.has_store() && installation::is_store_a_file(config) {
            bail!(
                "a SQLite store serves one process: run all roles with `malote up`, or set store.url to PostgreSQL"
            );
        }
        if self.reads_bodies()
            && config.ingress.subject_key().is_none()
            && !data_dir::has_subject_key(&config.data.dir)
        {
            bail!(data_dir::missing_subject_key(&config.data.dir));
        }
        Ok(())
    }

    /// Whether these roles write or read the secrets of subscriptions.
    fn has_secrets(self) -> bool {
        self.console || self.subscriptions
    }

    /// The file of the key for the secrets of subscriptions: as configured, or in the data directory if that has to last anyway,
    /// because broker or store is in it. Elsewhere there is none, and subscriptions cannot be added.
    fn secrets_key_file(self, config: &Config) -> Option<PathBuf> {
        let configured = &config.secrets.key_file;
        match configured.as_os_str().is_empty() {
            _ if !self.has_secrets() => None,
            false => Some(configured.clone()),
            true => (config.is_embedded() || installation::is_store_a_file(config))
                .then(|| data_dir::secrets_key_file(&config.data.dir)),
        }
    }

    /// Whether these roles create subjects: the ingress from requests, the console from rejected bodies that it reads
    /// again.
    fn reads_bodies(self) -> bool {
        self.ingress || self.console
    }

    /// Whether these roles have files in the data directory.
    fn needs_data_dir(self, config: &Config) -> bool {
        config.is_embedded()
            || self.has_store() && installation::is_store_a_file(config)
            || self.reads_bodies() && config.ingress.subject_key().is_none()
            || self.ingress
                && config.ingress.spool.limit_bytes > 0
                && config.ingress.spool.file.as_os_str().is_empty()
            || self.console && config.console.token().is_none()
            || self.documents && config.documents.files_dir.as_os_str().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_parts;
    use crate::data_dir::DataDir;

    #[test]
    fn a_role_alone_needs_a_broker_and_a_store_that_can_be_shared() {
        let check = |text: &str, roles: Roles, expect: Option<&str>| {
            let config = load_parts("", text, []).unwrap().0;
            let printed = roles.check(&config).err().map(|error| error.to_string());
            match expect {
                None => assert_eq!(printed, None),
                Some(expect) => {
                    assert!(printed.as_ref().is_some_and(|printed| printed.contains(expect)), "{printed:?}")
                }
            }
        };
        let ingress = Roles { ingress: true, ..Roles::default() };
        let ledger = Roles { ledger: true, ..Roles::default() };
        let rabbitmq = "broker.url = \"amqps://rabbit\"\n";
        let key = format!("ingress.subject_key = \"{}\"\n", "0a".repeat(32));
        let both = format!("{rabbitmq}store.url = \"postgres://db/malote\"");
        check("", Roles::all(), None);
        check("", ingress, Some("the embedded broker serves one process"));
        check(&format!("{rabbitmq}{key}"), ingress, None);
        check(rabbitmq, ledger, Some("a SQLite store serves one process"));
        check(&both, ledger, None);
    }

    #[test]
    fn a_role_that_needs_the_same_key_as_others_makes_none_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "data.dir = {:?}\nbroker.url = \"amqps://rabbit\"\nstore.url = \"postgres://db/malote\"\n",
            folder.path()
        );
        let check = |text: &str, roles: Roles| {
            let config = load_parts("", text, []).unwrap().0;
            roles.check(&config).map_err(|error| error.to_string())
        };
        let ingress = Roles { ingress: true, ..Roles::default() };
        let console = Roles { console: true, ..Roles::default() };
        for roles in [ingress, console] {
            let printed = check(&text, roles).unwrap_err();
            assert!(
                printed.contains("ingress.subject_key") && printed.contains("openssl rand -hex 32"),
                "{printed}"
            );
            check(&format!("{text}ingress.subject_key = \"{}\"", "0a".repeat(32)), roles).unwrap();
        }
        // A process with all roles may create its own secrets, and reuses those that it created before.
        check(&text, Roles::all()).unwrap();
        DataDir::open(folder.path()).unwrap().subject_key().unwrap();
        check(&text, ingress).unwrap();
        check(&text, console).unwrap();
    }

    #[test]
    fn the_key_of_secrets_is_made_only_where_it_lasts() {
        let check = |text: &str, roles: Roles, expect: Option<&str>| {
            let config = load_parts("", &format!("data.dir = \"/data\"\n{text}"), []).unwrap().0;
            assert_eq!(roles.secrets_key_file(&config), expect.map(PathBuf::from), "{text}");
        };
        let scaled = "broker.url = \"amqps://rabbit\"\nstore.url = \"postgres://db/malote\"\n";
        let console = Roles { console: true, ..Roles::default() };
        check("", Roles::all(), Some("/data/secrets-key"));
        check("store.url = \"postgres://db/malote\"", Roles::all(), Some("/data/secrets-key"));
        // The data directory of a container may be another one after each start.
        check(scaled, Roles::all(), None);
        check(scaled, console, None);
        check(&format!("{scaled}secrets.key_file = \"/key\""), console, Some("/key"));
        check("secrets.key_file = \"/key\"", Roles { ingress: true, ..Roles::default() }, None);
    }
}
