//! The roles of a process: opens broker and store, starts what was asked for, and stops it in order.
//!
//! Promises that a port answers, with readiness saying what is missing, while the broker or the database is away; that
//! nothing is lost by a stop: the ingress finishes its requests first, then the consumers their batches, then broker
//! and store close. Knows no HTTP and no domain beyond its row in [`domains`](crate::domains).

mod disk;
mod log_queue;
mod reread;
mod rotation;
mod run;
pub mod signals;
pub mod telemetry;
mod welcome;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use broker::spool::{Spool, Standing};
use broker::{BrokerError, DiskAlarm, DynBroker, Publisher, Topology};
use console::{ConsoleState, Token};
use consumer::{Domain, Runtime, Status};
use ingress::Ingress;
use ledger::Retention;
use ledger::jobs::Runner;
use ledger::witness::{self, Kept, Witness};
use providers::auth::Secret;
use server::{BindError, Component, Health, Operations, Server};
use store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::reread::reread;
use self::rotation::Rotation;
use self::telemetry::{Telemetry, VERSION};
use crate::config::{Config, DuplicatesRule};
use crate::data_dir::{self, DataDir};
use crate::domains;
use crate::installation;
use crate::report::chain;

pub use disk::free_bytes;
pub use log_queue::flush as flush_log;
pub use run::run;

/// Which roles a process has.
#[derive(Clone, Copy, Default)]
pub struct Roles {
    /// Takes webhooks.
    pub ingress: bool,
    /// Records every event.
    pub ledger: bool,
    /// Runs these consumers.
    pub domains: &'static [&'static Domain],
    /// Serves the administration API.
    pub console: bool,
}

impl Roles {
    /// All of them.
    pub fn all() -> Self {
        Self { ingress: true, ledger: true, domains: &domains::ALL, console: true }
    }

    fn is_all(self) -> bool {
        self.ingress && self.ledger && self.console && self.domains.len() == domains::ALL.len()
    }

    fn has_store(self) -> bool {
        self.ledger || self.console || !self.domains.is_empty()
    }

    /// What keeps these roles from running as a process of their own.
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
        if self.reads_bodies() && config.subject_key.is_none() && !data_dir::has_subject_key(&config.data.dir)
        {
            bail!(data_dir::missing_subject_key(&config.data.dir));
        }
        Ok(())
    }

    /// Whether these roles make subjects: the ingress of what comes, the console of rejected bodies that it reads again.
    fn reads_bodies(self) -> bool {
        self.ingress || self.console
    }

    /// Whether something of these roles is kept in the data directory.
    fn needs_data_dir(self, config: &Config) -> bool {
        config.is_embedded()
            || self.has_store() && installation::is_store_a_file(config)
            || self.reads_bodies() && config.subject_key.is_none()
            || self.ingress && config.spool.limit_bytes > 0 && config.spool.file.as_os_str().is_empty()
            || self.console && config.console_token.is_none()
    }
}

/// How long a start waits for broker and store before the ports answer without them.
const START_PATIENCE: Duration = Duration::from_secs(1);

/// How often broker and store are looked at for readiness.
const CHECK_PERIOD: Duration = Duration::from_secs(5);

/// The pause after the first attempt in vain to prepare broker or store; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two attempts to prepare broker or store.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Roles at work.
pub struct Running {
    /// Where webhooks are taken.
    pub ingress: Option<SocketAddr>,
    /// Where the administration API is.
    pub console: Option<SocketAddr>,
    /// Where readiness and metrics are.
    pub operations: SocketAddr,
    /// The token of the administration API.
    pub token: Option<Secret>,
    /// What can be replaced at runtime.
    pub rotation: Rotation,
    broker: DynBroker,
    store: Option<Store>,
    accepting: CancellationToken,
    working: CancellationToken,
    ingress_tasks: JoinSet<()>,
    tasks: JoinSet<()>,
    fatal: mpsc::Receiver<anyhow::Error>,
}

