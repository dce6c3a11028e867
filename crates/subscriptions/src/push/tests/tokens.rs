//! Endpoints that need an access token.

use super::*;
use crate::Auth;

/// Adds a subscription whose requests have a token of this endpoint, and no further attempt.
async fn added(installation: &Installation, receiver: &Receiver, tokens: &Receiver) {
    let mut declaration = declaration("crm", &receiver.url("/"));
    let auth = Auth::Oauth2 { token_url: tokens.url("/token"), client_id: "malote".to_owned(), scope: None };
    declaration.push = Some(Push { auth: Some(auth), retry: Vec::new(), ..Push::new(receiver.url("/")) });
    let secrets = Secrets { auth: Some("hunter2".to_owned()), ..Secrets::default() };
    table::add(&installation.store, &seal(), &declaration, &secrets, Seek::Beginning).await.unwrap();
}

fn granted(number: usize) -> Reply {
    Reply::status(200).body(format!(r#"{{"access_token":"t{number}","expires_in":3600}}"#))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_sent_again_with_a_new_token_is_an_attempt_of_its_own() {
    let installation = Installation::new().await;
    let (receiver, tokens) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    tokens.answer_with(|_, number| granted(number));
    let is_expired = Arc::new(AtomicBool::new(false));
    let expired = Arc::clone(&is_expired);
    receiver.answer_with(move |received, _| {
        let is_first = received.header("authorization") == Some("Bearer t0");
        let is_refused = is_first && expired.load(Ordering::SeqCst);
        if is_refused { Reply::status(401).body("expired") } else { Reply::status(200) }
    });
    let mut events = record(&installation.store, &["order/1"]).await;
    added(&installation, &receiver, &tokens).await;
    wait_for_all(&receiver, &events).await;
    is_expired.store(true, Ordering::SeqCst);
    events.extend(record(&installation.store, &["order/2"]).await);
    assert!(receiver.wait_for(3, PATIENCE).await);
    installation.wait_for_count(ATTEMPTS, 3).await;
    let text =
        "SELECT attempt, status, answer FROM delivery_attempts WHERE event_id = $1 ORDER BY at".to_owned();
    let mut connection = installation.store.read().await.unwrap();
    let rows = fetch(&mut connection, text, [Value::from(events[1])]).await.unwrap();
    let row = |row: &store::AnyRow| {
        (row.get::<i64, _>(0), row.get::<Option<i64>, _>(1), row.get::<Option<String>, _>(2))
    };
    let expect = [(1, Some(401), Some("expired".to_owned())), (2, Some(200), None)];
    assert_eq!(rows.iter().map(row).collect::<Vec<_>>(), expect);
    drop(connection);
    installation.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_endpoint_that_asks_for_a_pause_gets_it_and_no_event_loses_an_attempt() {
    let installation = Installation::new().await;
    let (receiver, tokens) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    tokens.answer_with(|_, number| match number {
        0 => Reply::status(503).header("retry-after", "2"),
        number => granted(number),
    });
    let events = record(&installation.store, &["order/1"]).await;
    added(&installation, &receiver, &tokens).await;
    wait_for_all(&receiver, &events).await;
    let asked = tokens.requests();
    assert!(asked.len() == 2 && gap(&asked, 0) >= Duration::from_secs(2), "{:?}", gap(&asked, 0));
    installation.wait_for_count("SELECT count(*) FROM deliveries", 0).await;
    installation.end().await;
}
