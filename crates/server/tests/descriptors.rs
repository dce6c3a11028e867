//! The server when the process has no file descriptor left. A process of its own: the limit is that of all tests in it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use server::{Config, Health, Operations, Server};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn running_out_of_file_descriptors_is_survived() {
    let recorder = PrometheusBuilder::new().install_recorder().unwrap();
    let server = Server::bind(&Config::new("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let addr = server.local_addr();
    let rendered = recorder.clone();
    let operations = Operations::new(Health::default(), move || rendered.render(), "1.2.3");
    let stop = CancellationToken::new();
    let served = tokio::spawn(server.serve_operations(operations, stop.clone()));

    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
    // Every connection takes two descriptors here, so the server finds none for the last of them.
    let clients: Vec<_> = std::iter::from_fn(|| TcpStream::connect(addr).ok()).collect();
    tokio::time::timeout(Duration::from_secs(10), async {
        while recorder.render().contains("http_accept_errors_total 0") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("an accept fails");
    drop(clients);

    let healthy = tokio::task::spawn_blocking(move || get(addr, "/healthz")).await.unwrap().unwrap();
    assert!(healthy.starts_with("HTTP/1.1 200 OK"), "{healthy}");
    stop.cancel();
    served.await.unwrap();
}

fn get(addr: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
