//! An operator corrects the body of a dead letter and has it sent again: by the API and in a browser.

use super::pages::Browser;
use super::subscribing::OURS;
use super::*;

/// Reads an edited body with the handlers alone.
pub(super) fn check(event: Event, consumers: &[&str]) -> Result<Event, StillUnusable> {
    for domain in domains::ALL.iter().filter(|domain| consumers.contains(&domain.name())) {
        (domain.check)(&event::Zone::default(), &event)
            .map_err(|reason| StillUnusable::Consumer { consumer: domain.name(), reason })?;
    }
    Ok(event)
}

const GOOD: &str = include_str!("../../../providers/fixtures/recuperador/acordo.quitado.json");

/// The same with a value that its consumer cannot read, and without one.
fn bad() -> String {
    let bad = GOOD.replace("\"id_acordo\": 45031", "\"id_acordo\": []");
    assert_ne!(bad, GOOD);
    bad
}

/// An event that receivables gave up, as the ledger records it.
pub(super) async fn dead_letter(console: &Console) -> Event {
    let event = Event { data: bad().into(), ..event("acordo.quitado", b"") };
    console.accept(&event).await;
    die(console, &event, "2026-11-22T12:00:00Z", None).await;
    event
}

/// Receivables gives up an event, which a job may have sent.
pub(super) async fn die(console: &Console, event: &Event, at: &str, job: Option<&str>) {
    let given_up = [
        (header::CONSUMER, "receivables"),
        (header::ERROR, "/id_acordo: expected a number"),
        (header::GIVEN_UP_AT, at),
    ];
    let mut message = with(event, &given_up);
    message.headers.extend(job.map(|job| (header::JOB.to_owned(), job.into())));
    console.state.broker.publish(&console.state.layout.dead(), "acordo.quitado", message).await.unwrap();
    console.record().await;
}

fn form(fields: &[(&str, &str)]) -> String {
    serde_urlencoded::to_string(fields).unwrap()
}

