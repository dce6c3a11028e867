//! What an operator does on the pages when something has gone wrong.

use store::inbox;

use super::editing::{dead_letter, die};
use super::pages::{Browser, Page};
use super::subscribing::OURS;
use super::*;

/// The addresses of a page's links that begin so.
fn links(page: &Page, start: &str) -> Vec<String> {
    let hrefs = page.text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    hrefs.filter(|href| href.starts_with(start)).map(|href| href.replace("&#38;", "&")).collect()
}

#[tokio::test]
async fn an_operator_finds_out_why_an_event_is_dead() {
    let console = Console::start().await;
    let event = dead_letter(&console).await;
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let page = browser.get("/").await;
    assert!(links(&page, "/dead/groups").len() > 1, "the menu and the overview lead there: {}", page.text);
    let page = browser.get("/dead/groups").await;
    let [group] = links(&page, "/dead?group=").try_into().unwrap();
    let page = browser.get(&group).await;
    let [letter] = links(&page, &format!("/dead/{}", event.id)).try_into().unwrap();
    let page = browser.get(&letter).await;
    assert!(
        page.text.contains("/id_acordo: expected a number") && page.text.contains("receivables"),
        "{}",
        page.text
    );
    let page = browser.get(&format!("/events/{}", event.id)).await;
    assert!(
        page.text.contains("gave up") && page.text.contains("/id_acordo: expected a number"),
        "{}",
        page.text
    );
}

#[tokio::test]
async fn an_operator_replays_the_events_of_a_source_and_period_at_a_rate_and_cancels() {
    let console = Console::start().await;
    for _ in 0..3 {
        console.recorded("acordo.quitado").await;
    }
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let (from, to) = (event::now() - Duration::from_secs(86_400), event::now() + Duration::from_secs(60));
    let filter = format!("source=rec-1&from={from}&to={to}");
    let page = browser.get(&format!("/events?{filter}")).await;
    let all =
        page.text.split("<form").find(|form| form.contains("Replay all that match")).unwrap().to_owned();
    let all = Page { text: format!("<form{all}"), ..page };
    let page = browser.submit(&all, "/actions/jobs", "rate=200").await;
    assert!(page.status == 200 && page.text.contains("Rows that match: 3."), "{}", page.text);
    assert!(console.rows("/jobs").await.is_empty(), "nothing is done before it is confirmed");
    assert_eq!(links(&page, "/events?source=rec-1").len(), 1, "back to the list: {}", page.text);
    let job = browser.submit(&page, "/actions/jobs", "").await;
    assert_eq!(job.status, 303, "{}", job.text);
    let [row] = console.rows("/jobs").await.try_into().unwrap();
    assert_eq!((row["rate"].as_u64(), row["total"].as_u64()), (Some(200), Some(3)));
    assert_eq!(row["filter"]["source"], "rec-1");
    // Paused, resumed, cancelled.
    for (action, state) in [("pause", "paused"), ("resume", "waiting"), ("cancel", "cancelled")] {
        let page = browser.get(&job.location).await;
        let done = browser.submit(&page, &format!("/actions{}/{action}", job.location), "").await;
        assert_eq!((done.status, &done.location), (303, &job.location), "{}", done.text);
        assert_eq!(console.rows("/jobs").await[0]["state"], state);
    }
    let page = browser.get(&job.location).await;
    assert!(!page.text.contains("/actions/jobs/"), "an ended job is left alone: {}", page.text);
    let page = browser.get("/events?source=me-filial-sul").await;
    assert!(!page.text.contains("/actions/jobs"), "nothing to replay: {}", page.text);
}

#[tokio::test]
async fn the_page_of_a_retry_says_how_many_were_handled_and_how_many_died_again() {
    let console = Console::start().await;
    let (handled, again) = (dead_letter(&console).await, dead_letter(&console).await);
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let page = browser.get("/dead?consumer=receivables").await;
    let all = page.text.split("<form").find(|form| form.contains("Retry all that match")).unwrap().to_owned();
    let page = browser.submit(&Page { text: format!("<form{all}"), ..page }, "/actions/jobs", "").await;
    let job = browser.submit(&page, "/actions/jobs", "").await.location;
    assert!(browser.get(&job).await.text.contains("nothing was sent yet"));
    let stop = CancellationToken::new();
    let running = tokio::spawn(console.runner().run(stop.clone()));
    let patience = Instant::now() + PATIENCE;
    while console.rows("/jobs").await[0]["state"] != "done" {
        assert!(Instant::now() < patience);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    running.await.unwrap();
    assert!(browser.get(&job).await.text.contains("<strong>2 pending</strong>"));
    let mut tx = console.state.store.begin().await.unwrap();
    inbox::claim(&mut tx, "receivables", &[handled.id], event::now()).await.unwrap();
    tx.commit().await.unwrap();
    die(&console, &again, "2026-11-23T12:00:00Z", job.strip_prefix("/jobs/")).await;
    let page = browser.get(&job).await;
    assert!(page.text.contains("<strong>1 handled, 1 died again</strong>"), "{}", page.text);
}

#[tokio::test]
async fn all_undelivered_events_of_a_subscription_are_discarded_however_many_they_are() {
    let console = Console::start().await;
    let push = json!({"url": "https://crm.example/hooks"});
    let declaration = json!({"name": "crm", "topics": ["recuperador:#"], "push": push});
    assert_eq!(console.post("/subscriptions", json!({"declaration": declaration})).await.0, 201);
    console.many_undelivered("crm", 5_001).await;
    let mut browser = Browser::new(&console, "en");
    browser.log_in(OURS).await;
    let page = browser.get("/subscriptions/crm").await;
    let page = browser.submit(&page, "/actions/undelivered/discard", "reason=closed").await;
    assert!(page.text.contains("Rows that match: 5001."), "{}", page.text);
    let done = browser.submit(&page, "/actions/undelivered/discard", "").await;
    assert_eq!(done.status, 303, "{}", done.text);
    let page = browser.get("/subscriptions/crm").await;
    assert!(!page.text.contains("/actions/undelivered/discard"), "{}", page.text);
}