impl Running {
    /// Starts the roles. An error means that none runs.
    pub async fn start(config: &Config, roles: Roles, telemetry: &Telemetry) -> Result<Self> {
        roles.check(config)?;
        server::raise_descriptor_limit();
        // Ports first: a start that cannot have its port touches nothing else.
        let ingress_port = port(roles.ingress, &config.ingress.server(), "ingress").await?;
        // A provider may post under any name that leads here: what it proves is no browser's.
        let ingress_port = ingress_port.map(Server::under_any_host);
        let console_port = port(roles.console, &config.console, "console").await?;
        let operations_port = bound(&config.operations, "operations").await?;

        let data_dir = match roles.needs_data_dir(config) {
            true => Some(DataDir::open(&config.data.dir)?),
            false => None,
        };
        let made = |what: &str| data_dir.as_ref().with_context(|| format!("{what} needs a data directory"));
        let token = match &config.console_token {
            _ if !roles.console => None,
            Some(token) => Some(token.clone()),
            None => Some(made("the token")?.token()?),
        };
        let key = match &config.subject_key {
            _ if !roles.reads_bodies() => None,
            Some(key) => Some(key.clone()),
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

        let broker = installation::open_broker(config)?;
        let store = if roles.has_store() { Some(installation::open_store(config)?) } else { None };
        let layout = installation::layout(config);
        let disk = DiskAlarm::default();
        let spool =
            if roles.ingress { installation::open_spool(config, &broker, &disk).await? } else { None };
        let health = Health::default();
        // An ingress that can store what comes is ready, whatever else of its process has to wait.
        let component = |name: &'static str, is_secondary| match is_secondary {
            true => health.secondary(name),
            false => health.component(name),
        };
        let operations = Operations::new(health.clone(), telemetry.render(), VERSION);
        let ports = [
            ("ingress", ingress_port.as_ref()),
            ("console", console_port.as_ref()),
            ("operations", Some(&operations_port)),
        ];
        let certificates =
            ports.into_iter().filter_map(|(section, port)| Some((section, port?.certificate()?))).collect();
        let (report_fatal, fatal) = mpsc::channel(1);
        let mut running = Self {
            ingress: ingress_port.as_ref().map(Server::local_addr),
            console: console_port.as_ref().map(Server::local_addr),
            operations: operations_port.local_addr(),
            token: token.clone(),
            rotation: Rotation { certificates, store: store.clone(), ..Rotation::default() },
            broker: broker.clone(),
            store: store.clone(),
            accepting: CancellationToken::new(),
            working: CancellationToken::new(),
            ingress_tasks: JoinSet::new(),
            tasks: JoinSet::new(),
            fatal,
        };

        let stop = &running.working;
        let (prepared, migrated) = (CancellationToken::new(), CancellationToken::new());
        let preparation = Preparation {
            broker: broker.clone(),
            topology: installation::topology(config),
            broker_health: component("broker", spool.is_some()),
            spool: spool.as_ref().map(|(spool, _)| spool.clone()),
            store: store.clone().map(|store| (store, component("store", roles.ingress))),
            migrated: migrated.clone(),
        };
        let (begun, done, told) = (prepared.clone(), stop.clone(), report_fatal.clone());
        running.tasks.spawn(async move {
            match done.run_until_cancelled(preparation.run()).await {
                Some(Ok(watched)) => {
                    begun.cancel();
                    done.run_until_cancelled(watched.watch()).await;
                }
                // The receiver is gone only when the process ends anyway.
                Some(Err(error)) => drop(told.send(error).await),
                None => {}
            }
        });
        tokio::select! {
            _ = timeout(START_PATIENCE, prepared.cancelled()) => {}
            Some(error) = running.fatal.recv() => {
                running.stop().await;
                return Err(error);
            }
        }

        if let (Some(port), Some(key)) = (ingress_port, key.clone()) {
            let sources = sources(config)?;
            let publisher: Arc<dyn Publisher> = match spool {
                Some((spool, drain)) => {
                    running.tasks.spawn(follow_spool(spool.standing(), health.component("spool")));
                    running
                        .tasks
                        .spawn(follow_set_aside(spool.set_aside(), health.component("spool.set_aside")));
                    let (topology, stop, publisher) =
                        (installation::topology(config), running.working.clone(), spool.clone());
                    running.tasks.spawn(async move { spool.run(drain, topology, stop).await });
                    Arc::new(publisher)
                }
                None => broker.clone(),
            };
            if config.data.disk_free_limit_bytes > 0 {
                let (folders, limit) = (installation::folders(config), config.data.disk_free_limit_bytes);
                // With RabbitMQ the disk is needed only while events are spooled.
                let health = component("disk", !config.is_embedded());
                let (watch, stop) =
                    (disk::watch(folders, limit, disk.clone(), health), running.working.clone());
                running.tasks.spawn(async move {
                    stop.run_until_cancelled(watch).await;
                });
            }
            // A spool asks the alarm itself.
            let disk = if config.is_embedded() { disk } else { DiskAlarm::default() };
            let ingress = Ingress::new(
                sources,
                publisher,
                layout.clone(),
                key,
                config.zone.clone(),
                config.ingress.clone(),
                disk,
            );
            running.rotation.ingress = Some(ingress.clone());
            running.tasks.spawn(ingress.clone().report(running.working.clone()));
            running.ingress_tasks.spawn(port.serve(
                ingress.service(),
                operations.public(),
                running.accepting.clone(),
            ));
        }
        if let (Some(port), Some(token), Some(store), Some(key)) = (console_port, token, store.clone(), key) {
            let runner = Runner {
                broker: broker.clone(),
                layout: layout.clone(),
                store: store.clone(),
                zone: config.zone.clone(),
                consumers: installation::consumers(),
                policies: config.consumer.policies.clone(),
                reread: reread(config, key),
            };
            // A broker that is away is a job's trouble, and told as such.
            let (tables, stop) = (migrated.clone(), running.working.clone());
            running.tasks.spawn(async move {
                if stop.run_until_cancelled(tables.cancelled()).await.is_some() {
                    runner.run(stop).await;
                }
            });
            let token = Token::new(token.expose());
            running.rotation.token = Some(token.clone());
            let state = ConsoleState {
                store,
                broker: broker.clone(),
                layout: layout.clone(),
                token,
                consumers: domains::ALL
                    .iter()
                    .map(|domain| (domain.name(), domain.bindings.purpose))
                    .collect(),
                views: domains::views().collect(),
                sources: config.sources.iter().map(|source| source.name.to_string()).collect(),
                providers: config.providers.iter().map(|provider| provider.name().to_string()).collect(),
                health: health.clone(),
                migrated: migrated.clone(),
                zone: config.zone.clone(),
                version: VERSION,
            };
            running.tasks.spawn(port.serve(
                console::router(state),
                operations.public(),
                running.working.clone(),
            ));
        }
        running.tasks.spawn(operations_port.serve_operations(operations, running.working.clone()));
        if let Some(store) = store {
            let runtime = Runtime { broker, layout, store, config: config.consumer.clone() };
            running.consume(roles, &runtime, &config.retention, &health, &prepared);
        }
        Ok(running)
    }

