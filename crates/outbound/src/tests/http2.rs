//! HTTP/2, where the target offers it.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{LONG, client, post, send, step};
use crate::{Client, Request, Step, Tls};

/// A server of HTTP/2 that answers with what it saw, except of `/stall`.
struct Server {
    url: String,
    client: Client,
    opened: Arc<AtomicUsize>,
    open: watch::Receiver<usize>,
    /// Has every open connection end after its running requests.
    end: Arc<Notify>,
}

async fn start() -> Server {
    let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (opened, (changed, open)) = (Arc::new(AtomicUsize::new(0)), watch::channel(0));
    let (counted, end) = (Arc::clone(&opened), Arc::new(Notify::new()));
    let ends = Arc::clone(&end);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, changed, ends) = (acceptor.clone(), changed.clone(), Arc::clone(&ends));
            counted.fetch_add(1, Ordering::SeqCst);
            changed.send_modify(|open| *open += 1);
            tokio::spawn(async move {
                let tls = acceptor.accept(tcp).await.unwrap();
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let mut connection = pin!(server.serve_connection(TokioIo::new(tls), service_fn(answer)));
                tokio::select! {
                    _ = connection.as_mut() => {}
                    () = ends.notified() => {
                        connection.as_mut().graceful_shutdown();
                        let _ = connection.await;
                    }
                }
                changed.send_modify(|open| *open -= 1);
            });
        }
    });
    let tls = Tls::new(Some(certificate.as_bytes()), None).unwrap();
    Server { url, client: client().with_tls(tls), opened, open, end }
}

async fn answer(request: http::Request<Incoming>) -> Result<http::Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/stall" {
        std::future::pending::<()>().await;
    }
    let seen = format!("{:?} {} {:?}", request.version(), request.uri(), request.headers().get("host"));
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Ok(http::Response::new(Full::from([seen.as_bytes(), b" ", &body].concat())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_share_one_connection() {
    let Server { url, client, opened, .. } = start().await;
    let answer = send(&client, post(&format!("{url}/a?b"))).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.body), format!("HTTP/2.0 {url}/a?b None {{}}"));
    let mut parallel = JoinSet::new();
    for _ in 0..50 {
        let (client, request) = (client.clone(), post(&url));
        parallel.spawn(async move { send(&client, request).await.unwrap().status });
    }
    assert!(parallel.join_all().await.iter().all(http::StatusCode::is_success));
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_request_that_times_out_or_is_cut_leaves_the_connection_to_the_others() {
    let Server { url, client, opened, .. } = start().await;
    let stalled = Request { timeout: Duration::from_millis(200), ..post(&format!("{url}/stall")) };
    assert_eq!(step(send(&client, stalled).await), Step::Answer);
    let cut = send(&client, Request { max_answer: 3, ..post(&url) }).await.unwrap();
    assert_eq!((&cut.body[..], cut.is_cut), (&b"HTT"[..], true));
    assert!(send(&client, post(&url)).await.unwrap().status.is_success());
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_the_target_ends_costs_no_request() {
    let Server { url, client, opened, end, .. } = start().await;
    for _ in 0..5 {
        send(&client, post(&url)).await.unwrap();
        end.notify_waiters();
        // Some are sent before the client knows.
        for _ in 0..5 {
            assert!(send(&client, post(&url)).await.unwrap().status.is_success());
        }
    }
    assert!((2..=6).contains(&opened.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn a_dropped_client_closes_the_connection() {
    let Server { url, client, mut open, .. } = start().await;
    send(&client, post(&url)).await.unwrap();
    assert_eq!(*open.borrow(), 1);
    drop(client);
    tokio::time::timeout(LONG, open.wait_for(|open| *open == 0)).await.unwrap().unwrap();
}
