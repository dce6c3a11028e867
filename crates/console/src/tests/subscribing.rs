//! Subscriptions through the API: managed with the token of the installation, read with their own.

use super::*;

pub(super) const OURS: &str = "let-me-in";

/// A subscription to one topic.
fn billing() -> Value {
    json!({"declaration": {"name": "billing", "topics": ["recuperador:acordo.*"], "pull": {}}})
}

impl Console {
    /// The status and the JSON of an answer; of one that is not JSON, its text.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("Authorization", format!("Bearer {token}"));
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = self.router.clone().call(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = bytes(response).await;
        let text = || Value::from(String::from_utf8_lossy(&bytes).into_owned());
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, path, OURS, Some(body)).await
    }

    /// Adds a subscription, and gives its token.
    async fn subscribed(&self, new: Value) -> String {
        let (status, added) = self.post("/subscriptions", new).await;
        assert_eq!(status, 201, "{added}");
        added["token"].as_str().unwrap().to_owned()
    }

    /// What a reader with this token is given: status, ids, and the position to acknowledge.
    async fn pulled(&self, query: &str, token: &str) -> (u16, Vec<String>, String) {
        let path = format!("/api/v1/subscriptions/billing/events{query}");
        let response = self.ask(Method::GET, &path, Some(&format!("Bearer {token}"))).await;
        if response.status() != StatusCode::OK {
            return (response.status().as_u16(), Vec::new(), String::new());
        }
        let (ids, position) = fed(response).await;
        (200, ids, position)
    }

    pub(super) async fn recorded(&self, topic: &str) -> String {
        let event = event(topic, b"{\"valor\": 1}");
        self.accept(&event).await;
        self.record().await;
        event.id.to_string()
    }
}

