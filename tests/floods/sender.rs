//! The true sender: posts a small, signed event at a steady rate, each over a connection of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use providers::auth::Auth;
use tests::product::{Product, example};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// How often it posts, and how many times: longer in full, so that a slow tail shows.
const PERIOD: Duration = Duration::from_millis(10);
const COUNT: usize = 200;
const COUNT_FULL: usize = 500;

/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Its own address.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 9, 9, 9);

/// What was answered, and after which time.
pub struct Times {
    pub posted: usize,
    pub accepted: Vec<Duration>,
    pub refused: Vec<String>,
}

impl Times {
    pub fn quantile(&self, part: f64) -> Duration {
        let mut sorted = self.accepted.clone();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * part) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(Duration::MAX)
    }
}

/// Opens a connection from a loopback address.
pub async fn connect_from(address: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((IpAddr::V4(address), 0).into())?;
    Ok(socket.connect(to).await?)
}

/// The head of a post to the source `signed`.
pub fn head(signature: &str, length: usize) -> String {
    format!(
        "POST /webhooks/signed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nx-signature: \
         {signature}\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// What proves a body.
pub fn signature(auth: &Auth, body: &[u8]) -> Result<String> {
    let signed = auth.sign(body, event::now());
    Ok(signed.headers.into_iter().next().context("a signature")?.1)
}

#[derive(Clone)]
pub struct Sender {
    from: Ipv4Addr,
    to: SocketAddr,
    request: Vec<u8>,
}

impl Sender {
    pub fn new(product: &Product) -> Result<Self> {
        let body = example("mercado-eletronico", "order.created").as_bytes();
        let mut request = head(&signature(&product.auth("signed")?, body)?, body.len()).into_bytes();
        request.extend_from_slice(body);
        Ok(Self { from: ADDRESS, to: product.ingress_address()?, request })
    }

    /// The same from another address.
    pub fn at(&self, from: Ipv4Addr) -> Self {
        Self { from, ..self.clone() }
    }

    /// Posts once; returns how long the 200 took.
    pub async fn one(&self) -> Result<Duration> {
        let started = Instant::now();
        let answered = tokio::time::timeout(PATIENCE, async {
            let mut stream = connect_from(self.from, self.to).await?;
            stream.write_all(&self.request).await?;
            let mut answer = [0; 1024];
            let length = stream.read(&mut answer).await?;
            let text = String::from_utf8_lossy(&answer[..length]).into_owned();
            ensure!(text.starts_with("HTTP/1.1 200 "), "{text:?}");
            Ok(())
        });
        answered.await.context("no answer in time")??;
        Ok(started.elapsed())
    }

    /// Posts some times, one after the other.
    pub async fn post(&self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.one().await?;
        }
        Ok(())
    }

    /// Posts at its rate, on a thread of its own: what others of this process do keeps it waiting as little as possible.
    pub fn run(self) -> Result<Times> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let posted = if tests::full_faults().is_some() { COUNT_FULL } else { COUNT };
            let mut period = tokio::time::interval(PERIOD);
            let mut posts = tokio::task::JoinSet::new();
            for _ in 0..posted {
                period.tick().await;
                let sender = self.clone();
                posts.spawn(async move { sender.one().await });
            }
            let mut times = Times { posted, accepted: Vec::new(), refused: Vec::new() };
            while let Some(post) = posts.join_next().await {
                match post? {
                    Ok(time) => times.accepted.push(time),
                    Err(error) => times.refused.push(format!("{error:#}")),
                }
            }
            Ok(times)
        })
    }
}
