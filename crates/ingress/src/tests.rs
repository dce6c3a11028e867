//! The ingress in front of a broker that answers as it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, to_bytes};
use broker::test_support::{Answer, RecordingBroker};
use broker::{DiskAlarm, Layout};
use event::{Event, Message, SourceName, header};
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use providers::{Provider, SubjectKey, generic};
use serde_json::{Value, json};
use server::Peer;
use tower_service::Service;

use crate::test_support::CONFIG;
use crate::{Config, Ingress, Quota, Source};

mod senders;

/// A signature, which needs the whole body.
fn signature() -> Value {
    json!({"hmac": {"header": "x-signature", "algorithm": "sha256", "encoding": "hex", "secrets": ["s3cret"]}})
}

struct Setup {
    broker: Arc<RecordingBroker>,
    ingress: Ingress,
}

fn setup(answer: Answer) -> Setup {
    setup_with(answer, CONFIG)
}

fn setup_with(answer: Answer, config: Config) -> Setup {
    let source = |name: &str, provider: Provider, auth: Value| Source {
        name: SourceName::new(name).unwrap(),
        answer: provider.answer().cloned(),
        challenges: provider.challenges().to_vec(),
        suffixes: provider.suffixes().to_vec(),
        provider,
        auth: serde_json::from_value(auth).unwrap(),
        duplicates: match name {
            "erp" => Some(serde_json::from_value(json!({"header": "x-request-id", "window_s": 60})).unwrap()),
            _ => None,
        },
        quota: match name {
            "inside" => {
                serde_json::from_value(json!({"requests_per_day": 3, "rejected_bytes_per_day": 1})).unwrap()
            }
            _ => Quota::default(),
        },
    };
    let acknowledging: generic::Config = serde_json::from_value(json!({
        "name": "erp", "topic": {"pointer": "/event"}, "answer": {"status": 202, "body": "OK", "content_type": "text/plain"},
    }))
    .unwrap();
    let sources = vec![
        source(
            "me",
            Provider::named("mercado-eletronico").unwrap(),
            json!({"header": {"name": "x-api-key", "secrets": ["s3cret"]}}),
        ),
        source("erp", Provider::generic(&acknowledging), json!("none")),
        source("signed", Provider::named("mercado-eletronico").unwrap(), signature()),
        source("inside", Provider::named("gestao-online").unwrap(), json!({"networks": ["10.0.0.0/8"]})),
    ];
    setup_of(sources, answer, config)
}

fn setup_of(sources: Vec<Source>, answer: Answer, config: Config) -> Setup {
    let broker = RecordingBroker::alone();
    broker.answer(answer);
    let key = SubjectKey::from_bytes([7; 32]);
    let (zone, disk) = (event::Zone::default(), DiskAlarm::default());
    let ingress = Ingress::new(sources, broker.clone(), Layout::new(""), key, zone, config, disk);
    Setup { broker, ingress }
}

impl Setup {
    async fn send(&self, request: Request<Body>) -> Response<Body> {
        let Ok(response) = self.ingress.clone().service().call(request).await;
        response.map(Body::new)
    }

    async fn post(&self, path: &str, body: &'static str) -> Response<Body> {
        self.send(post(path, body)).await
    }

    fn published(&self) -> Vec<(String, String, Message)> {
        let published = self.broker.published().into_iter();
        published.map(|it| (it.exchange.to_string(), it.routing_key, it.message)).collect()
    }
}

fn post(path: &str, body: &'static str) -> Request<Body> {
    Request::post(path)
        .header("x-api-key", "s3cret")
        .header("content-type", "application/json")
        .extension(Peer::new("192.0.2.1:4000".parse().unwrap()))
        .body(Body::from(body))
        .unwrap()
}

async fn json_of(response: Response<Body>) -> Value {
    serde_json::from_slice(&to_bytes(response.into_body(), 65_536).await.unwrap()).unwrap()
}

const ORDER: &str = r#"{"topic": "order.created", "data": {"orderId": "0123"}}"#;

