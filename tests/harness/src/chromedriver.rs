//! A Chromium that a test drives, through the HTTP API of its driver (W3C WebDriver).
//!
//! Promises that driver and browser end with the test, even when that is killed. It refuses to know what is done with the
//! browser.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Daemon, await_ready, free_port};

/// How long the driver may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends the driver together with the browser, which is in its process group.
const WITH_BROWSER: &str = r#"trap 'trap "" TERM; kill -KILL 0' TERM; chromedriver --port="$1" & wait"#;

/// The driver. It has no browser until a session is opened through its API.
pub struct Chromedriver {
    _daemon: Daemon,
    folder: PathBuf,
    port: u16,
}

impl Chromedriver {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("malote-chromium-").tempdir().context("a folder")?.keep();
        let daemon = Daemon::new(&folder, "TERM")?;
        let (port, log) = (free_port()?, folder.join("driver.log"));
        let mut command = Command::new("sh");
        command.args(["-c", WITH_BROWSER, "chromedriver", &port.to_string()]).env("HOME", &folder);
        daemon.start(&mut command, &log)?;
        await_ready(&daemon, &log, PATIENCE, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
            .context("Chromium's driver does not start: install it with `apt-get install chromium-driver`")?;
        Ok(Self { _daemon: daemon, folder, port })
    }

    /// Where its API is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A folder for the browser's profile, which is removed at the end.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The arguments that the browser has to have: a profile of its own, and no requests by itself.
    pub fn arguments(&self) -> Vec<String> {
        let profile = format!("--user-data-dir={}", self.folder.join("profile").display());
        // The sandbox does not work as root, which containers run tests as.
        let fixed = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ];
        fixed.into_iter().map(str::to_owned).chain([profile]).collect()
    }
}
