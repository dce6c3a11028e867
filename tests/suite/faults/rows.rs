//! What is broken, row by row.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use harness::{Postgres, Proxy, RabbitMq, Reply, SmallDisk, Way};
use tests::roles;
use tokio::time::{sleep, timeout};

use super::fetches::{self, Fetches};
use super::pushes::{self, Pushes};
use super::{Line, Trial};
use crate::product::{PATIENCE, Product};

/// What the rows share: servers that they may break, and have to repair.
pub struct Servers {
    rabbitmq: RabbitMq,
    pub postgres: Postgres,
    names: AtomicUsize,
}

impl Servers {
    pub fn start() -> Result<Self> {
        let (rabbitmq, postgres) = (RabbitMq::start()?, Postgres::start()?);
        Ok(Self { rabbitmq, postgres, names: AtomicUsize::new(0) })
    }

    /// A virtual host and a database of their own.
    fn fresh(&self) -> Result<(String, String)> {
        let name = format!("row_{}", self.names.fetch_add(1, Ordering::Relaxed));
        self.rabbitmq.create_vhost(&name)?;
        self.postgres.create_database(&name)?;
        Ok((name.clone(), name))
    }

    /// The addresses of a virtual host and a database of their own.
    pub fn urls(&self) -> Result<(String, String)> {
        let (vhost, database) = self.fresh()?;
        Ok((self.rabbitmq.url(&vhost), self.postgres.url(&database)))
    }

    /// A product of one process per role under load.
    async fn scaled(&self) -> Result<Trial> {
        let (broker, store) = self.urls()?;
        self.on(std::slice::from_ref(&self.rabbitmq), &broker, &store).await
    }

    async fn on(&self, nodes: &[RabbitMq], broker: &str, store: &str) -> Result<Trial> {
        let mut product = Product::configured(broker, store, QUICK)?;
        start(&mut product).await?;
        // A queue that was declared a moment ago is not safe from a kill of its node yet.
        nodes.iter().try_for_each(RabbitMq::sync_declarations)?;
        Trial::start(product, store).await
    }
}

/// Time-outs that suit a test: what is half-open is found within seconds.
pub const QUICK: &str = "[ingress.spool]\npatience_ms = 500\n[consumer]\nhold_ms = 2000\n";

pub async fn start(product: &mut Product) -> Result<()> {
    for (name, arguments) in roles() {
        product.start(name, &arguments).await?;
    }
    Ok(())
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Line>> + 'a>>;

/// One row.
pub struct Row {
    pub name: &'static str,
    pub run: for<'a> fn(&'a Servers) -> Running<'a>,
}

macro_rules! rows {
    ($($name:literal => $run:expr;)+) => {
        /// Every row.
        pub const ALL: &[Row] = &[$(Row {
            name: $name,
            run: |servers| Box::pin(async move {
                let trial = $run(servers).await?;
                Trial::account(trial, $name).await
            }),
        }),+];
    };
}

rows! {
    "`kill -9` of RabbitMQ" => rabbitmq_killed;
    "restart of RabbitMQ" => rabbitmq_restarted;
    "memory alarm of RabbitMQ" => memory_alarm;
    "a queue deleted by hand, empty" => queue_deleted;
    "`kill -9` of the ingress" => |servers| killed(servers, &["ingress"]);
    "`kill -9` of the ingress while it spools" => spooling_ingress_killed;
    "`kill -9` of the ledger" => |servers| killed(servers, &["ledger"]);
    "`kill -9` of each consumer" => each_consumer_killed;
    "`kill -9` of the all-in-one, embedded" => all_in_one_killed;
    "SIGTERM of every role in turn" => rolling_restart;
    "cluster of three: its leader killed" => cluster_loses_its_leader;
    "cluster of three: its leader killed, a second node, then both back" => cluster_loses_its_majority;
    "connections to RabbitMQ cut" => |servers| broker_network(servers, Way::Cut);
    "connections to RabbitMQ stalled" => |servers| broker_network(servers, Way::Stalled);
    "connections to RabbitMQ half-open" => |servers| broker_network(servers, Way::HalfOpen);
    "PostgreSQL stopped and started" => postgres_restarted;
    "`kill -9` of PostgreSQL" => postgres_killed;
    "connections to PostgreSQL cut in mid-transaction" => store_network;
    "disk of the spool full" => spool_disk_full;
    "disk of broker and store full, embedded" => embedded_disk_full;
    "clocks of two ingresses an hour apart" => clocks_apart;
    "`kill -9` of each `subscriptions`" => subscriptions_killed;
    "a provider's API hangs, answers 500, and is down" => api_fails;
    "`kill -9` of `documents` while it fetches" => documents_killed;
}

