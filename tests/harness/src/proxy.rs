//! A TCP proxy on loopback that can be cut, stalled and left half-open.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Bytes pass.
    Open,
    /// Every connection is closed, and new ones at once.
    Cut,
    /// Connections stay, and nothing passes: what was sent passes once it is open again.
    Stalled,
    /// Earlier connections are dead and stay open on the client's side; new ones pass.
    HalfOpen,
}

/// The proxy. It ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    way: Arc<watch::Sender<(Way, u64)>>,
    /// How many connections were refused.
    refused: Arc<watch::Sender<u64>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts between a port of its own and this one on loopback.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port for the proxy")?;
        let address = listener.local_addr()?;
        let way = Arc::new(watch::Sender::new((Way::Open, 0)));
        let refused = Arc::new(watch::Sender::new(0));
        let (current, count) = (way.clone(), refused.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if current.borrow().0 == Way::Cut {
                    count.send_modify(|count| *count += 1);
                } else {
                    tokio::spawn(pass(client, port, current.subscribe()));
                }
            }
        });
        Ok(Self { address, way, refused, task })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Waits until it has refused a connection from now on: somebody has met the cut.
    pub async fn refuses(&self) {
        // Fails only once the sender is gone, which this value holds.
        let _ = self.refused.subscribe().changed().await;
    }

    /// From now on.
    pub fn set(&self, way: Way) {
        self.way.send_modify(|(current, changes)| (*current, *changes) = (way, *changes + 1));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.set(Way::Cut);
    }
}

/// One connection, to its end.
async fn pass(mut client: TcpStream, port: u16, mut way: watch::Receiver<(Way, u64)>) {
    if way.borrow_and_update().0 == Way::Cut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut up, mut down) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        let now = way.borrow_and_update().0;
        match now {
            Way::Cut => return,
            Way::Stalled => {
                if way.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Way::Open | Way::HalfOpen => {}
        }
        let passed = tokio::select! {
            changed = way.changed() => {
                // Earlier connections are dead from now on: nothing is read from them, and they stay open.
                if changed.is_ok() && way.borrow().0 == Way::HalfOpen {
                    drop(server);
                    let cut = way.wait_for(|(way, _)| *way == Way::Cut).await.map(drop);
                    return drop((cut, client));
                }
                changed.is_ok()
            }
            read = client.read(&mut up) => match read {
                Ok(0) | Err(_) => false,
                Ok(length) => server.write_all(&up[..length]).await.is_ok(),
            },
            read = server.read(&mut down) => match read {
                Ok(0) | Err(_) => false,
                Ok(length) => client.write_all(&down[..length]).await.is_ok(),
            },
        };
        if !passed {
            return;
        }
    }
}