#[tokio::test]
async fn an_accepted_post_is_published_with_its_bytes_and_answered_with_its_id() {
    let setup = setup(Answer::Confirm);
    let response = setup.post("/webhooks/me", ORDER).await;
    assert_eq!(response.status(), 200);
    let answer = json_of(response).await;
    let (exchange, key, message) = setup.published().remove(0);
    assert_eq!((exchange.as_str(), key.as_str()), ("received.mercado-eletronico", "order.created"));
    let event = Event::from_message(&message).unwrap();
    assert_eq!(answer, json!({"id": event.id, "topic": "order.created"}));
    assert_eq!(event.data, ORDER);
    assert_eq!(event.source.to_string(), "/mercado-eletronico/me");
    assert_eq!(event.subject.unwrap().as_str(), "order/0123");
    assert!(event.traceparent.unwrap().contains(&event.id.to_string().replace('-', "")));
}

#[tokio::test]
async fn a_content_type_that_amqp_cannot_carry_is_kept_without_its_parameters() {
    let setup = setup(Answer::Confirm);
    let mut request = post("/webhooks/me", ORDER);
    let long = format!("application/json; x={}", "x".repeat(300));
    request.headers_mut().insert("content-type", long.parse().unwrap());
    assert_eq!(setup.send(request).await.status(), 200);
    assert_eq!(setup.published()[0].2.content_type, "application/json");
}

#[tokio::test]
async fn an_unusable_body_is_kept_with_its_cause_before_it_is_refused() {
    let setup = setup(Answer::Confirm);
    let response = setup.post("/webhooks/me", r#"{"data": {}}"#).await;
    assert_eq!(response.status(), 400);
    let problem = json_of(response).await;
    let (exchange, _, message) = setup.published().remove(0);
    assert_eq!(exchange, "rejected");
    assert_eq!(message.body, r#"{"data": {}}"#);
    assert_eq!(problem["id"], message.message_id.as_str());
    assert_eq!(problem["detail"], message.text(header::CAUSE).unwrap());
    assert!(problem["detail"].as_str().unwrap().starts_with("topic: missing"), "{problem}");
}

#[tokio::test]
async fn what_cannot_be_stored_is_never_answered_with_success() {
    let check = async |answer, body| {
        let response = setup(answer).post("/webhooks/me", body).await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "5");
    };
    check(Answer::Unavailable, ORDER).await;
    check(Answer::MissingExchange, ORDER).await;
    // An unusable body that cannot be kept is asked for again, too.
    check(Answer::Unavailable, "{}").await;
    let config = Config { answer_timeout_ms: 20, ..CONFIG };
    let response = setup_with(Answer::Hold, config).post("/webhooks/me", ORDER).await;
    assert_eq!(response.status(), 503);
}

#[tokio::test]
async fn what_the_broker_can_never_accept_is_not_asked_for_again() {
    let setup = setup(Answer::Confirm);
    setup.broker.limit_bodies(ORDER.len() - 1);
    let response = setup.post("/webhooks/me", ORDER).await;
    assert_eq!(response.status(), 413);
    assert_eq!(response.headers().get("retry-after"), None);
}

#[tokio::test]
async fn one_source_cannot_take_the_places_of_another() {
    let setup = Arc::new(setup(Answer::Hold));
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let setup = setup.clone();
            tokio::spawn(async move { setup.post("/webhooks/me", ORDER).await.status() })
        })
        .collect();
    setup.broker.held(2).await;
    let refused = setup.post("/webhooks/me", ORDER).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    setup.broker.confirm(3);
    assert_eq!(setup.post("/webhooks/erp", r#"{"event": "x"}"#).await.status(), 202);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), 200);
    }
}

/// A body that never ends.
fn endless() -> Body {
    let begin = stream::once(async { Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"{")) });
    Body::from_stream(begin.chain(stream::pending()))
}