#[tokio::test]
async fn a_body_is_checked_before_it_is_sent_and_sent_once() {
    let console = Console::start().await;
    let original = dead_letter(&console).await;
    let path = format!("/dead/{}/receivables/edit", original.id);
    let asked =
        |body: &str, dry_run: bool| json!({"body": body, "reason": "the id was a list", "dry_run": dry_run});
    let (status, refused) = console.post(&path, asked(&bad().replace("[]", "{}"), true)).await;
    let detail = refused["detail"].as_str().unwrap();
    assert!(
        status == 400 && detail.starts_with("receivables: ") && detail.contains("id_acordo"),
        "{refused}"
    );
    let (status, checked) = console.post(&path, asked(GOOD, true)).await;
    let diff: Vec<&str> =
        checked["diff"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!((status, checked["topic"].as_str()), (200, Some("acordo.quitado")));
    assert!(
        diff.contains(&"-  \"id_acordo\": [],") && diff.contains(&"+  \"id_acordo\": 45031,"),
        "{diff:?}"
    );
    assert_eq!(diff.iter().filter(|line| line.starts_with(['-', '+'])).count(), 2, "{diff:?}");
    assert!(console.rows("/jobs").await.is_empty() && console.rows("/dead").await.len() == 1);

    let (status, job) = console.post(&path, asked(GOOD, false)).await;
    assert_eq!((status, job["to_consumer"].as_str()), (201, Some("receivables")), "{job}");
    let sent = job["filter"]["id"].as_str().unwrap();
    let (status, refused) = console.post(&path, asked(GOOD, false)).await;
    assert!(status == 409 && refused["detail"].as_str().unwrap().contains(sent), "{refused}");
    assert_eq!((console.rows("/jobs").await.len(), console.rows("/dead").await.len()), (1, 0));
    let shown = json(console.get(&format!("/events/{}", original.id)).await).await;
    assert_eq!(shown["outcomes"][0]["replaced_by"], sent);
    let shown = json(console.get(&format!("/events/{sent}?reveal=true")).await).await;
    assert_eq!(
        (shown["replay_of"].as_str(), shown["body"].as_str()),
        (Some(original.id.to_string().as_str()), Some(GOOD))
    );
    let retry =
        json!({"action": "retry", "what": "dead", "filter": {"id": original.id}, "requested_by": "maria"});
    let (status, refused) = console.post("/jobs", retry).await;
    assert!(status == 400 && refused["detail"].as_str().unwrap().contains(sent), "{refused}");
    let audited = console.rows("/audit").await;
    let entry = audited.iter().find(|entry| entry["status"] == 201).unwrap();
    assert!(
        entry["what"].as_str().unwrap().ends_with(&format!("{path} {}", job["id"].as_str().unwrap())),
        "{entry}"
    );
}

#[tokio::test]
async fn an_operator_edits_a_body_on_a_page_sees_what_differs_and_sends_it() {
    let console = Console::start().await;
    let original = dead_letter(&console).await;
    let (_, added) = console.post("/tokens", json!({"name": "olga", "role": "operator"})).await;
    let mut browser = Browser::new(&console, "en");
    browser.log_in(added["token"].as_str().unwrap()).await;
    let page = browser.get(&format!("/dead/{}", original.id)).await;
    let path = format!("/dead/{}/receivables/edit", original.id);
    assert!(page.text.contains(&format!("href=\"{path}\"")), "{}", page.text);
    let page = browser.get(&path).await;
    assert!(
        page.text.contains("Maria Aparecida de Souza") && page.text.contains("/id_acordo: expected a number"),
        "{}",
        page.text
    );
    let looked = console.rows("/audit").await;
    assert!(looked[0]["what"].as_str().unwrap().ends_with(" revealed"), "{looked:?}");

    // A form sends the ends of lines as CR LF.
    let filled =
        |body: &str| form(&[("body", &body.replace('\n', "\r\n")), ("reason", "a list"), ("step", "check")]);
    let wrong = browser.submit(&page, &path, &filled(&bad().replace("[]", "{}"))).await;
    assert_eq!(wrong.status, 400);
    assert!(
        wrong.text.contains("role=\"alert\">✗ receivables: ") && wrong.text.contains("<textarea"),
        "{}",
        wrong.text
    );
    let right = browser.submit(&wrong, &path, &filled(GOOD)).await;
    assert_eq!(right.status, 200);
    assert!(right.text.contains("<span class=\"good\">+  &#34;id_acordo&#34;: 45031,"), "{}", right.text);
    assert!(
        right.text.contains("<span class=\"bad\">-  &#34;id_acordo&#34;: [],")
            && !right.text.contains("<textarea")
    );
    assert!(console.rows("/jobs").await.is_empty(), "nothing is sent before it was looked at");
    let token = right.text.split("form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let body = GOOD.replace('\n', "\r\n");
    let send = form(&[("form_token", token), ("body", &body), ("reason", "a list"), ("step", "send")]);
    let own = [("sec-fetch-site", "same-origin")];
    let forged = form(&[("body", &body), ("reason", "a list"), ("step", "send")]);
    assert_eq!(browser.send(Method::POST, &path, Some(&forged), &own).await.status, 403);
    let sent = browser.send(Method::POST, &path, Some(&send), &own).await;
    let [job] = console.rows("/jobs").await.try_into().unwrap();
    assert_eq!(
        (sent.status, sent.location),
        (303, format!("/jobs/{}", job["id"].as_str().unwrap())),
        "{}",
        sent.text
    );
    assert_eq!((job["requested_by"].as_str(), job["reason"].as_str()), (Some("olga"), Some("a list")));
    let again = browser.send(Method::POST, &path, Some(&send), &own).await;
    assert!(again.status == 409 && again.text.contains("was sent in its place"), "{}", again.text);
    // Both are linked with each other.
    let id = job["filter"]["id"].as_str().unwrap();
    assert_eq!(console.get(&format!("/events/{id}/body")).await.status(), 200);
    assert_eq!(bytes(console.get(&format!("/events/{id}/body")).await).await, GOOD);
    let page = browser.get(&format!("/events/{}", original.id)).await;
    assert!(page.text.contains(&format!("href=\"/events/{id}\"")), "{}", page.text);
    let page = browser.get(&format!("/events/{id}")).await;
    assert!(page.text.contains(&format!("href=\"/events/{}\"", original.id)), "{}", page.text);
    let page = browser.get(&format!("/dead/{}", original.id)).await;
    assert!(
        page.text.contains(&format!("href=\"/events/{id}\"")) && !page.text.contains(&path),
        "{}",
        page.text
    );
}

#[tokio::test]
async fn a_viewer_edits_nothing() {
    let console = Console::start().await;
    let original = dead_letter(&console).await;
    let (_, added) = console.post("/tokens", json!({"name": "vera", "role": "viewer"})).await;
    let token = added["token"].as_str().unwrap();
    let path = format!("/dead/{}/receivables/edit", original.id);
    let asked = json!({"body": GOOD, "reason": "x", "dry_run": true});
    assert_eq!(console.call(Method::POST, &path, token, Some(asked.clone())).await.0, 403);
    assert_eq!(console.call(Method::POST, &path, OURS, Some(asked)).await.0, 200);
    let mut browser = Browser::new(&console, "en");
    browser.log_in(token).await;
    assert_eq!(browser.get(&path).await.status, 403);
}