#[tokio::test]
async fn a_subscription_is_added_shown_edited_paused_resumed_and_removed() {
    let console = Console::start().await;
    let mut dry = billing();
    dry["dry_run"] = json!(true);
    assert_eq!(console.post("/subscriptions", dry.clone()).await, (200, billing()["declaration"].clone()));
    assert!(console.rows("/subscriptions").await.is_empty());

    let token = console.subscribed(billing()).await;
    let rows = console.rows("/subscriptions").await;
    let position = rows[0]["position"].as_str().unwrap().to_owned();
    assert_eq!(
        rows,
        [json!({
            "name": "billing", "door": "pull", "topics": ["recuperador:acordo.*"], "state": "active", "reason": null,
            "position": position, "lag": 0, "undelivered": 0, "failing_since": null, "next_probe_at": null,
        })]
    );
    for again in [dry, billing()] {
        let (status, problem) = console.post("/subscriptions", again).await;
        assert_eq!((status, &problem["type"]), (409, &json!("/problems/subscription")));
        assert!(
            problem["detail"].as_str().unwrap().starts_with("There is a subscription billing already"),
            "{problem}"
        );
    }

    let declaration = json!({"name": "billing", "topics": ["recuperador:#"], "pull": {}});
    let put = async |body: Value| console.call(Method::PUT, "/subscriptions/billing", OURS, Some(body)).await;
    let dry = json!({"declaration": declaration, "dry_run": true});
    let edited = json!({"declaration": declaration, "secrets_changed": []});
    assert_eq!(put(dry).await, (200, edited.clone()));
    assert_eq!(console.rows("/subscriptions").await, rows);
    assert_eq!(put(json!({"declaration": declaration})).await, (200, edited));
    let (status, shown) = console.call(Method::GET, "/subscriptions/billing", OURS, None).await;
    assert_eq!((status, &shown["declaration"], &shown["position"]), (200, &declaration, &json!(position)));
    assert!(!shown.to_string().contains(&token) && !format!("{rows:?}").contains(&token));

    let (_, paused) = console.post("/subscriptions/billing/pause", json!({"reason": "an upgrade"})).await;
    assert_eq!((&paused["state"], &paused["reason"]), (&json!("paused"), &json!("an upgrade")));
    assert_eq!(console.rows("/subscriptions?state=paused").await, [paused]);
    assert!(console.rows("/subscriptions?state=active").await.is_empty());
    for _ in 0..2 {
        console.recorded("acordo.quitado").await;
    }
    assert_eq!(console.rows("/subscriptions?name=billing&door=pull").await[0]["lag"], 2);
    let (_, resumed) = console.post("/subscriptions/billing/resume", json!({"deliver": "none"})).await;
    assert_eq!(
        (&resumed["state"], &resumed["reason"], &resumed["lag"]),
        (&json!("active"), &json!(null), &json!(0))
    );
    let (_, sought) = console.post("/subscriptions/billing/seek", json!({"to": "beginning"})).await;
    assert_eq!(sought["lag"], 2);
    let (_, sought) = console.post("/subscriptions/billing/seek", json!({"to": position})).await;
    assert_eq!((&sought["position"], &sought["lag"]), (&json!(position), &json!(2)));

    let (status, removed) = console.call(Method::DELETE, "/subscriptions/billing", OURS, None).await;
    assert_eq!((status, &removed["name"]), (200, &json!("billing")));
    assert_eq!(console.pulled("", &token).await.0, 401);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(console.call(method, "/subscriptions/billing", OURS, None).await.0, 404);
    }
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_refused_with_its_field() {
    let console = Console::start().await;
    let check = async |path: &str, change: &dyn Fn(&mut Value), status: u16, expect: &str| {
        let mut body = if path == "/subscriptions" { billing() } else { json!({}) };
        change(&mut body);
        let (found, problem) = console.post(path, body.clone()).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(found == status && detail.starts_with(expect), "{path} {body}: {found} {problem}");
    };
    for (pointer, value, expect) in [
        ("name", json!("Billing"), "declaration.name: a subscription name takes lower-case letters"),
        ("topics", json!([]), "topics: name at least one"),
        ("topics", json!(["acordo.quitado"]), "topics: expected <provider>:<pattern>"),
        (
            "topics",
            json!(["recuperador:acordo.q*"]),
            "topics: \"acordo.q*\" matches no topic: `*` is one whole word",
        ),
        (
            "topics",
            json!(["recuperado:#"]),
            "topics: there is no provider \"recuperado\"; did you mean \"recuperador\"?",
        ),
        ("topic", json!(["malote:#"]), "declaration.topic: unknown field `topic`"),
        ("filter", json!("data.valor >"), "filter: line 1, column "),
        ("transform", json!("data"), "transform: a reader gets events as they are"),
        ("pull", json!(null), "a subscription has exactly one of push, pull and queue"),
        (
            "push",
            json!({"url": "https://crm.example"}),
            "a subscription has exactly one of push, pull and queue",
        ),
    ] {
        check("/subscriptions", &|body| body["declaration"][pointer] = value.clone(), 400, expect).await;
    }
    check(
        "/subscriptions",
        &|body| body["begin"] = json!("soon"),
        400,
        "begin: expected beginning, now, a time",
    )
    .await;
    let nothing = EventId::generate();
    check("/subscriptions", &|body| body["begin"] = json!(nothing), 400, "begin: event ").await;
    let elsewhere = format!("7f.{}", nothing.to_hex());
    check("/subscriptions", &|body| body["begin"] = json!(elsewhere), 410, "The feed has no such position")
        .await;
    check("/subscriptions", &|body| *body = json!(1), 400, "invalid type").await;
    assert!(console.rows("/subscriptions").await.is_empty());

    console.subscribed(billing()).await;
    let path = |action: &str| format!("/subscriptions/billing/{action}");
    check(&path("resume"), &|_| {}, 400, "missing field `deliver`").await;
    check(
        &path("resume"),
        &|body| body["deliver"] = json!("some"),
        400,
        "deliver: expected all, none, or a time",
    )
    .await;
    check(&path("seek"), &|body| body["to"] = json!("then"), 400, "to: expected beginning").await;
    let rated = json!({"to": "beginning", "rate_per_s": 5});
    check(&path("seek"), &|body| *body = rated.clone(), 400, "rate_per_s: a rate is for history").await;
    check(&path("seek"), &|body| body["to"] = json!(elsewhere), 410, "The feed has no such position").await;
    check(
        &path("pause"),
        &|body| body["reason"] = json!("x".repeat(201)),
        400,
        "reason: expected at most 200",
    )
    .await;
    check(
        &path("test"),
        &|body| body["last"] = json!(0),
        400,
        "last: expected a number from 1 to 1000, got 0",
    )
    .await;
    check(&path("test"), &|body| body["event"] = json!(nothing), 400, "event: event ").await;
    for action in ["pause", "resume", "seek", "rotate-secret", "test"] {
        let body = match action {
            "seek" => json!({"to": "now"}),
            "resume" => json!({"deliver": "all"}),
            _ => json!({}),
        };
        let (status, problem) = console.post(&format!("/subscriptions/bilings/{action}"), body).await;
        assert_eq!(status, 404, "{action}: {problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains("There is no subscription \"bilings\""),
            "{problem}"
        );
        let (status, _) = console.call(Method::GET, &path(action), OURS, None).await;
        assert_eq!(status, 405, "{action}");
    }
    let other = json!({"declaration": {"name": "other", "topics": ["recuperador:#"], "pull": {}}});
    let (status, problem) = console.call(Method::PUT, "/subscriptions/billing", OURS, Some(other)).await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().starts_with("declaration.name: is other"), "{problem}");
}

