//! One connection to one host.
//!
//! Promises that a dropped attempt and an abandoned connection end at once, together with lapin's own thread.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::Cause;
use futures_util::Stream;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, Event};
use tokio::sync::{Notify, OnceCell};
use tokio::time::{Instant, timeout, timeout_at};

use crate::identity::{self, Identity};
use crate::url::Host;
use crate::{Config, Unavailable};

/// RabbitMQ's longest frame; a server with shorter ones has its way. lapin has room for 32 in each direction, and comes to use all of
/// it.
const FRAME_BYTES: u32 = 128 * 1024;

/// That of a connection that publishes, half as long: all headers of a message have to fit into one. A connection that consumes
/// would read its deliveries more slowly, as more of them would go over the end of a buffer.
pub(crate) const PUBLISHING_FRAME_BYTES: u32 = FRAME_BYTES / 2;

/// The role of a connection that publishes.
pub(crate) const PUBLISHING: &str = "publish";

/// One established connection.
pub(crate) struct Link {
    connection: Connection,
    /// The node it leads to.
    pub(crate) host: Host,
    /// Shut down when the connection is lost: lapin's own thread ends at the latest then.
    socket: Socket,
    condemned: Notify,
    condemned_already: AtomicBool,
    identity: OnceCell<Identity>,
}

impl Link {
    /// Whether it is connected and not to be replaced.
    pub(crate) fn usable(&self) -> bool {
        !self.condemned_already.load(Ordering::Acquire) && self.is_connected()
    }

    /// Whether the connection is established.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// The events that the server reports on the connection.
    pub(crate) fn events(&self) -> impl Stream<Item = Event> + Send + 'static {
        self.connection.events_listener()
    }

    /// Has the supervisor replace the connection.
    fn condemn(&self) {
        self.condemned_already.store(true, Ordering::Release);
        self.condemned.notify_one();
    }

    /// Returns once the connection is to be replaced.
    pub(crate) async fn condemned(&self) {
        self.condemned.notified().await;
    }

    /// Drops the connection without notifying the server.
    pub(crate) fn abandon(&self) {
        self.condemn();
        self.socket.shut_down();
    }

    /// Closes the connection cleanly; drops it when that takes longer than this.
    pub(crate) async fn close(&self, patience: Duration) {
        let close = self.connection.close(200, "closed by malote".into());
        if timeout(patience, close).await.is_err() {
            self.socket.shut_down();
        }
    }

    /// Whether the server accepts no publishes now (`connection.blocked`).
    pub(crate) fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Opens a channel. A connection that cannot open one in time is to be replaced.
    pub(crate) async fn open_channel(&self, deadline: Instant) -> Result<Channel, Cause> {
        match timeout_at(deadline, self.connection.create_channel()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => {
                if !matches!(error.kind(), ErrorKind::ChannelsLimitReached) {
                    self.condemn();
                }
                Err(error.into())
            }
            Err(_) => {
                self.condemn();
                Err(Unavailable::Silent("channel.open").into())
            }
        }
    }

    /// What the server says about itself, requested once per connection.
    pub(crate) async fn identity(&self, config: &Config) -> Result<&Identity, Cause> {
        let ask = || async {
            let patience = config.connection_timeout();
            timeout(patience, identity::ask(&self.host, config.url.tls.then_some(&config.tls)))
                .await
                .map_err(|_| Cause::from(Unavailable::Silent("connection.start")))?
                .map_err(Cause::from)
        };
        self.identity.get_or_try_init(ask).await
    }
}

/// A second handle to a connection's socket. lapin gives no other way to end a connection that is not yet
/// established, or whose peer is silent.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Option<TcpStream>>>);

impl Socket {
    fn set(&self, socket: &impl AsFd) -> io::Result<()> {
        let twin = TcpStream::from(socket.as_fd().try_clone_to_owned()?);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(twin);
        Ok(())
    }

    fn shut_down(&self) {
        if let Some(socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It fails if the peer closed first, which has the same effect.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Shuts the socket down unless the connection was established.
struct Attempt(Option<Socket>);

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            socket.shut_down();
        }
    }
}

/// Connects to one host. Dropping the future ends the attempt.
pub(crate) async fn establish(config: &Config, role: &str, host: &Host) -> lapin::Result<Link> {
    let url = &config.url;
    let password = config.password()?;
    let uri = AMQPUri {
        scheme: if url.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: url.user.clone(), password },
            host: host.name.clone(),
            port: host.port,
        },
        vhost: url.vhost.clone(),
        // Said from the beginning, so that lapin's buffers have their size at once: those that grow later are written
        // whole, and take the memory before anything is in them.
        query: AMQPQueryString {
            heartbeat: Some(config.heartbeat_s),
            frame_max: Some(if role == PUBLISHING { PUBLISHING_FRAME_BYTES } else { FRAME_BYTES }),
            ..AMQPQueryString::default()
        },
    };
    let connection_name = format!("{} {role}", config.connection_name);
    let properties = ConnectionProperties::default().with_connection_name(connection_name.into());
    let socket = Socket::default();
    let mut attempt = Attempt(Some(socket.clone()));
    let patience = config.connection_timeout();
    let runtime = lapin::runtime::default_runtime()?;
    let (name, port, tls, dialled) =
        (host.name.clone(), host.port, url.tls.then(|| config.tls.clone()), socket.clone());
    // Runs on lapin's own thread, which must also end once nobody waits for it.
    let dial = Connection::connector(
        uri,
        runtime,
        async move |_uri, runtime| {
            let dial = timeout(patience, async {
                let addresses: Vec<_> = tokio::net::lookup_host((name.as_str(), port)).await?.collect();
                let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    plain.get_ref().set_nodelay(true)?;
                    dialled.set(plain.get_ref())?;
                }
                match &tls {
                    Some(tls) => stream.into_tls(&name, crate::tls::read(tls)?.as_ref()).await,
                    None => Ok(stream),
                }
            });
            let stream = dial.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(stream)
        },
        properties,
    );
    let connection = dial.await?;
    attempt.0 = None;
    Ok(Link {
        connection,
        host: host.clone(),
        socket,
        condemned: Notify::new(),
        condemned_already: AtomicBool::new(false),
        identity: OnceCell::new(),
    })
}
