//! Connections are used again, and none is left behind.

use std::time::Duration;

use harness::{Receiver, Reply};
use tokio::task::{JoinSet, yield_now};

use super::{LONG, client, config, post, send};
use crate::{Client, Config, Request, SendError};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_one_after_another_use_one_connection_and_parallel_ones_as_many_as_they_are() {
    let receiver = Receiver::start().unwrap();
    let client = client();
    for _ in 0..200 {
        send(&client, post(&receiver.url("/"))).await.unwrap();
    }
    assert_eq!(receiver.opened(), 1);
    let mut parallel = JoinSet::new();
    for _ in 0..8 {
        let (client, url) = (client.clone(), receiver.url("/"));
        parallel.spawn(async move {
            for _ in 0..100 {
                send(&client, post(&url)).await.unwrap();
            }
        });
    }
    parallel.join_all().await;
    assert_eq!(receiver.count(), 1_000);
    assert!(receiver.opened() <= 8, "{} connections", receiver.opened());
}

#[tokio::test]
async fn targets_of_different_ports_and_clients_with_their_own_certificates_share_no_connection() {
    let (one, other) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let client = client();
    let own =
        client.with_tls(crate::Tls::new(Some(Receiver::start_tls().unwrap().ca().as_bytes()), None).unwrap());
    for client in [&client, &own] {
        send(client, post(&one.url("/"))).await.unwrap();
        send(client, post(&other.url("/"))).await.unwrap();
    }
    assert_eq!((one.opened(), other.opened()), (2, 2));
}

#[tokio::test]
async fn a_connection_that_the_target_closes_between_requests_costs_none_of_them() {
    let receiver = Receiver::start().unwrap();
    let client = client();
    receiver.answer(Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    for number in 1..=20 {
        send(&client, post(&receiver.url("/"))).await.unwrap();
        assert!(receiver.wait_for_open(0, LONG).await);
        // The task of the connection sees the end that has come.
        yield_now().await;
        yield_now().await;
        assert_eq!(receiver.count(), number);
    }
    // The target says so.
    receiver.answer(Reply::status(200).header("connection", "close"));
    for _ in 0..5 {
        send(&client, post(&receiver.url("/"))).await.unwrap();
    }
    assert_eq!((receiver.count(), receiver.opened()), (25, 25));
}

#[tokio::test]
async fn a_dropped_request_closes_its_connection() {
    let receiver = Receiver::start().unwrap();
    let client = client();
    for reply in [Reply::stall(), Reply::status(200).body(vec![7; 1_000_000]).drip(Duration::from_millis(20))]
    {
        receiver.answer(reply);
        let count = receiver.count();
        let (client, request) = (client.clone(), post(&receiver.url("/")));
        let task = tokio::spawn(async move { send(&client, request).await });
        assert!(receiver.wait_for(count + 1, LONG).await);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(receiver.wait_for_open(0, LONG).await);
    }
}

#[tokio::test]
async fn a_dropped_client_closes_its_connections() {
    let receiver = Receiver::start().unwrap();
    let client = client();
    send(&client, post(&receiver.url("/"))).await.unwrap();
    assert!(receiver.wait_for_open(1, LONG).await);
    drop(client);
    assert!(receiver.wait_for_open(0, LONG).await);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time_and_one_in_use_is_not() {
    let receiver = Receiver::start().unwrap();
    let client = Client::new(&Config { idle_timeout_ms: 100, ..config() });
    receiver.answer(Reply::status(200).after(Duration::from_millis(400)));
    assert!(send(&client, post(&receiver.url("/"))).await.unwrap().status.is_success());
    assert!(receiver.wait_for_open(0, LONG).await);
    receiver.answer(Reply::status(200));
    send(&client, post(&receiver.url("/"))).await.unwrap();
    assert_eq!((receiver.count(), receiver.opened()), (2, 2));
}

#[tokio::test]
async fn a_target_that_is_down_is_told_from_one_that_answers_and_used_again_once_it_is_up() {
    let receiver = Receiver::start().unwrap();
    let (client, url, port) = (client(), receiver.url("/"), receiver.port());
    send(&client, post(&url)).await.unwrap();
    drop(receiver);
    let error = send(&client, post(&url)).await.unwrap_err();
    // The connection that was open may break while it is used.
    assert!(matches!(error.kind(), "connect" | "protocol"), "{error:?}");
    let error = send(&client, post(&url)).await.unwrap_err();
    let SendError::Connect { address, .. } = &error else { panic!("{error:?}") };
    assert_eq!(address.to_string(), format!("127.0.0.1:{port}"));
    assert!(event::Chain(&error).to_string().contains("refused"), "{error:?}");
    let receiver = Receiver::start_at(port).unwrap();
    send(&client, Request { timeout: LONG, ..post(&url) }).await.unwrap();
    assert_eq!(receiver.count(), 1);
}