#[tokio::test]
async fn strangers_whose_bodies_do_not_end_take_no_place_of_the_source() {
    let setup = Arc::new(setup(Answer::Confirm));
    let strangers: Vec<_> = (0..20)
        .map(|_| {
            let setup = setup.clone();
            let mut request = post("/webhooks/signed", "");
            *request.body_mut() = endless();
            tokio::spawn(async move { setup.send(request).await.status() })
        })
        .collect();
    tokio::task::yield_now().await;
    let auth: providers::auth::Auth = serde_json::from_value(signature()).unwrap();
    let mut request = post("/webhooks/signed", ORDER);
    for (name, value) in auth.sign(ORDER.as_bytes(), event::now()).headers {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    assert_eq!(setup.send(request).await.status(), 200);
    for stranger in strangers {
        // Most are dropped for the others, since all come from one client; the rest take too long.
        let status = stranger.await.unwrap();
        assert!(status == 503 || status == 408, "{status}");
    }
}

#[tokio::test]
async fn the_requests_of_a_client_behind_a_proxy_are_counted_by_its_own_address() {
    let config = Config { trusted_proxies: vec!["192.0.2.0/24".parse().unwrap()], ..CONFIG };
    let setup = Arc::new(setup_with(Answer::Hold, config));
    let send = |path: &'static str, client: &str| {
        let setup = setup.clone();
        let mut request = post(path, r#"{"event": "x", "topic": "x"}"#);
        request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
        tokio::spawn(async move { setup.send(request).await })
    };
    let waiting = [send("/webhooks/me", "198.51.100.1"), send("/webhooks/erp", "198.51.100.1")];
    setup.broker.held(2).await;
    let refused = send("/webhooks/erp", "198.51.100.1").await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    let other = send("/webhooks/erp", "198.51.100.2");
    setup.broker.held(1).await;
    setup.broker.confirm(3);
    for accepted in waiting.into_iter().chain([other]) {
        assert!(accepted.await.unwrap().status().is_success());
    }
}

#[tokio::test]
async fn a_source_over_its_quota_is_asked_to_come_again_and_nothing_of_it_is_half_taken() {
    let setup = setup(Answer::Confirm);
    let from = |address: &str, body| {
        let mut request = post("/webhooks/inside", body);
        request.extensions_mut().insert(Peer::new(address.parse().unwrap()));
        setup.send(request)
    };
    // A stranger uses up no quota.
    for _ in 0..5 {
        assert_eq!(from("192.0.2.1:4000", "{}").await.status(), 403);
    }
    let order = r#"{"event_id": "ORDER_CREATED", "data": {"code": "1"}}"#;
    assert_eq!(from("10.0.0.1:4000", order).await.status(), 200);
    assert_eq!(from("10.0.0.1:4000", "{}").await.status(), 400);
    // The second rejected body is over its own quota: it is not kept, and the sender is told so.
    let refused = from("10.0.0.1:4000", "{}").await;
    assert_eq!(
        (refused.status(), refused.headers().contains_key("retry-after")),
        (429.try_into().unwrap(), true)
    );
    assert!(json_of(refused).await["detail"].as_str().unwrap().contains("rejected bytes per day"));
    assert_eq!(from("10.0.0.1:4000", order).await.status(), 200, "the refused body used nothing up");
    let refused = from("10.0.0.1:4000", order).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "28800");
    assert_eq!(setup.published().len(), 3);
}

