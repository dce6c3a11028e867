//! What a stranger can have a port hold: heads have a limit that is told, and an HTTP/2 connection counts for several.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::fs;
use std::future::{Future, Pending, pending};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use server::{Config, Health, Limits, Operations, Peer, Server, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const LIMITS: &str = "at most 16384 bytes and 100 headers";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// Authenticates every request, and never answers.
#[derive(Clone)]
struct Never;

impl tower_service::Service<Request<Incoming>> for Never {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pending<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        request.extensions().get::<Peer>().unwrap().authenticated();
        pending()
    }
}

async fn start(limits: Limits) -> SocketAddr {
    start_with(limits, None).await
}

async fn start_with(limits: Limits, tls: Option<Tls>) -> SocketAddr {
    let config = Config { limits, tls, ..Config::new("127.0.0.1:0".parse().unwrap()) };
    let server = Server::bind(&config).await.unwrap();
    let addr = server.local_addr();
    let operations = Operations::new(Health::default(), String::new, "1.2.3");
    tokio::spawn(server.serve(Never, operations, CancellationToken::new()));
    addr
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it ends in time")
}

async fn connect(addr: SocketAddr, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

async fn http2(addr: SocketAddr) -> SendRequest<Full<Bytes>> {
    let socket = TokioIo::new(TcpStream::connect(addr).await.unwrap());
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Whether the server answers anything before it closes the connection.
async fn is_answered(stream: &mut TcpStream) -> bool {
    matches!(within(stream.read(&mut [0; 64])).await, Ok(1..))
}

fn healthz(headers: impl IntoIterator<Item = (String, String)>) -> String {
    let lines = headers.into_iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    format!(
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\n{}connection: close\r\n\r\n",
        lines.collect::<String>()
    )
}

#[tokio::test]
async fn a_head_that_is_too_large_is_told_the_limits() {
    let addr = start(Limits::default()).await;
    let get = |request: String| async move {
        let mut stream = connect(addr, request.as_bytes()).await;
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    let long = |length: usize| healthz([("x-long".to_owned(), "x".repeat(length))]);
    let many = |count: usize| healthz((0..count).map(|n| (format!("x-{n}"), String::new())));
    for allowed in [long(16_000), many(98)] {
        let answer = get(allowed).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    for refused in [long(17_000), long(70_000), many(99)] {
        let answer = get(refused).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert!(answer.contains("application/problem+json") && answer.contains(LIMITS), "{answer}");
    }
}

#[tokio::test]
async fn a_head_of_many_headers_is_refused_over_http2_too() {
    let addr = start(Limits::default()).await;
    let mut client = http2(addr).await;
    for (count, status) in [(100, 200), (101, 431)] {
        let request = Request::get("http://localhost/healthz");
        let request = (0..count).fold(request, |request, n| request.header(format!("x-{n}"), "1"));
        let response =
            within(client.send_request(request.body(Full::<Bytes>::default()).unwrap())).await.unwrap();
        assert_eq!(response.status(), status);
        let body = within(response.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(String::from_utf8_lossy(&body).contains(LIMITS), status == 431);
    }
}

#[tokio::test]
async fn a_connection_that_speaks_http2_counts_for_several() {
    let addr = start(Limits { max_connections: Some(16), ..Limits::default() }).await;
    let mut busy = Vec::new();
    for _ in 0..9 {
        busy.push(connect(addr, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await);
    }
    for preface in [PREFACE.chunks(PREFACE.len()), PREFACE.chunks(2)] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        for part in preface {
            // The server may have closed it meanwhile.
            let _ = stream.write_all(part).await;
        }
        assert!(!is_answered(&mut stream).await, "there is room for seven more");
    }
    busy.pop();
    within(async { while !is_answered(&mut connect(addr, PREFACE).await).await {} }).await;
}

#[tokio::test]
async fn unused_connections_give_way_to_one_that_speaks_http2() {
    let addr = start(Limits { max_connections: Some(16), ..Limits::default() }).await;
    let mut unused = Vec::new();
    for _ in 0..12 {
        unused.push(TcpStream::connect(addr).await.unwrap());
    }
    // They are unused once they have had a moment for their first bytes.
    within(async { while !is_answered(&mut connect(addr, PREFACE).await).await {} }).await;
    let mut closed = 0;
    for stream in &mut unused {
        let read = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut [0; 1])).await;
        closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert!((4..12).contains(&closed), "{closed}");
}

#[tokio::test]
async fn of_two_idle_http2_connections_only_the_older_gives_way_to_a_third() {
    let addr = start(Limits { client_connections: Some(17), ..Limits::default() }).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = http2(addr).await;
        let request = Request::get("http://localhost/healthz").body(Full::default()).unwrap();
        let answer = within(client.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), 200);
        within(answer.into_body().collect()).await.unwrap();
        clients.push(client);
    }
    within(clients[0].ready()).await.unwrap_err();
    for client in &mut clients[1..] {
        let request = Request::get("http://localhost/healthz").body(Full::default()).unwrap();
        assert_eq!(within(client.send_request(request)).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_body_over_http2_crosses_a_long_way_in_time_and_leaves_room_for_another_one() {
    const ROUND_TRIP: Duration = Duration::from_millis(400);
    const BODY_BYTES: u32 = 1024 * 1024;
    const CONNECTION_WINDOW_BYTES: u32 = 65_535;
    let addr = start(Limits::default()).await;
    let mut stream = connect(addr, PREFACE).await;
    // The first frame of a server has its settings, of six bytes each (RFC 9113, section 6.5.1).
    let mut head = [0; 9];
    within(stream.read_exact(&mut head)).await.unwrap();
    let mut settings = vec![0; usize::from(head[2])];
    within(stream.read_exact(&mut settings)).await.unwrap();
    let window = settings.chunks(6).find(|setting| setting.starts_with(&[0, 4])).unwrap();
    let window = u32::from_be_bytes(window[2..].try_into().unwrap());
    let time = ROUND_TRIP * BODY_BYTES.div_ceil(window);
    assert!(time < Duration::from_millis(Limits::default().body_timeout_ms), "{time:?}");
    assert!(2 * window <= CONNECTION_WINDOW_BYTES, "{window}");
}

#[tokio::test]
async fn a_connection_with_tls_counts_for_two() {
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = Tls { certificate: folder.path().join("server.crt"), key: folder.path().join("server.key") };
    fs::write(&tls.certificate, pair.cert.pem()).unwrap();
    fs::write(&tls.key, pair.signing_key.serialize_pem()).unwrap();
    let addr = start_with(Limits { max_connections: Some(4), ..Limits::default() }, Some(tls)).await;
    let begun = Instant::now();
    let _handshakes = [connect(addr, b"\x16").await, connect(addr, b"\x16").await];
    // What is no handshake is closed as soon as it is accepted: once the others have had their second.
    let mut third = connect(addr, b"GET / HTTP/1.1\r\n\r\n").await;
    let _ = within(third.read(&mut [0; 64])).await;
    assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
}
