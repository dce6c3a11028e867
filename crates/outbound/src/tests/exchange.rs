//! One request and its answer, whole or broken.

use std::time::{Duration, Instant};

use harness::{Receiver, Reply};
use http::{HeaderValue, StatusCode};

use super::{LONG, client, post, send, step};
use crate::{Credentials, Request, SendError, Step};

#[tokio::test]
async fn a_request_arrives_as_it_is_with_its_credentials_and_so_does_the_answer() {
    let receiver = Receiver::start().unwrap();
    receiver.answer(Reply::status(202).header("x-answer", "1").body("taken"));
    let mut request = post(&receiver.url("/events?a=%20b"));
    request.headers.insert("webhook-id", HeaderValue::from_static("1"));
    let answer = client().send(request, &Credentials::bearer("s3cret").unwrap()).await.unwrap();
    assert_eq!(
        (answer.status, &answer.body[..], answer.is_cut),
        (StatusCode::ACCEPTED, &b"taken"[..], false)
    );
    assert_eq!(answer.headers["x-answer"], "1");
    let received = &receiver.requests()[0];
    assert_eq!(
        (&*received.method, &*received.target, &received.body[..]),
        ("POST", "/events?a=%20b", &b"{}"[..])
    );
    let host = format!("127.0.0.1:{}", receiver.port());
    for (name, value) in [
        ("host", host.as_str()),
        ("content-length", "2"),
        ("authorization", "Bearer s3cret"),
        ("webhook-id", "1"),
        ("user-agent", concat!("malote/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(received.header(name), Some(value), "{name}");
    }
    assert_eq!(received.headers.len(), 5, "{:?}", received.headers);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let receiver = Receiver::start().unwrap();
    for status in [301, 302, 303, 307, 308] {
        receiver.answer(Reply::status(status).header("location", "/elsewhere"));
        let answer = send(&client(), post(&receiver.url("/"))).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.headers["location"]),
            (status, &HeaderValue::from_static("/elsewhere"))
        );
    }
    assert_eq!(receiver.count(), 5);
}

#[tokio::test]
async fn a_long_answer_is_cut_and_a_compressed_one_stays_compressed() {
    let receiver = Receiver::start().unwrap();
    let client = client();
    let ask = async |length: usize| {
        receiver.answer(Reply::status(500).header("content-encoding", "gzip").body(vec![7; length]));
        let answer = send(&client, Request { max_answer: 4_096, ..post(&receiver.url("/")) }).await.unwrap();
        assert!(answer.body.iter().all(|byte| *byte == 7));
        (answer.body.len(), answer.is_cut)
    };
    assert_eq!(ask(0).await, (0, false));
    assert_eq!(ask(4_096).await, (4_096, false));
    assert_eq!(ask(4_097).await, (4_096, true));
    assert_eq!(ask(10_000_000).await, (4_096, true));
    assert_eq!(receiver.opened(), 1);
    // The rest of a very long one is never read.
    assert_eq!(ask(10).await, (10, false));
    assert_eq!(receiver.opened(), 2);
}

#[tokio::test]
async fn a_head_without_end_is_an_error() {
    let receiver = Receiver::start().unwrap();
    receiver.answer(Reply::status(200).header("x-long", &"x".repeat(100_000)));
    let error = send(&client(), post(&receiver.url("/"))).await.unwrap_err();
    assert!(matches!(error, SendError::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_none_is_an_error() {
    let receiver = Receiver::start().unwrap();
    for reply in [
        Reply::close(),
        Reply::status(200).body("never whole").midway(),
        Reply::raw("220 smtp.example.com ESMTP\r\n"),
        Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        Reply::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
    ] {
        receiver.answer(reply.clone());
        let error = send(&client(), post(&receiver.url("/"))).await.expect_err(&format!("{reply:?}"));
        assert_eq!(error.kind(), "protocol", "{reply:?}: {error:?}");
    }
    // A request that may have arrived is not repeated.
    assert_eq!(receiver.count(), 5);
}

#[tokio::test]
async fn an_answer_that_does_not_come_or_does_not_end_stops_at_the_time_out() {
    let receiver = Receiver::start().unwrap();
    let timeout = Duration::from_millis(300);
    for (reply, expect) in [
        (Reply::stall(), Step::Answer),
        (Reply::status(200).after(LONG), Step::Answer),
        (Reply::status(200).body(vec![7; 1_000]).drip(Duration::from_millis(50)), Step::Body),
    ] {
        receiver.answer(reply.clone());
        let began = Instant::now();
        let sent = send(&client(), Request { timeout, ..post(&receiver.url("/path")) }).await;
        let error = sent.as_ref().unwrap_err().to_string();
        assert!(
            error.starts_with("127.0.0.1 timed out after 300 ms, while ") && !error.contains("path"),
            "{error}"
        );
        assert_eq!(step(sent), expect, "{reply:?}");
        assert!(began.elapsed() >= timeout && began.elapsed() < timeout * 10, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_slow_answer_within_the_time_out_is_whole() {
    let receiver = Receiver::start().unwrap();
    receiver.answer(
        Reply::status(200).body("slow").drip(Duration::from_millis(10)).after(Duration::from_millis(50)),
    );
    let answer = send(&client(), post(&receiver.url("/"))).await.unwrap();
    assert_eq!(&answer.body[..], b"slow");
}
