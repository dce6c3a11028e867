//! The accept loop, and the way of a request from hyper to the role's service and back.

use std::convert::Infallible;
use std::error::Error;
use std::future::{self, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::client_certificate::ClientCertificate;
use crate::config::{Config, Limits};
use crate::connection::{PREFACE, Running, Watched, drive, head_too_large};
use crate::connections::{Connections, Place};
use crate::descriptors;
use crate::entrance::Entrance;
use crate::hosts::Hosts;
use crate::memory::{
    HEAD_LIMIT_BYTES, HEAD_LIMIT_HEADERS, HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS, HTTP2_WINDOW_BYTES,
};
use crate::metrics::{Metrics, Stall};
use crate::operations::Operations;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::tls::{Certificate, TlsError};

/// How much of an answer one HTTP/2 stream buffers while the peer does not read it. Answers are short.
const HTTP2_SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How long a client with too many requests in progress is told to wait, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// How many connections the system queues until they are accepted, bounded by `net.core.somaxconn`: a burst of
/// strangers must not make a sender lose its first packet, which is retransmitted only after a second.
const BACKLOG: u32 = 4096;

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {}", remedy(source.kind(), setting))]
    Address {
        /// The configured address.
        address: SocketAddr,
        /// The setting that has it, as the error names it.
        setting: String,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate or key cannot be used.
    #[error("cannot serve TLS on {address}")]
    Tls {
        /// The configured address.
        address: SocketAddr,
        /// Which file, and what is wrong.
        source: TlsError,
    },
}

impl BindError {
    /// The same error with the whole name of the setting, of which this crate knows only `listen`.
    #[must_use]
    pub fn with_setting(self, name: String) -> Self {
        match self {
            Self::Address { address, source, .. } => Self::Address { address, setting: name, source },
            other => other,
        }
    }
}

/// An open port that serves nobody yet: connections wait in its backlog until [`Server::serve`].
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    tls: Option<(TlsAcceptor, Certificate)>,
    hosts: Hosts,
    answers_soon: bool,
    limits: Limits,
    connections: Arc<Connections>,
    most_waiting: usize,
    metrics: Metrics,
}

impl Server {
    /// Loads the certificate, if any, and opens the port.
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        let address = config.listen;
        let tls = match &config.tls {
            None => None,
            Some(tls) => {
                let (config, certificate) =
                    tls.load().map_err(|source| BindError::Tls { address, source })?;
                Some((TlsAcceptor::from(config), certificate))
            }
        };
        let (listener, local_addr) = open(address).map_err(|source| BindError::Address {
            address,
            setting: "`listen`".to_owned(),
            source,
        })?;
        let hosts =
            Hosts { names: config.hosts.clone(), listen: local_addr, section: None, any_for_service: false };
        let limits = config.limits;
        let (max, waiting) = descriptors::max_connections(limits.max_connections);
        let connections = Connections::new(limits, max, config.trusted_proxies.clone(), tls.is_some());
        let most_waiting = usize::try_from(waiting).unwrap_or(usize::MAX);
        let metrics = Metrics::new();
        Ok(Self {
            listener,
            local_addr,
            tls,
            hosts,
            answers_soon: false,
            limits,
            connections,
            most_waiting,
            metrics,
        })
    }

    /// The certificate, if the port has one, to reload it while the port serves.
    pub fn certificate(&self) -> Option<Certificate> {
        self.tls.as_ref().map(|(_, certificate)| certificate.clone())
    }

    /// Names the section of the configuration that sets the port, for the answers to refused clients.
    #[must_use]
    pub fn section(mut self, name: &'static str) -> Self {
        self.hosts.section = Some(name);
        self
    }

    /// Lets the service answer under any host; the operations endpoints stay restricted.
    #[must_use]
    pub fn under_any_host(mut self) -> Self {
        self.hosts.any_for_service = true;
        self
    }

    /// For a service whose every answer comes soon: over HTTP/1, that the peer has gone is noticed when it is answered. To notice
    /// it before, hyper reads while a request runs, which takes each connection a second buffer.
    #[must_use]
    pub fn answering_soon(mut self) -> Self {
        self.answers_soon = true;
        self
    }

    /// The address that is listened on; with port 0 configured, the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `stop` is cancelled, then lets running requests finish for at most the drain time-out.
    ///
    /// From the cancellation on, new connections are refused and idle ones closed. When this returns, every
    /// connection is closed; a handler of an HTTP/2 request that outlived the drain may still run to its end
    /// unheard. Dropping the future closes all connections at once.
    pub async fn serve<S, B>(self, service: S, operations: Operations, stop: CancellationToken)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let Self {
            listener,
            local_addr,
            tls,
            hosts,
            answers_soon,
            limits,
            connections: open,
            most_waiting,
            metrics,
        } = self;
        let mut http = auto::Builder::new(TokioExecutor::new());
        // hyper's own timer would be reset for every request; `connection` limits the time of heads.
        http.http1().max_buf_size(HEAD_LIMIT_BYTES).header_read_timeout(None).half_close(answers_soon);
        http.http2()
            .initial_connection_window_size(HTTP2_WINDOW_BYTES)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .max_header_list_size(HEAD_LIMIT_BYTES as u32)
            .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
            .max_concurrent_streams(HTTP2_STREAMS);
        // The short answer of such a service costs less to copy behind its head than to write as a piece of its own.
        http.http1().writev(!answers_soon);
        let http1 = http.clone().http1_only();
        let shared = Arc::new(Shared { http, http1, hosts, limits, metrics, operations });
        let mut connections = JoinSet::new();
        tracing::info!(address = %local_addr, tls = tls.is_some(), "listening");

        let mut entrance = Entrance::new(listener, Arc::clone(&open), &shared.metrics, most_waiting);
        let mut stopped = pin!(stop.cancelled());
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = stopped.as_mut() => break,
                next = entrance.next() => next,
            };
            while let Some(ended) = connections.try_join_next() {
                report(ended);
            }
            // A child token: polling the common one would take a lock that all connections share.
            let end = stop.child_token();
            let Some(place) = open.admit(peer.ip(), end.clone()) else {
                shared.metrics.connections_refused_total.increment(1);
                continue;
            };
            let connection =
                Connection { shared: Arc::clone(&shared), service: service.clone(), peer, place, stop: end };
            let tls = tls.as_ref().map(|(acceptor, _)| acceptor.clone());
            connections.spawn(connection.run(stream, tls));
        }

        drop(entrance);
        let drain = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        if tokio::time::timeout(limits.drain_timeout(), drain).await.is_err() {
            let connections = connections.len();
            tracing::warn!(address = %local_addr, connections, "requests outlived the drain and are cut off");
        }
        connections.shutdown().await;
        tracing::info!(address = %local_addr, "closed");
    }

    /// [`Server::serve`] for a role that has nothing but the operations endpoints: all else is 404. Compiled where it is awaited,
    /// which is a crate that is optimised for size.
    pub async fn serve_operations(self, operations: Operations, stop: CancellationToken) {
        self.serve(NothingElse, operations, stop).await;
    }
}