    /// Runs consumers once broker and store are prepared.
    fn consume(
        &mut self,
        roles: Roles,
        runtime: &Runtime,
        retention: &Retention,
        health: &Health,
        prepared: &CancellationToken,
    ) {
        let mut consumers = match roles.ledger {
            true => ledger::consumers(runtime.clone(), &installation::consumers()),
            false => Vec::new(),
        };
        let kept = Kept::default();
        consumers.extend(roles.domains.iter().map(|domain| {
            let consumer = (domain.consumer)(&retention.zone, runtime.clone());
            consumer.observed(Arc::new(Witness::new(kept.clone())))
        }));
        if !roles.domains.is_empty() {
            let Runtime { broker, layout, store, .. } = runtime.clone();
            self.tasks.spawn(witness::report(kept, store, broker, layout, self.working.clone()));
        }
        for consumer in consumers {
            let name = format!("consumer.{}", consumer.name());
            let component = if roles.ingress { health.secondary(name) } else { health.component(name) };
            self.tasks.spawn(follow(consumer.status(), component));
            let (prepared, stop) = (prepared.clone(), self.working.clone());
            self.tasks.spawn(async move {
                if stop.run_until_cancelled(prepared.cancelled()).await.is_some() {
                    consumer.run(stop).await;
                }
            });
        }
        if roles.ledger {
            let (prepared, stop, store) = (prepared.clone(), self.working.clone(), runtime.store.clone());
            let retention = retention.clone();
            self.tasks.spawn(async move {
                if stop.run_until_cancelled(prepared.cancelled()).await.is_some() {
                    ledger::sweep_until(store, retention, stop).await;
                }
            });
        }
    }

    /// Waits for an error that ends the process; for ever if none comes. No task ends by itself: one that does has
    /// taken a part of the process with it.
    pub async fn failed(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            Some(error) = self.fatal.recv() => return error,
            Some(ended) = self.tasks.join_next() => ended,
            Some(ended) = self.ingress_tasks.join_next() => ended,
            else => Ok(()),
        };
        match (self.fatal.try_recv(), ended) {
            (Ok(error), _) => error,
            (Err(_), Ok(())) => anyhow::anyhow!("a task of this process has ended before its time"),
            (Err(_), Err(error)) => anyhow::Error::new(error).context("a task of this process failed"),
        }
    }

    /// Stops accepting, finishes what is under way, and closes.
    pub async fn stop(mut self) {
        self.accepting.cancel();
        while self.ingress_tasks.join_next().await.is_some() {}
        self.working.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.broker.close().await;
        if let Some(store) = &self.store {
            store.close().await;
        }
    }
}

async fn port(is_wanted: bool, config: &server::Config, section: &'static str) -> Result<Option<Server>> {
    if is_wanted { bound(config, section).await.map(Some) } else { Ok(None) }
}

