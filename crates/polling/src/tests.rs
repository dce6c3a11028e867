//! Polls of an API that lists, fails, stalls and forgets, in front of a broker that answers as it is told to.

use std::sync::Arc;
use std::time::Duration;

use broker::test_support::{Answer, RecordingBroker};
use broker::{DiskAlarm, Layout};
use event::SourceName;
use harness::{Received, Receiver, Reply};
use ingress::test_support::CONFIG;
use ingress::{Ingress, Quota, Source};
use outbound::Client;
use providers::auth::Auth;
use providers::{Provider, SubjectKey, generic};
use serde_json::{Value, json};
use store::Store;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::poll::{Cause, Listed, Outcome, Permit, Tools};
use crate::{Polled, Poller, register};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(20);

struct Permitted;

impl Permit for Permitted {
    async fn may_go_on(&mut self) -> bool {
        true
    }
}

struct Setup {
    api: Receiver,
    broker: Arc<RecordingBroker>,
    ingress: Ingress,
    client: Client,
    provider: Provider,
    stop: CancellationToken,
}

impl Setup {
    fn new(provider: Provider) -> Self {
        let broker = RecordingBroker::alone();
        let source = Source {
            name: SourceName::new("rec").unwrap(),
            provider: provider.clone(),
            auth: Auth::closed(),
            duplicates: provider.duplicates().cloned(),
            quota: Quota::default(),
            answer: None,
            challenges: Vec::new(),
            suffixes: Vec::new(),
        };
        let (zone, disk) = (event::Zone::default(), DiskAlarm::default());
        let key = SubjectKey::from_bytes([7; 32]);
        let config = ingress::Config { body_limit_bytes: 4_096, ..CONFIG };
        let ingress = Ingress::new(vec![source], broker.clone(), Layout::new(""), key, zone, config, disk);
        let config = outbound::Config { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Default::default() };
        let (api, client) = (Receiver::start().unwrap(), Client::new(&config));
        Self { api, broker, ingress, client, provider, stop: CancellationToken::new() }
    }

    fn recuperador() -> Self {
        Self::new(Provider::named("recuperador").unwrap())
    }

    /// The source, polled at this path with these settings beside.
    fn polled(&self, path: &str, rest: Value) -> Polled {
        let mut text = json!({"url": self.api.url(path), "every_s": 1, "timeout_ms": 500});
        text.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let poll = serde_json::from_value(text).unwrap();
        Polled::new(SourceName::new("rec").unwrap(), &self.provider, &poll, &self.client).unwrap()
    }

    async fn poll(&self, polled: &Polled, listed: &mut Listed) -> Outcome {
        let tools = Tools { client: &self.client, ingress: &self.ingress, stop: &self.stop };
        polled.plan.poll(&tools, listed, &mut Permitted).await
    }

    /// The exchange or queue of each message that was published.
    fn published(&self) -> Vec<String> {
        let place = |it: broker::test_support::Published| match it.exchange.as_str() {
            "" => it.routing_key,
            exchange => exchange.to_owned(),
        };
        self.broker.published().into_iter().map(place).collect()
    }

    fn requests(&self, method: &str) -> Vec<Received> {
        self.api.requests().into_iter().filter(|request| request.method == method).collect()
    }
}

fn reason(outcome: &Outcome) -> &str {
    outcome.failure.as_ref().map_or("", |failure| &failure.reason)
}

