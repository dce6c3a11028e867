//! What administrators and operators do in pages: subscriptions and tokens.

use super::pages::{Browser, Page};
use super::subscribing::OURS;
use super::*;

impl Page {
    /// What a page shows once under this name.
    fn shown_once(&self, name: &str) -> String {
        let from = format!("id=\"shown-{name}\">");
        let text = self.text.split(&from).nth(1).unwrap_or_else(|| panic!("no {name}: {}", self.text));
        text.split('<').next().unwrap().to_owned()
    }
}

impl Console {
    /// A push subscription, added without a page.
    async fn crm(&self) {
        let push = json!({"url": "https://crm.example/hooks", "headers": ["x-api-key"], "retry": []});
        let declaration = json!({"name": "crm", "topics": ["recuperador:#"], "push": push});
        let secrets = json!({"headers": {"x-api-key": "k1"}});
        let added =
            self.post("/subscriptions", json!({"declaration": declaration, "secrets": secrets})).await;
        assert_eq!(added.0, 201, "{}", added.1);
    }

    async fn change(&self, text: &str) {
        let mut tx = self.state.store.begin().await.unwrap();
        store::many::fetch(&mut tx, text.to_owned(), []).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The secrets that requests to a subscription are signed with now.
    async fn signing(&self, name: &str) -> Vec<String> {
        let found = subscriptions::get(&self.state.store, &event::SubscriptionName::new(name).unwrap())
            .await
            .unwrap()
            .unwrap();
        let secrets = subscriptions::unseal(&self.state.seal, &found).unwrap();
        secrets.signing_at(event::now()).map(str::to_owned).collect()
    }
}

/// Somebody with this role, logged in.
async fn browser<'a>(console: &'a Console, role: &str) -> Browser<'a> {
    let (_, added) = console.post("/tokens", json!({"name": format!("one-{role}"), "role": role})).await;
    let mut browser = Browser::new(console, "en");
    browser.log_in(added["token"].as_str().unwrap()).await;
    browser
}

#[tokio::test]
async fn a_token_is_added_shown_once_and_removed() {
    let console = Console::start().await;
    let admin = browser(&console, "admin").await;
    let page = admin.get("/tokens").await;
    let added = admin.submit(&page, "/actions/tokens", "name=vera&role=viewer&expires_at=").await;
    assert_eq!((added.status, added.response["cache-control"].to_str().unwrap()), (200, "no-store"));
    let token = added.shown_once("token");
    assert_eq!(console.call(Method::GET, "/events", &token, None).await.0, 200);
    let page = admin.get("/tokens").await;
    assert!(page.text.contains("href=\"/tokens/vera\"") && !page.text.contains(&token), "{}", page.text);
    let page = admin.get("/tokens/vera").await;
    assert!(!page.text.contains(&token));
    let removed = admin.submit(&page, "/actions/tokens/vera", "form_sure=on").await;
    assert_eq!((removed.status, removed.location.as_str()), (303, "/tokens"), "{}", removed.text);
    assert_eq!(console.call(Method::GET, "/events", &token, None).await.0, 401);
    // The name is taken by nobody twice, and an operator has no such page.
    let again =
        admin.submit(&admin.get("/tokens").await, "/actions/tokens", "name=one-admin&role=viewer").await;
    assert_eq!(again.status, 409);
    assert_eq!(browser(&console, "operator").await.get("/tokens").await.status, 403);
}