/// A product that pushes, under load.
async fn pushing(servers: &Servers) -> Result<(Trial, Pushes)> {
    let (broker, store) = servers.urls()?;
    let mut product = Product::configured(&broker, &store, &format!("{QUICK}{}", pushes::SETTINGS))?;
    start(&mut product).await?;
    let pushes = Pushes::start(&mut product, &store).await?;
    servers.rabbitmq.sync_declarations()?;
    Ok((Trial::start(product, &store).await?, pushes))
}

async fn subscriptions_killed(servers: &Servers) -> Result<Trial> {
    let (mut trial, mut pushes) = pushing(servers).await?;
    for (share, replica) in [0.3, 0.6].into_iter().zip(pushes::REPLICAS) {
        trial.load.reached(share).await;
        let now = SystemTime::now();
        trial.product.kill9(replica)?;
        pushes.cut(now, SystemTime::now());
        trial.product.start(replica, &["subscriptions"]).await?;
    }
    Ok(Trial { pushes: Some(pushes), ..trial })
}

/// A product that fetches what its orders name, under load.
async fn fetching(servers: &Servers) -> Result<(Trial, Fetches)> {
    let (broker, store) = servers.urls()?;
    let mut product = Product::configured(&broker, &store, &format!("{QUICK}{}", fetches::SETTINGS))?;
    let fetches = Fetches::prepare(&product, &store)?;
    start(&mut product).await?;
    for replica in fetches::REPLICAS {
        product.start(replica, &["documents"]).await?;
    }
    servers.rabbitmq.sync_declarations()?;
    Ok((Trial::start(product, &store).await?, fetches))
}

/// Fails before the breaker opens, which sends only a probe now and then.
async fn api_fails(servers: &Servers) -> Result<Trial> {
    let (trial, mut fetches) = fetching(servers).await?;
    trial.load.reached(0.1).await;
    fetches.fail(Reply::stall()).await?;
    fetches.fail(Reply::status(500)).await?;
    fetches.stop();
    trial.load.reached(0.9).await;
    fetches.restart()?;
    Ok(Trial { fetches: Some(fetches), ..trial })
}

async fn documents_killed(servers: &Servers) -> Result<Trial> {
    let (mut trial, fetches) = fetching(servers).await?;
    trial.load.reached(0.4).await;
    let replica = fetches.fetching(&trial.product).await?;
    trial.product.kill9(replica)?;
    trial.product.start(replica, &["documents"]).await?;
    Ok(Trial { fetches: Some(fetches), ..trial })
}

async fn postgres_killed(servers: &Servers) -> Result<Trial> {
    let (trial, mut pushes) = pushing(servers).await?;
    trial.load.reached(0.3).await;
    let now = SystemTime::now();
    servers.postgres.kill9()?;
    trial.load.reached(0.7).await;
    servers.postgres.restart()?;
    // A replica that cannot renew its leases stops, and cuts off its requests.
    pushes.cut(now, SystemTime::now() + Duration::from_secs(5));
    Ok(Trial { pushes: Some(pushes), ..trial })
}

/// Nothing that pushes needs RabbitMQ: no request is cut off.
async fn rabbitmq_killed(servers: &Servers) -> Result<Trial> {
    let (trial, pushes) = pushing(servers).await?;
    trial.load.reached(0.3).await;
    servers.rabbitmq.kill9()?;
    trial.load.reached(0.6).await;
    servers.rabbitmq.restart()?;
    Ok(Trial { pushes: Some(pushes), ..trial })
}

async fn rabbitmq_restarted(servers: &Servers) -> Result<Trial> {
    let trial = servers.scaled().await?;
    trial.load.reached(0.3).await;
    servers.rabbitmq.restart()?;
    Ok(trial)
}

async fn memory_alarm(servers: &Servers) -> Result<Trial> {
    let trial = servers.scaled().await?;
    trial.load.reached(0.3).await;
    servers.rabbitmq.set_memory_alarm(true)?;
    trial.load.reached(0.8).await;
    servers.rabbitmq.set_memory_alarm(false)?;
    Ok(trial)
}

/// Only an empty one: what a deleted queue held is gone, and shows in the reconciliation.
async fn queue_deleted(servers: &Servers) -> Result<Trial> {
    let (vhost, database) = servers.fresh()?;
    let (broker, store) = (servers.rabbitmq.url(&vhost), servers.postgres.url(&database));
    let mut product = Product::configured(&broker, &store, QUICK)?;
    start(&mut product).await?;
    servers.rabbitmq.rabbitmqctl("delete_queue", &["--vhost", &vhost, "wait.1h"])?;
    servers.rabbitmq.rabbitmqctl("delete_queue", &["--vhost", &vhost, "receivables"])?;
    let started = std::time::Instant::now();
    while !servers.rabbitmq.queues(&vhost)?.iter().any(|(name, _)| name == "receivables") {
        anyhow::ensure!(started.elapsed() < PATIENCE, "the queue does not come back");
        sleep(Duration::from_millis(200)).await;
    }
    Trial::start(product, &store).await
}

