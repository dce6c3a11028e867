//! A private RabbitMQ node: its own name, ports, data, logs, plug-ins, cookie and `epmd`, all on loopback.
//!
//! Promises a node that shares nothing with the system's or with another test's, runs as the user of the test, and is
//! gone with its folder when the value is dropped. It calls the scripts of the distribution itself and not Debian's
//! wrappers, which want root and then become the user `rabbitmq`. Knows nothing of malote.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::install::rabbitmq_scripts;
use crate::process::{Daemon, await_ready, free_port};
use crate::root::Root;
use crate::{http, percent_encode};

/// How long a node may take to be ready: about 4 s on an idle machine, many times that while others compile.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// How long a graceful stop may take.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// The memory that a node may use before it blocks publishers. A node at rest takes about 150 MB.
const MEMORY_LIMIT: &str = "1GB";

/// What a test wants to be different about its node.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Where its programs are.
    root: Root,
    /// Lines added to `rabbitmq.conf`.
    config: Vec<String>,
    /// The cluster that the node is to be a member of.
    peer: Option<Peer>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self::configured(Vec::new())
    }
}

impl NodeOptions {
    /// A node with these lines in its `rabbitmq.conf`.
    pub fn configured(config: Vec<String>) -> Self {
        Self { root: Root::from_env(), config, peer: None }
    }

    /// A node whose programs are in this root.
    pub fn in_root(root: &Root) -> Self {
        Self { root: root.clone(), config: Vec::new(), peer: None }
    }
}

/// What the members of a cluster share.
#[derive(Debug, Clone)]
struct Peer {
    node: String,
    epmd_port: u16,
    cookie: String,
}

/// A running (or killed, or stopped) private node.
pub struct RabbitMq {
    daemon: Daemon,
    root: Root,
    folder: PathBuf,
    scripts: PathBuf,
    node: String,
    amqp_port: u16,
    api_port: u16,
    epmd_port: u16,
    distribution_port: u16,
}

impl RabbitMq {
    /// A node with nothing special about it. Returns once it accepts connections.
    ///
    /// # Errors
    /// RabbitMQ is not installed, or the node does not start; the message has the end of its log.
    pub fn start() -> Result<Self> {
        Self::start_node(&NodeOptions::default())
    }

    /// A node with options. Returns once it accepts connections.
    ///
    /// # Errors
    /// As [`RabbitMq::start`].
    pub fn start_node(options: &NodeOptions) -> Result<Self> {
        // Another process may take a port between the choice and the start; other ports then do.
        let mut attempt = Self::start_once(options);
        for _ in 0..2 {
            if attempt.is_ok() {
                break;
            }
            attempt = Self::start_once(options);
        }
        attempt.context("starting a private RabbitMQ node")
    }

    /// Three nodes that are one cluster. The first owns the `epmd` that they find each other by.
    ///
    /// # Errors
    /// As [`RabbitMq::start`], or a node does not join.
    pub fn start_cluster() -> Result<[Self; 3]> {
        let first = Self::start()?;
        let cookie = fs::read_to_string(first.folder.join(".erlang.cookie")).context("the cookie")?;
        let peer = Peer { node: first.node.clone(), epmd_port: first.epmd_port, cookie };
        let options = NodeOptions { peer: Some(peer), ..NodeOptions::default() };
        let member = || -> Result<Self> {
            let node = Self::start_node(&options)?;
            node.rabbitmqctl("stop_app", &[])?;
            node.rabbitmqctl("join_cluster", &[&first.node])?;
            node.rabbitmqctl("start_app", &[])?;
            Ok(node)
        };
        let (second, third) = (member()?, member()?);
        Ok([first, second, third])
    }

    /// The name of the node that leads a quorum queue.
    ///
    /// # Errors
    /// `rabbitmqctl` fails, or there is no such queue.
    pub fn leader(&self, vhost: &str, queue: &str) -> Result<String> {
        let listed = self.rabbitmqctl("list_queues", &["--vhost", vhost, "name", "leader"])?;
        let mut rows = listed.lines().filter_map(|line| line.split_once('\t'));
        let found = rows.find(|(name, _)| *name == queue);
        found
            .map(|(_, leader)| leader.trim().to_owned())
            .with_context(|| format!("no queue {queue}: {listed}"))
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    fn start_once(options: &NodeOptions) -> Result<Self> {
        static NODES: AtomicU32 = AtomicU32::new(0);
        let scripts = rabbitmq_scripts(&options.root)?;
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        // From here on the guard removes the folder.
        let root = options.root.clone();
        let folder = root.folder("malote-rabbitmq-")?;
        let this = Self {
            daemon: Daemon::new(&folder, "KILL")?,
            root,
            folder,
            scripts,
            node: format!("malote-{}-{number}@localhost", std::process::id()),
            amqp_port: free_port()?,
            api_port: free_port()?,
            epmd_port: options.peer.as_ref().map_or_else(free_port, |peer| Ok(peer.epmd_port))?,
            distribution_port: free_port()?,
        };
        this.write_configuration(options)?;
        match &options.peer {
            None => {
                let mut epmd = this.root.command(Path::new("epmd"), &this.folder, None);
                epmd.args(["-address", "127.0.0.1", "-port", &this.epmd_port.to_string()]);
                this.daemon.start_companion(&mut epmd, &this.log())?;
            }
            Some(Peer { node, cookie, .. }) => {
                let file = this.folder.join(".erlang.cookie");
                fs::write(&file, cookie).with_context(|| format!("the cookie of {node}"))?;
                fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).context("the cookie")?;
            }
        }
        this.start_server()?;
        Ok(this)
    }

