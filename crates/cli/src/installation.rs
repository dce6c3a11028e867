//! The broker and the store that a configuration names, and what is declared on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use broker::embedded::Embedded;
use broker::layout::WorkQueue;
use broker::spool::{self, Spool};
use broker::{DiskAlarm, DynBroker, Layout, Topology};
use broker_rabbitmq::RabbitMq;
use consumer::Bindings;
use event::ProviderName;
use store::{Component, Store};
use subscriptions::queue::{self, Queues};

use crate::config::{BrokerUrl, Config};
use crate::management::Management;
use crate::registry;

/// Opens the configured broker. RabbitMQ is connected to when first wanted; the embedded one is opened.
pub fn open_broker(config: &Config) -> Result<DynBroker> {
    Ok(match &config.broker.url {
        BrokerUrl::Embedded => {
            Arc::new(Embedded::open(broker_file(config)).context("the embedded broker does not open")?)
        }
        BrokerUrl::Amqp(url) => Arc::new(RabbitMq::connect(config.broker.rabbitmq(url.clone()))),
    })
}

/// The spool in front of the broker, where there is one, and the handle that it is drained through.
pub async fn open_spool(
    config: &Config,
    broker: &DynBroker,
    disk: &DiskAlarm,
) -> Result<Option<(Spool, DynBroker)>> {
    let BrokerUrl::Amqp(url) = &config.broker.url else { return Ok(None) };
    if config.ingress.spool.limit_bytes == 0 {
        return Ok(None);
    }
    let settings = spool::Config {
        file: spool_file(config),
        limit_bytes: config.ingress.spool.limit_bytes,
        patience: Duration::from_millis(config.ingress.spool.patience_ms),
        disk: disk.clone(),
    };
    let spool = Spool::open(settings, broker.clone()).await.context(
        "the spool does not open; ingresses on one machine each need their own ingress.spool.file",
    )?;
    // One channel keeps the order.
    let drain = broker_rabbitmq::Config {
        channels: 1,
        connection_name: "malote spool".to_owned(),
        ..config.broker.rabbitmq(url.clone())
    };
    Ok(Some((spool, Arc::new(RabbitMq::connect(drain)))))
}

/// The spool's file.
pub fn spool_file(config: &Config) -> PathBuf {
    match config.ingress.spool.file.as_os_str().is_empty() {
        true => config.data.dir.join("spool.db"),
        false => config.ingress.spool.file.clone(),
    }
}

/// The embedded broker's file.
pub fn broker_file(config: &Config) -> PathBuf {
    config.data.dir.join("broker.db")
}

/// Prepares the configured store, which is connected to when first wanted.
pub fn open_store(config: &Config) -> Result<Store> {
    Store::open(&config.store, &config.data.dir).context("the store does not open")
}

/// The store's file, where it is one.
pub fn store_file(config: &Config) -> Option<PathBuf> {
    match config.store.url.as_str() {
        "sqlite" => Some(config.data.dir.join("store.db")),
        url => url.strip_prefix("sqlite:").map(PathBuf::from),
    }
}

/// The folder of archived files.
pub fn files_dir(config: &Config) -> PathBuf {
    match config.documents.files_dir.as_os_str().is_empty() {
        true => config.data.dir.join("files"),
        false => config.documents.files_dir.clone(),
    }
}

/// The folders of the files in which an ingress stores events.
pub fn folders(config: &Config) -> Vec<PathBuf> {
    let file = match config.is_embedded() {
        true => Some(broker_file(config)),
        false => (config.ingress.spool.limit_bytes > 0).then(|| spool_file(config)),
    };
    let files = [file, store_file(config)].into_iter().flatten();
    let mut folders: Vec<_> = files.filter_map(|file| Some(folder(&file)?.to_owned())).collect();
    folders.dedup();
    folders
}

/// The folder of a file; for a bare name, the current one.
fn folder(file: &Path) -> Option<&Path> {
    file.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// Whether the store is a file, which serves one process.
pub fn is_store_a_file(config: &Config) -> bool {
    config.store.url.starts_with("sqlite")
}

/// The names in force.
pub fn layout(config: &Config) -> Layout {
    Layout::new(config.broker.prefix.as_str())
}

/// Everything that the configuration declares: for every provider and every consumer, whichever of them this process runs.
pub fn topology(config: &Config) -> Topology {
    topology_with(config, Vec::new())
}

/// The same, and the queues of subscriptions.
pub fn topology_with(config: &Config, subscriptions: Vec<WorkQueue>) -> Topology {
    let providers: Vec<ProviderName> =
        config.providers.iter().map(|provider| provider.name().clone()).collect();
    let consumers = registry::ALL.iter().map(|domain| domain.bindings.work_queue());
    let work: Vec<_> = consumers.chain(subscriptions).collect();
    layout(config).topology(&providers, &work)
}

/// The queues of subscriptions, which the store knows. With the embedded broker there are none, since nobody could read them.
pub async fn subscription_queues(config: &Config) -> Result<Vec<WorkQueue>> {
    // Opening a store that is a file would create it.
    if config.is_embedded() || store_file(config).is_some_and(|file| !file.exists()) {
        return Ok(Vec::new());
    }
    let store = open_store(config)?;
    let queues = queue::work_queues(&store).await;
    store.close().await;
    queues.context("the store does not say which subscriptions have a queue")
}

/// What makes, watches and removes the queues of subscriptions.
pub fn queues(config: &Config, broker: DynBroker, store: Store) -> Result<Queues> {
    let management = Management::configured(config)?;
    let management = management.map(|management| -> Arc<dyn queue::Management> { Arc::new(management) });
    Ok(Queues { store, broker, layout: layout(config), management, is_amqp: !config.is_embedded() })
}

/// What all our consumers read.
pub fn consumers() -> Vec<Bindings> {
    registry::ALL.iter().map(|domain| domain.bindings).collect()
}

/// The tables of every crate.
pub fn components() -> Vec<Component> {
    registry::ALL
        .iter()
        .map(|domain| domain.component)
        .chain([
            ledger::COMPONENT,
            subscriptions::COMPONENT,
            documents::COMPONENT,
            polling::COMPONENT,
            access::COMPONENT,
        ])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_folder_is_in_the_current_one() {
        assert_eq!(folder(Path::new("spool.db")), Some(Path::new(".")));
        assert_eq!(folder(Path::new("/data/spool.db")), Some(Path::new("/data")));
    }

    #[test]
    fn a_spool_that_is_off_needs_no_disk() {
        let check = |limit_bytes: u64, expect: &[&str]| {
            let text = format!(
                r#"
                broker.url = "amqp://127.0.0.1"
                store.url = "postgres://127.0.0.1/malote"
                ingress.spool = {{ file = "/spool/events.db", limit_bytes = {limit_bytes} }}
                "#
            );
            let config = crate::config::load_parts("", &text, []).unwrap().0;
            assert_eq!(folders(&config), expect.iter().map(PathBuf::from).collect::<Vec<_>>());
        };
        check(1 << 30, &["/spool"]);
        check(0, &[]);
    }
}
