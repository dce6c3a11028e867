//! Access tokens: got once for all that wait, and again when the target rejects them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::{Received, Receiver, Reply};
use http::StatusCode;
use tokio::task::JoinSet;

use super::{LONG, client, post, step};
use crate::{Client, ClientAuthentication, Config, Credentials, OAuth2Settings, Request, SendError, Step};

fn credentials(endpoint: &Receiver, authentication: ClientAuthentication, client: &Client) -> Credentials {
    let settings = OAuth2Settings {
        token_url: endpoint.url("/token").parse().unwrap(),
        client_id: "malote:1".to_owned(),
        client_secret: "hunter 2".to_owned(),
        scope: Some("events write".to_owned()),
        authentication,
    };
    Credentials::oauth2(settings, client).unwrap()
}

/// Tokens `t0`, `t1`, … that are valid for an hour.
fn granting() -> Receiver {
    let endpoint = Receiver::start().unwrap();
    endpoint.answer_with(|_, number| {
        Reply::status(200)
            .body(format!(r#"{{"access_token":"t{number}","token_type":"Bearer","expires_in":3600}}"#))
            .after(Duration::from_millis(50))
    });
    endpoint
}

fn token(received: &Received) -> &str {
    received.header("authorization").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_is_got_for_all_requests_and_kept() {
    let (endpoint, target) = (granting(), Receiver::start().unwrap());
    let client = client();
    let credentials = credentials(&endpoint, ClientAuthentication::ClientSecretBasic, &client);
    let mut parallel = JoinSet::new();
    for _ in 0..20 {
        let (client, credentials, request) = (client.clone(), credentials.clone(), post(&target.url("/")));
        parallel.spawn(async move { client.send(request, &credentials).await.unwrap().status });
    }
    assert!(parallel.join_all().await.iter().all(StatusCode::is_success));
    client.send(post(&target.url("/")), &credentials).await.unwrap();
    assert_eq!((endpoint.count(), target.count()), (1, 21));
    assert!(target.requests().iter().all(|received| token(received) == "Bearer t0"));
    let asked = &endpoint.requests()[0];
    assert_eq!(asked.body, b"grant_type=client_credentials&scope=events+write");
    // base64 of malote%3A1:hunter+2
    assert_eq!(asked.header("authorization"), Some("Basic bWFsb3RlJTNBMTpodW50ZXIrMg=="));
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert!(!format!("{credentials:?}").contains("hunter"));
}

#[tokio::test]
async fn the_secret_is_in_the_body_where_the_endpoint_wants_it_there() {
    let (endpoint, target) = (granting(), Receiver::start().unwrap());
    let client = client();
    let credentials = credentials(&endpoint, ClientAuthentication::ClientSecretPost, &client);
    client.send(post(&target.url("/")), &credentials).await.unwrap();
    let asked = &endpoint.requests()[0];
    let form = "grant_type=client_credentials&scope=events+write&client_id=malote%3A1&client_secret=hunter+2";
    assert_eq!((String::from_utf8_lossy(&asked.body).as_ref(), asked.header("authorization")), (form, None));
}

#[tokio::test]
async fn a_kept_token_that_is_rejected_is_replaced_once() {
    let (endpoint, target) = (granting(), Receiver::start().unwrap());
    let client = client();
    let credentials = credentials(&endpoint, ClientAuthentication::ClientSecretBasic, &client);
    let send = async || client.send(post(&target.url("/")), &credentials).await.unwrap().status;
    assert_eq!(send().await, StatusCode::OK);
    target.answer_with(|received, _| Reply::status(if token(received) == "Bearer t0" { 401 } else { 200 }));
    assert_eq!(send().await, StatusCode::OK);
    let tokens: Vec<_> = target.requests().iter().map(|received| token(received).to_owned()).collect();
    assert_eq!(tokens, ["Bearer t0", "Bearer t0", "Bearer t1"]);
    assert!(target.requests().iter().all(|received| received.body == b"{}"));
    // A target that accepts no token gets one more request, not a loop.
    target.answer(Reply::status(401));
    assert_eq!(send().await, StatusCode::UNAUTHORIZED);
    assert_eq!((endpoint.count(), target.count()), (3, 5));
}

#[tokio::test]
async fn a_new_token_that_is_rejected_is_the_answer() {
    let (endpoint, target) = (granting(), Receiver::start().unwrap());
    target.answer(Reply::status(401));
    let client = client();
    let credentials = credentials(&endpoint, ClientAuthentication::ClientSecretBasic, &client);
    let answer = client.send(post(&target.url("/")), &credentials).await.unwrap();
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!((endpoint.count(), target.count()), (1, 1));
}

#[tokio::test]
async fn requests_that_waited_for_a_token_in_vain_share_the_error_and_later_ones_ask_again() {
    let (endpoint, target) = (granting(), Receiver::start().unwrap());
    let is_open = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&is_open);
    endpoint.answer_with(move |_, _| match opened.load(Ordering::SeqCst) {
        true => Reply::status(200).body(r#"{"access_token":"t","expires_in":60}"#),
        false => Reply::status(401)
            .body(r#"{"error":"invalid_client","error_description":"not hunter 2"}"#)
            .after(Duration::from_millis(300)),
    });
    let client = client();
    let credentials = credentials(&endpoint, ClientAuthentication::ClientSecretBasic, &client);
    let send = || client.send(post(&target.url("/")), &credentials);
    let (one, two, three) = tokio::join!(send(), send(), send());
    for sent in [one, two, three] {
        let error = event::Chain(&sent.unwrap_err()).to_string();
        let expect =
            "no access token: the token endpoint 127.0.0.1 answered 401 Unauthorized (invalid_client)";
        assert_eq!(error, expect);
    }
    assert_eq!((endpoint.count(), target.count()), (1, 0));
    is_open.store(true, Ordering::SeqCst);
    assert!(send().await.unwrap().status.is_success());
    assert_eq!((endpoint.count(), target.count()), (2, 1));
}

#[tokio::test]
async fn the_endpoint_is_guarded_and_waited_for_within_the_time_out() {
    let (endpoint, target) = (granting(), Receiver::start().unwrap());
    let open = client();
    let guarded = Client::new(&Config::default());
    let refused = credentials(&endpoint, ClientAuthentication::ClientSecretBasic, &guarded);
    let error = open.send(post(&target.url("/")), &refused).await.unwrap_err();
    assert!(
        matches!(error, SendError::Token(_)) && event::Chain(&error).to_string().contains("[outbound] allow")
    );
    assert_eq!(endpoint.opened(), 0);
    endpoint.answer(Reply::stall());
    let slow = credentials(&endpoint, ClientAuthentication::ClientSecretBasic, &open);
    let request = Request { timeout: Duration::from_millis(100), ..post(&target.url("/")) };
    assert_eq!(step(open.send(request, &slow).await), Step::Token);
    // The one that gave up does not hold up the next.
    endpoint.answer(Reply::status(200).body(r#"{"access_token":"t"}"#));
    let request = Request { timeout: LONG, ..post(&target.url("/")) };
    assert!(open.send(request, &slow).await.unwrap().status.is_success());
}
