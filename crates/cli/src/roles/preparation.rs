//! The preparation before anything can be handled: topology and tables.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use broker::spool::Spool;
use broker::{BrokerError, DynBroker, Topology};
use server::ComponentHealth;
use store::{Store, StoreError};
use subscriptions::queue::Queues;
use subscriptions::{Seal, SubscriptionError};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::keys::KeyCheck;
use super::shared::Shared;
use crate::installation;
use crate::report::chain;

/// How often broker and store are checked for readiness.
const CHECK_PERIOD: Duration = Duration::from_secs(5);

/// The pause after the first failed attempt to prepare broker or store; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two attempts to prepare broker or store.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Prepares broker and store, signals it, and updates readiness until the process stops. An error that ends the process
/// goes to `fatal`.
pub(super) async fn keep(
    preparation: Preparation,
    prepared: CancellationToken,
    stop: CancellationToken,
    fatal: mpsc::Sender<anyhow::Error>,
) {
    match stop.run_until_cancelled(preparation.run()).await {
        Some(Ok(watched)) => {
            prepared.cancel();
            stop.run_until_cancelled(watched.watch()).await;
        }
        // The receiver is dropped only when the process ends anyway.
        Some(Err(error)) => drop(fatal.send(error).await),
        None => {}
    }
}

/// What must be prepared before anything can be handled.
pub(super) struct Preparation {
    broker: DynBroker,
    topology: Topology,
    broker_health: ComponentHealth,
    spool: Option<Spool>,
    store: Option<PreparedStore>,
    queues: Option<Queues>,
    migrated: CancellationToken,
    keys: Vec<KeyCheck>,
    seal: Arc<Seal>,
}

/// A store, and how it is.
struct PreparedStore {
    store: Store,
    /// Until its tables exist no role is ready, nor is an ingress beside the others: a client of a ready process finds them.
    before: ComponentHealth,
    /// Afterwards.
    health: ComponentHealth,
}

impl Preparation {
    /// The needs of these roles. What waits in the spool may be accepted once the topology is complete.
    pub(super) fn new(shared: &Shared<'_>, spool: Option<Spool>, keys: Vec<KeyCheck>) -> Self {
        Self {
            broker: shared.broker.clone(),
            topology: installation::topology(shared.config),
            broker_health: shared.component("broker", spool.is_some()),
            spool,
            store: shared.store.clone().map(|store| PreparedStore {
                store,
                before: shared.component("store", false),
                health: shared.component("store", shared.roles.ingress),
            }),
            queues: shared.queues.clone(),
            migrated: shared.migrated.clone(),
            keys,
            seal: Arc::clone(&shared.seal),
        }
    }

    /// Declares the topology and migrates the tables, and waits without limit while broker or database is down. Returns
    /// only errors that waiting does not fix.
    async fn run(self) -> Result<Self> {
        tokio::try_join!(self.declare(), self.migrate())?;
        self.restore().await;
        info!("broker and store are prepared");
        Ok(self)
    }

    async fn declare(&self) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.broker.declare(&self.topology).await {
                Ok(()) => break self.broker_health.up(),
                Err(error @ BrokerError::Unavailable(_)) => self.broker_health.down(chain(&error)),
                Err(error) => {
                    return Err(anyhow::Error::new(error).context("the topology cannot be declared"));
                }
            }
            wait(&mut pause).await;
        }
        Ok(())
    }

    /// Declares the queues of subscriptions: the broker may be a new one. What fails is tried again while the process runs.
    async fn restore(&self) {
        let Some(queues) = &self.queues else { return };
        if let Err(error) = queues.restore().await {
            warn!("the queues of subscriptions are not declared yet: {}", chain(&error));
        }
    }

    async fn migrate(&self) -> Result<()> {
        let Some(PreparedStore { store, before, .. }) = &self.store else { return Ok(()) };
        let mut pause = FIRST_PAUSE;
        loop {
            let prepared = async {
                store.migrate(&installation::components()).await?;
                ledger::feed::prepare(store).await?;
                for key in &self.keys {
                    if let Err(wrong_key) = key.run(store).await? {
                        return Ok(Err(wrong_key.into()));
                    }
                }
                self.seal_again(store).await
            };
            match prepared.await {
                Ok(Err(error)) => return Err(error),
                Ok(Ok(())) => {
                    self.migrated.cancel();
                    break before.up();
                }
                Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict(_))) => {
                    before.down(chain(&error))
                }
                Err(error) => return Err(anyhow::Error::new(error).context("the store cannot be used")),
            }
            wait(&mut pause).await;
        }
        Ok(())
    }

    /// Where the key of secrets was replaced, encrypts them with the new one.
    async fn seal_again(&self, store: &Store) -> Result<Result<()>, StoreError> {
        if self.seal.fingerprints().count() < 2 {
            return Ok(Ok(()));
        }
        match subscriptions::seal_again(store, &self.seal).await {
            Ok(count) => {
                info!(count, "secrets are encrypted with the new key: remove secrets.replaced_key_file");
                Ok(Ok(()))
            }
            Err(SubscriptionError::Store(error)) => Err(error),
            Err(error) => Ok(Err(error).context("with the key of secrets.key_file")),
        }
    }

    /// Checks the broker. Deleted parts of the topology are declared again.
    async fn look_at_broker(&self) -> Result<(), BrokerError> {
        self.broker.check().await?;
        let queues: Vec<_> = self.topology.queues.iter().map(|queue| queue.name.clone()).collect();
        match self.broker.queues(&queues).await {
            Err(BrokerError::MissingQueue { queue }) => {
                warn!(%queue, "a queue is gone: the topology is declared again");
                self.broker.declare(&self.topology).await?;
                self.spool.iter().for_each(Spool::try_again);
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Updates readiness.
    async fn watch(self) {
        loop {
            sleep(CHECK_PERIOD).await;
            match self.look_at_broker().await {
                Ok(()) => self.broker_health.up(),
                Err(error) => self.broker_health.down(chain(&error)),
            }
            if let Some(PreparedStore { store, health, .. }) = &self.store {
                match store.check().await {
                    Ok(_) => health.up(),
                    Err(error) => health.down(chain(&error)),
                }
            }
        }
    }
}

async fn wait(pause: &mut Duration) {
    sleep(*pause).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}