async fn killed(servers: &Servers, names: &[&'static str]) -> Result<Trial> {
    let mut trial = servers.scaled().await?;
    for (number, name) in names.iter().enumerate() {
        trial.load.reached(0.3 + 0.6 * number as f64 / names.len() as f64).await;
        trial.product.kill9(name)?;
        let (_, arguments) = roles().into_iter().find(|(role, _)| role == name).context("a role")?;
        trial.product.start(name, &arguments).await?;
    }
    Ok(trial)
}

async fn each_consumer_killed(servers: &Servers) -> Result<Trial> {
    killed(servers, &domains::ALL.iter().map(|domain| domain.name()).collect::<Vec<_>>()).await
}

async fn spooling_ingress_killed(servers: &Servers) -> Result<Trial> {
    let mut trial = servers.scaled().await?;
    trial.load.reached(0.2).await;
    servers.rabbitmq.kill9()?;
    trial.load.reached(0.5).await;
    trial.product.kill9("ingress")?;
    // Without RabbitMQ: what is in the file is taken on, and what comes goes behind it.
    trial.product.start("ingress", &["ingress"]).await?;
    trial.load.reached(0.8).await;
    servers.rabbitmq.restart()?;
    Ok(trial)
}

async fn all_in_one_killed(_: &Servers) -> Result<Trial> {
    let mut trial = Trial::start(Product::embedded().await?, "sqlite").await?;
    for share in [0.3, 0.6] {
        trial.load.reached(share).await;
        trial.product.kill9("up")?;
        trial.product.start("up", &["up"]).await?;
    }
    Ok(trial)
}

async fn rolling_restart(servers: &Servers) -> Result<Trial> {
    let mut trial = servers.scaled().await?;
    trial.load.reached(0.1).await;
    for (name, arguments) in roles() {
        trial.product.terminate(name).await?;
        trial.product.start(name, &arguments).await?;
    }
    Ok(trial)
}

/// A product on a cluster of its own, and the nodes.
async fn on_cluster(servers: &Servers) -> Result<(Trial, [RabbitMq; 3], String)> {
    let nodes = RabbitMq::start_cluster()?;
    let (vhost, database) = servers.fresh()?;
    nodes[0].create_vhost(&vhost)?;
    let hosts =
        nodes.iter().map(|node| format!("127.0.0.1:{}", node.amqp_port())).collect::<Vec<_>>().join(",");
    let broker = format!("amqp://guest:guest@{hosts}/{vhost}");
    let trial = servers.on(&nodes, &broker, &servers.postgres.url(&database)).await?;
    Ok((trial, nodes, vhost))
}

/// The node that leads the ledger's queue, and one that does not.
fn leader_and_another<'a>(nodes: &'a [RabbitMq; 3], vhost: &str) -> Result<[&'a RabbitMq; 2]> {
    let name = nodes[0].leader(vhost, "ledger")?;
    let leader = nodes.iter().find(|node| node.node() == name).context("the leader is one of the three")?;
    let another = nodes.iter().find(|node| node.node() != name).context("there are three")?;
    Ok([leader, another])
}

async fn cluster_loses_its_leader(servers: &Servers) -> Result<Trial> {
    let (trial, nodes, vhost) = on_cluster(servers).await?;
    trial.load.reached(0.3).await;
    let [leader, _] = leader_and_another(&nodes, &vhost)?;
    leader.kill9()?;
    trial.load.reached(0.8).await;
    leader.restart()?;
    Ok(Trial { kept: Some(Box::new(nodes)), ..trial })
}

async fn cluster_loses_its_majority(servers: &Servers) -> Result<Trial> {
    let (trial, nodes, vhost) = on_cluster(servers).await?;
    trial.load.reached(0.1).await;
    let [leader, another] = leader_and_another(&nodes, &vhost)?;
    leader.kill9()?;
    trial.load.reached(0.5).await;
    // The one that is left confirms nothing: the spool takes over.
    another.kill9()?;
    trial.load.reached(0.8).await;
    leader.restart()?;
    another.restart()?;
    Ok(Trial { kept: Some(Box::new(nodes)), ..trial })
}

async fn broker_network(servers: &Servers, way: Way) -> Result<Trial> {
    let proxy = Proxy::start(servers.rabbitmq.amqp_port()).await?;
    let (vhost, database) = servers.fresh()?;
    let broker = format!("amqp://guest:guest@127.0.0.1:{}/{vhost}", proxy.port());
    let store = servers.postgres.url(&database);
    let mut product = Product::configured(&broker, &store, QUICK)?;
    for (name, _) in roles() {
        product.set_environment(name, [("MALOTE__BROKER__HEARTBEAT_S".to_owned(), "1".to_owned())]);
    }
    start(&mut product).await?;
    let trial = Trial::start(product, &store).await?;
    trial.load.reached(0.3).await;
    proxy.set(way);
    trial.load.reached(0.7).await;
    if way != Way::HalfOpen {
        proxy.set(Way::Open);
    }
    Ok(Trial { kept: Some(Box::new(proxy)), ..trial })
}

