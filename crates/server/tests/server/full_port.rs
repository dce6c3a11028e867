//! A full port: who waits, who gives way, and what a stop does to those that wait.

use super::*;

#[tokio::test]
async fn a_port_full_of_strangers_keeps_no_known_client_waiting_and_takes_turns_with_the_others() {
    let server = start(Limits { max_connections: Some(64), ..PATIENT }).await;
    let get = async |local: &str, path: &str| {
        let mut stream = connect_from(server.addr, local).await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let mut running = get("127.0.0.2", "/known/slow").await;
    within(server.entered.acquire()).await.unwrap().forget();
    let mut strangers = Vec::new();
    // An eighth is reserved for known clients.
    for n in 1..=55 {
        strangers.push(get(&format!("127.1.0.{n}"), "/slow").await);
        within(server.entered.acquire()).await.unwrap().forget();
    }
    let mut new = Vec::new();
    for n in 1..=3 {
        new.push(get(&format!("127.2.0.{n}"), "/").await);
    }
    over_http2(connect_from(server.addr, "127.0.0.2").await).await;
    let metrics = rest(&mut get("127.0.0.2", "/metrics").await).await;
    // Until the first stranger has had its second, which a slow machine may need for all of this.
    let nobody_gave_way = metrics.contains("http_connections_displaced_total 0");
    assert!(!nobody_gave_way || metrics.contains("http_connections_waiting 3"), "{metrics}");
    for stream in &mut new {
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(rest(&mut strangers[0]).await, "", "the oldest gives way");
    let metrics = rest(&mut get("127.0.0.2", "/metrics").await).await;
    assert!(!metrics.contains("http_connections_displaced_total 0"), "{metrics}");
    server.release.add_permits(56);
    assert!(rest(&mut running).await.ends_with("slow"), "it is authenticated");
    assert!(rest(&mut strangers[54]).await.ends_with("slow"), "nobody else needed its place");
}

#[tokio::test]
async fn a_stop_closes_connections_that_wait_for_a_place() {
    let server = start(Limits { max_connections: Some(1), ..PATIENT }).await;
    let mut running = server.running_request().await;
    let mut waiting = server.connect().await;
    server.stop.cancel();
    assert!(!matches!(within(waiting.read(&mut [0; 1])).await, Ok(1..)));
    server.release.add_permits(1);
    assert!(rest(&mut running).await.ends_with("slow"));
    within(server.served).await.unwrap();
}