fn open(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As `TcpListener::bind` does: a restart need not wait for the connections of the previous process.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let local_addr = listener.local_addr()?;
    Ok((listener, local_addr))
}

/// What is wrong with an address, and what to do; `setting` has the address.
fn remedy(kind: io::ErrorKind, setting: &str) -> String {
    match kind {
        io::ErrorKind::AddrInUse => {
            format!("the address is in use; stop the process that has it, or set another {setting}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "this machine has no such address; set {setting} to one that it has, or to 0.0.0.0 for all"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("the user may not use this port; set {setting} to a port of 1024 or higher")
        }
        _ => format!("the system refuses the address; check {setting}"),
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    // Not the error itself: it has the text of the panic, which may quote a body.
    if ended.is_err() {
        tracing::error!("the task of a connection panicked");
    }
}

/// What all connections of a server use.
struct Shared {
    http: auto::Builder<TokioExecutor>,
    /// For connections that begin as HTTP/1. Where hyper looks for itself, it reads the first bytes apart, and has a read buffer
    /// of twice the size ever after.
    http1: auto::Builder<TokioExecutor>,
    hosts: Hosts,
    limits: Limits,
    metrics: Metrics,
    operations: Operations,
}

/// One type for both kinds of sockets, so that hyper is compiled once for a service. Boxed, so that one without TLS needs no
/// more memory for it.
type Socket = either::Either<TcpStream, Box<TlsStream<TcpStream>>>;

struct Connection<S> {
    shared: Arc<Shared>,
    service: S,
    peer: SocketAddr,
    place: Place,
    stop: CancellationToken,
}

impl<S, B> Connection<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let (shared, activity) = (Arc::clone(&self.shared), Arc::clone(&self.place.activity));
        let _open = shared.metrics.connection();
        self.begin(stream, tls).await;
        if activity.is_giving_way() {
            shared.metrics.connections_displaced_total.increment(1);
        }
    }

    async fn begin(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        if !self.place.pause.is_zero()
            && self.stop.run_until_cancelled(tokio::time::sleep(self.place.pause)).await.is_none()
        {
            return;
        }
        // Fails only if the peer is gone already, which the first read finds out.
        let _ = stream.set_nodelay(true);
        let (socket, certificate, is_http1) = match tls {
            None => {
                let is_http1 = begins_as_http1(&self.shared.limits, &stream, &self.stop).await;
                (Socket::Left(stream), None, is_http1)
            }
            Some(tls) => {
                self.place.activity.begin_handshake();
                let limit = self.shared.limits.first_byte_timeout();
                let handshake = tokio::time::timeout(limit, tls.accept(stream));
                match self.stop.run_until_cancelled(handshake).await {
                    Some(Ok(Ok(stream))) => {
                        self.place.activity.end_handshake();
                        let certificate = ClientCertificate::presented(stream.get_ref().1);
                        (Socket::Right(Box::new(stream)), certificate, false)
                    }
                    Some(Ok(Err(error))) => {
                        return tracing::debug!(peer = %self.peer, %error, "TLS handshake failed");
                    }
                    Some(Err(_)) => return self.shared.metrics.timed_out(Stall::Tls),
                    None => return,
                }
            }
        };
        self.speak(socket, certificate, is_http1).await;
    }

    async fn speak(self, socket: Socket, certificate: Option<Arc<ClientCertificate>>, is_http1: bool) {
        let Self { shared, service, peer, place, stop } = self;
        let activity = Arc::clone(&place.activity);
        let io = TokioIo::new(Watched::new(socket, Arc::clone(&activity), move || place.begin_http2()));
        let requests = (Arc::clone(&shared), Arc::clone(&activity));
        let answer = service_fn(move |mut request: Request<Incoming>| {
            let (shared, activity) = &requests;
            let running = activity.request(!request.body().is_end_stream());
            let peer = Peer::connected(peer, Arc::clone(activity), certificate.clone());
            request.extensions_mut().insert(peer);
            answer(Arc::clone(shared), service.clone(), request, running)
        });
        let http = if is_http1 { &shared.http1 } else { &shared.http };
        let connection = pin!(http.serve_connection(io, answer));
        drive(connection, &activity, &shared.metrics, stop).await;
    }
}