#[tokio::test]
async fn a_reader_gets_its_topics_once_it_acknowledges_and_again_until_then() {
    let console = Console::start().await;
    let before = console.recorded("acordo.quitado").await;
    let token = console.subscribed(billing()).await;
    assert_eq!(console.pulled("", &token).await.1, [""; 0], "it begins with what comes");
    let first = console.recorded("acordo.cadastrado").await;
    console.recorded("boleto.pago").await;
    let second = console.recorded("acordo.quitado").await;
    let acknowledge = async |position: &str| {
        let body = Some(json!({"position": position}));
        console.call(Method::PUT, "/subscriptions/billing/cursor", &token, body).await
    };

    let (_, ids, position) = console.pulled("?limit=1", &token).await;
    assert_eq!(ids, std::slice::from_ref(&first));
    assert_eq!(
        console.pulled("?limit=1", &token).await.1,
        std::slice::from_ref(&first),
        "it was not acknowledged"
    );
    assert_eq!(console.pulled(&format!("?after={position}"), &token).await.1, std::slice::from_ref(&second));
    assert_eq!(acknowledge(&position).await, (200, json!({"position": position})));
    let (_, ids, end) = console.pulled("", &token).await;
    assert_eq!(ids, std::slice::from_ref(&second));
    assert_eq!(acknowledge(&end).await, (200, json!({"position": end})));
    // Again, and what was acknowledged before: nothing moves.
    assert_eq!(acknowledge(&end).await, (200, json!({"position": end})));
    assert_eq!(acknowledge(&position).await, (200, json!({"position": end})));
    assert_eq!(console.rows("/subscriptions").await[0]["position"], json!(end));
    assert!(console.pulled("", OURS).await.1.is_empty(), "the token of the installation reads, too");
    assert_eq!(console.pulled("?after=beginning", &token).await.1, [before, first, second.clone()]);

    for (position, status, expect) in [
        ("now", 400, "position: expected the position of an event"),
        ("x", 400, "position: expected beginning, now, or the position"),
        (&format!("7f.{}", EventId::generate().to_hex()), 410, "The feed has no such position"),
    ] {
        let (found, problem) = acknowledge(position).await;
        assert!(
            found == status && problem["detail"].as_str().unwrap().starts_with(expect),
            "{position}: {problem}"
        );
    }
    let (status, problem) = console
        .call(Method::PUT, "/subscriptions/billing/cursor", &token, Some(json!({"cursor": end})))
        .await;
    assert_eq!(
        (status, problem["detail"].as_str().unwrap().starts_with("cursor: unknown field")),
        (400, true)
    );
    assert_eq!(console.pulled("?topics=a:b", &token).await.0, 400);

    // Management alone moves it back.
    console.post("/subscriptions/billing/seek", json!({"to": second})).await;
    assert_eq!(console.pulled("", &token).await.1, std::slice::from_ref(&second));
    console.post("/subscriptions/billing/pause", json!({})).await;
    assert_eq!(console.pulled("", &token).await.0, 409);
    assert_eq!(acknowledge(&position).await.0, 200, "what was read before can be acknowledged");
    console.post("/subscriptions/billing/resume", json!({"deliver": "all"})).await;
    assert_eq!(console.pulled("", &token).await.1, [second]);
}

