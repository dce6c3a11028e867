//! One RabbitMQ node and one PostgreSQL cluster for a whole run, and the handle through which every test process
//! gets a virtual host and a database of its own.
//!
//! Promises that two tests never meet: each name is given once. The servers belong to the owner of [`Servers`] (`cargo
//! xtask test`); a [`Shared`] only knows their addresses, from the environment.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};

use crate::postgres::{self, Postgres};
use crate::rabbitmq::{self, NodeOptions, RabbitMq};
use crate::root::Root;

/// The variable with the AMQP URL of the shared node, without a virtual host.
pub const AMQP: &str = "MALOTE_TEST_AMQP";

/// The variable with the address of the shared node's HTTP API, which virtual hosts are made through.
pub const AMQP_ADMIN: &str = "MALOTE_TEST_AMQP_ADMIN";

/// The variable with the URL of the shared cluster, without a database.
pub const POSTGRES: &str = "MALOTE_TEST_POSTGRES";

/// The variable with the path of the `malote` binary under test.
pub const BIN: &str = "MALOTE_TEST_BIN";

/// The variable with the path of the binary of the version before it.
pub const PREVIOUS: &str = "MALOTE_TEST_PREVIOUS";

/// Both servers, running.
pub struct Servers {
    /// The node.
    pub rabbitmq: RabbitMq,
    /// The cluster.
    pub postgres: Postgres,
}

impl Servers {
    /// Starts both at the same time; returns once both are ready.
    ///
    /// # Errors
    /// One of them is not installed or does not start.
    pub fn start() -> Result<Self> {
        Self::start_in(&Root::from_env())
    }

    /// Starts those of this root.
    ///
    /// # Errors
    /// As [`Servers::start`].
    pub fn start_in(root: &Root) -> Result<Self> {
        let options = NodeOptions::in_root(root);
        thread::scope(|scope| {
            let rabbitmq = scope.spawn(|| RabbitMq::start_node(&options));
            let postgres = Postgres::start_in(root);
            let rabbitmq =
                rabbitmq.join().map_err(|_| anyhow!("the thread that started RabbitMQ panicked"))?;
            Ok(Self { rabbitmq: rabbitmq?, postgres: postgres? })
        })
    }

    /// The handle that a test process gets from the environment, for the process that holds the servers.
    pub fn shared(&self) -> Shared {
        Shared {
            amqp: self.rabbitmq.base_url(),
            amqp_admin: self.rabbitmq.admin_url(),
            postgres: self.postgres.base_url(),
        }
    }

    /// The first lines in which a server says that it broke down, or that its disk is full: why tests failed that have
    /// nothing to do with each other. Empty if there are none.
    pub fn trouble(&self) -> String {
        let folders = [self.rabbitmq.folder(), self.postgres.folder()];
        let logs = folders.map(|folder| fs::read_to_string(folder.join("output.log")).unwrap_or_default());
        logs.iter().map(|log| trouble_in(log)).collect()
    }

    /// The variables to give to the test processes.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        let Shared { amqp, amqp_admin, postgres } = self.shared();
        [(AMQP, amqp), (AMQP_ADMIN, amqp_admin), (POSTGRES, postgres)]
    }

    /// A test process's handle to the servers that somebody else started. The same as [`Shared::from_env`].
    ///
    /// # Errors
    /// As [`Shared::from_env`].
    pub fn from_env() -> Result<Shared> {
        Shared::from_env()
    }
}

/// The addresses of servers that somebody else started and will stop.
#[derive(Debug, Clone)]
pub struct Shared {
    amqp: String,
    amqp_admin: String,
    postgres: String,
}

impl Shared {
    /// The servers that `cargo xtask test` started.
    ///
    /// # Errors
    /// The variables are missing: the tests were not run through `cargo xtask test`.
    pub fn from_env() -> Result<Self> {
        Ok(Self { amqp: variable(AMQP)?, amqp_admin: variable(AMQP_ADMIN)?, postgres: variable(POSTGRES)? })
    }

    /// The address of the shared node's HTTP API.
    pub fn admin_url(&self) -> &str {
        &self.amqp_admin
    }

    /// Makes a virtual host that no other test has, and returns its URL.
    ///
    /// # Errors
    /// The node does not answer.
    pub fn fresh_vhost(&self) -> Result<String> {
        let name = unique_name();
        rabbitmq::create_vhost(self.api_port()?, &name)?;
        Ok(format!("{}/{name}", self.amqp))
    }

    /// Deletes a queue, whatever it holds and even if it has consumers. `vhost` is a URL of [`Shared::fresh_vhost`].
    ///
    /// # Errors
    /// The node does not answer, or there is no such queue.
    pub fn delete_queue(&self, vhost: &str, queue: &str) -> Result<()> {
        let vhost = vhost.rsplit('/').next().unwrap_or_default();
        rabbitmq::delete_queue(self.api_port()?, vhost, queue)
    }

    fn api_port(&self) -> Result<u16> {
        let port = self.amqp_admin.rsplit(':').next().and_then(|port| port.parse().ok());
        port.with_context(|| format!("{AMQP_ADMIN} has no port"))
    }

    /// Makes an empty database that no other test has, and returns its URL.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub fn fresh_database(&self) -> Result<String> {
        let name = unique_name();
        postgres::create_database(&Root::from_env(), &self.postgres, &name)?;
        Ok(format!("{}/{name}", self.postgres))
    }
}

/// The `malote` binary that `cargo xtask test` built.
///
/// # Errors
/// The variable is missing: the tests were not run through `cargo xtask test`.
pub fn malote_binary() -> Result<PathBuf> {
    variable(BIN).map(PathBuf::from)
}

/// The `malote` binary of the previous version, that `cargo xtask test` built.
///
/// # Errors
/// As [`malote_binary`].
pub fn previous_binary() -> Result<PathBuf> {
    variable(PREVIOUS).map(PathBuf::from)
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("{name} is not set: run these tests through `cargo xtask test`"))
}

/// The first lines of a server's log that say that it broke down.
fn trouble_in(log: &str) -> String {
    const SIGNS: [&str; 4] =
        ["PANIC:", "terminated by signal", "No space left", "disk space is insufficient"];
    const LINES: usize = 5;
    let lines = log.lines().filter(|line| SIGNS.iter().any(|sign| line.contains(sign)));
    lines.take(LINES).map(|line| format!("{line}\n")).collect()
}

/// A name for a virtual host or a database. The time keeps apart two processes that got the same process id.
fn unique_name() -> String {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_micros();
    format!("test_{}_{}_{time:x}", process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_variable_says_how_to_run_the_tests() {
        let error = variable("MALOTE_TEST_NO_SUCH_VARIABLE").unwrap_err().to_string();
        assert!(error.ends_with("run these tests through `cargo xtask test`"), "{error}");
    }

    #[test]
    fn a_server_that_broke_down_says_why() {
        let panic = "PANIC:  could not write to file \"pg_wal/xlogtemp.7\": No space left on device";
        let log =
            format!("LOG:  checkpoint starting\n{panic}\nFATAL:  the database system is in recovery mode\n");
        assert_eq!(trouble_in(&log), format!("{panic}\n"));
        assert_eq!(trouble_in("ERROR:  duplicate key\n"), "");
    }

    #[test]
    fn names_are_given_once() {
        assert_ne!(unique_name(), unique_name());
    }
}