/// Whether a connection begins with bytes that are none of HTTP/2. One that begins with nothing, until its time is over or it is to
/// end, is driven to its end as any other.
async fn begins_as_http1(limits: &Limits, stream: &TcpStream, stop: &CancellationToken) -> bool {
    let mut first = [0; 4];
    let come = tokio::time::timeout(limits.first_byte_timeout(), stream.peek(&mut first));
    match stop.run_until_cancelled(come).await {
        Some(Ok(Ok(read))) => !PREFACE.starts_with(&first[..read]),
        None | Some(Ok(Err(_)) | Err(_)) => false,
    }
}

async fn answer<S, B>(
    shared: Arc<Shared>,
    mut service: S,
    request: Request<Incoming>,
    running: Running,
) -> Result<Response<Answer<B>>, Infallible>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let is_head = request.method() == Method::HEAD;
    // A load balancer that shares its address with senders always gets the health.
    let ours = match too_many_headers(&request).or_else(|| shared.hosts.refusal(&request)) {
        Some(problem) => Some(problem.into_response()),
        None => shared.operations.answer(request.method(), request.uri().path()),
    };
    let ours = ours.or_else(|| running.is_beyond_share.then(too_many_requests));
    let response = match ours {
        Some(response) => response.map(Either::Left),
        None => {
            let called = pin!(async move {
                let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
                let Ok(response) = service.call(request).await;
                response
            });
            match caught(called).await {
                Ok(response) => response.map(Either::Right),
                Err(Panicked) => {
                    shared.metrics.panics_total.increment(1);
                    tracing::error!("a request handler panicked; its request is answered with 500");
                    Problem::new(StatusCode::INTERNAL_SERVER_ERROR).into_response().map(Either::Left)
                }
            }
        }
    };
    shared.metrics.answered(response.status());
    let response = if is_head { without_body(response) } else { response };
    Ok(response.map(|content| Answer { content, _running: running }))
}

/// The answer to HEAD: only the headers. hyper omits the body only with HTTP/1.
fn without_body<B>(response: Response<Content<B>>) -> Response<Content<B>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    Response::from_parts(parts, Either::Left(Full::default()))
}

/// Over HTTP/1, hyper refuses them.
fn too_many_headers<B>(request: &Request<B>) -> Option<Problem> {
    (request.headers().len() > HEAD_LIMIT_HEADERS).then(head_too_large)
}

fn too_many_requests() -> Response<Full<Bytes>> {
    Problem::new(StatusCode::TOO_MANY_REQUESTS)
        .detail("Too many concurrent requests from this client; retry later.")
        .retry_after(RETRY_AFTER_S)
        .into_response()
}

struct Panicked;

/// Runs a service's future, which is never polled again after a panic.
async fn caught<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, Panicked> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

/// The server's own content, or the service's.
type Content<B> = Either<Full<Bytes>, B>;

/// The body of an answer, which keeps its request counted as running until it is sent.
struct Answer<B> {
    content: Content<B>,
    _running: Running,
}

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.content).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

/// The service of a role that has none.
#[derive(Clone)]
struct NothingElse;

impl Service<Request<Incoming>> for NothingElse {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Incoming>) -> Self::Future {
        future::ready(Ok(Problem::new(StatusCode::NOT_FOUND).into_response()))
    }
}
