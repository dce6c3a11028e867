//! The load: keep-alive connections that post prepared requests, on one thread of their own, and note each answer's time.
//!
//! Plain HTTP/1.1 over sockets, because a client library would take more of the two cores than what is measured.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// How requests follow each other.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Each connection posts again as soon as it is answered.
    Closed,
    /// So many a second over all connections, whatever the answers take: a request that is late counts from its turn.
    PerSecond(f64),
}

/// The connections of a steady rate. With few, a pause of the broker makes all of them wait, and what is due meanwhile waits for a
/// connection: 64 that wait 34 ms each are all that 1,900 requests a second have.
pub const STEADY: usize = 512;

/// The result of posting. Every answer was 200.
pub struct Posted {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Of every request, sorted.
    latencies: Vec<Duration>,
}

impl Posted {
    /// Answers per second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this share of the requests keeps, in milliseconds.
    pub fn percentile(&self, share: f64) -> f64 {
        percentile(&self.latencies, share)
    }
}

/// The value that this share of the sorted ones does not exceed, in milliseconds.
pub fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1;
    sorted[at].as_secs_f64() * 1_000.0
}

/// One keep-alive connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to a port of this machine.
    pub async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a request and gives the body of its answer, which must be 200.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (head, length) = loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the connection ended before its answer");
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.buffer[..end])?;
                ensure!(head.starts_with("HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.buffer));
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
                });
                break (end + 4, length.context("an answer without content-length")?);
            }
        };
        while self.buffer.len() < head + length {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the answer is cut off");
        }
        Ok(&self.buffer[head..])
    }
}

/// Posts every request once over so many connections.
pub async fn post(port: u16, requests: Vec<Vec<u8>>, connections: usize, pace: Pace) -> Result<Posted> {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, post_here(port, Rc::new(requests), connections, pace))
    })
    .await?
}

async fn post_here(port: u16, requests: Rc<Vec<Vec<u8>>>, connections: usize, pace: Pace) -> Result<Posted> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(port).await?);
    }
    let next = Rc::new(Cell::new(0));
    let start = Instant::now();
    let mut posters = Vec::new();
    for mut connection in open {
        let (requests, next) = (Rc::clone(&requests), Rc::clone(&next));
        posters.push(tokio::task::spawn_local(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.replace(next.get() + 1);
                let Some(request) = requests.get(number) else { return anyhow::Ok(latencies) };
                let turn = match pace {
                    Pace::Closed => Instant::now(),
                    Pace::PerSecond(rate) => {
                        let turn = start + Duration::from_secs_f64(number as f64 / rate);
                        tokio::time::sleep_until(turn.into()).await;
                        turn
                    }
                };
                connection.exchange(request).await?;
                latencies.push(turn.elapsed());
            }
        }));
    }
    let mut latencies = Vec::with_capacity(requests.len());
    for poster in posters {
        latencies.extend(poster.await??);
    }
    let elapsed = start.elapsed();
    latencies.sort_unstable();
    Ok(Posted { elapsed, latencies })
}