fn agreement(id: u32) -> String {
    format!(r#"{{"id": {id}, "id_acordo": 7, "situacao": "A", "id_assessoria": 1}}"#)
}

/// An answer with these items to every GET.
fn list(items: &[String]) -> Reply {
    Reply::status(200).header("content-type", "application/json").body(format!("[{}]", items.join(",")))
}

#[tokio::test]
async fn both_addresses_of_a_known_api_are_asked_with_its_credentials_and_parameters() {
    let setup = Setup::recuperador();
    setup.api.answer(Reply::status(200).body("[]"));
    let settings = json!({
        "auth": {"basic": {"username": "the-token"}}, "parameters": {"id_credor": 17, "qtde_dias_leitura": 7},
    });
    let outcome = setup.poll(&setup.polled("", settings), &mut Listed::new()).await;
    assert_eq!((outcome.items, reason(&outcome)), (0, ""));
    let targets: Vec<_> = setup.requests("GET").into_iter().map(|request| request.target).collect();
    let query = "id%5Fcredor=17&qtde%5Fdias%5Fleitura=7";
    let expect = ["Acordo", "ParcelaAprovada"].map(|kind| format!("/api/v1PayloadWebhook{kind}?{query}"));
    assert_eq!(targets, expect);
    // The token as user name, and an empty password.
    assert_eq!(setup.requests("GET")[0].header("authorization"), Some("Basic dGhlLXRva2VuOg=="));
}

#[tokio::test]
async fn an_item_is_acknowledged_once_it_is_durable_and_not_before() {
    let setup = Setup::recuperador();
    setup.api.answer_with(|request, _| match request.method.as_str() {
        "GET" => list(&[agreement(1)]),
        _ => Reply::status(204),
    });
    let polled = setup.polled("/list", json!({}));
    for answer in [Answer::Unavailable, Answer::Refuse, Answer::MissingExchange] {
        setup.broker.answer(answer);
        let outcome = setup.poll(&polled, &mut Listed::new()).await;
        assert!(reason(&outcome).starts_with("an item is not stored: "), "{outcome:?}");
        assert_eq!(outcome.failure.unwrap().cause, Cause::Own);
        assert_eq!(setup.requests("POST").len(), 0, "{answer:?}");
    }
    setup.broker.answer(Answer::Hold);
    let mut listed = Listed::new();
    let polling = setup.poll(&polled, &mut listed);
    let confirming = async {
        setup.broker.held(1).await;
        assert_eq!(setup.requests("POST").len(), 0, "it is stored, and not confirmed");
        setup.broker.confirm(1);
    };
    let (outcome, ()) = tokio::join!(polling, confirming);
    assert_eq!(reason(&outcome), "");
    let [acknowledged] = setup.requests("POST").try_into().unwrap();
    assert_eq!(
        (acknowledged.target.as_str(), acknowledged.body.as_slice()),
        ("/list", br#"{"id": 1}"#.as_slice())
    );
    assert_eq!(acknowledged.header("content-type"), Some("application/json"));
    let event = setup.broker.published().pop().unwrap().message;
    assert_eq!(event.body, agreement(1), "the bytes of the item");
}

#[tokio::test]
async fn a_failing_api_is_named_with_its_reason_and_nothing_is_kept() {
    let setup = Setup::recuperador();
    let polled = setup.polled("", json!({}));
    let check = async |reply: Reply, expect: &str, requests: usize| {
        let before = setup.api.count();
        setup.api.answer(reply);
        let outcome = setup.poll(&polled, &mut Listed::new()).await;
        assert!(reason(&outcome).contains(expect) && !reason(&outcome).contains("Maria"), "{outcome:?}");
        assert_eq!((setup.api.count() - before, setup.published().len()), (requests, 0), "{expect}");
        outcome.failure.unwrap().retry_after
    };
    check(Reply::status(500).body("Maria"), "127.0.0.1 answered 500", 2).await;
    check(Reply::status(302).header("location", "/x"), "answered 302: redirects are not followed", 2).await;
    check(Reply::status(404), "answered 404: nothing is at this address", 2).await;
    // Asked again, the rest would be refused, too.
    check(Reply::status(401), "answered 401: it refuses the credentials of poll.auth", 1).await;
    let wait = check(Reply::status(429).header("retry-after", "7"), "answered 429", 1).await;
    assert_eq!(wait, Some(Duration::from_secs(7)));
    let wait = check(Reply::status(503).header("retry-after", "9"), "answered 503", 1).await;
    assert_eq!(wait, Some(Duration::from_secs(9)));
    check(Reply::status(200).body("<html>Maria"), "the answer cannot be used: the body is not JSON", 2).await;
    check(Reply::status(200).body(r#"{"e": "Maria"}"#), "expected an array at the top, got an object", 2)
        .await;
    check(Reply::close(), "did not answer properly", 2).await;
    check(Reply::stall(), "timed out after 500 ms", 2).await;
    check(Reply::status(200).body("[1, 2]").midway(), "did not answer properly", 2).await;
}

#[tokio::test]
async fn an_item_that_cannot_be_used_is_kept_as_rejected_and_holds_up_no_other() {
    let setup = Setup::recuperador();
    let long = format!(r#"{{"id": 3, "obs": "{}"}}"#, "x".repeat(5_000));
    let items = [
        "7".to_owned(),
        "[8]".to_owned(),
        long,
        agreement(1),
        r#"{"id": 4, "id_acordo": "a\u0000"}"#.to_owned(),
    ];
    setup.api.answer_with(move |request, _| match request.method.as_str() {
        "GET" => list(&items),
        _ => Reply::status(200),
    });
    let outcome = setup.poll(&setup.polled("/list", json!({})), &mut Listed::new()).await;
    assert_eq!(outcome.items, 5);
    assert_eq!(outcome.failure.as_ref().unwrap().cause, Cause::Item);
    assert!(reason(&outcome).contains("an item has no text or number at /id"), "{outcome:?}");
    assert_eq!(setup.published()[..3], ["rejected", "rejected", "received.recuperador"]);
    let bodies: Vec<_> =
        setup.requests("POST").into_iter().map(|one| String::from_utf8(one.body).unwrap()).collect();
    assert!(
        bodies.contains(&r#"{"id": 1}"#.to_owned()) && !bodies.contains(&r#"{"id": 3}"#.to_owned()),
        "{bodies:?}"
    );
}

#[tokio::test]
async fn what_is_stored_and_not_acknowledged_is_acknowledged_later_and_not_stored_again() {
    let setup = Setup::recuperador();
    let answer = |status: u16| {
        setup.api.answer_with(move |request, _| match request.method.as_str() {
            "GET" => list(&[1, 2, 3, 4, 5].map(agreement)),
            _ => Reply::status(status),
        });
    };
    let (polled, mut listed) = (setup.polled("/list", json!({})), Listed::new());
    answer(500);
    let outcome = setup.poll(&polled, &mut listed).await;
    assert_eq!(reason(&outcome), "an item is stored and not acknowledged: 127.0.0.1 answered 500");
    // All are stored, although the API acknowledges none, and the rest is not tried.
    assert_eq!((setup.published().len(), setup.requests("POST").len()), (5, 3));
    answer(200);
    assert_eq!(reason(&setup.poll(&polled, &mut listed).await), "");
    assert_eq!((setup.published().len(), setup.requests("POST").len()), (5, 8));
    // Listed once more after that, as by an API that forgot, nothing is stored again.
    setup.poll(&polled, &mut listed).await;
    assert_eq!((setup.published().len(), setup.requests("POST").len()), (5, 13));
}

#[tokio::test]
async fn an_api_that_refuses_every_acknowledgement_is_not_asked_for_each_at_every_poll() {
    let setup = Setup::recuperador();
    let answer = |count: u32| {
        setup.api.answer_with(move |request, _| match request.method.as_str() {
            "GET" => list(&(1..=count).map(agreement).collect::<Vec<_>>()),
            _ => Reply::status(400),
        });
    };
    let (polled, mut listed) = (setup.polled("/list", json!({})), Listed::new());
    answer(50);
    let outcome = setup.poll(&polled, &mut listed).await;
    assert_eq!(outcome.failure.unwrap().cause, Cause::Item);
    assert_eq!((setup.published().len(), setup.requests("POST").len()), (50, 50), "each is tried once");
    answer(52);
    setup.poll(&polled, &mut listed).await;
    assert_eq!((setup.published().len(), setup.requests("POST").len()), (52, 72), "and what is new");
}

#[tokio::test]
async fn another_api_is_polled_by_configuration() {
    let config: generic::Config = serde_json::from_value(json!({
        "name": "erp", "topic": {"pointer": "/event"}, "subject": {"entity": "order", "pointer": "/order"},
    }))
    .unwrap();
    let setup = Setup::new(Provider::generic(&config));
    setup.api.answer_with(|request, _| match request.method.as_str() {
        "GET" => Reply::status(200).body(r#"{"data": {"rows": [{"event": "paid", "order": "a/1"}]}}"#),
        _ => Reply::status(200),
    });
    let settings = json!({
        "items": "/data/rows", "auth": {"headers": {"x-api-key": "k"}},
        "acknowledge": {"method": "DELETE", "url": setup.api.url("/orders/{/order}?by={/event}")},
    });
    let outcome = setup.poll(&setup.polled("/orders", settings), &mut Listed::new()).await;
    assert_eq!((outcome.items, reason(&outcome)), (1, ""));
    let [acknowledged] = setup.requests("DELETE").try_into().unwrap();
    assert_eq!(acknowledged.target, "/orders/a%2F1?by=paid");
    assert_eq!((acknowledged.header("x-api-key"), acknowledged.body.len()), (Some("k"), 0));
    assert_eq!(setup.broker.published()[0].routing_key, "paid");
}

/// A store on SQLite, with the source registered.
async fn store(setup: &Setup) -> (Store, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = store::Config { max_connections: 4, ..store::Config::new("sqlite") };
    let store = Store::open(&config, folder.path()).unwrap();
    store.migrate(&[crate::COMPONENT]).await.unwrap();
    let poll = serde_json::from_value(json!({"url": setup.api.url("/list"), "every_s": 1})).unwrap();
    register(&store, &[(&SourceName::new("rec").unwrap(), &setup.provider, Some(&poll))]).await.unwrap();
    (store, folder)
}

#[tokio::test]
async fn of_two_pollers_one_polls_at_a_time_and_both_end_when_asked_to() {
    let setup = Setup::recuperador();
    setup.api.answer(Reply::status(200).body("[]"));
    let (store, _folder) = store(&setup).await;
    let pollers = [(); 2].map(|()| Poller {
        store: store.clone(),
        ingress: setup.ingress.clone(),
        client: setup.client.clone(),
        sources: watch::Sender::new(vec![setup.polled("/list", json!({}))]).subscribe(),
    });
    let running = pollers.map(|poller| tokio::spawn(poller.run(setup.stop.clone())));
    assert!(setup.api.wait_for(4, LONG).await, "it is polled again and again");
    let times: Vec<_> = setup.api.requests().iter().map(|request| request.at).collect();
    for pair in times.windows(2) {
        let gap = pair[1].duration_since(pair[0]).unwrap_or_default();
        assert!(gap > Duration::from_millis(900), "{gap:?} between two polls of a second");
    }
    // A request that has no answer does not hold up the end.
    setup.api.answer(Reply::stall());
    let begun = setup.api.count();
    assert!(setup.api.wait_for(begun + 1, LONG).await);
    setup.stop.cancel();
    for ended in running {
        tokio::time::timeout(Duration::from_millis(400), ended).await.expect("it ends at once").unwrap();
    }
}

/// The token endpoint of Mercado Eletrônico beside a list: its token is the secret.
fn list_behind_tokens(request: &Received) -> Reply {
    match (request.method.as_str(), request.target.as_str()) {
        ("POST", "/tokens") => {
            assert_eq!(request.header("content-type"), Some("application/json"));
            let asked: Value = serde_json::from_slice(&request.body).unwrap();
            let secret = asked["clientSecret"].as_str().unwrap();
            assert_eq!(asked, json!({"clientId": "me", "clientSecret": secret}));
            Reply::status(200).body(format!(r#"{{"accessToken": "token-of-{secret}", "expiresIn": 3600}}"#))
        }
        ("GET", _) if request.header("authorization") == Some("Bearer token-of-right") => {
            list(&[agreement(1)])
        }
        ("GET", _) => Reply::status(401),
        _ => Reply::status(204),
    }
}

impl Setup {
    /// Polled with a token for this secret.
    fn polled_with(&self, client_secret: &str) -> Polled {
        let url = self.api.url("/tokens");
        let json_token = json!({"token_url": url, "client_id": "me", "client_secret": client_secret});
        self.polled("/list", json!({"auth": {"json_token": json_token}}))
    }
}

#[tokio::test]
async fn a_token_is_got_for_an_id_and_a_secret_in_json_and_shown_to_list_and_to_acknowledge() {
    let setup = Setup::recuperador();
    setup.api.answer_with(|request, _| list_behind_tokens(request));
    let polled = setup.polled_with("right");
    for _ in 0..2 {
        let outcome = setup.poll(&polled, &mut Listed::new()).await;
        assert_eq!((outcome.items, reason(&outcome)), (1, ""));
    }
    let requests = setup.api.requests();
    let targets: Vec<_> = requests.iter().map(|one| format!("{} {}", one.method, one.target)).collect();
    // One token for all of them.
    let poll = ["GET /list", "POST /list"];
    assert_eq!(targets, [&["POST /tokens"][..], &poll, &poll].concat());
    assert!(requests[1..].iter().all(|one| one.header("authorization") == Some("Bearer token-of-right")));
    let refused = setup.poll(&setup.polled_with("wrong"), &mut Listed::new()).await;
    assert_eq!(reason(&refused), "127.0.0.1 answered 401: it refuses the credentials of poll.auth");
}

#[tokio::test]
async fn with_rotated_credentials_a_source_is_polled_at_once_and_the_old_token_is_dropped() {
    let setup = Setup::recuperador();
    setup.api.answer_with(|request, _| list_behind_tokens(request));
    let (store, _folder) = store(&setup).await;
    let sources = watch::Sender::new(vec![setup.polled_with("wrong")]);
    let poller = Poller {
        store: store.clone(),
        ingress: setup.ingress.clone(),
        client: setup.client.clone(),
        sources: sources.subscribe(),
    };
    let running = tokio::spawn(poller.run(setup.stop.clone()));
    assert!(setup.api.wait_for(2, LONG).await);
    // After its failures it would not be due for an hour.
    let text = "UPDATE sources SET failures = 9, next_at = $1".to_owned();
    let later = event::now() + Duration::from_secs(3_600);
    let mut tx = store.begin().await.unwrap();
    store::many::fetch(&mut tx, text, [later.into()]).await.unwrap();
    tx.commit().await.unwrap();
    sources.send_replace(vec![setup.polled_with("right")]);
    let begun = std::time::Instant::now();
    let shown = |token: &str| {
        let requests = setup.api.requests();
        requests.iter().filter(|one| one.header("authorization") == Some(token)).count()
    };
    while shown("Bearer token-of-right") == 0 {
        assert!(begun.elapsed() < LONG, "it is polled with the new secret");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let old = shown("Bearer token-of-wrong");
    while shown("Bearer token-of-right") < 4 {
        assert!(begun.elapsed() < LONG, "it is polled again and again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(shown("Bearer token-of-wrong"), old, "nothing shows the old token any more");
    // What is not configured any more is not polled.
    sources.send_replace(Vec::new());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let count = setup.api.count();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(setup.api.count(), count);
    setup.stop.cancel();
    running.await.unwrap();
}
