//! What senders need beside an event in a body: suffixes, challenges, several events, answers of their own, access tokens.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

const PIX: &str =
    r#"{"pix": [{"endToEndId": "E1", "valor": "1.00"}, {"endToEndId": "E2", "valor": "1.00"}]}"#;

/// One source of a generic provider.
fn generic_setup(name: &str, provider: Value, auth: Value) -> Setup {
    setup_of(vec![generic_source(name, provider, auth)], Answer::Confirm, CONFIG)
}

fn generic_source(name: &str, provider: Value, auth: Value) -> Source {
    let config: generic::Config = serde_json::from_value(provider).unwrap();
    assert_eq!(config.mistakes(), []);
    let provider = Provider::generic(&config);
    let duplicates = provider
        .has_several_events()
        .then(|| serde_json::from_value(json!({"pointer": "/endToEndId", "window_s": 60})).unwrap());
    Source {
        name: SourceName::new(name).unwrap(),
        answer: provider.answer().cloned(),
        challenges: provider.challenges().to_vec(),
        suffixes: provider.suffixes().to_vec(),
        provider,
        auth: serde_json::from_value(auth).unwrap(),
        duplicates,
        quota: Quota::default(),
    }
}

/// The source of a provider whose events all are of one topic.
fn constant_source(auth: Value) -> Source {
    generic_source("psp", json!({"name": "psp", "topic": {"constant": "paid"}}), auth)
}

#[tokio::test]
async fn what_a_proxy_says_of_a_certificate_counts_on_its_own_connections_only() {
    let verified = json!({"header": "x-verify"});
    let required = json!({"proxy": {"header": "x-dn", "verified": verified}, "subjects": ["CN=psp"]});
    let source = constant_source(json!({ "client_certificate": required }));
    let config = Config { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..CONFIG };
    let setup = setup_of(vec![source], Answer::Confirm, config);
    let check = async |peer: &str, subject: &str, status: u16| {
        let mut request = post("/webhooks/psp", "{}");
        for (name, value) in [("x-verify", "SUCCESS"), ("x-dn", subject)] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request.extensions_mut().insert(Peer::new(peer.parse().unwrap()));
        let response = setup.send(request).await;
        assert_eq!(response.status(), status, "{peer} {subject}");
        if status == 401 {
            let detail = json_of(response).await["detail"].to_string();
            assert!(detail.contains("expected a client certificate that the proxy"), "{detail}");
        }
    };
    check("10.0.0.7:4000", "CN=psp,C=BR", 200).await;
    check("[::ffff:10.0.0.7]:4000", "CN=psp,C=BR", 200).await;
    check("10.0.0.7:4000", "CN=other", 401).await;
    check("192.0.2.1:4000", "CN=psp,C=BR", 401).await;
    // None of the headers is kept with the event.
    let kept = Event::from_message(&setup.published()[0].2).unwrap().headers;
    assert!(!kept.contains_key("x-dn"), "{kept:?}");
}

#[tokio::test]
async fn a_source_that_accepts_no_requests_says_so() {
    let source = Source { auth: providers::auth::Auth::closed(), ..constant_source(json!("none")) };
    let response = setup_of(vec![source], Answer::Confirm, CONFIG).post("/webhooks/psp", "{}").await;
    assert_eq!(response.status(), 401);
    let detail = json_of(response).await["detail"].to_string();
    assert!(detail.contains("accepts no requests") && !detail.contains("bearer"), "{detail}");
}

fn pix() -> Setup {
    let provider = json!({
        "name": "psp", "events": "/pix", "suffixes": ["/pix", "/v2/pix"],
        "topic": {"constant": "pix"}, "subject": {"entity": "pix", "pointer": "/endToEndId"},
    });
    generic_setup("pix", provider, json!({"query": {"name": "token", "secrets": ["k-pix", "k/pix"]}}))
}

