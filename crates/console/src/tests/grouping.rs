//! Groups of dead letters: their trend, and what operators note about them.

use super::editing::dead_letter;
use super::pages::Browser;
use super::subscribing::OURS;
use super::*;

#[tokio::test]
async fn an_operator_sees_the_trend_of_a_group_and_keeps_a_note_with_a_ticket() {
    let console = Console::start().await;
    dead_letter(&console).await;
    let group = console.rows("/dead/groups").await[0]["group"].as_str().unwrap().to_owned();
    let path = format!("/dead/groups/{group}/note");
    let (_, vera) = console.post("/tokens", json!({"name": "vera", "role": "viewer"})).await;
    let (_, olga) = console.post("/tokens", json!({"name": "olga", "role": "operator"})).await;
    let note = json!({"text": "asked the sender"});
    let refused = console.call(Method::POST, &path, vera["token"].as_str().unwrap(), Some(note)).await;
    assert_eq!(refused.0, 403);
    assert_eq!(console.call(Method::POST, "/dead/groups/ffffffff/note", OURS, Some(json!({}))).await.0, 404);

    let mut browser = Browser::new(&console, "en");
    browser.log_in(olga["token"].as_str().unwrap()).await;
    let page = browser.get(&format!("/dead?group={group}")).await;
    assert!(
        page.text.contains("Given up in the last 24 hours") && page.text.contains("<svg"),
        "{}",
        page.text
    );
    let action = format!("/dead/groups/{group}");
    let wrong = browser.submit(&page, &action, "text=x&ticket=javascript%3Aalert(1)").await;
    assert!(wrong.status == 400 && wrong.text.contains("ticket: expected an address"), "{}", wrong.text);
    let fields = "text=asked+the+sender&ticket=https%3A%2F%2Ftickets.example%2F7";
    let done = browser.submit(&page, &action, fields).await;
    assert_eq!((done.status, done.location), (303, format!("/dead?group={group}")), "{}", done.text);
    let page = browser.get(&format!("/dead?group={group}")).await;
    assert!(page.text.contains("asked the sender") && page.text.contains("olga"), "{}", page.text);
    assert!(page.text.contains("<a href=\"https://tickets.example/7\" rel=\"noreferrer\">"), "{}", page.text);
    let again = browser.get(&action).await;
    assert_eq!((again.status, again.location), (303, format!("/dead?group={group}")), "a reload");
    let page = browser.get("/dead/groups").await;
    assert!(page.text.contains("asked the sender"), "{}", page.text);
    let audited = console.rows("/audit").await;
    let entry = audited
        .iter()
        .find(|entry| entry["action"].as_str().unwrap().ends_with("/note") && entry["status"] == 200);
    let entry = entry.expect("the audit has it");
    assert!(
        entry["who"] == "olga" && entry["what"].as_str().unwrap().contains("asked the sender"),
        "{entry}"
    );
}
