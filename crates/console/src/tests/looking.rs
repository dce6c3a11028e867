//! Finding and looking, in a browser: what an operator is asked, from the search box to the answer.

use event::Subject;

use super::pages::{Browser, Page};
use super::subscribing::OURS;
use super::*;

impl Console {
    /// Runs statements.
    async fn run(&self, statements: &[(&'static str, Vec<store::many::Value>)]) {
        let mut tx = self.state.store.begin().await.unwrap();
        for (text, values) in statements {
            store::many::fetch(&mut tx, format!("{text} RETURNING 1"), values.clone()).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    /// Records an event with the answer that its sender was given.
    async fn answered(&self, event: &Event, answer: &str) {
        let exchange = self.state.layout.received(&event.source.provider);
        let message = with(event, &[(header::ANSWER, answer)]);
        self.state.broker.publish(&exchange, event.topic.as_str(), message).await.unwrap();
        self.record().await;
    }
}

async fn browsing<'a>(console: &'a Console, token: &str) -> Browser<'a> {
    let mut browser = Browser::new(console, "en");
    assert_eq!(browser.log_in(token).await.status, 303);
    browser
}

/// Where the links of a page with this text lead.
fn links<'p>(page: &'p Page, text: &str) -> Vec<&'p str> {
    let anchors = page.text.split("<a ").skip(1).filter_map(|rest| rest.split("</a>").next());
    let found = anchors.filter(|anchor| anchor.ends_with(&format!(">{text}")));
    found.map(|anchor| anchor.split("href=\"").nth(1).unwrap().split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn task_an_event_is_found_by_an_order_number() {
    let console = Console::start().await;
    let mut first = event("acordo.quitado", b"{}");
    first.subject = Some(Subject::new("order", "0000593098"));
    console.accept(&first).await;
    console.record().await;
    let browser = browsing(&console, OURS).await;
    let page = browser.get("/search?q=%200000593098").await;
    assert_eq!((page.status, page.location), (303, format!("/events/{}", first.id)));
    assert_eq!(browser.get("/search?q=order%2F0000593098").await.location, format!("/events/{}", first.id));
    // Several of it are a list.
    let mut second = event("acordo.cancelado", b"{}");
    second.subject.clone_from(&first.subject);
    console.accept(&second).await;
    console.record().await;
    let page = browser.get("/search?q=0000593098").await;
    assert_eq!(page.location, "/events?subject=0000593098");
    let page = browser.get(&page.location).await;
    assert!(page.text.contains(&first.id.to_string()) && page.text.contains(&second.id.to_string()));
}

#[tokio::test]
async fn one_box_finds_every_id_and_name() {
    let console = Console::start().await;
    let id = console.recorded("acordo.quitado").await;
    console.token("vera", "viewer").await;
    let new = json!({"declaration": {"name": "crm", "topics": ["recuperador:acordo.*"], "pull": {}}});
    assert_eq!(console.post("/subscriptions", new).await.0, 201);
    let replay =
        json!({"action": "replay", "what": "events", "filter": {"source": "rec-1"}, "requested_by": "me"});
    let (_, job) = console.post("/jobs", replay).await;
    let job = job["id"].as_str().unwrap();
    let document = console.documented(&id).await;
    let entry = console.rows("/audit?limit=1").await[0]["id"].as_str().unwrap().to_owned();
    let browser = browsing(&console, OURS).await;
    for (asked, found) in [
        (id.clone(), format!("/events/{id}")),
        (id[..23].to_owned(), format!("/events/{id}")),
        (job.to_owned(), format!("/jobs/{job}")),
        (document.clone(), format!("/documents/{document}")),
        (entry.clone(), format!("/audit?id={entry}")),
        ("crm".to_owned(), "/subscriptions/crm".to_owned()),
        ("go".to_owned(), "/sources/go".to_owned()),
        ("vera".to_owned(), "/audit?who=vera".to_owned()),
    ] {
        assert_eq!(browser.get(&format!("/search?q={asked}")).await.location, found, "{asked}");
    }
    let sent = event("boleto.pago", b"{}");
    console.answered(&sent, "200 192.0.2.7 evt_77").await;
    for asked in ["evt_77", "evt-77", "192.0.2.7", "77"] {
        let found = browser.get(&format!("/search?q={asked}")).await.location;
        assert_eq!(found, if asked == "evt_77" { format!("/events/{}", sent.id) } else { String::new() });
    }
    let vera = console.token("victor", "viewer").await;
    let sought =
        async |token: &str| console.call(Method::GET, "/events?sender_id=52998224725", token, None).await.0;
    assert_eq!((sought(&vera).await, sought(OURS).await), (403, 200));
    for nothing in [EventId::generate().to_string(), "nobody".to_owned(), String::new()] {
        let page = browser.get(&format!("/search?q={nothing}")).await;
        assert_eq!(page.status, 404, "{nothing}");
        assert!(page.text.contains("Paste the id of an event"), "{}", page.text);
    }
}

impl Console {
    /// A document that this event asked for, with two versions. Gives its id.
    async fn documented(&self, event: &str) -> String {
        let (id, event): (EventId, EventId) = (EventId::generate(), event.parse().unwrap());
        let version = "INSERT INTO document_versions \
                       (document, version, event_id, fetched_at, content_type, size, sha256, body) \
                       VALUES ($1, $2, $3, 5, 'application/json', 7, 'ab', $4)";
        let body = |text: &'static str| store::many::Value::from(text.as_bytes().to_vec());
        self.run(&[
            (
                "INSERT INTO documents (id, provider, source, entity, external_id, place, state, reason, asked_by, asked, \
                 attempts, version) VALUES ($1, 'p', 'rec-1', 'invoice', '77', '', 'fetched', '', $2, 1, 0, 2)",
                vec![id.into(), event.into()],
            ),
            (version, vec![id.into(), 1_i64.into(), event.into(), body("{\"a\":1}")]),
            (version, vec![id.into(), 2_i64.into(), event.into(), body("{\"a\":2}")]),
        ])
        .await;
        id.to_string()
    }
}

#[tokio::test]
async fn task_a_receipt_proves_to_a_provider_that_an_event_was_received_when_and_how_it_was_answered() {
    let console = Console::start().await;
    let event = event("acordo.quitado", b"{\"valor\": 1}");
    console.answered(&event, "202 192.0.2.7 evt-77").await;
    let viewer = console.token("vera", "viewer").await;
    let [browser, viewer] = [browsing(&console, OURS).await, browsing(&console, &viewer).await];
    let shown = browser.get(&format!("/events/{}", event.id)).await;
    let [receipt] = links(&shown, "Receipt for the sender").try_into().unwrap();
    // The source's rule names a personal field: its ids are shown on request.
    let page = browser.get(receipt).await;
    assert!(
        page.status == 200 && page.text.contains("***") && !page.text.contains("evt-77"),
        "{}",
        page.text
    );
    let [revealed] = links(&page, "Show it, which the audit then has").try_into().unwrap();
    let page = browser.get(revealed).await;
    let [file] = links(&page, "Download as text").try_into().unwrap();
    let file = browser.get(file).await;
    assert_eq!(file.response["content-type"], "text/plain; charset=utf-8");
    let received_at = json(console.get(&format!("/events/{}", event.id)).await).await["received_at"].clone();
    for part in [
        &format!("event        {}", event.id),
        &format!("received     {}", received_at.as_str().unwrap()),
        "posted to    /webhooks/rec-1",
        "posted from  192.0.2.7",
        "sender&#39;s id  evt-77",
        "answer       202, once the event was stored durably",
        "12 bytes, SHA-256 ",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
        assert!(file.text.contains(&part.replace("&#39;", "'")), "{part}: {}", file.text);
    }
    assert!(links(&viewer.get(receipt).await, "Show it, which the audit then has").is_empty());
    assert_eq!(viewer.get(revealed).await.status, 403);
    let other = console.recorded("boleto.pago").await;
    let page = browser.get(&format!("/events/{other}/receipt")).await;
    assert!(page.status == 404 && page.text.contains("was not posted"), "{}", page.text);
}

#[tokio::test]
async fn task_who_looked_at_this_persons_data_is_a_filter_of_the_audit() {
    let console = Console::start().await;
    let event = event("acordo.quitado", br#"{"doc": "529.982.247-25", "valor": 1}"#);
    console.accept(&event).await;
    console.record().await;
    let [viewer, operator] = [console.token("vera", "viewer").await, console.token("olga", "operator").await];
    let [viewer, operator] = [browsing(&console, &viewer).await, browsing(&console, &operator).await];
    let path = format!("/events/{}", event.id);
    let masked = viewer.get(&path).await;
    assert!(
        masked.text.contains("It takes an operator to see it") && !masked.text.contains("247-25"),
        "{}",
        masked.text
    );
    assert!(
        !masked.text.contains("Download the body")
            && links(&masked, "Show it, which the audit then has").is_empty()
    );
    let masked = operator.get(&path).await;
    assert!(!masked.text.contains("247-25"));
    let [revealed] = links(&masked, "Show it, which the audit then has").try_into().unwrap();
    let shown = operator.get(revealed).await;
    assert!(
        shown.text.contains("529.982.247-25") && shown.text.contains("Personal data is shown"),
        "{}",
        shown.text
    );
    assert_eq!(links(&shown, "Mask it"), [path.as_str()]);
    let lists = operator.get("/agreements").await;
    let [revealed] = links(&lists, "Show it, which the audit then has").try_into().unwrap();
    assert!(operator.get(revealed).await.text.contains("Personal data is shown"));

    let admin = browsing(&console, OURS).await;
    let page = admin.get("/audit?person=529.982.247-25").await;
    assert!(page.text.contains(&format!("{path} revealed")) && page.text.contains("olga"), "{}", page.text);
    assert!(!page.text.contains("vera") && !page.text.contains("/agreements revealed"), "{}", page.text);
    let page = admin.get("/audit?person=11222333000181").await;
    assert!(page.text.contains("Nothing matches these filters."), "{}", page.text);
}

#[tokio::test]
async fn a_document_has_a_page_with_its_versions_and_their_content() {
    let console = Console::start().await;
    let event = console.recorded("acordo.quitado").await;
    let id = console.documented(&event).await;
    let viewer = console.token("vera", "viewer").await;
    let [browser, viewer] = [browsing(&console, OURS).await, browsing(&console, &viewer).await];
    let path = format!("/documents/{id}");
    assert!(browser.get("/documents").await.text.contains(&format!("href=\"{path}\"")));
    let page = browser.get(&path).await;
    assert!(page.text.contains(&format!("href=\"/events/{event}\"")), "{}", page.text);
    for (version, content) in [(1, "{\"a\":1}"), (2, "{\"a\":2}")] {
        let [href] = links(&page, &format!("Content of version {version}")).try_into().unwrap();
        let body = browser.get(href).await;
        assert_eq!((body.status, body.text.as_str()), (200, content));
        assert!(body.response["content-security-policy"].to_str().unwrap().contains("sandbox"));
        assert_eq!(viewer.get(href).await.status, 403);
    }
    let looks = console.audited().await.into_iter().filter(|(_, what, _)| what.contains("/documents/"));
    assert_eq!(looks.count(), 4);
    let sent = browser.submit(&page, "/actions/jobs", "").await;
    let [job] = console.rows("/jobs").await.try_into().unwrap();
    assert_eq!(sent.location, format!("/jobs/{}", job["id"].as_str().unwrap()));
    assert_eq!((&job["action"], &job["filter"]["id"]), (&json!("fetch"), &json!(event)));
    assert!(links(&viewer.get(&path).await, "Content of version 1").is_empty());
}

#[tokio::test]
async fn a_row_of_a_book_leads_to_its_history_and_every_fact_to_its_event() {
    let console = Console::start().await;
    let event = console.recorded("acordo.quitado").await;
    let text = |text: &str| store::many::Value::from(text);
    console
        .run(&[
            (
                "INSERT INTO invoices (source, external_id, status, status_order, status_event, credit_memo_requested, first_event) \
                 VALUES ('me', '7/7', '103', 1, 'e', 0, $1)",
                vec![text(&event)],
            ),
            (
                "INSERT INTO invoice_history (event_id, source, external_id, topic, status, received_at) \
                 VALUES ($1, 'me', '7/7', 'invoice.paid', '103', 5)",
                vec![text(&event)],
            ),
            (
                "INSERT INTO invoice_history (event_id, source, external_id, topic, status, received_at) \
                 VALUES ('other', 'me', '8', 'invoice.lost', '101', 5)",
                Vec::new(),
            ),
            (
                "INSERT INTO prescription_history (event_id, source, document, partner_hash, topic, state, files, received_at) \
                 VALUES ($1, 'saude', '52998224725', 'h', 'pending', 'pending', 0, 5)",
                vec![text(&event)],
            ),
            (
                "INSERT INTO prescription_history (event_id, source, document, partner_hash, topic, state, files, received_at) \
                 VALUES ('later', 'saude', '52998224725', 'h', 'renewed', 'renewed', 2, 6)",
                Vec::new(),
            ),
            (
                "INSERT INTO prescription_history (event_id, source, document, partner_hash, topic, state, files, received_at) \
                 VALUES ('another', 'saude', '11222333000181', 'h', 'renewed', 'renewed', 2, 6)",
                Vec::new(),
            ),
        ])
        .await;
    let browser = browsing(&console, OURS).await;
    let list = browser.get("/invoices").await;
    let link = "/invoices/history?source=me&#38;external_id=7%2F7";
    assert!(list.text.contains(&format!("href=\"{link}\"")), "{}", list.text);
    assert!(list.text.contains(&format!("href=\"/events/{event}\"")), "{}", list.text);
    let page = browser.get(&link.replace("&#38;", "&")).await;
    // The row itself, and what was received about it.
    assert_eq!(page.text.matches("<table>").count(), 2, "{}", page.text);
    assert!(page.text.contains("invoice.paid") && !page.text.contains("invoice.lost"), "{}", page.text);
    assert!(page.text.contains(&format!("href=\"/events/{event}\"")), "{}", page.text);

    // Whom it is about nobody has to say.
    let facts = console.rows(&format!("/prescriptions/history?event_id={event}")).await;
    let states: Vec<_> = facts.iter().map(|fact| fact["state"].as_str().unwrap()).collect();
    assert_eq!(states.len(), 2, "{facts:?}");
    assert!(!json!(facts).to_string().contains("52998224725"));
    for book in ["agreements", "receivables", "purchasing"] {
        assert!(console.rows(&format!("/{book}/history?source=rec-1&external_id=y")).await.is_empty());
    }
}

#[tokio::test]
async fn a_filter_takes_times_as_people_say_them() {
    let console = Console::start().await;
    let id = console.recorded("acordo.quitado").await;
    let browser = browsing(&console, OURS).await;
    let has = async |query: &str| {
        let page = browser.get(&format!("/events{query}")).await;
        assert_eq!(page.status, 200, "{query}: {}", page.text);
        page.text.contains(&id)
    };
    assert!(has("?from=yesterday").await && has("?from=2h").await && has("?from=2026-01-01").await);
    assert!(!has("?to=yesterday").await && !has("?to=2h").await);
    assert!(browser.get("/events?from=yesterday").await.text.contains("value=\"yesterday\""));
    assert_eq!(browser.get("/events?from=soon").await.status, 400);
    assert!(browser.get("/events.csv?from=2h").await.text.contains(&id));
    assert_eq!(browser.get(&format!("/events/{id}?from=2h")).await.status, 200);
}

#[tokio::test]
async fn an_unknown_address_is_a_page_for_a_browser_and_a_problem_for_others() {
    let console = Console::start().await;
    let browser = browsing(&console, OURS).await;
    let html = [("accept", "text/html,*/*;q=0.8")];
    let page = browser.send(Method::GET, "/nonsense/of/somebody", None, &html).await;
    assert!(page.status == 404 && page.text.contains("<h1>There is no such page</h1>"), "{}", page.text);
    assert!(page.text.contains("role=\"search\""), "{}", page.text);
    let stranger = Browser::new(&console, "pt-BR");
    let page = stranger.send(Method::GET, "/nonsense", None, &html).await;
    assert!(page.status == 404 && page.text.contains("Esta página não existe"), "{}", page.text);
    for (path, headers) in [("/nonsense", &[][..]), ("/api/v1/nonsense", &html[..])] {
        let page = browser.send(Method::GET, path, None, headers).await;
        assert_eq!((page.status, &page.response["content-type"] == "application/problem+json"), (401, true));
    }
    assert_eq!(console.get("/nonsense").await.status(), StatusCode::NOT_FOUND);
    // What there is not says what to do.
    let page = browser.get(&format!("/events/{}", EventId::generate())).await;
    assert!(page.status == 404 && page.text.contains("Look for it with the field above"), "{}", page.text);
}

#[tokio::test]
async fn pages_and_what_they_load_are_compressed_for_those_who_take_it() {
    let console = Console::start().await;
    let browser = browsing(&console, OURS).await;
    let plain = browser.get("/").await;
    let style =
        plain.text.split("stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    for path in ["/", &style] {
        let whole = browser.get(path).await;
        assert!(!whole.response.contains_key("content-encoding"));
        let mut request = Request::get(path).header("accept-encoding", "br, gzip;q=0.5");
        request = request.header("cookie", browser.cookies());
        let response = console.router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip", "{path}");
        let (packed, mut text) = (bytes(response).await, String::new());
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed[..]), &mut text).unwrap();
        assert!(
            packed.len() * 2 < text.len() && text.contains(if path == "/" { "</html>" } else { ":root" })
        );
        assert!(
            browser.send(Method::GET, path, None, &[("accept-encoding", "gzip;q=0")]).await.status == 200
        );
    }
}
