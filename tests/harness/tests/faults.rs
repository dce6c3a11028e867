//! The tools that break things, each by itself: a proxy, a clock that is off, a small disk.

use std::io::ErrorKind;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::{Proxy, SmallDisk, Way, shifted_clock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Long enough for bytes on loopback, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing must come, for nothing to be passed.
const SILENCE: Duration = Duration::from_millis(200);

/// A server that sends back what it gets.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    port
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("the proxy listens")
}

/// Sends a byte and waits for it to come back: `None` while nothing comes, else what a read gives.
async fn ask(client: &mut TcpStream, patience: Duration) -> Option<std::io::Result<usize>> {
    let mut byte = [0];
    let _ = client.write_all(b"x").await;
    timeout(patience, client.read(&mut byte)).await.ok()
}

fn is_answer(answer: &Option<std::io::Result<usize>>) -> bool {
    matches!(answer, Some(Ok(1)))
}

fn is_end(answer: &Option<std::io::Result<usize>>) -> bool {
    match answer {
        Some(Ok(length)) => *length == 0,
        Some(Err(error)) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        None => false,
    }
}

#[tokio::test]
async fn a_cut_proxy_ends_every_connection_and_takes_new_ones_once_it_is_open() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut client = connect(&proxy).await;
    assert!(is_answer(&ask(&mut client, PATIENCE).await));
    proxy.set(Way::Cut);
    assert!(is_end(&ask(&mut client, PATIENCE).await));
    assert!(is_end(&ask(&mut connect(&proxy).await, PATIENCE).await));
    proxy.set(Way::Open);
    assert!(is_answer(&ask(&mut connect(&proxy).await, PATIENCE).await));
}

#[tokio::test]
async fn a_stalled_proxy_keeps_what_is_sent_until_it_is_open() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut client = connect(&proxy).await;
    assert!(is_answer(&ask(&mut client, PATIENCE).await));
    proxy.set(Way::Stalled);
    assert!(ask(&mut client, SILENCE).await.is_none());
    proxy.set(Way::Open);
    let mut byte = [0];
    assert_eq!(timeout(PATIENCE, client.read(&mut byte)).await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_half_open_connection_is_silent_and_not_closed_while_new_ones_pass() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut client = connect(&proxy).await;
    assert!(is_answer(&ask(&mut client, PATIENCE).await));
    proxy.set(Way::HalfOpen);
    assert!(ask(&mut client, SILENCE).await.is_none());
    assert!(is_answer(&ask(&mut connect(&proxy).await, PATIENCE).await));
    assert!(ask(&mut client, SILENCE).await.is_none());
}

#[test]
fn a_process_with_a_shifted_clock_lives_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("date").arg("+%s").envs(shifted_clock(folder.path(), 3_600).unwrap()).output();
    let shown: u64 = String::from_utf8(output.unwrap().stdout).unwrap().trim().parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!((3_500..3_700).contains(&shown.saturating_sub(now)), "{shown} is not an hour after {now}");
}

#[test]
fn a_full_disk_takes_nothing_until_it_is_emptied() {
    let disk = SmallDisk::mount(1 << 20).unwrap();
    let file = disk.path().join("file");
    std::fs::write(&file, [0; 4096]).unwrap();
    disk.fill().unwrap();
    let error = std::fs::write(disk.path().join("more"), [0; 4096]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    disk.empty().unwrap();
    std::fs::write(disk.path().join("more"), [0; 4096]).unwrap();
}
