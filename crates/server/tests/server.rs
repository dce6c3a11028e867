//! The server over real sockets: every stall is cut off, every stop is orderly, every peer gets its answer.
#![allow(clippy::unwrap_used)]

#[path = "server/full_port.rs"]
mod full_port;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusBuilder;
use rustls::pki_types::{CertificateDer, ServerName};
use server::{BodyError, Config, Health, Limits, Operations, Peer, Problem, Server, Tls, body};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The service under the server: `/body` reads at most 1 KiB, `/slow` waits for a permit, `/panic` panics; below `/known`, a
/// request counts as authenticated.
#[derive(Clone)]
struct App {
    entered: Arc<Semaphore>,
    release: Arc<Semaphore>,
    pace: body::Pace,
}

impl App {
    async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let peer = request.extensions().get::<Peer>().unwrap().clone();
        let path = request.uri().path();
        if path.starts_with("/known") {
            peer.authenticated();
        }
        match path.trim_start_matches("/known") {
            "/body" => match body::read(request.into_body(), 1024, self.pace).await {
                Ok(body) => Response::new(Full::new(body)),
                Err(BodyError::TooLarge { .. }) => {
                    Problem::new(StatusCode::PAYLOAD_TOO_LARGE).into_response()
                }
                Err(BodyError::TimedOut { .. } | BodyError::TooSlow { .. }) => {
                    Problem::new(StatusCode::REQUEST_TIMEOUT).into_response()
                }
                Err(BodyError::Broken(_)) => Problem::new(StatusCode::BAD_REQUEST).into_response(),
            },
            "/slow" => {
                self.entered.add_permits(1);
                self.release.acquire().await.unwrap().forget();
                Response::new("slow".into())
            }
            "/huge" => Response::new(Full::from(vec![0; 64 << 20])),
            "/panic" => panic!("on purpose"),
            _ => Response::new(peer.address().to_string().into()),
        }
    }
}

impl tower_service::Service<Request<Incoming>> for App {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let app = self.clone();
        Box::pin(async move { Ok(app.answer(request).await) })
    }
}

/// A server in a task of this test, and how to reach, steer and stop it.
struct Running {
    addr: SocketAddr,
    health: Health,
    entered: Arc<Semaphore>,
    release: Arc<Semaphore>,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

/// Limits under which nothing of a test that behaves is ever cut off.
const PATIENT: Limits = Limits {
    first_byte_timeout_ms: 60_000,
    header_timeout_ms: 60_000,
    body_timeout_ms: 60_000,
    idle_timeout_ms: 60_000,
    body_rate_bytes: 1,
    body_grace_ms: 60_000,
    max_connections: Some(100),
    client_connections: None,
    client_requests: 100,
    max_requests: 1_000,
    drain_timeout_ms: 60_000,
};

async fn start(limits: Limits) -> Running {
    start_with(Config { limits, ..Config::new("127.0.0.1:0".parse().unwrap()) }).await
}

async fn start_with(config: Config) -> Running {
    // What the tests here name in their requests.
    let config = Config { hosts: vec!["x".to_owned().try_into().unwrap()], ..config };
    let recorder = PrometheusBuilder::new().build_recorder();
    let rendered = recorder.handle();
    // Each test runs on one thread of its own, where its server takes its metrics from its own recorder.
    let recorder = metrics::set_default_local_recorder(Box::leak(Box::new(recorder)));
    let server = Server::bind(&config).await.unwrap();
    drop(recorder);
    let app = App {
        entered: Arc::new(Semaphore::new(0)),
        release: Arc::new(Semaphore::new(0)),
        pace: config.limits.pace(),
    };
    let health = Health::default();
    let operations = Operations::new(health.clone(), move || rendered.render(), "1.2.3");
    let stop = CancellationToken::new();
    let (entered, release) = (app.entered.clone(), app.release.clone());
    let addr = server.local_addr();
    let served = tokio::spawn(server.serve(app, operations, stop.clone()));
    Running { addr, health, entered, release, stop, served }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// A connection with a request that runs until it is released.
    async fn running_request(&self) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        within(self.entered.acquire()).await.unwrap().forget();
        stream
    }

    /// Sends the text on a connection of its own and gives everything that comes back until the end.
    async fn exchange(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }

    async fn get(&self, path: &str) -> String {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }
}

