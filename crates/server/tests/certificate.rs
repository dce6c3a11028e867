//! A certificate is replaced while the port serves: no request is lost, and a broken file changes nothing.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use server::{Config, Health, Operations, Server, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// Writes a new self-signed certificate and its key, and gives the certificate.
fn write_pair(tls: &Tls) -> CertificateDer<'static> {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&tls.certificate, pair.cert.pem()).unwrap();
    fs::write(&tls.key, pair.signing_key.serialize_pem()).unwrap();
    CertificateDer::from(pair.cert.der().to_vec())
}

fn connector(trusted: &[&CertificateDer<'static>]) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in trusted {
        roots.add((*certificate).clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A session that is resumed shows the certificate that it began with.
    client.resumption = rustls::client::Resumption::disabled();
    TlsConnector::from(Arc::new(client))
}

async fn connect(connector: &TlsConnector, addr: SocketAddr) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(addr).await.unwrap();
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Asks for `/healthz` on a connection that stays open.
async fn ask(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_under_load_and_a_broken_one_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let tls = Tls { certificate: at("server.crt"), key: at("server.key") };
    let first = write_pair(&tls);
    let config = Config { tls: Some(tls.clone()), ..Config::new("127.0.0.1:0".parse().unwrap()) };
    let server = Server::bind(&config).await.unwrap();
    let (addr, certificate) = (server.local_addr(), server.certificate().unwrap());
    let operations = Operations::new(Health::default(), String::new, "1.2.3");
    let stop = CancellationToken::new();
    let served = tokio::spawn(server.serve_operations(operations, stop.clone()));
    let mut lasting = connect(&connector(&[&first]), addr).await;
    ask(&mut lasting).await;

    let second = write_pair(&tls);
    let either = connector(&[&first, &second]);
    let load = {
        let (either, second) = (either.clone(), second.clone());
        // Every one of these is answered, until the new certificate is seen.
        tokio::spawn(async move {
            loop {
                let mut stream = connect(&either, addr).await;
                ask(&mut stream).await;
                if shown(&stream) == second {
                    return;
                }
            }
        })
    };
    assert_eq!(shown(&connect(&either, addr).await), first);
    certificate.reload().unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(30), load).await.unwrap().unwrap();
    ask(&mut lasting).await;

    let check = |file: &Path, text: &str| {
        let whole = fs::read(file).unwrap();
        fs::write(file, text).unwrap();
        let error = certificate.reload().unwrap_err().to_string();
        assert!(error.contains(file.file_name().unwrap().to_str().unwrap()), "{error}");
        fs::write(file, whole).unwrap();
    };
    check(&tls.certificate, "");
    check(&tls.key, "-----BEGIN PRIVATE KEY-----\n");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    check(&tls.key, &other.signing_key.serialize_pem());
    assert_eq!(shown(&connect(&either, addr).await), second);
    stop.cancel();
    drop(lasting);
    served.await.unwrap();
}
