//! Supervised connections: who asks gets the live one, and a lost one is replaced without an end.
//!
//! Promises that all hosts are tried in turn, each within the connection time-out, with a jittered back-off between
//! rounds, and that a connection whose channels cannot be opened is thrown away. A connection is made when it is
//! first wanted. What was declared through this process is declared again on every new connection: the server may
//! have lost it. lapin's own recovery stays off. Knows nothing of publishing or consuming.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::{Cause, Topology};
use futures_util::StreamExt;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, Event};
use metrics::{Counter, Gauge};
use tokio::sync::{Notify, OnceCell, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::declare;
use crate::identity::{self, Identity};
use crate::url::Host;
use crate::{Config, Unavailable};

/// How often a connection's state is looked at, for a loss that lapin reports to nobody.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    fn usable(&self) -> bool {
        !self.condemned_already.load(Ordering::Acquire) && self.connection.status().connected()
    }

    /// Has the supervisor replace the connection.
    fn condemn(&self) {
        self.condemned_already.store(true, Ordering::Release);
        self.condemned.notify_one();
    }

    /// Whether the server has told that it takes no publishes now (`connection.blocked`).
    pub(crate) fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Opens a channel. A connection that cannot open one within the time is condemned.
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

    /// What the server says of itself, asked once per connection.
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
            // It fails when the peer was faster, which is as good.
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

#[derive(Clone)]
enum State {
    Down(Arc<str>),
    Up(Arc<Link>),
}

/// The handle to one supervised connection.
#[derive(Clone)]
pub(crate) struct Supervised {
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
}

impl Supervised {
    /// Starts supervision. It ends when the sender of `closing` says so, with its connection, or is gone: the
    /// connection then stays for whoever still uses it, and is not replaced.
    pub(crate) fn start(
        role: &'static str,
        config: Arc<Config>,
        declared: Arc<Mutex<Topology>>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let (sender, state) = watch::channel(State::Down("no connection was wanted yet".into()));
        let wanted = Arc::new(Notify::new());
        let supervisor = Supervisor {
            role,
            reconnects: metrics::counter!("amqp_reconnects_total", "role" => role),
            blocked: metrics::gauge!("amqp_blocked", "role" => role),
            config,
            declared,
            state: sender,
        };
        tokio::spawn(supervisor.run(wanted.clone(), closing));
        Self { state, wanted }
    }

    /// The live connection; waits for it without an end. Fails only when closed.
    pub(crate) async fn link(&self) -> Result<Arc<Link>, Cause> {
        self.wanted.notify_one();
        let mut state = self.state.clone();
        let up = state.wait_for(|state| matches!(state, State::Up(link) if link.usable())).await;
        match up.as_deref() {
            Ok(State::Up(link)) => Ok(link.clone()),
            Ok(State::Down(_)) | Err(_) => Err(Unavailable::Closed.into()),
        }
    }

    /// A channel on the live connection.
    pub(crate) async fn channel(&self, deadline: Instant) -> Result<(Arc<Link>, Channel), Cause> {
        let mut last = None;
        loop {
            let link = match timeout_at(deadline, self.link()).await {
                Ok(link) => link?,
                Err(_) => return Err(last.unwrap_or_else(|| self.why_down())),
            };
            match link.open_channel(deadline).await {
                Ok(channel) => return Ok((link, channel)),
                Err(error) if link.usable() => return Err(error),
                // The connection was lost just now; there may be another one in time.
                Err(error) => last = Some(error),
            }
        }
    }

    /// The last reason why there is no connection, or that the server does not take publishes.
    pub(crate) fn why_down(&self) -> Cause {
        match &*self.state.borrow() {
            State::Down(reason) => Unavailable::Down(reason.clone()).into(),
            State::Up(link) if link.blocked() => Unavailable::Blocked.into(),
            State::Up(_) => Unavailable::Silent("the request").into(),
        }
    }

    /// Whether there is a connection that the server has blocked.
    pub(crate) fn blocked(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(link) if link.blocked())
    }

    /// Whether supervision has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.has_changed().is_err()
    }

    /// Returns once supervision has ended, its connection closed.
    pub(crate) async fn ended(&self) {
        let mut state = self.state.clone();
        while state.changed().await.is_ok() {}
    }
}

struct Supervisor {
    role: &'static str,
    config: Arc<Config>,
    declared: Arc<Mutex<Topology>>,
    state: watch::Sender<State>,
    reconnects: Counter,
    blocked: Gauge,
}