#[tokio::test]
async fn a_client_over_ipv4_is_not_counted_again_on_a_port_that_takes_ipv6() {
    let setup = Arc::new(setup_with(Answer::Hold, Config { source_requests: 8, ..CONFIG }));
    let send = || {
        let setup = setup.clone();
        let mut request = post("/webhooks/me", ORDER);
        request.extensions_mut().insert(Peer::new("[::ffff:192.0.2.1]:4000".parse().unwrap()));
        tokio::spawn(async move { setup.send(request).await.status() })
    };
    // The server counts them; here more are in work than one client may have behind a proxy.
    let waiting = [(); 3].map(|()| send());
    let come = tokio::time::timeout(std::time::Duration::from_secs(10), setup.broker.held(3));
    come.await.expect("all three are published");
    setup.broker.confirm(3);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn what_is_not_stored_uses_no_quota_up() {
    let setup = setup(Answer::Unavailable);
    for body in [r#"{"event_id": "ORDER_CREATED", "data": {"code": "1"}}"#, "{}"].into_iter().cycle().take(8)
    {
        let mut request = post("/webhooks/inside", body);
        request.extensions_mut().insert(Peer::new("10.0.0.1:4000".parse().unwrap()));
        assert_eq!(setup.send(request).await.status(), 503);
    }
}

#[tokio::test]
async fn a_provider_that_insists_on_an_answer_gets_it() {
    let response = setup(Answer::Confirm).post("/webhooks/erp", r#"{"event": "paid"}"#).await;
    assert_eq!(response.status(), 202);
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert_eq!(to_bytes(response.into_body(), 100).await.unwrap(), "OK");
}

#[tokio::test]
async fn whoever_proves_nothing_leaves_nothing() {
    let setup = setup(Answer::Confirm);
    let check = async |status: u16, request: Request<Body>| {
        let response = setup.send(request).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(setup.published().is_empty());
    };
    let edit = |change: fn(&mut Request<Body>)| {
        let mut request = post("/webhooks/me", ORDER);
        change(&mut request);
        request
    };
    check(401, edit(|r| drop(r.headers_mut().remove("x-api-key")))).await;
    check(401, edit(|r| drop(r.headers_mut().insert("x-api-key", "s3creT".parse().unwrap())))).await;
    check(403, post("/webhooks/inside", "{}")).await;
    check(404, post("/webhooks/nobody", ORDER)).await;
    check(404, post("/", ORDER)).await;
    check(405, edit(|r| *r.method_mut() = http::Method::GET)).await;
    check(413, edit(|r| *r.body_mut() = Body::from(vec![b' '; 2_000]))).await;
    check(415, edit(|r| drop(r.headers_mut().insert("content-encoding", "br".parse().unwrap())))).await;
}

#[tokio::test]
async fn the_body_decides_whatever_the_label_says() {
    let setup = setup(Answer::Confirm);
    let send = async |name: &'static str, value: Option<&'static str>, body: &'static [u8]| {
        let mut request = post("/webhooks/me", "");
        *request.body_mut() = Body::from(body);
        request.headers_mut().remove(name);
        if let Some(value) = value {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        setup.send(request).await.status().as_u16()
    };
    let labels = [
        None,
        Some(""),
        Some("text/plain; charset=UTF-8"),
        Some("applications/json"),
        Some("application/json, application/json"),
        Some("application/x-www-form-urlencoded"),
        Some("application/octet-stream"),
        Some("text/xml"),
    ];
    for label in labels {
        assert_eq!(send("content-type", label, ORDER.as_bytes()).await, 200, "{label:?}");
        assert_eq!(send("content-type", label, b"<order/>").await, 400, "{label:?}");
    }
    for (coding, expect) in [("UTF-8", 200), ("", 200), ("Identity", 200), ("gzip", 200), ("zstd", 415)] {
        assert_eq!(send("content-encoding", Some(coding), ORDER.as_bytes()).await, expect, "{coding:?}");
    }
    let published = setup.published();
    let kept: Vec<_> = published[..4]
        .iter()
        .map(|(exchange, _, message)| (exchange.as_str(), message.content_type.as_str()))
        .collect();
    let (taken, json) = ("received.mercado-eletronico", "application/json");
    assert_eq!(kept, [(taken, json), ("rejected", json), (taken, json), ("rejected", json)]);
    assert_eq!(published[4].2.content_type, "text/plain; charset=UTF-8");
}

#[tokio::test]
async fn a_compressed_body_is_kept_as_it_was_before() {
    let setup = setup(Answer::Confirm);
    let mut gzip = flate2::read::GzEncoder::new(ORDER.as_bytes(), flate2::Compression::fast());
    let mut compressed = Vec::new();
    std::io::Read::read_to_end(&mut gzip, &mut compressed).unwrap();
    let mut request = post("/webhooks/me", "");
    *request.body_mut() = Body::from(compressed);
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(setup.send(request).await.status(), 200);
    assert_eq!(setup.published()[0].2.body, ORDER);
}

#[tokio::test]
async fn a_compressed_body_is_read_on_only_with_memory_for_what_it_becomes() {
    const KIB: usize = 1024;
    let config = Config {
        body_limit_bytes: 128 * KIB,
        body_memory_bytes: 768 * KIB,
        unproved_body_memory_bytes: 256 * KIB,
        source_requests: 8,
        ..CONFIG
    };
    let setup = Arc::new(setup_with(Answer::Hold, config));
    let send = |body: Body, coding: &'static str| {
        let setup = setup.clone();
        let mut request = post("/webhooks/me", "");
        *request.body_mut() = body;
        request.headers_mut().insert("content-encoding", coding.parse().unwrap());
        tokio::spawn(async move { setup.send(request).await.status().as_u16() })
    };
    // Of the 256 KiB for large bodies, these hold 200.
    let large = [(); 2].map(|()| send(Body::from(vec![b' '; 100 * KIB]), "identity"));
    setup.broker.held(2).await;
    let is_read_on = Arc::new(AtomicBool::new(false));
    let begin = stream::once(async { Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[0x1f])) });
    let rest = stream::once({
        let is_read_on = is_read_on.clone();
        async move {
            is_read_on.store(true, Ordering::Relaxed);
            Ok(bytes::Bytes::from_static(&[0x8b]))
        }
    });
    let compressed = send(Body::from_stream(begin.chain(rest)), "gzip");
    assert_eq!(compressed.await.unwrap(), 503);
    assert!(!is_read_on.load(Ordering::Relaxed));
    setup.broker.confirm(2);
    for large in large {
        assert_eq!(large.await.unwrap(), 400);
    }
}

