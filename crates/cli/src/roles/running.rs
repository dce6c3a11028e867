//! Running roles: their start, their end, and what ends them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use broker::{DiskAlarm, DynBroker};
use providers::SubjectKey;
use providers::auth::Secret;
use server::{Health, Operations, Server};
use store::Store;
use subscriptions::Seal;
use subscriptions::queue::Queues;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::keys::KeyCheck;
use super::ports::Ports;
use super::preparation::{self, Preparation};
use super::rotation::Rotation;
use super::shared::{Shared, Tasks};
use super::telemetry::{Telemetry, VERSION};
use super::{Roles, console, consumers, documents, ingress, polls};
use crate::config::Config;
use crate::data_dir::{self, DataDir};
use crate::installation;

/// How long a start waits for broker and store before the ports answer anyway.
const START_PATIENCE: Duration = Duration::from_secs(1);

/// Running roles.
pub struct Running {
    /// The address of the ingress.
    pub ingress: Option<SocketAddr>,
    /// The address of the administration API.
    pub console: Option<SocketAddr>,
    /// The address of readiness and metrics.
    pub operations: SocketAddr,
    /// The token of the administration API.
    pub token: Option<Secret>,
    /// What can be reloaded.
    pub rotation: Rotation,
    broker: DynBroker,
    store: Option<Store>,
    accepting: CancellationToken,
    working: CancellationToken,
    tasks: Tasks,
    fatal: mpsc::Receiver<anyhow::Error>,
}

impl Running {
    /// Starts the roles. After an error none is running.
    pub async fn start(config: &Config, roles: Roles, telemetry: &Telemetry) -> Result<Self> {
        roles.check(config)?;
        server::raise_descriptor_limit();
        // Ports first: a start without its port must not touch anything else.
        let ports = Ports::bind(config, roles).await?;
        let Secrets { token, key, seal, seal_file } = secrets(config, roles)?;
        let broker = installation::open_broker(config)?;
        let store = if roles.has_store() { Some(installation::open_store(config)?) } else { None };
        let queues = queues(config, roles, &broker, store.as_ref())?;
        let disk = DiskAlarm::default();
        let spool =
            if roles.ingress { installation::open_spool(config, &broker, &disk).await? } else { None };
        let health = Health::default();
        let shared = Shared {
            config,
            roles,
            broker,
            store,
            layout: installation::layout(config),
            seal: Arc::new(seal),
            queues,
            operations: Operations::new(health.clone(), telemetry.render(), VERSION),
            health,
            prepared: CancellationToken::new(),
            migrated: CancellationToken::new(),
            accepting: CancellationToken::new(),
            working: CancellationToken::new(),
        };
        let (report_fatal, fatal) = mpsc::channel(1);
        let mut running = Self {
            ingress: ports.ingress.as_ref().map(Server::local_addr),
            console: ports.console.as_ref().map(Server::local_addr),
            operations: ports.operations.local_addr(),
            token: token.clone(),
            rotation: Rotation {
                certificates: ports.certificates(),
                store: shared.store.clone(),
                ..Rotation::default()
            },
            broker: shared.broker.clone(),
            store: shared.store.clone(),
            accepting: shared.accepting.clone(),
            working: shared.working.clone(),
            tasks: Tasks::default(),
            fatal,
        };
        let key_checks = [
            KeyCheck::subject_key(config, roles, key.as_ref()),
            seal_file.and_then(|file| KeyCheck::secrets_key(roles, &shared.seal, file)),
        ];
        let spool_handle = spool.as_ref().map(|(spool, _)| spool.clone());
        let preparation = Preparation::new(&shared, spool_handle, key_checks.into_iter().flatten().collect());
        let (prepared, stop) = (shared.prepared.clone(), shared.working.clone());
        running.tasks.others.spawn(preparation::keep(preparation, prepared, stop, report_fatal));
        tokio::select! {
            _ = timeout(START_PATIENCE, shared.prepared.cancelled()) => {}
            Some(error) = running.fatal.recv() => {
                running.stop().await;
                return Err(error);
            }
        }
        if let (Some(port), Some(key)) = (ports.ingress, key.clone()) {
            let parts = ingress::Parts { port, key, spool, disk };
            running.rotation.ingress = Some(ingress::start(&shared, parts, &mut running.tasks)?);
        }
        let store = shared.store.clone();
        running.rotation.polls =
            polls::start(&shared, key.clone(), running.rotation.ingress.clone(), &mut running.tasks)?;
        if let (Some(port), Some(token), Some(key), Some(store), Some(queues)) =
            (ports.console, token, key, store.clone(), shared.queues.clone())
        {
            let parts = console::Parts { port, token, key, store, queues };
            running.rotation.token = Some(console::start(&shared, parts, &mut running.tasks));
        }
        let served = ports.operations.serve_operations(shared.operations.clone(), shared.working.clone());
        running.tasks.others.spawn(served);
        running.start_followers(&shared, store);
        Ok(running)
    }

