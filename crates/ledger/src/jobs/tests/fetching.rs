//! Documents that events name.

use event::Subject;

use super::*;

#[tokio::test]
async fn documents_are_asked_for_by_events_and_those_that_name_none_are_reported() {
    let setting = setting().await;
    // In these tests an event with a subject names a document.
    let naming = event("ORDER").with_subject(Subject::new("order", "1"));
    setting.publish(&[naming, event("ORDER")]).await;
    setting.all_in_state(2, EventState::Handled).await;
    setting.run();
    let job = setting.create(&ask(Action::Fetch, What::Events, json!({}))).await;
    let ended = setting.ended(&job).await;
    assert_eq!((ended.state, ended.total, ended.progress, ended.sent), (JobState::Done, 2, 2, 1));
    assert_eq!(ended.trouble, "1 not sent: the event names no document of a source with an `api`");
    setting.all_in_state(2, EventState::Handled).await;
    let mut connection = setting.store.read().await.unwrap();
    assert!(outcome(&mut connection, job.id()).await.unwrap().is_none(), "nothing is sent to a consumer");
    for what in [What::Dead, What::Rejected, What::Unrouted] {
        let refused = ask(Action::Fetch, what, json!({})).check(&["orders"]).unwrap_err();
        assert_eq!(refused.to_string(), "what: the documents of events are fetched");
    }
}
