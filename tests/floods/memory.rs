//! Floods of connections: they take memory before any role has seen a request, by heads and by bodies in the windows of HTTP/2,
//! or all places of the port.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::counts::Counts;
use super::http2;
use super::sender::head;

/// How long after one of the connections the next one is opened.
pub const OPEN_PERIOD: Duration = Duration::from_micros(250);

/// Descriptors of this process: those, and what else runs in it.
const DESCRIPTORS: u64 = 6000;

/// What a connection sends before it waits for its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Bodies on four streams that fill the window of the connection.
    Windows,
    /// A head, or all of one but its end.
    Head { bytes: usize, is_whole: bool },
    /// All but the end of an HTTP/2 head of many short headers.
    Headers,
}

impl Written {
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Windows => http2::posts(4, 65_535 / 4),
            Self::Headers => http2::unfinished_head(400),
            Self::Head { bytes, is_whole } => {
                let mut text = head(&"0".repeat(64), 1024 * 1024);
                text.truncate(text.len() - 2);
                let lines = (bytes - text.len()) / 200;
                text.extend((0..lines.min(80)).map(|n| format!("x-{n:03}: {}\r\n", "y".repeat(191))));
                match is_whole {
                    true => text += "\r\n",
                    false => text += &format!("x-rest: {}", "y".repeat(bytes.saturating_sub(text.len()))),
                }
                text.into_bytes()
            }
        }
    }
}

/// Sends what is to be sent, and waits for the end of the connection.
pub async fn flood(mut stream: TcpStream, bytes: &[u8], counts: &Counts) -> Result<()> {
    stream.write_all(bytes).await?;
    let mut answer = [0; 4096];
    let mut read = stream.read(&mut answer).await?;
    counts.answered(&answer[..read]);
    while read > 0 {
        read = stream.read(&mut answer).await?;
    }
    Ok(())
}

/// Lets this process have a descriptor for each connection.
pub fn raise_descriptor_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let is_enough = limit.maximum.is_none_or(|maximum| maximum >= DESCRIPTORS);
    ensure!(is_enough, "the floods need {DESCRIPTORS} descriptors; raise the hard limit (ulimit -Hn)");
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("raising the limit of descriptors")
}
