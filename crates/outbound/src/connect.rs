//! A new connection: resolve, check every address, connect to one of those, and negotiate.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::header::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::address::{Address, Host};
use crate::config::{Config, Proxy, ProxyUrl};
use crate::error::{SendError, Step};
use crate::guard::Guard;
use crate::pool::{Connection, PING, Stream};
use crate::resolve::Resolver;
use crate::tls::Trust;

/// The longest answer of a proxy to CONNECT, in bytes.
const LONGEST_ANSWER: usize = 16 * 1024;

/// Makes connections.
pub(crate) struct Connector {
    pub(crate) guard: Guard,
    resolver: Resolver,
    proxy: Proxy,
    timeout: Duration,
    idle: Duration,
}

impl Connector {
    pub(crate) fn new(config: &Config, resolver: Resolver) -> Self {
        Self {
            guard: Guard::new(&config.allow),
            resolver,
            proxy: config.proxy.clone(),
            timeout: Duration::from_millis(config.connect_timeout_ms),
            idle: Duration::from_millis(config.idle_timeout_ms),
        }
    }

    /// The authorization for a proxy that sees the requests themselves, and whether there is such a proxy: the one of a
    /// target without TLS. One of a target with TLS only connects.
    pub(crate) fn forwarding(&self, to: &Address) -> Option<Option<&HeaderValue>> {
        self.proxy.proxy_for(to).filter(|_| !to.is_https()).map(ProxyUrl::authorization)
    }

    /// Opens a connection to a target within the time-out. The step that is in progress is kept in `step`.
    pub(crate) async fn connect(
        &self,
        to: &Address,
        trust: &Trust,
        step: &mut Step,
    ) -> Result<Connection, SendError> {
        // `step` is read after the time-out has dropped what borrows it.
        let opened = timeout(self.timeout, self.open(to, trust, step)).await;
        opened.unwrap_or_else(|_| {
            Err(SendError::TimedOut { host: to.host().to_owned(), step: *step, after: self.timeout })
        })
    }

    async fn open(&self, to: &Address, trust: &Trust, step: &mut Step) -> Result<Connection, SendError> {
        self.guard.check_written(to)?;
        let deadline = Instant::now() + self.timeout;
        let proxy = self.proxy.proxy_for(to);
        *step = Step::Resolve;
        let addresses = match self.addresses(to).await {
            // The proxy may know names that are unknown here.
            Err(SendError::Resolve { .. }) if proxy.is_some() => Vec::new(),
            addresses => addresses?,
        };
        for address in &addresses {
            self.guard.check(to.host(), *address)?;
        }
        let mut tcp = match proxy {
            None => self.tcp(to, &addresses, deadline, step).await?,
            // The operator's own setting: it may be anywhere.
            Some(proxy) => {
                let addresses = self.addresses(proxy.url()).await?;
                self.tcp(proxy.url(), &addresses, deadline, step).await?
            }
        };
        if let Some(proxy) = proxy.filter(|_| to.is_https()) {
            *step = Step::Proxy;
            tunnel(&mut tcp, proxy, to).await?;
        }
        let (stream, is_http2): (Box<dyn Stream>, bool) = if to.is_https() {
            *step = Step::Tls;
            let failed = |source| SendError::Tls { host: to.host().to_owned(), source };
            let connector = TlsConnector::from(trust.config().map_err(failed)?.clone());
            let tls = connector.connect(to.server().clone(), tcp).await.map_err(failed)?;
            let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            (Box::new(tls), is_http2)
        } else {
            (Box::new(tcp), false)
        };
        let opened = Connection::open(stream, is_http2, self.idle, PING).await;
        opened.map_err(|source| SendError::Protocol { host: to.host().to_owned(), source })
    }

    /// Connects to the first address that answers. Each has an equal share of the time that is left.
    async fn tcp(
        &self,
        to: &Address,
        addresses: &[IpAddr],
        deadline: Instant,
        step: &mut Step,
    ) -> Result<TcpStream, SendError> {
        *step = Step::Connect;
        let mut last = None;
        for (ip, left) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
            let (host, address) = (to.host().to_owned(), SocketAddr::new(*ip, to.port()));
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            last = Some(match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    // A request is one write; it is never held back for the next one.
                    let _ = tcp.set_nodelay(true);
                    return Ok(tcp);
                }
                Ok(Err(source)) => SendError::Connect { host, address, source },
                Err(_) => SendError::TimedOut { host, step: Step::Connect, after: self.timeout },
            });
        }
        Err(last.expect("a target has at least one address"))
    }

    async fn addresses(&self, of: &Address) -> Result<Vec<IpAddr>, SendError> {
        match of.target() {
            Host::Ip(ip) => Ok(vec![*ip]),
            Host::Name(name) => match self.resolver.resolve(name).await {
                Ok(addresses) => Ok(addresses.to_vec()),
                Err(source) => Err(SendError::Resolve { host: of.host().to_owned(), source }),
            },
        }
    }
}

/// Has a proxy connect to a target (RFC 9110, section 9.3.6).
async fn tunnel(tcp: &mut TcpStream, proxy: &ProxyUrl, to: &Address) -> Result<(), SendError> {
    let failed = |reason: String| SendError::Proxy {
        proxy: proxy.url().host().to_owned(),
        host: to.host().to_owned(),
        reason,
    };
    let (host, port) = (to.host(), to.port());
    let authorization = proxy.authorization().and_then(|value| value.to_str().ok());
    let authorization =
        authorization.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n");
    tcp.write_all(request.as_bytes()).await.map_err(|error| failed(error.to_string()))?;
    let mut head = Vec::new();
    // The first bytes behind the head are the server's: it is read to its end, and no further.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= LONGEST_ANSWER {
            return Err(failed("its answer is too long".to_owned()));
        }
        match tcp.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
    let status = status.and_then(|digits| http::StatusCode::from_bytes(digits).ok());
    match status {
        Some(status) if status.is_success() => Ok(()),
        Some(status) => Err(failed(format!("it answered {status}"))),
        None => Err(failed("its answer is not HTTP".to_owned())),
    }
}