impl Supervisor {
    async fn run(self, wanted: Arc<Notify>, mut closing: watch::Receiver<bool>) {
        tokio::select! {
            () = wanted.notified() => {}
            _ = closing.wait_for(|closing| *closing) => return,
        }
        let closed = tokio::select! {
            () = self.keep_connected() => false,
            // The sender is gone without a word when the handle was dropped.
            closed = closing.wait_for(|closing| *closing) => closed.is_ok(),
        };
        let last = self.state.send_replace(State::Down("closed".into()));
        if let State::Up(link) = last
            && closed
        {
            let close = link.connection.close(200, "closed by malote".into());
            if timeout(self.config.connection_timeout(), close).await.is_err() {
                link.socket.shut_down();
            }
        }
    }

    /// Connects and replaces what is lost, for ever.
    async fn keep_connected(&self) {
        let mut backoff = Backoff::default();
        let mut connected_before = false;
        loop {
            match self.connect().await {
                Ok(link) => {
                    let since = Instant::now();
                    info!(role = self.role, host = %link.host, "connected to RabbitMQ");
                    if connected_before {
                        self.reconnects.increment(1);
                    }
                    connected_before = true;
                    let reason = self.hold(link).await;
                    warn!(role = self.role, reason = &*reason, "lost the connection to RabbitMQ");
                    self.state.send_replace(State::Down(reason));
                    if since.elapsed() > backoff.longest() {
                        backoff = Backoff::default();
                    }
                }
                Err(reason) => {
                    warn!(role = self.role, reason = &*reason, "cannot connect to RabbitMQ");
                    self.state.send_replace(State::Down(reason));
                }
            }
            tokio::time::sleep(backoff.next(Backoff::random())).await;
        }
    }

    /// Tries every host once.
    async fn connect(&self) -> Result<Arc<Link>, Arc<str>> {
        let mut reasons = Vec::new();
        for host in &self.config.url.hosts {
            match timeout(self.config.connection_timeout(), establish(&self.config, self.role, host)).await {
                Ok(Ok(link)) => return Ok(Arc::new(link)),
                Ok(Err(error)) => reasons.push(format!("{host}: {error}")),
                Err(_) => reasons.push(format!("{host}: no answer in time")),
            }
        }
        Err(reasons.join("; ").into())
    }

    /// Offers the connection until it is lost; returns why it is.
    async fn hold(&self, link: Arc<Link>) -> Arc<str> {
        let mut events = Box::pin(link.connection.events_listener());
        let topology = self.declared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if topology != Topology::default()
            && let Err(error) = declare::on_link(&link, topology).await
        {
            // A publish or a subscription to what is missing says so itself.
            warn!(
                role = self.role,
                error = &error as &dyn std::error::Error,
                "cannot declare the topology again"
            );
        }
        self.state.send_replace(State::Up(link.clone()));
        let mut look = tokio::time::interval(LOOK_EVERY);
        let reason = loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = link.condemned.notified() => break "a channel could not be opened".into(),
                _ = look.tick() => None,
            };
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    warn!(role = self.role, reason, "RabbitMQ takes no publishes");
                    self.blocked.set(1.0);
                }
                Some(Event::ConnectionUnblocked) => {
                    info!(role = self.role, "RabbitMQ takes publishes again");
                    self.blocked.set(0.0);
                }
                // Of a channel or of the connection: the state tells which.
                Some(Event::Error(error)) if !link.connection.status().connected() => {
                    break error.to_string().into();
                }
                _ if !link.connection.status().connected() => break "the connection was closed".into(),
                _ => {}
            }
        };
        link.condemn();
        link.socket.shut_down();
        self.blocked.set(0.0);
        reason
    }
}

/// Connects to one host. Dropping the future ends the attempt.
async fn establish(config: &Config, role: &str, host: &Host) -> lapin::Result<Link> {
    let url = &config.url;
    let uri = AMQPUri {
        scheme: if url.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: url.user.clone(), password: url.password.clone() },
            host: host.name.clone(),
            port: host.port,
        },
        vhost: url.vhost.clone(),
        query: AMQPQueryString { heartbeat: Some(config.heartbeat_s), ..AMQPQueryString::default() },
    };
    let connection_name = format!("{} {role}", config.connection_name);
    let properties = ConnectionProperties::default().with_connection_name(connection_name.into());
    let socket = Socket::default();
    let mut attempt = Attempt(Some(socket.clone()));
    let patience = config.connection_timeout();
    let runtime = lapin::runtime::default_runtime()?;
    let (name, port, tls, dialled) =
        (host.name.clone(), host.port, url.tls.then(|| config.tls.clone()), socket.clone());
    // Runs on lapin's own thread, which has to end too when nobody waits any more.
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
                    Some(tls) => stream.into_tls(&name, tls.read()?.as_ref()).await,
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
