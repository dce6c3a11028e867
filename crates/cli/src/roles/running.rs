//! Running roles: their start, their end, and what ends them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use broker::{DiskAlarm, DynBroker};
use providers::SubjectKey;
use providers::auth::Secret;
use server::{Health, Operations, Server};
use store::Store;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::ports::Ports;
use super::preparation::{self, Preparation};
use super::rotation::Rotation;
use super::shared::{Shared, Tasks};
use super::subject_key::KeyCheck;
use super::telemetry::{Telemetry, VERSION};
use super::{Roles, console, consumers, ingress};
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
        let (token, key) = secrets(config, roles)?;
        let broker = installation::open_broker(config)?;
        let store = if roles.has_store() { Some(installation::open_store(config)?) } else { None };
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
        let key_check = KeyCheck::new(config, roles, key.as_ref());
        let spool_handle = spool.as_ref().map(|(spool, _)| spool.clone());
        let preparation = Preparation::new(&shared, spool_handle, key_check);
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
        if let (Some(port), Some(token), Some(key), Some(store)) = (ports.console, token, key, store.clone())
        {
            let parts = console::Parts { port, token, key, store };
            running.rotation.token = Some(console::start(&shared, parts, &mut running.tasks));
        }
        let served = ports.operations.serve_operations(shared.operations.clone(), shared.working.clone());
        running.tasks.others.spawn(served);
        if let Some(store) = store {
            consumers::start(&shared, store, &mut running.tasks);
        }
        Ok(running)
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

/// The token of the console and the subject key, if these roles need them: as configured, else those of the data
/// directory.
fn secrets(config: &Config, roles: Roles) -> Result<(Option<Secret>, Option<SubjectKey>)> {
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
    Ok((token, key))
}
