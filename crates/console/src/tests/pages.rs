//! The pages as a browser without scripts sees them.

use store::Row;

use super::subscribing::OURS;
use super::*;
use crate::pages::text::Lang;
use crate::{OTHER_VIEWS, pages};

/// What a browser keeps and sends.
pub(super) struct Browser<'a> {
    pub(super) console: &'a Console,
    pub(super) cookie: String,
    pub(super) language: &'static str,
}

/// A page: its status, where it leads, its text.
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) location: String,
    pub(super) text: String,
    pub(super) response: axum::http::HeaderMap,
}

impl<'a> Browser<'a> {
    pub(super) fn new(console: &'a Console, language: &'static str) -> Self {
        Self { console, cookie: String::new(), language }
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        form: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Page {
        let mut request =
            Request::builder().method(method).uri(path).header("accept-language", self.language);
        if !self.cookie.is_empty() {
            request = request.header("cookie", format!("other=1; malote_session={}", self.cookie));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = form.map_or_else(Body::empty, |form| Body::from(form.to_owned()));
        let response = self.console.router.clone().call(request.body(body).unwrap()).await.unwrap();
        let location =
            response.headers().get("location").map_or("", |value| value.to_str().unwrap()).to_owned();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = String::from_utf8(bytes(response).await.to_vec()).unwrap();
        Page { status, location, text, response: headers }
    }

    /// The header with its cookie.
    pub(super) fn cookies(&self) -> String {
        format!("malote_session={}", self.cookie)
    }

    pub(super) async fn get(&self, path: &str) -> Page {
        self.send(Method::GET, path, None, &[]).await
    }

    pub(super) async fn log_in(&mut self, token: &str) -> Page {
        let page =
            self.send(Method::POST, "/login", Some(&format!("token={token}&next=%2Fevents")), &[]).await;
        let cookie = page.response.get("set-cookie").map_or("", |value| value.to_str().unwrap());
        let value = cookie.strip_prefix("malote_session=").and_then(|rest| rest.split(';').next());
        self.cookie = value.unwrap_or_default().to_owned();
        page
    }

    /// Sends the form of a page whose action is this path, with further fields.
    pub(super) async fn submit(&self, page: &Page, action: &str, fields: &str) -> Page {
        let form = page.text.split("<form").find(|form| form.contains(&format!("action=\"{action}\"")));
        let form = form.unwrap_or_else(|| panic!("no form for {action}: {}", page.text));
        let form = form.split("</form>").next().unwrap();
        let field = |input: &str| {
            let part =
                |name: &str| Some(input.split(&format!("{name}=\"")).nth(1)?.split('"').next()?.to_owned());
            let letters = [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")];
            let plain = |text: String| letters.iter().fold(text, |text, (from, to)| text.replace(from, to));
            let pair = [(part(" name")?, plain(part(" value")?))];
            Some(serde_urlencoded::to_string(pair).unwrap() + "&")
        };
        let hidden: String = form.split("<input").filter_map(field).collect();
        self.send(Method::POST, action, Some(&(hidden + fields)), &[("sec-fetch-site", "same-origin")]).await
    }
}

#[tokio::test]
async fn who_is_not_logged_in_sees_the_log_in_alone() {
    let console = Console::start().await;
    let mut browser = Browser::new(&console, "en");
    for path in ["/", "/events", "/events/1", "/search?q=1", "/queues"] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 303, "{path}");
        assert!(page.location.starts_with("/login?next=%2F"), "{path}: {}", page.location);
    }
    assert_eq!(browser.send(Method::POST, "/actions/jobs", Some(""), &[]).await.status, 303);
    let page = browser.log_in("nonsense").await;
    assert_eq!((page.status, browser.cookie.as_str()), (401, ""));
    assert!(page.text.contains("This token opens nothing"), "{}", page.text);
    // The next token is tried a moment later only.
    assert_eq!(browser.log_in(OURS).await.status, 429);
}

#[tokio::test]
async fn a_login_code_opens_a_session_once() {
    let console = Console::start().await;
    let mut browser = Browser::new(&console, "en");
    let path = format!("/login?once={}", console.state.token.login_code());
    let page = browser.get(&path).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/"));
    let cookie = page.response["set-cookie"].to_str().unwrap().strip_prefix("malote_session=").unwrap();
    browser.cookie = cookie.split(';').next().unwrap().to_owned();
    assert!(browser.get("/").await.text.contains("· admin"));
    let page = browser.get(&path).await;
    assert_eq!((page.status, page.response.contains_key("set-cookie")), (200, false));
}

#[tokio::test]
async fn every_list_is_a_page_in_both_languages_that_loads_nothing_else() {
    let console = Console::start().await;
    let id = console.recorded("acordo.quitado").await;
    for (language, overview, events) in [
        ("en-GB,en", "Overview", "Every event that was received."),
        ("pt-BR,pt;q=0.9", "Visão geral", "Todos os eventos recebidos."),
    ] {
        let mut browser = Browser::new(&console, language);
        let page = browser.log_in(OURS).await;
        assert_eq!((page.status, page.location.as_str()), (303, "/events"));
        let cookie = page.response["set-cookie"].to_str().unwrap();
        assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
        let listed = views().into_iter().map(|view| view.name).filter(|name| !name.contains("{id}"));
        for name in listed.chain(OTHER_VIEWS.map(|view| view.name)) {
            let page = browser.get(&format!("/{name}")).await;
            assert_eq!(page.status, 200, "{name}: {}", page.text);
            assert!(
                page.text.contains("<table>") || page.text.contains("class=\"empty\""),
                "{name}: {}",
                page.text
            );
            for none in ["<script>", " style=", " onclick", "http://", "https://"] {
                assert!(!page.text.contains(none), "{name} has {none}");
            }
            let policy = page.response["content-security-policy"].to_str().unwrap();
            assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
            assert_eq!(page.response["cache-control"], "no-store");
        }
        let page = browser.get("/events").await;
        assert!(
            page.text.contains(events) && page.text.contains(&format!("href=\"/events/{id}\"")),
            "{}",
            page.text
        );
        assert!(browser.get("/").await.text.contains(&format!("<h1>{overview}</h1>")));
        let page = browser.get(&format!("/events/{id}")).await;
        assert!(
            page.text.contains("acordo.quitado") && page.text.contains("&#34;valor&#34;: 1"),
            "{}",
            page.text
        );
        let styles = page.text.split("stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap();
        let styles = browser.get(styles).await;
        assert!(styles.response["cache-control"].to_str().unwrap().contains("immutable"));
        // A filter whose fields are empty is none.
        let page = browser.get("/events?topic=&state=pending&id=").await;
        assert_eq!(page.status, 200, "{}", page.text);
        assert_eq!(browser.get("/events?state=nonsense").await.status, 400);
        let page = browser.submit(&browser.get("/").await, "/logout", "").await;
        assert_eq!((page.status, page.location.as_str()), (303, "/login"));
        assert_eq!(browser.get("/events").await.status, 303);
    }
}

#[tokio::test]
async fn a_body_is_shown_as_text_whatever_is_in_it() {
    let console = Console::start().await;
    let event = event("acordo.<b>", b"{\"a\": \"</pre><script>alert(1)</script>\"}");
    console.accept(&event).await;
    console.record().await;
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let page = browser.get(&format!("/events/{}", event.id)).await;
    assert!(
        page.text.contains("alert(1)") && !page.text.contains("<script>") && !page.text.contains("<b>"),
        "{}",
        page.text
    );
}

#[tokio::test]
async fn undelivered_events_are_discarded_on_the_page_of_their_subscription() {
    let console = Console::start().await;
    let push = json!({"url": "https://crm.example/hooks"});
    let declaration = json!({"name": "crm", "topics": ["recuperador:#"], "push": push});
    assert_eq!(console.post("/subscriptions", json!({"declaration": declaration})).await.0, 201);
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let page = browser.get("/subscriptions/crm").await;
    assert!(page.status == 200 && !page.text.contains("/actions/undelivered/discard"), "{}", page.text);
    let event = console.recorded("acordo.quitado").await;
    console.undelivered("crm", &event, 9).await;
    let page = browser.get("/subscriptions/crm").await;
    assert!(page.text.contains("/actions/attempts/retry"), "{}", page.text);
    let done = browser.submit(&page, "/actions/undelivered/discard", "reason=it+is+closed").await;
    assert!(done.status == 200 && done.text.contains("Rows that match: 1."), "{}", done.text);
    assert_eq!(console.rows("/undelivered").await.len(), 1, "nothing is done before it is confirmed");
    let done = browser.submit(&done, "/actions/undelivered/discard", "").await;
    assert_eq!((done.status, done.location.as_str()), (303, "/undelivered"), "{}", done.text);
    assert!(console.rows("/undelivered").await.is_empty());
}

#[tokio::test]
async fn a_viewer_sees_lists_and_masked_bodies_and_is_offered_nothing_to_do() {
    let console = Console::start().await;
    let id = console.recorded("acordo.quitado").await;
    let (_, added) = console.post("/tokens", json!({"name": "vera", "role": "viewer"})).await;
    let mut browser = Browser::new(&console, "en");
    browser.log_in(added["token"].as_str().unwrap()).await;
    let page = browser.get("/events").await;
    assert!(page.text.contains("vera · viewer"), "{}", page.text);
    let page = browser.get(&format!("/events/{id}")).await;
    assert!(page.status == 200 && !page.text.contains("/actions/jobs"), "{}", page.text);
    let page = browser.get(&format!("/events/{id}/body")).await;
    assert_eq!(page.status, 403);
    assert!(page.text.contains("needs a token with the role operator"), "{}", page.text);
    let token =
        page.text.split("form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let form = format!("form_token={token}&action=replay&what=events&filter.id={id}");
    assert_eq!(browser.send(Method::POST, "/actions/jobs", Some(&form), &[]).await.status, 403);
    assert!(console.rows("/jobs").await.is_empty());
    // A session ends with its token.
    console.call(Method::DELETE, "/tokens/vera", OURS, None).await;
    assert_eq!(browser.get("/events").await.status, 303);
}

#[tokio::test]
async fn an_operator_replays_an_event_and_forged_forms_do_nothing() {
    let console = Console::start().await;
    let id = console.recorded("acordo.quitado").await;
    let (_, added) = console.post("/tokens", json!({"name": "olga", "role": "operator"})).await;
    let mut browser = Browser::new(&console, "en");
    browser.log_in(added["token"].as_str().unwrap()).await;
    let page = browser.get(&format!("/events/{id}")).await;
    let form = format!("action=replay&what=events&filter.id={id}");
    assert_eq!(browser.send(Method::POST, "/actions/jobs", Some(&form), &[]).await.status, 403);
    let token = page.text.split("form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let form = format!("form_token={token}&{form}");
    let elsewhere = [("sec-fetch-site", "cross-site")];
    assert_eq!(browser.send(Method::POST, "/actions/jobs", Some(&form), &elsewhere).await.status, 403);
    assert!(console.rows("/jobs").await.is_empty());
    let sent = browser.submit(&page, "/actions/jobs", "").await;
    let [job] = console.rows("/jobs").await.try_into().unwrap();
    assert_eq!(
        (sent.status, sent.location.as_str()),
        (303, format!("/jobs/{}", job["id"].as_str().unwrap()).as_str())
    );
    assert_eq!(
        (job["requested_by"].as_str(), job["filter"]["id"].as_str()),
        (Some("olga"), Some(id.as_str()))
    );
    let page = browser.get(&sent.location).await;
    let page = browser.submit(&page, &format!("/actions{}/cancel", sent.location), "").await;
    assert_eq!((page.status, page.location), (303, sent.location));
    let [job] = console.rows("/jobs").await.try_into().unwrap();
    assert_eq!(job["state"], "cancelled");
}

/// What the document of the API declares and pages show: the names of fields and of filters with what they choose, and words.
fn declared() -> Vec<String> {
    let document: Value = serde_json::from_str(&openapi(&views())).unwrap();
    let mut texts = Vec::new();
    let schemas: Vec<_> = document["components"]["schemas"].as_object().unwrap().values().collect();
    let mut open = schemas;
    while let Some(schema) = open.pop() {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            texts.push(name.replace('_', " "));
            open.push(property);
        }
        open.extend(["allOf", "oneOf", "anyOf"].iter().flat_map(|of| schema[of].as_array()).flatten());
        texts.extend(
            schema["enum"].as_array().into_iter().flatten().map(|word| word.as_str().unwrap().into()),
        );
    }
    assert!(texts.len() > 400, "only {} names are found", texts.len());
    for view in views() {
        texts.extend(view.fields().into_iter().flat_map(|field| [field.name.replace('_', " "), field.about]));
    }
    for view in OTHER_VIEWS {
        texts.extend(view.fields().into_iter().flat_map(|field| [field.name.replace('_', " "), field.about]));
    }
    texts
}

/// What the API says when it refuses, as far as it is a text of its own.
#[tokio::test]
async fn refusals_are_in_portuguese() {
    let console = Console::start().await;
    let token = console.token("vera", "viewer").await;
    let mut browser = Browser::new(&console, "pt-BR");
    browser.log_in(&token).await;
    let id = EventId::generate();
    for (path, title, detail) in [
        (
            "/events?limit=x".to_owned(),
            "Um parâmetro do pedido",
            "limit: esperado um número de 1 a 1000, recebido ",
        ),
        ("/events?state=x".to_owned(), "Um parâmetro do pedido", "state: esperado um de pending, handled"),
        (
            "/events?x=1".to_owned(),
            "Um parâmetro do pedido",
            "não é um parâmetro desta lista: esperado um de id, ",
        ),
        (
            "/audit".to_owned(),
            "O papel do token não permite isto",
            "Isto precisa de um token com o papel admin; ",
        ),
        (format!("/jobs/{id}"), "Não encontrado", "Não há nada com este id."),
    ] {
        let page = browser.get(&path).await;
        assert!(page.status >= 400 && page.text.contains(title), "{path}: {}", page.text);
        assert!(page.text.contains(detail), "{path}: {}", page.text);
    }
}

#[test]
fn every_text_of_the_pages_is_in_portuguese() {
    let sources = [
        include_str!("../../templates/layout.html"),
        include_str!("../../templates/list.html"),
        include_str!("../../templates/item.html"),
        include_str!("../../templates/confirm.html"),
        include_str!("../../templates/event.html"),
        include_str!("../../templates/group.html"),
        include_str!("../../templates/chart.html"),
        include_str!("../../templates/edit.html"),
        include_str!("../../templates/parts.html"),
        include_str!("../../templates/table.html"),
        include_str!("../../templates/overview.html"),
        include_str!("../../templates/login.html"),
        include_str!("../../templates/problem.html"),
        include_str!("../../templates/once.html"),
        include_str!("../../templates/welcome.html"),
        include_str!("../../templates/subscription.html"),
        include_str!("../../templates/receipt.html"),
        include_str!("../pages/receipt_page.rs"),
        include_str!("../pages/chart.rs"),
        include_str!("../pages/edit_page.rs"),
        include_str!("../pages/group.rs"),
        include_str!("../pages/job.rs"),
        include_str!("../pages/event_page.rs"),
        include_str!("../pages/overview.rs"),
        include_str!("../pages/facets.rs"),
        include_str!("../pages/map.rs"),
        include_str!("../pages/mod.rs"),
        include_str!("../pages/session.rs"),
        include_str!("../pages/reconcile_page.rs"),
        include_str!("../../templates/reconcile.html"),
    ];
    let calls = sources.iter().flat_map(|source| {
        ["shell.t(", "shell.filled(", "Some(visit), "].into_iter().flat_map(|call| source.split(call).skip(1))
    });
    let literals = calls.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    let mut texts: Vec<String> = literals.map(str::to_owned).collect();
    assert!(texts.len() > 80, "only {} texts are found", texts.len());
    // The labels of actions and of what is filled in are declared beside each other.
    for source in [
        include_str!("../pages/actions.rs"),
        include_str!("../pages/subscription_page.rs"),
        include_str!("../pages/source_page.rs"),
    ] {
        let source =
            source.split("#[cfg(test)]").next().unwrap().replace(r#"r#""#, "").replace(r##""#"##, "");
        let labels = source.split('"').skip(1).step_by(2).filter(|text| text.starts_with(char::is_uppercase));
        texts.extend(labels.map(str::to_owned));
    }
    let personal = include_str!("../pages/personal.rs").split('"').skip(1).step_by(2);
    texts.extend(personal.filter(|text| text.starts_with(char::is_uppercase)).map(str::to_owned));
    texts.push(pages::search::NOTHING.to_owned());
    let titled = sources.iter().flat_map(|source| source.split("pages.shell(").skip(1));
    texts.extend(titled.filter_map(|rest| Some(rest.split(");").next()?.split('"').nth(1)?.to_owned())));
    for status in [400, 403, 404, 409, 500, 503] {
        texts.push(pages::advice(StatusCode::from_u16(status).unwrap()).to_owned());
    }
    texts.extend(access::VIEWS.iter().flat_map(|_| ["viewer", "operator", "admin"].map(str::to_owned)));
    for view in views() {
        let columns = view.table(&[]).unwrap().columns;
        texts.extend(columns.into_iter().map(|(title, _)| title.to_owned()));
        texts.extend([view.row, view.rows, view.about, view.empty].map(str::to_owned));
    }
    for view in OTHER_VIEWS {
        texts.extend([view.rows, view.about, view.empty].map(str::to_owned));
        texts.extend(view.table(&[]).unwrap().columns.into_iter().map(|(title, _)| title.to_owned()));
    }
    for view in [&ledger::SOURCE_SECRETS, &ledger::SOURCE_REFUSALS] {
        texts.push(view.empty.to_owned());
        texts.extend(view.table(&[]).unwrap().columns.into_iter().map(|(title, _)| title.to_owned()));
    }
    texts
        .extend(["sender", "page about it", "when the events stop", "working", "failing"].map(str::to_owned));
    texts.extend(["latest", "earlier", "unused", "removed"].map(str::to_owned));
    let reasons = include_str!("../../../ingress/src/refusal.rs").split("fn reason(").nth(1).unwrap();
    let reasons = reasons.split("fn is_failure").next().unwrap().split("=> \"").skip(1);
    texts.extend(reasons.filter_map(|rest| Some(rest.split('"').next()?.to_owned())));
    texts.extend(declared());
    let missing: std::collections::BTreeSet<_> =
        texts.iter().filter(|text| !Lang::Portuguese.has(text)).collect();
    assert!(missing.is_empty(), "assets/pt-BR.json misses {missing:#?}");
}

/// Records three events, the first and the last of one topic. Gives their ids.
async fn three_events(console: &Console) -> Vec<String> {
    let mut ids = Vec::new();
    for topic in ["acordo.quitado", "acordo.cancelado", "acordo.quitado"] {
        ids.push(console.recorded(topic).await);
    }
    ids
}

#[tokio::test]
async fn a_filter_is_exported_whole_as_lines_and_as_a_table() {
    let console = Console::start().await;
    let ids = three_events(&console).await;
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let list = browser.get("/events?topic=acordo.quitado").await;
    let csv = "/events.csv?topic=acordo.quitado";
    assert!(list.text.contains(&format!("href=\"{csv}\"")), "{}", list.text);
    let page = browser.get(csv).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(page.response["content-disposition"], "attachment; filename=\"events.csv\"");
    let lines: Vec<_> = page.text.split_terminator("\r\n").collect();
    assert_eq!(lines[0], "Received,Source,Topic,Subject,State,Consumers,Id");
    let listed: Vec<_> = lines[1..].iter().map(|line| line.rsplit(',').next().unwrap()).collect();
    assert_eq!(listed, [ids[2].as_str(), ids[0].as_str()]);
    let page = browser.get("/events.ndjson").await;
    let listed: Vec<Value> = page.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.iter().map(|row| &row["id"]).collect::<Vec<_>>(), [&ids[2], &ids[1], &ids[0]]);
    assert_eq!(browser.get("/events.csv?state=nonsense").await.status, 400);
    assert_eq!(console.get("/events?format=csv&limit=5").await.status(), 400);
}

#[tokio::test]
async fn an_event_leads_to_its_neighbours_in_the_filter_and_shows_what_happened_to_it() {
    let console = Console::start().await;
    let ids = three_events(&console).await;
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let path = |at: usize, query: &str| format!("/events/{}{query}", ids[at]);
    let page = browser.get(&path(1, "")).await;
    for (rel, at) in [("prev", 2), ("next", 0)] {
        let link = format!("<a rel=\"{rel}\" href=\"{}\">", path(at, ""));
        assert!(page.text.contains(&link), "{link}: {}", page.text);
    }
    let filter = "?topic=acordo.quitado";
    let page = browser.get(&path(0, filter)).await;
    assert!(page.text.contains(&format!("<a rel=\"prev\" href=\"{}\">", path(2, filter))), "{}", page.text);
    assert!(!page.text.contains("rel=\"next\""), "{}", page.text);
    let takers = "href=\"/routes?provider=recuperador&#38;topic=acordo.quitado\"";
    for part in [
        "Timeline",
        "+0 ms",
        "received",
        "routed",
        "pending",
        "malote events show ",
        "$MALOTE_TOKEN",
        "malote events replay ",
        takers,
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    let body = browser.get(&path(0, "/body")).await;
    assert_eq!((body.status, body.text.contains("valor")), (200, true));
    assert!(body.response["content-security-policy"].to_str().unwrap().contains("sandbox"));
}

#[tokio::test]
async fn a_long_body_is_cut_on_its_page_and_whole_beside_it() {
    let console = Console::start().await;
    let long = format!("{{\"a\": \"{}\"}}", "ã".repeat(100_000));
    let event = event("acordo.quitado", long.clone().leak().as_bytes());
    console.accept(&event).await;
    console.record().await;
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let page = browser.get(&format!("/events/{}", event.id)).await;
    assert!(page.text.len() < 60_000 && page.text.contains("Bytes left out: 1"), "{}", page.text.len());
    assert_eq!(browser.get(&format!("/events/{}/body", event.id)).await.text, long);
}

#[tokio::test]
async fn a_list_is_told_of_events_that_match_its_filter() {
    let console = Console::start().await;
    console.recorded("acordo.quitado").await;
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let request = Request::builder()
        .uri("/events/live?topic=acordo.quitado")
        .header("cookie", format!("malote_session={}", browser.cookie));
    let response = console.router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    console.recorded("acordo.cancelado").await;
    console.recorded("acordo.quitado").await;
    let last = console.recorded("acordo.quitado").await;
    let mut body = response.into_body();
    let (mut count, mut text) = (0, String::new());
    while count < 2 {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
        text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        let number = text.split("data: ").nth(1).unwrap();
        count += number.trim().parse::<u32>().unwrap();
    }
    assert_eq!((count, text.starts_with(&format!("id: {last}\n"))), (2, true), "{text}");
}

#[tokio::test]
async fn the_overview_shows_each_source_and_what_needs_somebody() {
    let console = Console::start().await;
    console.recorded("acordo.quitado").await;
    let event = event("nobody.takes.this", b"{}");
    console.accept(&event).await;
    console.record().await;
    let [numbers] = [json(console.get("/overview?period=day").await).await];
    assert_eq!(numbers["sources"][0]["received"], 2, "{numbers}");
    assert_eq!(numbers["intervals"].as_array().unwrap().len(), 48);
    // The numbers of a day are kept for a moment, those of an hour are not.
    console.recorded("acordo.quitado").await;
    for (period, received) in [("day", 2), ("hour", 3)] {
        let numbers = json(console.get(&format!("/overview?period={period}")).await).await;
        assert_eq!(numbers["sources"][0]["received"], received, "{period}: {numbers}");
    }
    assert_eq!(console.get("/overview?period=year").await.status(), 400);
    let breaches = json(console.get("/overview").await).await["breaches"].take();
    let unrouted = breaches.as_array().unwrap().iter().find(|breach| breach["kind"] == "unrouted");
    let unrouted = unrouted.unwrap_or_else(|| panic!("{breaches}"));
    assert_eq!((&unrouted["name"], &unrouted["count"]), (&json!("rec-1"), &json!(1)));
    let document: Value = serde_json::from_str(&openapi(&views())).unwrap();
    let schema = document["components"]["schemas"]["Overview"].to_string();
    assert!(["components", "breaches", "Numbers"].iter().all(|part| schema.contains(part)), "{schema}");
    let mut browser = Browser::new(&console, "pt-BR");
    browser.log_in(OURS).await;
    let page = browser.get("/?period=week").await;
    for part in ["Precisa de atenção", "Última semana", "<rect class=\"bar-value\"", "state=pending"] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
}

#[tokio::test]
async fn the_map_says_where_a_topic_goes() {
    let console = Console::start().await;
    let new = json!({"declaration": {"name": "crm", "topics": ["recuperador:acordo.*"], "pull": {}}});
    let (status, answer) = console.post("/subscriptions", new).await;
    assert_eq!(status, 201, "{answer}");
    let rows = console.rows("/routes?provider=recuperador&topic=acordo.quitado").await;
    let to = |row: &Value| format!("{} {}", row["kind"].as_str().unwrap(), row["to"].as_str().unwrap());
    assert_eq!(rows.iter().map(to).collect::<Vec<_>>(), ["pull crm", "consumer test.receivables"]);
    assert!(console.rows("/routes").await.len() > 10);
    assert_eq!(console.get("/routes?provider=A").await.status(), 400);
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let page = browser.get("/routes?provider=recuperador&topic=nobody.takes.this").await;
    assert!(page.text.contains("Nothing takes this:"), "{}", page.text);
}

#[tokio::test]
async fn the_map_is_drawn_and_an_unrouted_event_leads_to_it() {
    let console = Console::start().await;
    console.recorded("acordo.quitado").await;
    console.accept(&event("nobody.takes.this", b"{}")).await;
    console.record().await;
    let rows = console.rows("/routes?provider=recuperador&topic=acordo.quitado").await;
    assert_eq!(rows[0]["hourly"], 6, "{rows:?}");
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let page = browser.get("/routes?provider=recuperador").await;
    for part in ["<svg", "class=\"edge", "<title>recuperador</title>", "href=\"/queues\"", "6/h · 1 waiting"]
    {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    let href = "href=\"/routes?provider=recuperador&#38;topic=nobody.takes.this\"";
    assert!(browser.get("/unrouted").await.text.contains(href));
}

#[tokio::test]
async fn an_event_page_has_every_attempt_of_a_consumer_that_failed() {
    let console = Console::start().await;
    let event = event("acordo.quitado", b"{}");
    console.accept(&event).await;
    let history = json!([
        {"attempt": 1, "at": event.time, "error": "the first error"},
        {"attempt": 2, "at": event.time, "error": "the second error"},
        {"attempt": 3, "at": event.time, "error": "id: missing"},
    ]);
    let history = history.to_string();
    let given_up = [
        (header::CONSUMER, "receivables"),
        (header::ERROR, "id: missing"),
        (header::HISTORY, history.as_str()),
        (header::GIVEN_UP_AT, "2026-11-22T12:00:00Z"),
    ];
    let layout = &console.state.layout;
    let message = with(&event, &given_up);
    console.state.broker.publish(&layout.dead(), "acordo.quitado", message).await.unwrap();
    console.record().await;
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let page = browser.get(&format!("/events/{}", event.id)).await;
    for part in
        ["attempt 1 failed", "the first error", "attempt 2 failed", "the second error", "attempt 3 failed"]
    {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
}

#[tokio::test]
async fn the_values_of_a_filter_are_counted_and_suggested() {
    let console = Console::start().await;
    three_events(&console).await;
    let facets = json(console.get("/events/facets?source=rec-1").await).await;
    assert_eq!((&facets["counted"], &facets["has_more"]), (&json!(3), &json!(false)));
    assert_eq!(facets["topic"][0], json!({"value": "acordo.quitado", "count": 2}));
    assert_eq!(console.get("/events/facets?nonsense=1").await.status(), 400);
    let mut browser = Browser::new(&console, "pt-BR");
    browser.log_in(OURS).await;
    let page = browser.get("/events?source=rec-1").await;
    for part in [
        "Por valor, entre todos os 3",
        "<a href=\"/events?source=rec-1&#38;topic=acordo.quitado\">acordo.quitado</a> <span class=\"count\">2</span>",
        "<a href=\"/events\" aria-current=\"true\"",
        "<datalist id=\"suggested-topic\">",
        "<option value=\"acordo.quitado\">",
        "<option value=\"me-filial-sul\">",
        "pendente",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
}

#[tokio::test]
async fn a_page_that_renews_itself_keeps_no_session_alive() {
    let console = Console::start().await;
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let store = &console.state.store;
    let mut tx = store.begin().await.unwrap();
    let text = "UPDATE console_sessions SET used_at = used_at - 3600000000 RETURNING used_at".to_owned();
    let old: i64 = store::many::fetch(&mut tx, text, []).await.unwrap()[0].get(0);
    tx.commit().await.unwrap();
    let used_at = async || -> i64 {
        let text = "SELECT used_at FROM console_sessions".to_owned();
        store::many::fetch(&mut store.read().await.unwrap(), text, []).await.unwrap()[0].get(0)
    };
    for header in [("malote-renewal", "yes"), ("accept", "text/event-stream")] {
        assert_eq!(browser.send(Method::GET, "/events", None, &[header]).await.status, 200);
        assert_eq!(used_at().await, old, "{header:?}");
    }
    browser.get("/events").await;
    assert!(used_at().await > old);
}
