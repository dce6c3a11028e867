//! The HTTP stack's limit: the same server and router, which read the body and answer without any work. A process of its
//! own, as malote is one.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::any;
use server::{Health, Operations, Server};
use tokio_util::sync::CancellationToken;

/// The command line that makes this program the server.
pub const COMMAND: &str = "serve-empty-answers";

/// The server, as the other process.
pub async fn serve() -> Result<Infallible> {
    let answer = async |_body: Bytes| ([(CONTENT_TYPE, "application/json")], ANSWER);
    let router = Router::new().route("/webhooks/{source}", any(answer));
    let server = Server::bind(&server::Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).await?;
    println!("{}", server.local_addr().port());
    let operations = Operations::new(Health::default(), String::new, "0");
    server.serve(router, operations, CancellationToken::new()).await;
    anyhow::bail!("the server ended")
}

/// As long as malote's.
const ANSWER: &str = r#"{"id":"0199d3c0-1f2e-7abc-8def-0123456789ab","topic":"order.created"}"#;

/// The server at work. It ends with this value.
pub struct Empty {
    /// Where it answers.
    pub port: u16,
    child: Child,
}

impl Empty {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(COMMAND)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut line)?;
        Ok(Self { port: line.trim().parse()?, child })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Empty {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