/// Goes through the document, so that a new route is tried, too.
#[tokio::test]
async fn the_token_of_a_subscription_opens_its_own_two_paths_and_nothing_else() {
    let console = Console::start().await;
    let token = console.subscribed(billing()).await;
    let mut other = billing();
    other["declaration"]["name"] = json!("other");
    console.subscribed(other).await;
    let document: Value = serde_json::from_str(&openapi(&views())).unwrap();
    let mut opened = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for name in ["billing", "other"] {
            let tried = path.replace("{id}", &EventId::generate().to_string()).replace("{name}", name);
            for method in item.as_object().unwrap().keys().filter(|_| path != "/api/v1/openapi.json") {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let response = console.ask(method.clone(), &tried, Some(&format!("Bearer {token}"))).await;
                if response.status() != StatusCode::UNAUTHORIZED {
                    opened.push(format!("{method} {tried}"));
                }
            }
        }
    }
    let own = ["PUT /api/v1/subscriptions/billing/cursor", "GET /api/v1/subscriptions/billing/events"];
    assert_eq!(opened, own);
    for path in ["/api/v1/none", "/api/v1/subscriptions/none/events", "/api/v1/subscriptions/NONE/events"] {
        let response = console.ask(Method::GET, path, Some(&format!("Bearer {token}"))).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    for almost in
        ["", "malote_pull_", &token[..token.len() - 1], &token.replace('_', "-"), &format!("{token}0")]
    {
        assert_eq!(console.pulled("", almost).await.0, 401, "{almost}");
    }
    let (status, _) =
        console.call(Method::POST, "/subscriptions/billing/cursor", &token, Some(json!({}))).await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn a_new_token_is_valid_at_once_and_the_previous_one_is_not() {
    let console = Console::start().await;
    let first = console.subscribed(billing()).await;
    assert_eq!(console.pulled("", &first).await.0, 200);
    let (_, rotated) = console.post("/subscriptions/billing/rotate-secret", json!({})).await;
    let second = rotated["token"].as_str().unwrap();
    assert_eq!(console.pulled("", second).await.0, 200);
    assert_eq!(console.pulled("", &first).await.0, 401);
    // A subscription of the same name is another one.
    console.call(Method::DELETE, "/subscriptions/billing", OURS, None).await;
    console.subscribed(billing()).await;
    assert_eq!(console.pulled("", second).await.0, 401);
}

#[tokio::test]
async fn a_stream_ends_once_its_subscription_is_paused() {
    let console = Console::start().await;
    let running = tokio::spawn(console.state.feed.clone().run());
    let token = console.subscribed(billing()).await;
    let request = Request::get("/api/v1/subscriptions/billing/events")
        .header("Authorization", format!("Bearer {token}"))
        .header("Accept", "text/event-stream");
    let response = console.router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut frame = async || {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap();
        frame.map(|frame| String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    };
    assert_eq!(frame().await.unwrap(), "retry: 1000\n\n");
    let id = console.recorded("acordo.quitado").await;
    assert!(frame().await.unwrap().contains(&id));
    console.post("/subscriptions/billing/pause", json!({"reason": "an upgrade"})).await;
    // What comes within the second in which nobody asked is still given.
    loop {
        console.recorded("acordo.quitado").await;
        let text = frame().await.unwrap();
        if let Some(problem) = text.strip_prefix("event: error\ndata: ") {
            assert!(problem.contains("billing is paused (an upgrade)"), "{problem}");
            break;
        }
    }
    assert_eq!(frame().await, None);
    running.abort();
}

#[tokio::test]
async fn a_trial_shows_what_would_be_delivered_and_saves_nothing() {
    let console = Console::start().await;
    let first = console.recorded("acordo.quitado").await;
    console.recorded("boleto.pago").await;
    let last = console.recorded("acordo.cadastrado").await;
    let trial = |declaration: &Value| json!({"declaration": declaration});
    let wanted = &billing()["declaration"];
    let (status, outcome) = console.post("/subscriptions/billing/test", trial(wanted)).await;
    assert_eq!(status, 200, "{outcome}");
    let counts =
        |outcome: &Value| ["looked_at", "of_topics", "matching"].map(|name| outcome[name].as_u64().unwrap());
    assert_eq!(counts(&outcome), [3, 2, 2]);
    assert_eq!(
        outcome["deliveries"],
        json!([
            {"id": last, "topic": "acordo.cadastrado", "subject": null, "body": {"valor": 1}, "error": null},
            {"id": first, "topic": "acordo.quitado", "subject": null, "body": {"valor": 1}, "error": null},
        ])
    );
    assert!(console.rows("/subscriptions").await.is_empty());
    assert_eq!(console.post("/subscriptions/billing/test", json!({})).await.0, 404);

    console.subscribed(billing()).await;
    let (_, outcome) = console.post("/subscriptions/billing/test", json!({"last": 2})).await;
    assert_eq!(counts(&outcome), [2, 1, 1]);
    let (_, outcome) = console.post("/subscriptions/billing/test", json!({"event": first})).await;
    assert_eq!((counts(&outcome), &outcome["deliveries"][0]["id"]), ([1, 1, 1], &json!(first)));
    let (status, _) = console.post("/subscriptions/billing/test", json!({"event": first, "last": 2})).await;
    assert_eq!(status, 400);

    // A filter is tried before it is saved. One that names what an event lacks does not match it; one that fails says why.
    let mut declaration = wanted.clone();
    for (filter, matching, failing) in [
        ("data.valor > 1", 0, 0),
        ("data.valor == 1 && event.subject == 'x'", 0, 0),
        ("data.valor.size() > 1", 0, 2),
    ] {
        declaration["filter"] = json!(filter);
        let (_, outcome) = console.post("/subscriptions/billing/test", trial(&declaration)).await;
        assert_eq!(
            (&outcome["matching"], &outcome["failing"], outcome["failure"].is_string()),
            (&json!(matching), &json!(failing), failing > 0),
            "{filter}: {outcome}"
        );
    }
}

#[tokio::test]
async fn a_reader_gets_what_its_filter_lets_through_and_its_position_moves_past_the_rest() {
    let console = Console::start().await;
    let mut new = billing();
    new["declaration"]["filter"] = json!("event.type == 'acordo.quitado'");
    let token = console.subscribed(new).await;
    for _ in 0..3 {
        console.recorded("acordo.cadastrado").await;
    }
    let (_, ids, position) = console.pulled("?limit=2", &token).await;
    assert!(ids.is_empty() && position != console.rows("/subscriptions").await[0]["position"], "{position}");
    let wanted = console.recorded("acordo.quitado").await;
    assert_eq!(console.pulled("?wait=5&limit=2", &token).await.1, [wanted], "it goes on until there is one");
}

/// A management API that makes no user.
struct NoUsers;

#[async_trait::async_trait]
impl subscriptions::queue::Management for NoUsers {
    async fn make_user(&self, _: &str, _: &broker::QueueName, _: &[String]) -> Result<String, broker::Cause> {
        Err("the management API is down".into())
    }

    async fn delete_user(&self, _: &str, _: &broker::QueueName) -> Result<(), broker::Cause> {
        Ok(())
    }

    async fn bytes(&self, _: &broker::QueueName) -> Option<u64> {
        None
    }

    async fn unacked(&self, _: &broker::QueueName) -> Option<u64> {
        None
    }
}

/// Otherwise it could not be added again, and nobody would have its password.
#[tokio::test]
async fn a_subscription_whose_user_cannot_be_made_is_not_added() {
    let mut console = Console::start().await;
    console.state.queues.management = Some(Arc::new(NoUsers));
    console.router = router(console.state.clone());
    let queue = json!({"name": "crm", "topics": ["recuperador:acordo.*"], "queue": {"user": "crm"}});
    let (status, problem) = console.post("/subscriptions", json!({"declaration": queue})).await;
    assert!(status >= 400, "{problem}");
    assert!(console.rows("/subscriptions").await.is_empty());
    let contents = console.state.queues.contents(&"crm".to_owned().try_into().unwrap()).await.unwrap();
    assert_eq!(contents, None, "its queue goes with it");
}

#[tokio::test]
async fn a_queue_is_added_and_removed_with_what_it_holds_only_where_that_is_said() {
    let console = Console::start().await;
    let queue = |user: Value| {
        let queue = if user.is_null() { json!({}) } else { json!({"user": user}) };
        json!({"declaration": {"name": "crm", "topics": ["recuperador:acordo.*"], "queue": queue}})
    };
    let (status, problem) = console.post("/subscriptions", queue(json!("crm"))).await;
    assert!(
        status == 400 && problem["detail"].as_str().unwrap().contains("broker.management_url"),
        "{problem}"
    );
    let (status, added) = console.post("/subscriptions", queue(Value::Null)).await;
    assert_eq!((status, &added["door"], &added["token"]), (201, &json!("queue"), &Value::Null), "{added}");
    for (action, body) in [
        ("pause", json!({})),
        ("resume", json!({"deliver": "all"})),
        ("seek", json!({"to": "now"})),
        ("rotate-secret", json!({})),
    ] {
        let (status, problem) = console.post(&format!("/subscriptions/crm/{action}"), body).await;
        assert_eq!(status, 409, "{action}: {problem}");
    }

    console.accept(&event("acordo.quitado", b"{}")).await;
    let waiting = async || {
        let contents = console.state.queues.contents(&"crm".to_owned().try_into().unwrap()).await.unwrap();
        contents.map(|contents| contents.ready)
    };
    assert_eq!(waiting().await, Some(1));
    let remove = async |query: &str| {
        console.call(Method::DELETE, &format!("/subscriptions/crm{query}"), OURS, None).await
    };
    let (status, problem) = remove("").await;
    assert!(status == 409 && problem["detail"].as_str().unwrap().contains("holds 1 messages"), "{problem}");
    assert_eq!(waiting().await, Some(1));
    assert_eq!(remove("?dry_run=true").await, (status, problem));
    assert_eq!(remove("?dry_run=true&discard=true").await.0, 200);
    assert_eq!(waiting().await, Some(1), "it was only asked");
    let queue = console.state.queues.queue(&"crm".to_owned().try_into().unwrap());
    let mut deliveries = console.state.broker.subscribe(&queue, 10).await.unwrap();
    deliveries.next().await.unwrap();
    let (status, problem) = remove("").await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(status == 409 && detail.contains("1 that consumers hold unacknowledged"), "{detail}");
    drop(deliveries);
    assert_eq!(remove("?discard=true").await.0, 200);
    assert_eq!(waiting().await, None);
}
