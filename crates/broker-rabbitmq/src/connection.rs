//! Supervised connections: callers get the live one, and a lost one is replaced, with retries without limit.
//!
//! Promises that all hosts are tried in turn, each within the connection time-out, with a jittered back-off between
//! rounds, and that a connection whose channels cannot be opened is thrown away. A connection is made when it is
//! first wanted. What was declared through this process is declared again on every new connection: the server may
//! have lost it. lapin's own recovery stays off. Knows nothing of publishing or consuming.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::backoff::jittered;
use broker::{Backoff, BrokerError, Cause, Topology};
use futures_util::StreamExt;
use lapin::{Channel, Event};
use metrics::{Counter, Gauge};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

use crate::declare;
use crate::link::{Link, establish};
use crate::{Config, Unavailable};

/// How often a declaration is attempted: when two replicas create the same queue at once, the server may fail one of
/// them.
const DECLARE_ATTEMPTS: u32 = 5;

/// The longest pause between two attempts to connect, to open a channel or to declare.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often a connection's state is looked at, for a loss that lapin reports to nobody.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone)]
enum LinkState {
    Down(Arc<str>),
    Up(Arc<Link>),
}

/// The handle to one supervised connection.
#[derive(Clone)]
pub(crate) struct Supervised {
    state: watch::Receiver<LinkState>,
    wanted: Arc<Notify>,
}

impl Supervised {
    /// Starts supervision. It ends when the sender of `closing` says so, with its connection, or is gone: the
    /// connection then stays for its users, and is not replaced.
    pub(crate) fn start(
        role: &'static str,
        config: Arc<Config>,
        declared: Arc<Mutex<Topology>>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let (sender, state) = watch::channel(LinkState::Down("no connection was wanted yet".into()));
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

    /// The live connection; waits for it without limit. Fails only when closed.
    pub(crate) async fn link(&self) -> Result<Arc<Link>, Cause> {
        self.wanted.notify_one();
        let mut state = self.state.clone();
        let up = state.wait_for(|state| matches!(state, LinkState::Up(link) if link.usable())).await;
        match up.as_deref() {
            Ok(LinkState::Up(link)) => Ok(link.clone()),
            Ok(LinkState::Down(_)) | Err(_) => Err(Unavailable::Closed.into()),
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

    /// Declares a topology on whichever connection is live. Returns what is in force, as [`declare::on_link`] does.
    pub(crate) async fn declare(
        &self,
        topology: &Topology,
        deadline: Instant,
    ) -> Result<Topology, BrokerError> {
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        let mut attempt = 1;
        loop {
            let (link, _channel) = self.channel(deadline).await.map_err(BrokerError::Unavailable)?;
            match declare::on_link(&link, topology.clone()).await {
                // After the deadline the error is returned: without a majority, every attempt takes its full time-out.
                Err(BrokerError::Unavailable(cause))
                    if attempt < DECLARE_ATTEMPTS && Instant::now() < deadline =>
                {
                    debug!(error = &*cause, attempt, "declaring the topology failed, trying again");
                }
                result => return result,
            }
            attempt += 1;
            sleep(jittered(backoff.next_pause())).await;
        }
    }

    /// The last reason why there is no connection, or that the server does not accept publishes.
    pub(crate) fn why_down(&self) -> Cause {
        match &*self.state.borrow() {
            LinkState::Down(reason) => Unavailable::Down(reason.clone()).into(),
            LinkState::Up(link) if link.blocked() => Unavailable::Blocked.into(),
            LinkState::Up(_) => Unavailable::Silent("the request").into(),
        }
    }

    /// Whether there is a connection that the server has blocked.
    pub(crate) fn blocked(&self) -> bool {
        matches!(&*self.state.borrow(), LinkState::Up(link) if link.blocked())
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
    state: watch::Sender<LinkState>,
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
            // If the handle was dropped, the sender is gone without having sent anything.
            closed = closing.wait_for(|closing| *closing) => closed.is_ok(),
        };
        let last = self.state.send_replace(LinkState::Down("closed".into()));
        if let LinkState::Up(link) = last
            && closed
        {
            link.close(self.config.connection_timeout()).await;
        }
    }

    /// Connects and replaces lost connections, forever.
    async fn keep_connected(&self) {
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
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
                    self.state.send_replace(LinkState::Down(reason));
                    if since.elapsed() > LONGEST_PAUSE {
                        backoff = Backoff::up_to(LONGEST_PAUSE);
                    }
                }
                Err(reason) => {
                    warn!(role = self.role, reason = &*reason, "cannot connect to RabbitMQ");
                    self.state.send_replace(LinkState::Down(reason));
                }
            }
            sleep(jittered(backoff.next_pause())).await;
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
        let mut events = Box::pin(link.events());
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
        self.state.send_replace(LinkState::Up(link.clone()));
        let mut look = tokio::time::interval(LOOK_EVERY);
        let reason = loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = link.condemned() => break "a channel could not be opened".into(),
                _ = look.tick() => None,
            };
            match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    warn!(role = self.role, reason, "RabbitMQ accepts no publishes");
                    self.blocked.set(1.0);
                }
                Some(Event::ConnectionUnblocked) => {
                    info!(role = self.role, "RabbitMQ accepts publishes again");
                    self.blocked.set(0.0);
                }
                // Of a channel or of the connection: the state tells which.
                Some(Event::Error(error)) if !link.is_connected() => {
                    break error.to_string().into();
                }
                _ if !link.is_connected() => break "the connection was closed".into(),
                _ => {}
            }
        };
        link.abandon();
        self.blocked.set(0.0);
        reason
    }
}