#[tokio::test]
async fn an_address_is_found_with_more_slashes_than_it_needs() {
    let setup = setup(Answer::Confirm);
    for path in ["/webhooks/me/", "//webhooks/me", "/webhooks//me", "///webhooks///me//", "/webhooks/m%65"] {
        let mut request = post("/", ORDER);
        let uri = http::Uri::builder().path_and_query(path).build().unwrap();
        *request.uri_mut() = uri;
        assert_eq!(setup.send(request).await.status(), 200, "{path}");
    }
    for path in ["/webhooks", "/webhooks/me/x", "/x/webhooks/me", "/webhook/me", "/", "/webhooks/ME"] {
        assert_eq!(setup.post(path, ORDER).await.status(), 404, "{path}");
    }
    assert_eq!(setup.published().len(), 5);
}

#[tokio::test]
async fn an_id_that_is_too_long_is_rejected_with_its_place_and_the_limit() {
    let setup = setup(Answer::Confirm);
    let body = format!(r#"{{"topic": "order.created", "data": {{"orderId": "{}"}}}}"#, "7".repeat(600));
    let response = setup.post("/webhooks/me", body.leak()).await;
    assert_eq!(response.status(), 400);
    let problem = json_of(response).await;
    assert_eq!(
        problem["detail"],
        "data.orderId: expected an identifier of at most 200 bytes, got a text of 600 characters; send an \
         identifier that keeps to this"
    );
    assert_eq!(setup.published()[0].0, "rejected");
}

#[tokio::test]
async fn a_fact_sent_again_gets_its_200_and_goes_to_the_record_alone() {
    let setup = setup(Answer::Confirm);
    let send = async |id: Option<&str>| {
        let mut request = post("/webhooks/erp", r#"{"event": "paid"}"#);
        if let Some(id) = id {
            request.headers_mut().insert("x-request-id", id.parse().unwrap());
        }
        assert_eq!(setup.send(request).await.status(), 202);
    };
    for id in [Some("1"), Some("1"), Some("2"), None, None] {
        send(id).await;
    }
    let published = setup.published();
    let places: Vec<_> =
        published.iter().map(|(exchange, key, _)| (exchange.as_str(), key.as_str())).collect();
    let received = ("received.erp", "paid");
    assert_eq!(places, [received, ("", "ledger"), received, received, received]);
    let keys: Vec<_> = published.iter().map(|(.., message)| message.text(header::DUPLICATE_KEY)).collect();
    assert!(keys[0].is_some() && keys[0] == keys[1] && keys[1] != keys[2] && keys[3].is_none());
    assert_ne!(published[0].2.message_id, published[1].2.message_id);
    assert_eq!(published[1].2.long(header::DUPLICATE_WINDOW_S), Some(60));
    let firsts: Vec<_> = published.iter().map(|(.., message)| message.text(header::DUPLICATE_OF)).collect();
    assert_eq!(firsts, [None, Some(published[0].2.message_id.as_str()), None, None, None]);
}

#[tokio::test]
async fn a_rejected_body_keeps_the_header_that_identifies_its_fact() {
    let setup = setup(Answer::Confirm);
    let mut request = post("/webhooks/erp", "{}");
    request.headers_mut().insert("x-request-id", "r-1".parse().unwrap());
    assert_eq!(setup.send(request).await.status(), 400);
    let (exchange, _, message) = setup.published().remove(0);
    assert_eq!((exchange.as_str(), message.text("http_x-request-id")), ("rejected", Some("r-1")));
}

#[tokio::test]
async fn the_ledger_is_told_what_was_answered_once_more_at_the_end() {
    let setup = setup(Answer::Confirm);
    for body in [r#"{"event": "paid"}"#, r#"{"event": "due"}"#, "{}"] {
        setup.post("/webhooks/erp", body).await;
    }
    setup.post("/webhooks/inside", "{}").await;
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    setup.ingress.clone().report(stop).await;
    let published = setup.published();
    let (exchange, _, tally) = published.last().unwrap();
    assert_eq!((exchange.as_str(), tally.r#type.as_str()), ("tallies", "tally"));
    let reported: Value = serde_json::from_slice(&tally.body).unwrap();
    let day = event::Zone::default().day(event::now()).to_string();
    assert_eq!(reported["counts"], json!([{"source": "erp", "day": day, "accepted": 2, "rejected": 1}]));
    assert!(reported["ingress"].as_str().unwrap().parse::<event::EventId>().is_ok());
}

#[tokio::test]
async fn the_ledger_is_told_which_secrets_were_used_and_what_was_refused() {
    let secrets = ["first-secret-1", "second-secret-2"];
    let source = Source {
        name: SourceName::new("go").unwrap(),
        provider: Provider::named("mercado-eletronico").unwrap(),
        auth: serde_json::from_value(json!({"query": {"name": "token", "secrets": secrets}})).unwrap(),
        duplicates: None,
        quota: Quota::default(),
        answer: None,
        challenges: Vec::new(),
        suffixes: Vec::new(),
    };
    let setup = setup_of(vec![source], Answer::Confirm, CONFIG);
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    setup.ingress.clone().report(stop.clone()).await;
    assert!(setup.published().is_empty(), "an ingress that receives nothing has nothing to say of secrets");
    let reported = async || {
        setup.ingress.clone().report(stop.clone()).await;
        let (exchange, _, report) = setup.published().pop().unwrap();
        assert_eq!(exchange.as_str(), "tallies");
        let mut report: Value = serde_json::from_slice(&report.body).unwrap();
        assert!(!report.to_string().contains("-secret-"), "{report}");
        report["sources"][0].take()
    };
    assert_eq!(setup.post("/webhooks/go?token=wrong", ORDER).await.status(), 401);
    let before = reported().await;
    assert_eq!(before["refusals"][0]["reason"], "not authenticated");
    assert_eq!(before["refusals"][0]["failed"], "auth.query");
    assert_eq!((&before["secrets"][0]["place"], &before["secrets"][0]["used_at"]), (&json!(0), &Value::Null));
    assert_eq!(setup.post("/webhooks/go?token=second-secret-2", ORDER).await.status(), 200);
    let after = reported().await;
    assert_eq!(after["secrets"][0]["used_at"], Value::Null);
    assert!(after["secrets"][1]["used_at"].is_string(), "{after}");
    assert_eq!(after["secrets"][0]["fingerprint"], before["secrets"][0]["fingerprint"]);
    assert_ne!(after["secrets"][0]["fingerprint"], after["secrets"][1]["fingerprint"]);
}

#[tokio::test]
async fn what_was_not_stored_is_not_counted() {
    let setup = setup(Answer::Unavailable);
    assert_eq!(setup.post("/webhooks/erp", r#"{"event": "paid"}"#).await.status(), 503);
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    setup.ingress.clone().report(stop).await;
    assert!(setup.published().is_empty());
}

#[tokio::test]
async fn a_message_says_who_posted_it_and_what_is_answered() {
    let setup = setup(Answer::Confirm);
    for (path, body, status, expect) in [
        ("/webhooks/me", ORDER, 200, "200 192.0.2.1"),
        ("/webhooks/erp", r#"{"event": "paid"}"#, 202, "202 192.0.2.1 r 1"),
        ("/webhooks/erp", "{", 400, "400 192.0.2.1 r 1"),
    ] {
        let mut request = post(path, body);
        request.headers_mut().insert("x-request-id", "r 1".parse().unwrap());
        assert_eq!(setup.send(request).await.status(), status);
        let (.., message) = setup.published().pop().unwrap();
        assert_eq!(message.text(header::ANSWER), Some(expect), "{path}");
    }
    setup.ingress.keep_polled(&SourceName::new("me").unwrap(), ORDER.into()).await.unwrap();
    let (.., message) = setup.published().pop().unwrap();
    assert_eq!(message.text(header::ANSWER), None, "nobody posted it");
}