/// The address of a page after a form was sent stays in the browser: it is loaded again, or opened from the history.
#[tokio::test]
async fn every_address_that_a_form_is_sent_to_leads_to_a_page_when_it_is_opened_again() {
    let console = Console::start().await;
    let letter = super::editing::dead_letter(&console).await.id;
    let event = console.recorded("acordo.quitado").await;
    console.crm().await;
    console.undelivered("crm", &event, 3).await;
    let group = console.rows("/dead/groups").await[0]["group"].as_str().unwrap().to_owned();
    let (_, job) = console
        .post("/jobs", json!({"action": "reconcile", "what": "events", "filter": {"day": "today"}}))
        .await;
    let (_, replay) = console
        .post("/jobs", json!({"action": "replay", "what": "events", "filter": {"source": "rec-1"}}))
        .await;
    let admin = browser(&console, "admin").await;
    let mut sent = std::collections::BTreeSet::new();
    for page in [
        "/".to_owned(),
        "/tokens".to_owned(),
        "/tokens/one-admin".to_owned(),
        "/reconciliation".to_owned(),
        "/subscriptions/crm".to_owned(),
        "/forms/subscriptions".to_owned(),
        "/forms/subscriptions/crm".to_owned(),
        format!("/dead?group={group}"),
        format!("/dead/{letter}"),
        format!("/dead/{letter}/receivables/edit"),
        format!("/events/{event}"),
        "/events?source=rec-1".to_owned(),
        format!("/jobs/{}", job["id"].as_str().unwrap()),
        format!("/jobs/{}", replay["id"].as_str().unwrap()),
    ] {
        let page = admin.get(&page).await;
        let forms = page.text.split("<form").skip(1).filter(|form| form.contains("method=\"post\""));
        sent.extend(
            forms.map(|form| form.split("action=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()),
        );
    }
    assert!(sent.len() > 15, "{sent:?}");
    sent.insert("/login".to_owned());
    for address in sent {
        let mut opened = admin.get(&address).await;
        if opened.status == 303 {
            opened = admin.get(&opened.location).await;
        }
        assert_eq!(opened.status, 200, "{address} leads to {}", opened.text);
    }
    // No address leads elsewhere.
    assert_eq!(admin.get("/actions//evil.example/x").await.location, "/");
}

#[tokio::test]
async fn a_subscription_is_tried_on_recorded_events_then_added() {
    let console = Console::start().await;
    let id = console.recorded("acordo.quitado").await;
    let admin = browser(&console, "admin").await;
    let page = admin.get("/forms/subscriptions").await;
    let fields = "declaration.name=crm&declaration.topics=recuperador:%23&declaration.push.url=https://crm.example/hooks";
    let try_out = async |filter: &str| {
        admin.submit(&page, "/forms/subscriptions", &format!("{fields}&declaration.filter={filter}")).await
    };
    let tried = try_out("data.valor+%3D%3D+1").await;
    assert!(tried.text.contains("<dt>Would be delivered</dt><dd>1</dd>"), "{}", tried.text);
    assert!(tried.text.contains(&format!("href=\"/events/{id}\"")), "{}", tried.text);
    let tried = try_out("data.valor+%3D%3D+2").await;
    assert!(tried.text.contains("<dt>Would be delivered</dt><dd>0</dd>"), "{}", tried.text);
    let tried = try_out("data.valor+%3D").await;
    assert!(tried.status == 400 && tried.text.contains("role=\"alert\">✗ filter: "), "{}", tried.text);
    // What was filled in stays.
    assert!(tried.text.contains("data.valor =</textarea>"), "{}", tried.text);
    assert!(console.rows("/subscriptions").await.is_empty());

    let added = admin.submit(&page, "/forms/subscriptions", &format!("{fields}&form_save=yes")).await;
    assert_eq!(console.signing("crm").await, [added.shown_once("secret")]);
    assert!(added.text.contains("href=\"/subscriptions/crm\">Finished"), "{}", added.text);
    let again = admin.submit(&page, "/forms/subscriptions", &format!("{fields}&form_save=yes")).await;
    assert!(
        again.status == 409 && again.text.contains("There is a subscription crm already"),
        "{}",
        again.text
    );
    let page = admin.get("/forms/subscriptions?kind=pull").await;
    let fields = "declaration.name=reports&declaration.topics=malote:%23&form_save=yes";
    let added = admin.submit(&page, "/forms/subscriptions", fields).await;
    assert!(added.shown_once("token").starts_with("malote_"), "{}", added.text);
}

#[tokio::test]
async fn an_edit_changes_what_the_form_shows_and_keeps_the_rest() {
    let console = Console::start().await;
    console.crm().await;
    let admin = browser(&console, "admin").await;
    let page = admin.get("/forms/subscriptions/crm").await;
    let change = "declaration.push.rate_per_s=5&declaration.filter=true&form_save=yes";
    let saved = admin.submit(&page, "/forms/subscriptions/crm", change).await;
    assert_eq!((saved.status, saved.location.as_str()), (303, "/subscriptions/crm"), "{}", saved.text);
    let (_, found) = console.call(Method::GET, "/subscriptions/crm", OURS, None).await;
    let declaration = &found["declaration"];
    assert_eq!((&declaration["filter"], &declaration["push"]["rate_per_s"]), (&json!("true"), &json!(5)));
    assert_eq!(declaration["push"]["headers"], json!(["x-api-key"]));
    assert_eq!(declaration["push"]["retry"], json!([]));
    // Somebody else has changed it since this page was made.
    let late = admin.submit(&page, "/forms/subscriptions/crm", change).await;
    assert!(late.status == 409 && late.text.contains("changed by somebody else"), "{}", late.text);

    let operator = browser(&console, "operator").await;
    let page = operator.get("/forms/subscriptions/crm").await;
    assert!(!page.text.contains("form_save"), "{}", page.text);
    let tried = operator.submit(&page, "/forms/subscriptions/crm", "").await;
    assert!(tried.text.contains("<dt>Events looked at</dt><dd>0</dd>"), "{}", tried.text);
    let refused = operator.submit(&page, "/forms/subscriptions/crm", "form_save=yes").await;
    assert!(refused.status == 403 && refused.text.contains("needs a token with the role admin"));
}

#[tokio::test]
async fn a_day_is_reconciled_and_its_books_are_on_the_page_of_the_job() {
    let console = Console::start().await;
    console.recorded("acordo.quitado").await;
    let operator = browser(&console, "operator").await;
    let page = operator.get("/reconciliation").await;
    assert!(page.text.contains("No day was reconciled yet") && page.text.contains("Reconcile yesterday"));
    let run = async |fields: &str| {
        let asked = operator.submit(&page, "/actions/jobs", fields).await;
        assert_eq!(asked.status, 303, "{}", asked.text);
        let stop = CancellationToken::new();
        let running = tokio::spawn(console.runner().run(stop.clone()));
        let started = Instant::now();
        let path = format!("/api/v1{}", asked.location);
        let state = async || json(console.ask(Method::GET, &path, Some("Bearer let-me-in")).await).await;
        while state().await["state"] != "done" {
            assert!(started.elapsed() < PATIENCE, "{}", state().await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
        running.await.unwrap();
        operator.get(&asked.location).await
    };
    let found = run("filter.day=yesterday").await;
    assert!(found.text.contains("✓ The books balance"), "{}", found.text);
    assert!(found.text.contains("/differences\">0</a>"), "{}", found.text);
    let found = run("filter.day=today").await;
    // What was received today: a row of its books.
    assert!(found.text.contains("<tr><td>rec-1</td>"), "{}", found.text);
    // What somebody has handled yesterday, and nobody has on record.
    let yesterday = event::now() - Duration::from_secs(86_400);
    let milliseconds = yesterday.as_millisecond();
    let missing = format!("{:08x}-{:04x}-7000-8000-000000000001", milliseconds >> 16, milliseconds & 0xffff);
    let digits = missing.replace('-', "");
    console
        .change(&format!(
            "INSERT INTO claims (event_id, consumer, handled_at) VALUES (X'{digits}', 'invoices', 0) RETURNING consumer"
        ))
        .await;
    let found = run("filter.day=yesterday").await;
    assert!(found.text.contains("✗ The books do not balance"), "{}", found.text);
    for text in [missing.as_str(), "invoices", "handled, not recorded", "/differences\">1</a>"] {
        assert!(found.text.contains(text), "no {text}: {}", found.text);
    }
    let viewer = browser(&console, "viewer").await;
    let page = viewer.get("/reconciliation").await;
    assert!(
        page.text.contains("href=\"/jobs/") && !page.text.contains("Reconcile yesterday"),
        "{}",
        page.text
    );
}

#[tokio::test]
async fn every_reconciliation_is_found_page_by_page_behind_other_jobs() {
    let console = Console::start().await;
    let asked = |action: &str, filter: Value| json!({"action": action, "what": "events", "filter": filter});
    for _ in 0..51 {
        let job = console.post("/jobs", asked("reconcile", json!({"day": "2026-11-22"}))).await;
        assert_eq!(job.0, 201, "{}", job.1);
    }
    console.recorded("acordo.quitado").await;
    let (_, replay) = console.post("/jobs", asked("replay", json!({"source": "rec-1"}))).await;
    let viewer = browser(&console, "viewer").await;
    let page = viewer.get("/reconciliation").await;
    let rows = |page: &str| page.matches("href=\"/jobs/").count();
    assert_eq!(rows(&page.text), 50, "{}", page.text);
    assert!(!page.text.contains(replay["id"].as_str().unwrap()), "{}", page.text);
    let older =
        page.text.split("rel=\"next\" href=\"").nth(1).expect("older ones").split('"').next().unwrap();
    assert_eq!(rows(&viewer.get(older).await.text), 1);
    let list = viewer.get("/jobs?action=replay&state=waiting").await;
    assert_eq!(rows(&list.text), 1, "{}", list.text);
}

#[tokio::test]
async fn the_page_of_an_event_leads_to_what_takes_its_topic() {
    let console = Console::start().await;
    let id = console.recorded("acordo.quitado").await;
    let operator = browser(&console, "operator").await;
    let page = operator.get(&format!("/events/{id}")).await;
    let routes = "/routes?provider=recuperador&#38;topic=acordo.quitado";
    assert!(page.text.contains(&format!("href=\"{routes}\"")), "{}", page.text);
    assert_eq!(operator.get(&routes.replace("&#38;", "&")).await.status, 200);
}

#[tokio::test]
async fn a_secret_is_rotated_while_requests_are_signed_with_both() {
    let console = Console::start().await;
    console.crm().await;
    let before = console.signing("crm").await;
    let admin = browser(&console, "admin").await;
    let page = admin.get("/subscriptions/crm").await;
    let rotated = admin.submit(&page, "/actions/subscriptions/crm/rotate-secret", "keep_s=3600").await;
    // A receiver that has either of them accepts every request meanwhile.
    assert_eq!(console.signing("crm").await, [rotated.shown_once("secret"), before[0].clone()]);
    let rotated = admin.submit(&page, "/actions/subscriptions/crm/rotate-secret", "keep_s=0").await;
    assert_eq!(console.signing("crm").await, [rotated.shown_once("secret")]);
    let page = browser(&console, "operator").await.get("/subscriptions/crm").await;
    assert!(!page.text.contains("rotate-secret") && page.text.contains("/actions/subscriptions/crm/pause"));
}

#[tokio::test]
async fn the_list_says_which_subscription_fails_since_when_and_when_it_is_tried_next() {
    let console = Console::start().await;
    console.crm().await;
    let microseconds = |text: &str| text.parse::<event::Timestamp>().unwrap().as_microsecond();
    let (since, next) = ("2026-11-20T10:00:00Z", "2026-11-20T18:30:00Z");
    console
        .change(&format!(
            "UPDATE subscriptions SET state = 'failing', reason = 'status 503', failures = 7, failing_since = {}, \
             held_until = {} RETURNING name",
            microseconds(since),
            microseconds(next)
        ))
        .await;
    let operator = browser(&console, "operator").await;
    let page = operator.get("/").await;
    assert!(page.text.contains("a subscription that fails, since"), "{}", page.text);
    let page = operator.get("/subscriptions?state=failing").await;
    for text in ["href=\"/subscriptions/crm\"", "Failing since", since, "Next retry", next, "status 503"] {
        assert!(page.text.contains(text), "no {text}: {}", page.text);
    }
    let page = operator.get("/subscriptions/crm").await;
    for path in ["/attempts?", "/undelivered?", "/attempts/report?"] {
        assert!(page.text.contains(&format!("href=\"{path}subscription=crm\"")), "{path}: {}", page.text);
        assert_eq!(operator.get(&format!("{path}subscription=crm")).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_subscription_is_paused_moved_resumed_since_a_time_and_removed() {
    let console = Console::start().await;
    console.crm().await;
    let admin = browser(&console, "admin").await;
    let act = async |action: &str, fields: &str| {
        let page = admin.get("/subscriptions/crm").await;
        let done = admin.submit(&page, &format!("/actions/subscriptions/crm{action}"), fields).await;
        assert_eq!(done.status, 303, "{action}: {}", done.text);
        done.location
    };
    act("/pause", "reason=moving").await;
    let paused = admin.get("/subscriptions/crm").await;
    // Of two forms for the same path, the second is that for a time.
    let refused = admin.submit(&paused, "/actions/subscriptions/crm/resume", "deliver=tuesday").await;
    assert!(refused.status == 400 && refused.text.contains("deliver: expected all, none, or a time"));
    act("/resume", "deliver=2026-11-22T12:00:00Z").await;
    let [row] = console.rows("/subscriptions").await.try_into().unwrap();
    assert_eq!(row["state"], "active");
    act("/seek", "to=beginning&rate_per_s=").await;
    assert_eq!(act("", "form_sure=on").await, "/subscriptions");
    assert!(console.rows("/subscriptions").await.is_empty());
    let entries = console.rows("/audit?who=one-admin").await;
    let actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert!(actions.contains(&"DELETE /api/v1/subscriptions/{name}"), "{actions:?}");
}