#[tokio::test]
async fn a_suffix_that_a_source_declares_belongs_to_its_address() {
    let setup = pix();
    let check = async |path: &'static str, status: u16| {
        let mut request = post("/", PIX);
        *request.uri_mut() = path.parse().unwrap();
        assert_eq!(setup.send(request).await.status(), status, "{path}");
    };
    check("/webhooks/pix?token=k-pix", 200).await;
    check("/webhooks/pix/pix?token=k-pix", 200).await;
    check("/webhooks/pix//pix/?token=k-pix", 200).await;
    check("/webhooks/pix/v2/pix?token=k-pix", 200).await;
    check("/webhooks/pix?token=k-pix/pix", 200).await;
    check("/webhooks/pix?token=k-pix&ignorar=/pix", 200).await;
    // A secret that ends like a suffix is a secret.
    check("/webhooks/pix?token=k/pix", 200).await;
    check("/webhooks/pix?token=k", 401).await;
    check("/webhooks/pix?token=k-pix/other", 401).await;
    check("/webhooks/pix/pix?token=k", 401).await;
    check("/webhooks/pix/other?token=k-pix", 404).await;
    check("/webhooks/pix/pix/pix?token=k-pix", 404).await;
}

#[tokio::test]
async fn each_event_of_a_body_is_published_by_itself_and_the_answer_names_all() {
    let setup = pix();
    let response = setup.post("/webhooks/pix?token=k-pix", PIX).await;
    assert_eq!(response.status(), 200);
    let answer = json_of(response).await;
    let published = setup.published();
    let events: Vec<_> =
        published.iter().map(|(.., message)| Event::from_message(message).unwrap()).collect();
    let subjects: Vec<_> = events.iter().map(|event| event.subject.as_ref().unwrap().as_str()).collect();
    assert_eq!(subjects, ["pix/E1", "pix/E2"]);
    assert_eq!(events[1].data, r#"{"endToEndId": "E2", "valor": "1.00"}"#);
    let named = |event: &Event| json!({"id": event.id, "topic": "pix"});
    assert_eq!(answer, json!({"events": [named(&events[0]), named(&events[1])]}));
    assert!(published.iter().all(|(exchange, ..)| exchange == "received.psp"));

    // The first again beside a new one: only the new one is delivered.
    let other = r#"{"pix": [{"endToEndId": "E1", "valor": "1.00"}, {"endToEndId": "E3", "valor": "1.00"}]}"#;
    assert_eq!(setup.post("/webhooks/pix?token=k-pix", other).await.status(), 200);
    let places: Vec<_> = setup.published().into_iter().skip(2).map(|(exchange, ..)| exchange).collect();
    assert_eq!(places, ["", "received.psp"]);
    let alone = r#"[{"endToEndId": "E4"}]"#;
    assert_eq!(setup.post("/webhooks/pix?token=k-pix", alone).await.status(), 200);
    let none = json_of(setup.post("/webhooks/pix?token=k-pix", r#"{"pix": []}"#).await).await;
    assert_eq!((none, setup.published().len()), (json!({"events": []}), 5));
}

#[tokio::test]
async fn a_body_with_several_events_is_taken_whole_or_not_at_all() {
    let setup = pix();
    let response = setup.post("/webhooks/pix?token=k-pix", r#"{"pix": [{"endToEndId": "E1"}, 2]}"#).await;
    assert_eq!(response.status(), 400);
    assert_eq!(json_of(response).await["detail"].as_str().unwrap().split(':').next(), Some("/pix/1"));
    let exchanges: Vec<_> = setup.published().into_iter().map(|(exchange, ..)| exchange).collect();
    assert_eq!(exchanges, ["rejected"]);
    setup.broker.answer(Answer::Refuse);
    assert_eq!(setup.post("/webhooks/pix?token=k-pix", PIX).await.status(), 503);
    setup.broker.answer(Answer::Confirm);
    assert_eq!(setup.post("/webhooks/pix?token=k-pix", PIX).await.status(), 200);
}

#[tokio::test]
async fn a_challenge_is_answered_as_its_sender_wants_and_is_no_event() {
    let provider = json!({
        "name": "kobana", "topic": {"pointer": "/event_code"},
        "challenges": [
            {"header": "x-callback-challenge", "answer": {"body": "{header:x-callback-challenge}"}},
            {"pointer": "/event_code", "value": "ping"},
            {"empty": true, "answer": {"status": 204}},
            {"method": "HEAD"},
            {"method": "GET", "query": "challenge", "answer": {"body": "{query:challenge}"}},
            {"method": "OPTIONS", "unauthenticated": true,
             "answer": {"headers": [{"name": "webhook-allowed-origin", "value": "{header:webhook-request-origin}"}]}},
        ],
    });
    let auth = json!({"query": {"name": "token", "secrets": ["k-kobana"]}});
    let setup = generic_setup("kobana", provider, auth);
    let check =
        async |method: &str, query: &str, header: Option<&'static str>, body: &'static str, status: u16| {
            let mut request = post("/", body);
            *request.method_mut() = method.parse().unwrap();
            *request.uri_mut() = format!("/webhooks/kobana?{query}").parse().unwrap();
            if let Some(name) = header {
                request.headers_mut().insert(name, "c-123".parse().unwrap());
            }
            let response = setup.send(request).await;
            assert_eq!(response.status(), status, "{method} {query} {body}");
            let headers = response.headers().clone();
            let bytes = to_bytes(response.into_body(), 65_536).await.unwrap();
            (headers, String::from_utf8(bytes.to_vec()).unwrap())
        };
    const TOKEN: &str = "token=k-kobana";
    check("POST", TOKEN, None, r#"{"ping": "pong", "event_code": "ping"}"#, 200).await;
    let (headers, body) = check("POST", TOKEN, Some("x-callback-challenge"), "{}", 200).await;
    assert_eq!((body.as_str(), &headers["x-content-type-options"]), ("c-123", &"nosniff".parse().unwrap()));
    check("POST", TOKEN, None, "", 204).await;
    check("POST", TOKEN, None, "{}", 204).await;
    check("HEAD", TOKEN, None, "", 200).await;
    let (_, body) = check("GET", "token=k-kobana&challenge=a1", None, "", 200).await;
    assert_eq!(body, "a1");
    let (headers, _) = check("OPTIONS", "", Some("webhook-request-origin"), "", 200).await;
    assert_eq!(headers["webhook-allowed-origin"], "c-123");
    assert!(setup.published().is_empty());
    // What is no challenge stays what it is, and credentials are required.
    check("GET", TOKEN, None, "", 405).await;
    check("PUT", TOKEN, None, "{}", 405).await;
    check("HEAD", "token=wrong", None, "", 401).await;
    check("POST", "token=wrong", Some("x-callback-challenge"), "{}", 401).await;
    check("POST", TOKEN, None, r#"{"event_code": "paid"}"#, 200).await;
    assert_eq!(setup.published().len(), 1);
}

#[tokio::test]
async fn a_refused_sender_is_told_what_is_expected_and_not_what_was_wrong() {
    let provider = json!({"name": "erp", "topic": {"constant": "x"}});
    let auth = json!({
        "header": {"name": "x-api-key", "secrets": ["s3cret"]}, "query": {"name": "token", "secrets": ["t0ken"]},
    });
    let setup = generic_setup("erp", provider, auth);
    let detail = async |path: &str, key: Option<&'static str>| {
        let mut request = post(path, "{}");
        request.headers_mut().remove("x-api-key");
        request
            .headers_mut()
            .extend(key.map(|key| (http::HeaderName::from_static("x-api-key"), key.parse().unwrap())));
        let response = setup.send(request).await;
        assert_eq!(response.status(), 401);
        json_of(response).await["detail"].as_str().unwrap().to_owned()
    };
    let first = detail("/webhooks/erp?token=t0ken", None).await;
    assert!(first.contains("expected the header x-api-key, the parameter token in the address"), "{first}");
    for (path, key) in [("/webhooks/erp?token=wrong", Some("s3cret")), ("/webhooks/erp", Some("wrong"))] {
        assert_eq!(detail(path, key).await, first, "{path}");
    }
}

/// A source whose sender fetches a token, and asks for it in this way.
fn token_setup() -> Setup {
    let provider = json!({"name": "erp", "topic": {"constant": "x"}});
    let auth = json!({"oauth2": {"client_id": "me", "client_secrets": ["s3cret"], "ttl_s": 600}});
    generic_setup("erp", provider, auth)
}

fn token_request(content_type: &str, body: &'static str) -> Request<Body> {
    let mut request = post("/oauth/token", body);
    request.headers_mut().insert("content-type", content_type.parse().unwrap());
    request
}

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn a_sender_fetches_a_token_and_posts_with_it() {
    let setup = token_setup();
    let mut basic = token_request(FORM, "grant_type=client_credentials");
    let pair = format!("Basic {}", STANDARD.encode("me:s3cret"));
    basic.headers_mut().insert("authorization", pair.parse().unwrap());
    let form = token_request(FORM, "grant_type=client_credentials&client_id=me&client_secret=s3cret");
    let json = token_request("application/json", r#"{"clientId": "me", "clientSecret": "s3cret"}"#);
    for request in [basic, form, json] {
        let response = setup.send(request).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["cache-control"]),
            (200, &"no-store".parse().unwrap())
        );
        let answer = json_of(response).await;
        assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(600)));
        let bearer = format!("Bearer {}", answer["access_token"].as_str().unwrap());
        let mut request = post("/webhooks/erp", "{}");
        request.headers_mut().insert("authorization", bearer.parse().unwrap());
        assert_eq!(setup.send(request).await.status(), 200);
    }
    assert_eq!(setup.post("/webhooks/erp", "{}").await.status(), 401);
    // A token ends with the secret that it was issued for.
    let answer = json_of(setup.send(token_request(FORM, "client_id=me&client_secret=s3cret")).await).await;
    let bearer = format!("Bearer {}", answer["access_token"].as_str().unwrap());
    let rotated = json!({"oauth2": {"client_id": "me", "client_secrets": ["next"], "ttl_s": 600}});
    setup.ingress.set_auth(&SourceName::new("erp").unwrap(), serde_json::from_value(rotated).unwrap());
    let mut request = post("/webhooks/erp", "{}");
    request.headers_mut().insert("authorization", bearer.parse().unwrap());
    assert_eq!(setup.send(request).await.status(), 401);
}

#[tokio::test]
async fn no_token_is_issued_to_others_and_the_answer_does_not_say_why() {
    let setup = token_setup();
    let check = async |request: Request<Body>, status: u16, error: &str| {
        let response = setup.send(request).await;
        assert_eq!(response.status(), status);
        let answer = json_of(response).await;
        assert_eq!(answer["error"], error);
        answer
    };
    let unknown =
        check(token_request(FORM, "client_id=you&client_secret=s3cret"), 401, "invalid_client").await;
    let wrong = check(token_request(FORM, "client_id=me&client_secret=wrong"), 401, "invalid_client").await;
    assert_eq!(unknown, wrong);
    let other = "grant_type=password&client_id=me&client_secret=s3cret";
    check(token_request(FORM, other), 400, "unsupported_grant_type").await;
    check(token_request(FORM, "client_id=me"), 400, "invalid_request").await;
    check(token_request(FORM, ""), 400, "invalid_request").await;
    let mut get = token_request(FORM, "");
    *get.method_mut() = http::Method::GET;
    check(get, 405, "invalid_request").await;
    let long = format!("client_id=me&client_secret={}", "x".repeat(9_000));
    check(token_request(FORM, long.leak()), 400, "invalid_request").await;
    let mut last = 0;
    for _ in 0..70 {
        let response = setup.send(token_request(FORM, "client_id=me&client_secret=wrong")).await;
        last = response.status().as_u16();
        if last == 429 {
            assert!(response.headers().contains_key("retry-after"));
            break;
        }
    }
    assert_eq!(last, 429);
    // Nothing is looked at any more, else guessing would have no limit; another address has a count of its own.
    let right = || token_request(FORM, "client_id=me&client_secret=s3cret");
    assert_eq!(setup.send(right()).await.status(), 429);
    let mut elsewhere = right();
    elsewhere.extensions_mut().insert(Peer::new("198.51.100.9:4000".parse().unwrap()));
    assert_eq!(setup.send(elsewhere).await.status(), 200);
    // Nobody fetches tokens where no source wants one.
    assert_eq!(pix().post("/oauth/token", "").await.status(), 404);
}