async fn postgres_restarted(servers: &Servers) -> Result<Trial> {
    let trial = servers.scaled().await?;
    trial.load.reached(0.3).await;
    servers.postgres.stop()?;
    trial.load.reached(0.7).await;
    servers.postgres.restart()?;
    Ok(trial)
}

async fn store_network(servers: &Servers) -> Result<Trial> {
    let proxy = Proxy::start(servers.postgres.port()).await?;
    let (vhost, database) = servers.fresh()?;
    let direct = servers.postgres.url(&database);
    let through = direct.replace(&format!(":{}/", servers.postgres.port()), &format!(":{}/", proxy.port()));
    anyhow::ensure!(through != direct, "{direct} has no port to replace");
    let mut product = Product::configured(&servers.rabbitmq.url(&vhost), &through, QUICK)?;
    start(&mut product).await?;
    let trial = Trial::start(product, &direct).await?;
    for share in [0.2, 0.3, 0.4, 0.5, 0.6] {
        trial.load.reached(share).await;
        proxy.set(Way::Cut);
        timeout(PATIENCE, proxy.refuses()).await.context("nobody wants the store")?;
        proxy.set(Way::Open);
    }
    Ok(Trial { kept: Some(Box::new(proxy)), ..trial })
}

/// Lets a disk run full, instead of refusing events before.
const NO_DISK_LIMIT: [&str; 2] = ["MALOTE__DATA__DISK_FREE_LIMIT_BYTES", "0"];

async fn spool_disk_full(servers: &Servers) -> Result<Trial> {
    // Room for what waits and for a write-ahead log beside it.
    let disk = SmallDisk::mount(128 << 20)?;
    let (broker, store) = servers.urls()?;
    let mut product = Product::configured(&broker, &store, QUICK)?;
    let file = disk.path().join("spool.db").display().to_string();
    product.set_environment("ingress", [("MALOTE__INGRESS__SPOOL__FILE".to_owned(), file)]);
    product.set_environment("ingress", [NO_DISK_LIMIT.map(str::to_owned).into()]);
    start(&mut product).await?;
    servers.rabbitmq.sync_declarations()?;
    let trial = Trial::start(product, &store).await?;
    trial.load.reached(0.2).await;
    disk.fill()?;
    servers.rabbitmq.kill9()?;
    // Refused, and posted again.
    let started = std::time::Instant::now();
    while !trial.product.output("ingress").contains("events are refused") {
        anyhow::ensure!(started.elapsed() < PATIENCE, "the ingress refuses nothing");
        sleep(Duration::from_millis(100)).await;
    }
    disk.empty()?;
    trial.load.reached(0.6).await;
    servers.rabbitmq.restart()?;
    Ok(Trial { kept: Some(Box::new(disk)), ..trial })
}

async fn embedded_disk_full(_: &Servers) -> Result<Trial> {
    let disk = SmallDisk::mount(256 << 20)?;
    let mut product = Product::configured("embedded", "sqlite", "")?;
    let data = disk.path().join("data");
    let folder = product.folder().join("data");
    std::fs::create_dir(&data)?;
    std::os::unix::fs::symlink(&data, &folder)?;
    product.set_environment("up", [NO_DISK_LIMIT.map(str::to_owned).into()]);
    product.start("up", &["up"]).await?;
    let trial = Trial::start(product, "sqlite").await?;
    trial.load.reached(0.3).await;
    disk.fill()?;
    timeout(PATIENCE, trial.load.is_refused()).await.context("the ingress refuses nothing")?;
    disk.empty()?;
    Ok(Trial { kept: Some(Box::new(disk)), ..trial })
}

async fn clocks_apart(servers: &Servers) -> Result<Trial> {
    let (broker, store) = servers.urls()?;
    let mut product = Product::configured(&broker, &store, QUICK)?;
    let folder = product.folder().to_owned();
    let ahead = harness::shifted_clock(&folder, 3_600)?;
    let variables = ahead.into_iter().map(|(name, value)| (name.to_owned(), value));
    let other = folder.join("ahead.db").display().to_string();
    let spool = ("MALOTE__INGRESS__SPOOL__FILE".to_owned(), other);
    product.set_environment("ingress-ahead", variables.chain([spool]));
    start(&mut product).await?;
    product.start("ingress-ahead", &["ingress"]).await?;
    let ingresses = vec![product.ingress.clone(), product.address("ingress-ahead")];
    Trial::start_at(product, &store, ingresses).await
}