    fn write_configuration(&self, options: &NodeOptions) -> Result<()> {
        let Self { amqp_port, api_port, .. } = self;
        let mut config = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp_port}\n\
             management.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {api_port}\n\
             vm_memory_high_watermark.absolute = {MEMORY_LIMIT}\n\
             disk_free_limit.absolute = 10MB\n\
             log.console = true\n\
             log.console.level = warning\n\
             log.file = false\n"
        );
        for line in &options.config {
            config.push_str(line);
            config.push('\n');
        }
        fs::write(self.folder.join("rabbitmq.conf"), config).context("writing rabbitmq.conf")?;
        fs::write(self.folder.join("enabled_plugins"), "[rabbitmq_management].\n")
            .context("writing enabled_plugins")?;
        fs::create_dir(self.folder.join("schema")).context("making the schema folder")
    }

    /// A command of the distribution in the environment of this node, and in no other.
    fn script(&self, name: &str) -> Command {
        let mut command = self.root.command(&self.scripts.join(name), &self.folder, None);
        let folder = self.root.inside(&self.folder);
        let loopback = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}";
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            // The cookie is made in the home folder at the first start.
            .env("HOME", &folder)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            // The command line tools listen too, on the first free port of a range.
            .env("RABBITMQ_CTL_DIST_PORT_MIN", "16000")
            .env("RABBITMQ_CTL_DIST_PORT_MAX", "31999")
            .env("RABBITMQ_CTL_ERL_ARGS", loopback)
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback)
            // Makes the script become the Erlang process instead of its parent: the process id is the node's.
            .env("RUNNING_UNDER_SYSTEMD", "true");
        for (variable, name) in [
            ("RABBITMQ_MNESIA_BASE", "data"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
            ("RABBITMQ_PLUGINS_EXPAND_DIR", "plugins"),
            ("RABBITMQ_SCHEMA_DIR", "schema"),
            ("RABBITMQ_GENERATED_CONFIG_DIR", "config"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            // Absent files: they keep the system's ones from being read.
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
            ("RABBITMQ_CONF_ENV_FILE", "rabbitmq-env.conf"),
        ] {
            command.env(variable, folder.join(name));
        }
        command
    }

    fn log(&self) -> PathBuf {
        self.folder.join("output.log")
    }

    fn start_server(&self) -> Result<()> {
        let log = self.log();
        self.daemon.start(&mut self.script("rabbitmq-server"), &log)?;
        // A server on the port is not yet this node: its API must also answer under the node's own name.
        await_ready(&self.daemon, &log, START_PATIENCE, || {
            speaks_amqp(self.amqp_port) && self.answers_as_itself()
        })
    }

    fn answers_as_itself(&self) -> bool {
        http::request("GET", self.api_port, "/api/overview").is_ok_and(|body| body.contains(&self.node))
    }

    /// The AMQP URL of a virtual host: `amqp://guest:guest@127.0.0.1:<port>/<vhost, percent-encoded>`.
    pub fn url(&self, vhost: &str) -> String {
        format!("{}/{}", self.base_url(), percent_encode(vhost))
    }

    /// The AMQP URL without a virtual host.
    pub fn base_url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.amqp_port)
    }

    /// The address of the node's HTTP API, for another process that makes virtual hosts.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api_port)
    }

    /// The port that AMQP clients connect to.
    pub fn amqp_port(&self) -> u16 {
        self.amqp_port
    }

    /// The process id of the node while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.pid()
    }

    /// The folder with the node's data and its `output.log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a virtual host that `guest` may do everything in. It takes some 20 ms.
    ///
    /// # Errors
    /// The node does not answer.
    pub fn create_vhost(&self, name: &str) -> Result<()> {
        create_vhost(self.api_port, name)
    }

    /// Deletes a virtual host with everything in it.
    ///
    /// # Errors
    /// The node does not answer, or there is none of this name.
    pub fn delete_vhost(&self, name: &str) -> Result<()> {
        http::request("DELETE", self.api_port, &format!("/api/vhosts/{}", percent_encode(name)))
            .map(drop)
            .with_context(|| format!("deleting the virtual host {name}"))
    }

    /// `kill -9` of the whole node; returns once it is gone.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn kill9(&self) -> Result<()> {
        self.daemon.kill9()
    }

    /// Has the node write its `dets` tables to disk, for a [`RabbitMq::kill9`] right after a declaration.
    ///
    /// RabbitMQ 3.10.8 loses a quorum queue that was declared about a second before a `kill -9`: after the restart
    /// the queue is there with an empty log and without a leader, confirmed messages or not. The table that leads
    /// from a queue to its log is a `dets` table, which Erlang writes with a delay. A test about anything else calls
    /// this once its queues are declared.
    ///
    /// # Errors
    /// `rabbitmqctl` fails.
    pub fn sync_declarations(&self) -> Result<()> {
        self.rabbitmqctl("eval", &["[ok = dets:sync(Table) || Table <- dets:all()]."]).map(drop)
    }

    /// A graceful stop, as a service manager's; returns once the node is gone.
    ///
    /// # Errors
    /// The node is still there after a minute.
    pub fn stop(&self) -> Result<()> {
        self.daemon.stop("TERM", STOP_PATIENCE)
    }

    /// Starts the node again on the same data and ports, after a graceful stop if it is still running.
    ///
    /// # Errors
    /// As [`RabbitMq::start`].
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start_server().context("restarting a private RabbitMQ node")
    }

    /// Raises or clears the memory alarm: while it is raised, RabbitMQ blocks every connection that publishes.
    ///
    /// # Errors
    /// `rabbitmqctl` fails.
    pub fn set_memory_alarm(&self, raised: bool) -> Result<()> {
        // RabbitMQ's documentation: a watermark of 0 raises the alarm immediately.
        let arguments: &[&str] = if raised { &["0"] } else { &["absolute", MEMORY_LIMIT] };
        self.rabbitmqctl("set_vm_memory_high_watermark", arguments).map(drop)
    }

    /// Every queue of a virtual host with the number of its messages, ready and unacknowledged, in name order.
    ///
    /// The numbers are asked of the queues themselves: those of `list_queues` and of the HTTP API are up to five
    /// seconds old for a quorum queue. It takes about a second.
    ///
    /// # Errors
    /// `rabbitmqctl` fails, for one because a queue has no leader yet.
    pub fn queues(&self, vhost: &str) -> Result<Vec<(String, u64)>> {
        let vhost: Vec<_> = vhost.bytes().map(|byte| byte.to_string()).collect();
        let expression = format!(
            r#"[begin
                 Messages = case amqqueue:get_type(Q) of
                   rabbit_quorum_queue ->
                     {{ok, {{_, N}}, _}} = ra:leader_query(amqqueue:get_pid(Q), {{rabbit_fifo, query_messages_total, []}}), N;
                   _ -> [{{messages, N}}] = rabbit_amqqueue:info(Q, [messages]), N
                 end,
                 {{resource, _, queue, Name}} = amqqueue:get_name(Q),
                 io:format("~w ~s~n", [Messages, Name])
               end || Q <- rabbit_amqqueue:list(<<{}>>)], ok."#,
            vhost.join(",")
        );
        let output = self.rabbitmqctl("eval", &[&expression])?;
        let mut queues = Vec::new();
        for line in output.lines().filter(|line| *line != "ok") {
            let (messages, name) =
                line.split_once(' ').with_context(|| format!("unexpected answer {line:?}"))?;
            let messages = messages.parse().with_context(|| format!("unexpected answer {line:?}"))?;
            queues.push((name.to_owned(), messages));
        }
        queues.sort();
        Ok(queues)
    }

    /// Runs `rabbitmqctl` against this node and returns what it prints. Each call takes about a second.
    ///
    /// # Errors
    /// It ends with another code than 0; the message has what it printed.
    pub fn rabbitmqctl(&self, command: &str, arguments: &[&str]) -> Result<String> {
        let output = self
            .script("rabbitmqctl")
            .args(["--quiet", "--node", &self.node, command])
            .args(arguments)
            .output()
            .context("starting rabbitmqctl")?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            bail!("rabbitmqctl {command} failed: {}", String::from_utf8_lossy(&text).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Makes a virtual host through the HTTP API, which gives its creator every permission in it.
pub(crate) fn create_vhost(api_port: u16, name: &str) -> Result<()> {
    http::request("PUT", api_port, &format!("/api/vhosts/{}", percent_encode(name)))
        .map(drop)
        .with_context(|| format!("creating the virtual host {name}"))
}

/// Deletes a queue through the HTTP API.
pub(crate) fn delete_queue(api_port: u16, vhost: &str, name: &str) -> Result<()> {
    let path = format!("/api/queues/{}/{}", percent_encode(vhost), percent_encode(name));
    http::request("DELETE", api_port, &path).map(drop).with_context(|| format!("deleting the queue {name}"))
}

/// Whether the port answers the protocol header of AMQP 0-9-1 (section 4.2.2) with a method frame: Connection.Start.
fn speaks_amqp(port: u16) -> bool {
    let attempt = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut frame_type = [0];
        stream.read_exact(&mut frame_type)?;
        Ok(frame_type == [1])
    };
    attempt().unwrap_or(false)
}