async fn bound(config: &server::Config, section: &'static str) -> Result<Server> {
    match Server::bind(config).await {
        Ok(port) => Ok(port.section(section)),
        // It says what to do, and the setting that it means is known here.
        Err(error @ BindError::Address { .. }) => {
            let setting = format!("{section}.listen (MALOTE__{}__LISTEN)", section.to_ascii_uppercase());
            bail!("{}", error.to_string().replace("`listen`", &setting))
        }
        Err(error @ BindError::Tls { .. }) => Err(error).context(format!("{section}.tls")),
    }
}

fn sources(config: &Config) -> Result<Vec<ingress::Source>> {
    let source = |source: &crate::config::Source| {
        let provider =
            config.provider(&source.provider).with_context(|| format!("no provider {}", source.provider))?;
        Ok(ingress::Source {
            name: source.name.clone(),
            provider: provider.clone(),
            auth: source.auth.clone(),
            duplicates: match &source.duplicates {
                None => provider.duplicates().cloned().or_else(|| source.auth.duplicates()),
                Some(DuplicatesRule::Off) => None,
                Some(DuplicatesRule::By(rule)) => Some(rule.clone()),
            },
            quota: source.quota,
        })
    };
    config.sources.iter().map(source).collect()
}

/// Shows a consumer's status as health.
async fn follow(mut status: tokio::sync::watch::Receiver<Status>, component: Component) {
    loop {
        match &*status.borrow_and_update() {
            Status::Starting | Status::Stopped => {}
            Status::Running => component.up(),
            Status::Paused(why) => component.down(why.clone()),
        }
        // The consumer's end is the sender's.
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// Shows the spool's standing as health.
async fn follow_spool(mut standing: tokio::sync::watch::Receiver<Standing>, component: Component) {
    loop {
        match &*standing.borrow_and_update() {
            Standing::Direct => component.up(),
            Standing::Spooling(why) => component.degraded(format!("events wait for the broker: {why}")),
            Standing::Refusing(why) => component.down(why.clone()),
        }
        if standing.changed().await.is_err() {
            return;
        }
    }
}

/// Shows what the spool has set aside as health.
async fn follow_set_aside(mut set_aside: tokio::sync::watch::Receiver<Option<String>>, component: Component) {
    loop {
        match &*set_aside.borrow_and_update() {
            None => component.up(),
            Some(text) => component.degraded(text.clone()),
        }
        if set_aside.changed().await.is_err() {
            return;
        }
    }
}

/// What has to be there before anything can be handled.
struct Preparation {
    broker: DynBroker,
    topology: Topology,
    broker_health: Component,
    /// What waits in it may get through once the topology is whole.
    spool: Option<Spool>,
    store: Option<(Store, Component)>,
    migrated: CancellationToken,
}

impl Preparation {
    /// Declares the topology and brings the tables up to date, waiting for whatever is away without an end. An error
    /// is one that waiting does not mend.
    async fn run(self) -> Result<Self> {
        tokio::try_join!(self.declare(), self.migrate())?;
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

    async fn migrate(&self) -> Result<()> {
        let Some((store, health)) = &self.store else { return Ok(()) };
        let mut pause = FIRST_PAUSE;
        loop {
            match store.migrate(&installation::components()).await {
                Ok(()) => {
                    self.migrated.cancel();
                    break health.up();
                }
                Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict(_))) => {
                    health.down(chain(&error))
                }
                Err(error) => return Err(anyhow::Error::new(error).context("the store cannot be used")),
            }
            wait(&mut pause).await;
        }
        Ok(())
    }

    /// Reaches the broker. What somebody deleted is declared again.
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

    /// Keeps readiness true to what is there.
    async fn watch(self) {
        loop {
            sleep(CHECK_PERIOD).await;
            match self.look_at_broker().await {
                Ok(()) => self.broker_health.up(),
                Err(error) => self.broker_health.down(chain(&error)),
            }
            if let Some((store, health)) = &self.store {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_parts;

    #[test]
    fn a_role_alone_needs_a_broker_and_a_store_that_can_be_shared() {
        let check = |text: &str, roles: Roles, expect: Option<&str>| {
            let config = load_parts("", text, []).unwrap().0;
            let said = roles.check(&config).err().map(|error| error.to_string());
            match expect {
                None => assert_eq!(said, None),
                Some(expect) => assert!(said.as_ref().is_some_and(|said| said.contains(expect)), "{said:?}"),
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
            let said = check(&text, roles).unwrap_err();
            assert!(said.contains("ingress.subject_key") && said.contains("openssl rand -hex 32"), "{said}");
            check(&format!("{text}ingress.subject_key = \"{}\"", "0a".repeat(32)), roles).unwrap();
        }
        // Whoever runs everything has nobody to agree with, and what it made is taken over.
        check(&text, Roles::all()).unwrap();
        DataDir::open(folder.path()).unwrap().subject_key().unwrap();
        check(&text, ingress).unwrap();
        check(&text, console).unwrap();
    }
}
