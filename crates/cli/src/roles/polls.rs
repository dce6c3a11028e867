//! Polling the APIs of senders, beside the administration API: like jobs, it needs the store, where the leases are, and the
//! broker.
//!
//! What is polled goes through the ingress of this process. A console of its own makes one without a port, whose counts are
//! reported to the ledger like those of any other.

use anyhow::{Context, Result};
use broker::DiskAlarm;
use ingress::Ingress;
use outbound::Client;
use polling::{BadPoll, Polled, Poller};
use providers::SubjectKey;
use store::Store;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::warn;

use super::shared::{Shared, Tasks};
use crate::config::Config;
use crate::report::chain;

/// How long to wait until the sources are registered again, after the store did not take them.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(2);

/// What changes the credentials of the sources that a process polls.
pub struct Polls {
    sources: watch::Sender<Vec<Polled>>,
    client: Client,
}

impl Polls {
    /// Polls with the credentials of this configuration from now on. A source whose credentials are the same keeps its access token,
    /// others drop theirs; one that is missing is not polled.
    pub fn rotate(&self, config: &Config) -> Result<(), BadPoll> {
        let sources = polled(config, &self.client, &self.sources.borrow())?;
        self.sources.send_replace(sources);
        Ok(())
    }
}

/// Starts it if the process has the administration API; it waits until broker and store are prepared. Gives what changes the
/// credentials, if anything is polled.
pub(super) fn start(
    shared: &Shared<'_>,
    key: Option<SubjectKey>,
    ingress: Option<Ingress>,
    tasks: &mut Tasks,
) -> Result<Option<Polls>> {
    let (true, Some(store), Some(key)) = (shared.roles.console, shared.store.clone(), key) else {
        return Ok(None);
    };
    let config = shared.config;
    let client = Client::new(&config.outbound);
    let sources = polled(config, &client, &[]).context("a source cannot be polled")?;
    let (poller, polls) = match sources.is_empty() {
        true => (None, None),
        false => {
            let ingress = match ingress {
                Some(ingress) => ingress,
                None => without_port(shared, key, tasks)?,
            };
            let (changes, sources) = watch::channel(sources);
            let polls = Polls { sources: changes, client: client.clone() };
            (Some(Poller { store: store.clone(), ingress, client, sources }), Some(polls))
        }
    };
    let (config, stop) = (config.clone(), shared.accepting.clone());
    let (migrated, prepared) = (shared.migrated.clone(), shared.prepared.clone());
    // Ends with the requests of the ingress: before what it publishes to closes.
    tasks.requests.spawn(async move {
        let work = async {
            migrated.cancelled().await;
            register(&config, &store).await;
            prepared.cancelled().await;
        };
        if let (Some(()), Some(poller)) = (stop.run_until_cancelled(work).await, poller) {
            poller.run(stop.clone()).await;
        }
        stop.cancelled().await;
    });
    Ok(polls)
}

/// An ingress for what is polled alone.
fn without_port(shared: &Shared<'_>, key: SubjectKey, tasks: &mut Tasks) -> Result<Ingress> {
    let config = shared.config;
    let ingress = Ingress::new(
        super::ingress::sources(config)?,
        shared.broker.clone(),
        shared.layout.clone(),
        key,
        config.time.zone.clone(),
        config.ingress.config(),
        DiskAlarm::default(),
    );
    tasks.others.spawn(ingress.clone().report(shared.working.clone()));
    Ok(ingress)
}

/// The sources that are polled: the earlier ones (`before`) whose credentials are the same, and new ones.
fn polled(config: &Config, client: &Client, before: &[Polled]) -> Result<Vec<Polled>, BadPoll> {
    let polled = config.sources.iter().filter_map(|source| {
        let poll = source.poll.as_ref()?;
        let provider = config.provider(&source.provider)?;
        let same = before.iter().find(|one| *one.source() == source.name && one.has_auth(poll));
        let new = || Polled::new(source.name.clone(), provider, poll, client);
        Some(same.cloned().map_or_else(new, Ok))
    });
    polled.collect()
}

async fn register(config: &Config, store: &Store) {
    let mut sources = Vec::new();
    for source in &config.sources {
        // Checked with the configuration.
        let Some(provider) = config.provider(&source.provider) else { continue };
        sources.push((&source.name, provider, source.poll.as_ref()));
    }
    while let Err(error) = polling::register(store, &sources).await {
        warn!("the sources are not registered yet: {}", chain(&error));
        sleep(PAUSE).await;
    }
}
