//! A private PostgreSQL cluster: its own data, port and socket folder, on loopback, with `fsync` on.
//!
//! Promises a cluster that shares nothing with the system's and is gone with its folder when the value is dropped.
//! PostgreSQL refuses to run as root, so a test that does hands the folder to the user `postgres` or `nobody` and
//! runs the server as that one. Knows nothing of malote.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::install::postgres_binaries;
use crate::percent_encode;
use crate::process::{Daemon, POLL, await_ready, free_port};
use crate::root::{Root, User};

/// How long the server may take to answer a query, recovery included.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long a graceful stop may take.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A running (or killed, or stopped) private cluster.
pub struct Postgres {
    daemon: Daemon,
    root: Root,
    folder: PathBuf,
    binaries: PathBuf,
    user: Option<User>,
    port: u16,
}

impl Postgres {
    /// A new cluster. Returns once it answers queries.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or the server does not start; the message has the end of its log.
    pub fn start() -> Result<Self> {
        Self::start_in(&Root::from_env())
    }

    /// A new cluster of the servers of this root. Returns once it answers queries.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_in(root: &Root) -> Result<Self> {
        // Another process may take the port between the choice and the start; another port then does.
        let mut attempt = Self::start_once(root);
        for _ in 0..2 {
            if attempt.is_ok() {
                break;
            }
            attempt = Self::start_once(root);
        }
        attempt.context("starting a private PostgreSQL cluster")
    }

    fn start_once(root: &Root) -> Result<Self> {
        let binaries = postgres_binaries(root)?;
        // From here on the guard removes the folder.
        let folder = root.folder("malote-postgres-")?;
        // SIGQUIT is PostgreSQL's immediate shutdown: it takes the server's own processes along.
        let daemon = Daemon::new(&folder, "QUIT")?;
        // The folder is one's own, so its owner is the user this process acts as.
        let user = if fs::metadata(&folder).context("the folder")?.uid() == 0 {
            Some(unprivileged(root)?)
        } else {
            None
        };
        if let Some(User { uid, gid }) = user {
            chown(&folder, Some(uid), Some(gid)).context("handing the folder to PostgreSQL's user")?;
        }
        let this = Self { daemon, root: root.clone(), folder, binaries, user, port: free_port()? };
        this.initdb()?;
        this.start_server()?;
        Ok(this)
    }

    fn initdb(&self) -> Result<()> {
        let output = self
            .command("initdb")
            .arg("--pgdata")
            .arg(self.data())
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .output()
            .context("starting initdb")?;
        if !output.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn command(&self, name: &str) -> Command {
        let mut command = self.root.command(&self.binaries.join(name), &self.folder, self.user);
        command.stdin(Stdio::null());
        command
    }

    /// The data folder, as the server names it.
    fn data(&self) -> PathBuf {
        self.root.inside(&self.folder).join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("output.log")
    }

    fn start_server(&self) -> Result<()> {
        let log = self.log();
        let mut server = self.command("postgres");
        server.arg("-D").arg(self.data());
        for (name, value) in [
            ("listen_addresses", "127.0.0.1"),
            ("port", &self.port.to_string()),
            ("unix_socket_directories", &self.root.inside(&self.folder).display().to_string()),
            ("fsync", "on"),
            ("max_connections", "300"),
            ("shared_buffers", "64MB"),
            ("timezone", "UTC"),
        ] {
            server.arg("-c").arg(format!("{name}={value}"));
        }
        // A server on the port is this one when its data folder is: two clusters may race for a port.
        let data = self.data().display().to_string();
        self.daemon.start(&mut server, &log)?;
        await_ready(&self.daemon, &log, START_PATIENCE, || {
            self.query("postgres", "SHOW data_directory").is_ok_and(|answer| answer.trim() == data)
        })
    }

    /// The URL of a database: `postgres://postgres@127.0.0.1:<port>/<database>`.
    pub fn url(&self, database: &str) -> String {
        format!("{}/{}", self.base_url(), percent_encode(database))
    }

    /// The URL without a database.
    pub fn base_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}", self.port)
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server (the postmaster) while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.pid()
    }

    /// The folder with the cluster's data and its `output.log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// The server does not answer, or the name is taken.
    pub fn create_database(&self, name: &str) -> Result<()> {
        create_database(&self.root, &self.base_url(), name)
    }

    /// Runs SQL in a database; rows come one per line, columns parted by `|`.
    ///
    /// # Errors
    /// The server does not answer, or refuses the statement.
    pub fn query(&self, database: &str, sql: &str) -> Result<String> {
        psql(&self.root, &self.url(database), sql)
    }

    /// Changes a setting of the running server. Every session has it from its next statement on when this returns.
    ///
    /// # Errors
    /// The server does not answer, or takes the value only with a restart.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.query("postgres", &format!("ALTER SYSTEM SET {name} = '{value}'"))?;
        self.query("postgres", "SELECT pg_reload_conf()")?;
        // The server tells its sessions before it accepts another one.
        let deadline = Instant::now() + START_PATIENCE;
        while self.query("postgres", &format!("SHOW {name}"))?.trim() != value {
            if Instant::now() > deadline {
                bail!("{name} does not become {value}");
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// `kill -9` of the server; returns once it is gone. Its own processes notice and end by themselves.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn kill9(&self) -> Result<()> {
        self.daemon.kill9()
    }

    /// A graceful stop that ends open sessions (PostgreSQL's fast shutdown); returns once the server is gone.
    ///
    /// # Errors
    /// The server is still there after half a minute.
    pub fn stop(&self) -> Result<()> {
        self.daemon.stop("INT", STOP_PATIENCE)
    }

    /// Starts the server again on the same data and port, after a graceful stop if it is still running.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        // After a kill -9 the last process of the old server may still hold its shared memory for a moment, and
        // the new one refuses to start beside it.
        let deadline = Instant::now() + STOP_PATIENCE;
        loop {
            match self.start_server() {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context("restarting a private PostgreSQL cluster"));
                }
                Err(_) => thread::sleep(POLL * 4),
            }
        }
    }
}

/// The user `postgres` that Debian's package makes, else `nobody`.
fn unprivileged(root: &Root) -> Result<User> {
    let passwd = fs::read_to_string(root.outside("/etc/passwd")).context("reading /etc/passwd")?;
    for name in ["postgres", "nobody"] {
        for line in passwd.lines() {
            let fields: Vec<_> = line.split(':').collect();
            if let [user, _, uid, gid, ..] = fields[..]
                && user == name
            {
                return Ok(User { uid: uid.parse().context("a uid")?, gid: gid.parse().context("a gid")? });
            }
        }
    }
    bail!(
        "PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody to run it as"
    )
}

/// Makes an empty database in the cluster at `base_url`.
pub(crate) fn create_database(root: &Root, base_url: &str, name: &str) -> Result<()> {
    psql(root, &format!("{base_url}/postgres"), &format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\"")))
        .map(drop)
        .with_context(|| format!("creating the database {name}"))
}

fn psql(root: &Root, url: &str, sql: &str) -> Result<String> {
    let psql = postgres_binaries(root)?.join("psql");
    let output = root
        .command(&psql, Path::new("/"), None)
        .args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "--dbname",
            url,
        ])
        .args(["--command", sql])
        .stdin(Stdio::null())
        .output()
        .context("starting psql")?;
    if !output.status.success() {
        bail!("psql failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
