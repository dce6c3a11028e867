//! The floods: unauthenticated bodies, slow and fast, authenticated bodies, idle connections, HTTP/2 streams.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tests::product::Product;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::counts::Counts;
use super::http2;
use super::memory::{self, Written};
use super::sender::{connect_from, head, signature};

pub const MIB: usize = 1024 * 1024;

/// How soon a stranger whose connection has ended comes again.
const PAUSE: Duration = Duration::from_millis(500);

/// A kind of flood.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// 1,200 unproved bodies of 1 MiB that trickle: more than a source has places.
    Slow { clients: u32 },
    /// 1,000 unproved bodies of 1 MiB, as fast as they are taken, over and over.
    Fast { clients: u32 },
    /// Bodies of 1 MiB of a sender that is known, 300 at a time.
    Proved,
    /// Connections that send nothing.
    Idle { clients: u32, connections: u32 },
    /// Bodies that do not end, each on a stream of its own.
    Streams,
    /// Many connections that send this and wait.
    Written { connections: u32, clients: u32, written: Written },
}

/// A flood under way.
pub struct Running {
    stop: CancellationToken,
    thread: JoinHandle<Result<()>>,
    counts: Arc<Counts>,
}

impl Running {
    /// How many connections it has opened.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Ends the flood, and returns its result.
    pub fn end(self) -> Result<String> {
        self.stop.cancel();
        self.thread.join().map_err(|_| anyhow!("the flood panicked"))??;
        let Counts { connections, answers, closed } = &*self.counts;
        let get = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Ok(format!(
            "{} connections; answers 2xx {}, 4xx {}, 5xx {}; closed {}",
            get(connections),
            get(&answers[2]),
            get(&answers[4]),
            get(&answers[5]),
            get(closed)
        ))
    }
}

impl Flood {
    /// Whether it is meant to leave no connection for others.
    pub fn holds_connections(self) -> bool {
        matches!(self, Self::Idle { .. })
    }

    /// Starts the flood on a thread of its own.
    pub fn start(self, product: &Product) -> Result<Running> {
        let ports = [product.ingress_address()?, product.console_address()?];
        let auth = product.auth("signed")?;
        // Valid, and large in a field that nobody reads.
        let padding = "x".repeat(MIB - 256);
        let body =
            format!(r#"{{"topic": "order.created", "data": {{"orderId": "0123"}}, "padding": "{padding}"}}"#);
        let proof = match self {
            Self::Proved => signature(&auth, body.as_bytes())?,
            _ => "0".repeat(64),
        };
        let request: Arc<[u8]> = match self {
            Self::Written { written, .. } => written.bytes().into(),
            _ => (head(&proof, body.len()) + &body).into_bytes().into(),
        };
        let stop = CancellationToken::new();
        let (ended, counts) = (stop.clone(), Arc::new(Counts::default()));
        let seen = Arc::clone(&counts);
        let thread = std::thread::spawn(move || {
            // It would come from other machines: what it takes of the processors of this one, nobody else may miss.
            rustix::process::nice(10).context("lowering the priority of the flood")?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut strangers = JoinSet::new();
                self.spawn(&mut strangers, ports, &request, &seen);
                ended.cancelled().await;
                strangers.shutdown().await;
            });
            Ok(())
        });
        Ok(Running { stop, thread, counts })
    }

    fn spawn(
        self,
        strangers: &mut JoinSet<()>,
        ports: [SocketAddr; 2],
        request: &Arc<[u8]>,
        counts: &Arc<Counts>,
    ) {
        let count = match self {
            Self::Slow { .. } => 1200,
            Self::Fast { .. } => 1000,
            Self::Proved => 300,
            Self::Idle { connections, .. } | Self::Written { connections, .. } => connections,
            Self::Streams => 20,
        };
        let clients = match self {
            Self::Slow { clients }
            | Self::Fast { clients }
            | Self::Idle { clients, .. }
            | Self::Written { clients, .. } => clients,
            Self::Proved => 1,
            Self::Streams => 20,
        };
        for n in 0..count {
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + n % clients);
            let (request, counts) = (Arc::clone(request), Arc::clone(counts));
            // These hold memory, and not the accept loop.
            let begin = matches!(self, Self::Written { .. }).then(|| memory::OPEN_PERIOD * n);
            strangers.spawn(async move {
                tokio::time::sleep(begin.unwrap_or_default()).await;
                // That the server ends the connection is no error. The flood goes on, within bounds.
                loop {
                    let _ = self.stranger(address, ports, &request, &counts).await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
    }

    async fn stranger(
        self,
        address: Ipv4Addr,
        ports: [SocketAddr; 2],
        request: &[u8],
        counts: &Counts,
    ) -> Result<()> {
        let mut stream = connect_from(address, ports[0]).await?;
        counts.connections.fetch_add(1, Ordering::Relaxed);
        let mut answer = [0; 256];
        match self {
            Self::Slow { .. } => {
                stream.write_all(&request[..16 * 1024]).await?;
                for piece in request[16 * 1024..].chunks(1024) {
                    tokio::select! {
                        read = stream.read(&mut answer) => {
                            counts.answered(&answer[..read?]);
                            return Ok(());
                        }
                        () = tokio::time::sleep(Duration::from_millis(250)) => stream.write_all(piece).await?,
                    }
                }
            }
            Self::Fast { .. } | Self::Proved => {
                stream.write_all(request).await?;
                let read = stream.read(&mut answer).await?;
                counts.answered(&answer[..read]);
            }
            Self::Idle { .. } => {
                // The console's port as well: it must not take the descriptors of the ingress, nor the other way round.
                let console = connect_from(address, ports[1]).await?;
                let _ = stream.read(&mut answer).await;
                counts.closed.fetch_add(1, Ordering::Relaxed);
                drop(console);
            }
            Self::Streams => http2::flood(stream, counts).await?,
            Self::Written { .. } => memory::flood(stream, request, counts).await?,
        }
        Ok(())
    }
}