/// Everything until the peer closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    within(stream.read_to_end(&mut text)).await.unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// One answer of a connection that stays open, known by the end of its body.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(char::from(within(stream.read_u8()).await.unwrap()));
    }
    text
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it ends in time")
}

#[tokio::test]
async fn a_keep_alive_connection_serves_many_requests_and_each_knows_its_peer() {
    let server = start(PATIENT).await;
    let mut stream = server.connect().await;
    let peer = stream.local_addr().unwrap().to_string();
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(until(&mut stream, &peer).await.starts_with("HTTP/1.1 200 OK"));
    }
}

#[tokio::test]
async fn a_connection_that_sends_nothing_is_closed() {
    let server = start(Limits { first_byte_timeout_ms: 50, ..PATIENT }).await;
    assert_eq!(rest(&mut server.connect().await).await, "");
    assert!(server.get("/metrics").await.contains("http_timeouts_total{phase=\"first_byte\"} 1"));
}

#[tokio::test]
async fn a_head_that_stalls_is_answered_with_408_however_slowly_it_drips() {
    let server = start(Limits { header_timeout_ms: 200, ..PATIENT }).await;
    for first in ["P", "GET / HTTP/1.1\r\nhost:"] {
        let (mut reader, mut writer) = server.connect().await.into_split();
        let begun = Instant::now();
        writer.write_all(first.as_bytes()).await.unwrap();
        let dripping = tokio::spawn(async move {
            while writer.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut answer = vec![0; 512];
        let length = within(reader.read(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(begun.elapsed() >= Duration::from_millis(200));
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.contains("application/problem+json") && answer.ends_with('}'), "{answer}");
        within(dripping).await.unwrap();
    }
}

#[tokio::test]
async fn the_head_after_an_answered_request_has_its_time_limit_too() {
    let server = start(Limits { header_timeout_ms: 100, ..PATIENT }).await;
    let mut stream = server.connect().await;
    let peer = stream.local_addr().unwrap().to_string();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until(&mut stream, &peer).await;
    stream.write_all(b"GET / HT").await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_running_request_is_not_idle() {
    let server = start(Limits { idle_timeout_ms: 100, ..PATIENT }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let begun = Instant::now();
    let released = tokio::time::timeout(Duration::from_millis(300), stream.read_u8()).await;
    assert!(released.is_err(), "closed or answered after {:?}", begun.elapsed());
    server.release.add_permits(1);
    let answer = rest(&mut stream).await;
    assert!(answer.ends_with("\r\n\r\nslow"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_the_peer_does_not_take_is_given_up() {
    let server = start(Limits { idle_timeout_ms: 100, ..PATIENT }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /huge HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    within(async {
        while !server.get("/metrics").await.contains("http_timeouts_total{phase=\"write\"} 1") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_with_408() {
    let server = start(Limits { body_timeout_ms: 100, ..PATIENT }).await;
    for head in ["content-length: 10\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let answer = server.exchange(&format!("POST /body HTTP/1.1\r\nhost: x\r\n{head}")).await;
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_its_sender_still_reads_the_answer() {
    let server = start(PATIENT).await;
    for framing in ["content-length: 4194304\r\n\r\n", "transfer-encoding: chunked\r\n\r\n400000\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(format!("POST /body HTTP/1.1\r\nhost: x\r\n{framing}").as_bytes()).await.unwrap();
        // Sends all before it reads anything, as many clients do. A reset would fail the write or eat the answer.
        for _ in 0..64 {
            within(stream.write_all(&[b'x'; 65_536])).await.unwrap();
        }
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large"), "{answer}");
    }
}

#[tokio::test]
async fn huge_heads_are_refused_with_431_and_nonsense_with_400() {
    let server = start(PATIENT).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-huge: ").await.unwrap();
    for _ in 0..256 {
        within(stream.write_all(&[b'x'; 4096])).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431 "));

    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = server.exchange(&format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let mut stream = server.connect().await;
    stream.write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn a_panic_fails_one_request_and_not_its_connection() {
    let server = start(PATIENT).await;
    let mut stream = server.connect().await;
    let peer = stream.local_addr().unwrap().to_string();
    stream.write_all(b"GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = until(&mut stream, "}").await;
    assert!(answer.starts_with("HTTP/1.1 500 Internal Server Error"), "{answer}");
    assert!(!answer.contains("on purpose"), "{answer}");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(until(&mut stream, &peer).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_stop_finishes_the_running_request_closes_idle_connections_and_refuses_new_ones() {
    let server = start(PATIENT).await;
    let mut idle = server.connect().await;
    idle.write_all(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
    until(&mut idle, "abc").await;
    let mut silent = server.connect().await;
    let mut running = server.running_request().await;

    server.stop.cancel();
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut silent).await, "");
    assert!(TcpStream::connect(server.addr).await.is_err());
    assert!(!server.served.is_finished());
    server.release.add_permits(1);
    let answer = rest(&mut running).await;
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("slow"), "{answer}");
    within(server.served).await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_at_its_time_limit() {
    let server = start(Limits { drain_timeout_ms: 100, ..PATIENT }).await;
    let mut running = server.running_request().await;
    server.stop.cancel();
    within(server.served).await.unwrap();
    assert_eq!(rest(&mut running).await, "");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let server = start(Limits { max_connections: Some(1), ..PATIENT }).await;
    let first = server.running_request().await;

    let mut second = server.connect().await;
    second.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), second.read_u8()).await.is_err());
    drop(first);
    let metrics = rest(&mut second).await;
    assert!(metrics.contains("http_connections_delayed_total 1"), "{metrics}");
    assert!(metrics.contains("http_connections_total 2"), "{metrics}");
    assert!(metrics.contains("http_connections 1"), "{metrics}");
}

#[tokio::test]
async fn the_operations_endpoints_tell_health_readiness_and_metrics() {
    let server = start(PATIENT).await;
    let broker = server.health.component("broker");
    let healthy = server.get("/healthz").await;
    assert!(healthy.starts_with("HTTP/1.1 200 OK"), "{healthy}");
    assert!(healthy.ends_with(r#"{"status":"up","version":"1.2.3"}"#), "{healthy}");

    let starting = server.get("/readyz").await;
    assert!(starting.starts_with("HTTP/1.1 503 "), "{starting}");
    assert!(starting.contains(r#""broker":{"status":"down","trouble":"starting"}"#), "{starting}");
    broker.up();
    let ready = server.get("/readyz?verbose").await;
    assert!(ready.starts_with("HTTP/1.1 200 OK"), "{ready}");
    assert!(ready.ends_with(r#"{"components":{"broker":{"status":"up"}},"status":"up"}"#), "{ready}");

    let metrics = server.get("/metrics").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("http_requests_total{status=\"5xx\"} 1"), "{metrics}");

    let head = server.exchange("HEAD /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(head.contains("content-length: 33\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let post = server.exchange("POST /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
}

#[tokio::test]
async fn a_role_without_a_service_answers_404_to_all_else() {
    let server =
        Server::bind(&Config::new("127.0.0.1:0".parse().unwrap())).await.unwrap().section("operations");
    let addr = server.local_addr();
    let operations = Operations::new(Health::default(), String::new, "1.2.3");
    let served = tokio::spawn(server.serve_operations(operations, CancellationToken::new()));
    for (path, status) in [("/healthz", "200"), ("/readyz", "200"), ("/", "404")] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let text = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        assert!(rest(&mut stream).await.starts_with(&format!("HTTP/1.1 {status} ")));
    }
    for (hosts, status) in [("host: rebound.example.net\r\n", "421"), ("", "400")] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let text = format!("GET /metrics HTTP/1.1\r\n{hosts}connection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.contains("operations.hosts in the configuration"), status == "421", "{answer}");
    }
    served.abort();
}

#[tokio::test]
async fn an_address_in_use_says_so_and_what_to_do() {
    let server = start(PATIENT).await;
    let error = Server::bind(&Config::new(server.addr)).await.err().unwrap().to_string();
    assert!(error.contains(&server.addr.to_string()), "{error}");
    assert!(error.contains("in use") && error.contains("`listen`"), "{error}");
}

/// Posts to `/body` three times at once over one HTTP/2 connection, and gives the client to go on with, which keeps
/// sending PING frames.
async fn over_http2<T>(socket: T) -> hyper::client::conn::http2::SendRequest<Full<Bytes>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_millis(20))
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(socket))
        .await
        .unwrap();
    tokio::spawn(connection);
    let post = |mut client: hyper::client::conn::http2::SendRequest<_>, text: &'static str| async move {
        let request = Request::post("http://x/body").body(Full::from(text)).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.version(), http::Version::HTTP_2);
        response.into_body().collect().await.unwrap().to_bytes()
    };
    let answers = within(async {
        tokio::join!(post(client.clone(), "one"), post(client.clone(), "two"), post(client.clone(), "three"))
    });
    assert_eq!(answers.await, ("one".into(), "two".into(), "three".into()));
    client
}

#[tokio::test]
async fn http2_is_served_with_prior_knowledge_and_drained_like_the_rest() {
    let server = start(PATIENT).await;
    let mut client = over_http2(server.connect().await).await;
    let panicked = Request::get("http://x/panic").body(Full::default()).unwrap();
    assert_eq!(within(client.send_request(panicked)).await.unwrap().status(), 500);
    let slow = client.send_request(Request::get("http://x/slow").body(Full::default()).unwrap());
    let slow = tokio::spawn(slow);
    within(server.entered.acquire()).await.unwrap().forget();
    server.stop.cancel();
    server.release.add_permits(1);
    let answer = within(slow).await.unwrap().unwrap().into_body().collect().await.unwrap();
    assert_eq!(answer.to_bytes(), "slow");
    within(server.served).await.unwrap();
}

#[tokio::test]
async fn an_answer_to_head_has_the_length_of_its_body_and_no_body() {
    let server = start(PATIENT).await;
    let mut client = over_http2(server.connect().await).await;
    for (path, status) in [("/healthz", 200), ("/panic", 500)] {
        let get = Request::get(format!("http://x{path}")).body(Full::default()).unwrap();
        let whole = within(client.send_request(get)).await.unwrap().into_body().collect().await.unwrap();
        let head = Request::head(format!("http://x{path}")).body(Full::default()).unwrap();
        let answer = within(client.send_request(head)).await.unwrap();
        let length = answer.headers()["content-length"].to_str().unwrap().to_owned();
        assert_eq!(
            (answer.status().as_u16(), length),
            (status, whole.to_bytes().len().to_string()),
            "{path}"
        );
        assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty(), "{path}");
    }
    let answer = server.exchange("HEAD /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer:?}");
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed_and_its_frames_are_no_heads() {
    let server = start(Limits { header_timeout_ms: 100, idle_timeout_ms: 300, ..PATIENT }).await;
    let client = over_http2(server.connect().await).await;
    let begun = Instant::now();
    within(async {
        while !client.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    assert!(server.get("/metrics").await.contains("http_timeouts_total{phase=\"idle\"} 1"));
}

#[tokio::test]
async fn the_longest_unused_connection_is_closed_for_a_new_one() {
    let server = start(Limits { max_connections: Some(3), ..PATIENT }).await;
    let mut running = server.running_request().await;
    let mut used = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        stream.write_all(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
        until(&mut stream, "abc").await;
        used.push(stream);
    }
    assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(rest(&mut used[0]).await, "");
    server.release.add_permits(1);
    assert!(until(&mut running, "slow").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn connections_that_never_send_anything_give_way() {
    let server = start(Limits { max_connections: Some(3), ..PATIENT }).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(server.connect().await);
    }
    assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(rest(&mut silent[0]).await, "");
}

/// Connects from another loopback address.
async fn connect_from(addr: SocketAddr, local: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{local}:0").parse().unwrap()).unwrap();
    within(socket.connect(addr)).await.unwrap()
}

#[tokio::test]
async fn a_client_cannot_take_the_connections_of_others() {
    let server = start(Limits { client_connections: Some(2), ..PATIENT }).await;
    let mut running = Vec::new();
    for _ in 0..2 {
        let stream = server.running_request().await;
        running.push(stream);
    }
    assert_eq!(rest(&mut server.connect().await).await, "", "all of its share is in use");
    let mut other = connect_from(server.addr, "127.0.0.2").await;
    other.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let metrics = rest(&mut other).await;
    assert!(metrics.contains("http_connections_refused_total 1"), "{metrics}");

    server.release.add_permits(2);
    until(&mut running[0], "slow").await;
    // Of its own two connections the unused one gives way.
    assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_proxy_has_no_share() {
    let listen = "127.0.0.1:0".parse().unwrap();
    let limits = Limits { client_connections: Some(1), client_requests: 1, ..PATIENT };
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let server = start_with(Config { limits, trusted_proxies, ..Config::new(listen) }).await;
    let _running = server.running_request().await;
    assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn requests_of_a_client_are_counted_over_streams_and_connections() {
    let server = start(Limits { client_requests: 3, ..PATIENT }).await;
    let mut client = over_http2(server.connect().await).await;
    let mut send = |path: &str| {
        client.send_request(Request::get(format!("http://x{path}")).body(Full::default()).unwrap())
    };
    let slow = [tokio::spawn(send("/slow")), tokio::spawn(send("/slow"))];
    within(server.entered.acquire_many(2)).await.unwrap().forget();
    let mut third = server.running_request().await;
    let refused = within(send("/")).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    drop(refused);
    // A load balancer is told the health all the same.
    assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 OK"));
    server.release.add_permits(3);
    for slow in slow {
        assert_eq!(within(slow).await.unwrap().unwrap().status(), 200);
    }
    until(&mut third, "slow").await;
    assert_eq!(within(send("/")).await.unwrap().status(), 200);
}

/// Ten clients over HTTP/2 that each want more than there is, and one that comes after them.
#[tokio::test]
async fn a_flood_of_streams_has_a_bounded_number_of_requests_in_work_and_leaves_room_for_others() {
    let server = start(Limits { max_requests: 64, ..PATIENT }).await;
    let slow = || Request::get("http://x/slow").body(Full::default()).unwrap();
    let mut running = Vec::new();
    let mut refused = 0;
    for client in 1..=10 {
        let mut client = over_http2(connect_from(server.addr, &format!("127.1.0.{client}")).await).await;
        for _ in 0..20 {
            let answer = tokio::spawn(client.send_request(slow()));
            // Either it is in work, or it is answered.
            tokio::select! {
                entered = within(server.entered.acquire()) => {
                    entered.unwrap().forget();
                    running.push((client.clone(), answer));
                }
                () = async { while !answer.is_finished() { tokio::task::yield_now().await } } => refused += 1,
            }
        }
    }
    assert!(running.len() < 64 + 10 * 4, "{} in work", running.len());
    assert_eq!(running.len() + refused, 200);
    let mut next = over_http2(connect_from(server.addr, "127.1.0.11").await).await;
    let answer = tokio::spawn(next.send_request(slow()));
    within(server.entered.acquire()).await.unwrap().forget();
    server.release.add_permits(running.len() + 1);
    assert_eq!(within(answer).await.unwrap().unwrap().status(), 200);
    for (_, answer) in running {
        assert_eq!(within(answer).await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_body_that_trickles_is_answered_with_408() {
    let server = start(Limits { body_rate_bytes: 1_000_000, body_grace_ms: 50, ..PATIENT }).await;
    let answer = server.exchange("POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc").await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout"), "{answer}");
}

/// A certificate for `localhost` in files of its own, a server with it, and a client that trusts it.
async fn start_tls(limits: Limits) -> (Running, tokio_rustls::TlsConnector) {
    let dir = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = Tls { certificate: dir.path().join("server.crt"), key: dir.path().join("server.key") };
    std::fs::write(&tls.certificate, pair.cert.pem()).unwrap();
    std::fs::write(&tls.key, pair.signing_key.serialize_pem()).unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = start_with(Config { limits, tls: Some(tls), ..Config::new(listen) }).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(pair.cert.der().to_vec())).unwrap();
    let mut client =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (server, tokio_rustls::TlsConnector::from(Arc::new(client)))
}

#[tokio::test]
async fn tls_serves_both_protocols() {
    let (server, connector) = start_tls(PATIENT).await;
    let name = || ServerName::try_from("localhost").unwrap();
    let socket = within(connector.connect(name(), server.connect().await)).await.unwrap();
    assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    over_http2(socket).await;

    let mut socket = within(connector.connect(name(), server.connect().await)).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_stall_in_or_after_the_handshake_is_cut_off_over_tls_too() {
    let limits = Limits { first_byte_timeout_ms: 500, header_timeout_ms: 100, ..PATIENT };
    let (server, connector) = start_tls(limits).await;
    assert_eq!(rest(&mut server.connect().await).await, "");

    let name = ServerName::try_from("localhost").unwrap();
    let mut socket = within(connector.connect(name, server.connect().await)).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut answer = String::new();
    within(socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}
