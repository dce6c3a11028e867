//! Through a proxy.

use std::sync::{Arc, Mutex};

use harness::{Receiver, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::{config, post, resolving, send};
use crate::{Client, Config, Proxy, SendError, Tls};

fn proxied(port: u16, credentials: &str, except: &[&str]) -> Config {
    let url = Some(format!("http://{credentials}127.0.0.1:{port}").parse().unwrap());
    let except = except.iter().map(|exception| (*exception).to_owned().try_into().unwrap()).collect();
    Config { proxy: Proxy { url, except }, ..config() }
}

/// A proxy that answers CONNECT with a status, and connects to a port whatever it is asked for. Also what it was asked.
async fn tunnel(status: &'static str, port: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (own, asked) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let heads = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            heads.lock().unwrap().push(String::from_utf8(head).unwrap());
            client.write_all(format!("HTTP/1.1 {status}\r\nx-proxy: 1\r\n\r\n").as_bytes()).await.unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (own, asked)
}

#[tokio::test]
async fn a_target_with_tls_is_reached_through_a_tunnel_and_still_verified() {
    let receiver = Receiver::start_tls().unwrap();
    let (port, asked) = tunnel("200 Connection established", receiver.port()).await;
    let tls = Tls::new(Some(receiver.ca().as_bytes()), None).unwrap();
    // The proxy knows a name that is unknown here.
    let client = resolving(&proxied(port, "me:s3cret@", &[]), |_, _| Vec::new()).with_tls(tls);
    let answer = send(&client, post("https://localhost:8443/events")).await.unwrap();
    assert!(answer.status.is_success());
    let expect = "CONNECT localhost:8443 HTTP/1.1\r\nHost: localhost:8443\r\nProxy-Authorization: Basic bWU6czNjcmV0\r\n\r\n";
    assert_eq!(*asked.lock().unwrap(), [expect]);
    let received = &receiver.requests()[0];
    assert_eq!((&*received.target, received.header("host")), ("/events", Some("localhost:8443")));
    assert_eq!(received.header("proxy-authorization"), None);
    let error = send(&client, post("https://other.test/")).await.unwrap_err();
    assert_eq!(error.kind(), "tls");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_with_its_answer() {
    let receiver = Receiver::start_tls().unwrap();
    let (port, _) = tunnel("403 Forbidden", receiver.port()).await;
    let client = resolving(&proxied(port, "me:s3cret@", &[]), |_, _| Vec::new());
    let error = send(&client, post("https://target.test/")).await.unwrap_err();
    assert!(matches!(error, SendError::Proxy { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the proxy 127.0.0.1 does not connect to target.test: it answered 403 Forbidden"
    );
}

#[tokio::test]
async fn a_target_without_tls_is_asked_of_the_proxy() {
    let proxy = Receiver::start().unwrap();
    proxy.answer(Reply::status(201));
    let client = resolving(&proxied(proxy.port(), "me:s3cret@", &[]), |_, _| Vec::new());
    let answer = send(&client, post("http://target.test:81/events?a")).await.unwrap();
    assert_eq!(answer.status, 201);
    let received = &proxy.requests()[0];
    assert_eq!(received.target, "http://target.test:81/events?a");
    assert_eq!(received.header("host"), Some("target.test:81"));
    assert_eq!(received.header("proxy-authorization"), Some("Basic bWU6czNjcmV0"));
}

#[tokio::test]
async fn a_proxy_does_not_open_addresses_that_are_not_allowed() {
    let proxy = Receiver::start().unwrap();
    let config = proxied(proxy.port(), "", &[]);
    let client = resolving(&config, |_, _| vec!["10.0.0.7"]);
    for url in
        ["http://10.0.0.7/", "https://[fd00:ec2::254]/", "http://internal.test/", "http://169.254.169.254/"]
    {
        let error = send(&client, post(url)).await.unwrap_err();
        assert_eq!(error.kind(), "refused", "{url}: {error:?}");
    }
    // The proxy itself may be anywhere: here it is private, and nothing is allowed.
    let closed = Client::new(&Config { allow: Vec::new(), ..config });
    assert!(send(&closed, post("http://8.8.8.8/")).await.unwrap().status.is_success());
    assert_eq!(proxy.count(), 1);
}

#[tokio::test]
async fn exceptions_are_reached_directly() {
    let (proxy, receiver) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let client = Client::new(&proxied(proxy.port(), "me:s3cret@", &["127.0.0.0/8"]));
    send(&client, post(&receiver.url("/"))).await.unwrap();
    assert_eq!((proxy.count(), receiver.count()), (0, 1));
    assert_eq!(receiver.requests()[0].header("proxy-authorization"), None);
    assert_eq!(receiver.requests()[0].target, "/");
}