    /// Starts what follows the record or reads queues.
    fn start_followers(&mut self, shared: &Shared<'_>, store: Option<Store>) {
        let Some(store) = store else { return };
        super::subscriptions::start(shared, store.clone(), &mut self.tasks);
        self.rotation.documents = documents::start(shared, store.clone(), &mut self.tasks);
        consumers::start(shared, store, &mut self.tasks);
    }

    /// Waits for an error that ends the process, forever if none occurs. No task ends on its own: if one does, a part
    /// of the process has failed.
    pub async fn failed(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            Some(error) = self.fatal.recv() => return error,
            Some(ended) = self.tasks.others.join_next() => ended,
            Some(ended) = self.tasks.requests.join_next() => ended,
            else => Ok(()),
        };
        match (self.fatal.try_recv(), ended) {
            (Ok(error), _) => error,
            (Err(_), Ok(())) => anyhow::anyhow!("a task of this process has ended before its time"),
            // What a panic says may quote a body, and so does the error.
            (Err(_), Err(error)) if error.is_panic() => {
                anyhow::anyhow!("a task of this process panicked: the log has the place")
            }
            (Err(_), Err(_)) => anyhow::anyhow!("a task of this process was cancelled"),
        }
    }

    /// Stops accepting, finishes what is in progress, and closes.
    pub async fn stop(mut self) {
        self.accepting.cancel();
        while self.tasks.requests.join_next().await.is_some() {}
        self.working.cancel();
        while self.tasks.others.join_next().await.is_some() {}
        self.broker.close().await;
        if let Some(store) = &self.store {
            store.close().await;
        }
    }
}

/// What a process has to keep to itself, if its roles need it: as configured, else from the data directory.
struct Secrets {
    /// That of the console.
    token: Option<Secret>,
    /// The subject key.
    key: Option<SubjectKey>,
    /// What encrypts the secrets of subscriptions.
    seal: Seal,
    /// The file of its key, if there is one.
    seal_file: Option<PathBuf>,
}

/// The queues of subscriptions, if one of the roles manages them.
fn queues(
    config: &Config,
    roles: Roles,
    broker: &DynBroker,
    store: Option<&Store>,
) -> Result<Option<Queues>> {
    let queues = |store: &Store| installation::queues(config, broker.clone(), store.clone());
    store.filter(|_| roles.console || roles.subscriptions).map(queues).transpose()
}

fn secrets(config: &Config, roles: Roles) -> Result<Secrets> {
    let data_dir = match roles.needs_data_dir(config) {
        true => Some(DataDir::open(&config.data.dir)?),
        false => None,
    };
    let made = |what: &str| data_dir.as_ref().with_context(|| format!("{what} needs a data directory"));
    let token = match config.console.token() {
        _ if !roles.console => None,
        Some(token) => Some(token.clone()),
        None => Some(made("the token")?.token()?),
    };
    let key = match config.ingress.subject_key() {
        _ if !roles.reads_bodies() => None,
        Some(key) => Some(key),
        None => {
            if !config.is_embedded() {
                warn!(
                    "ingress.subject_key is not set: an ingress or a console beside this one needs the key in {}",
                    data_dir::subject_key_file(&config.data.dir).display()
                );
            }
            Some(made("the key of subjects")?.subject_key()?)
        }
    };
    let seal_file = roles.secrets_key_file(config);
    let mut seal = Seal::without_key();
    if let Some(file) = &seal_file {
        seal = Seal::new(&data_dir::secrets_key(file)?);
        if !config.secrets.replaced_key_file.as_os_str().is_empty() {
            seal = seal.with_replaced(&data_dir::replaced_secrets_key(&config.secrets.replaced_key_file)?);
        }
    }
    Ok(Secrets { token, key, seal, seal_file })
}
