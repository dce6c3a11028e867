//! A job that an operator pauses and resumes.

use super::*;

#[tokio::test]
async fn a_paused_job_waits_across_a_restart_lets_others_pass_and_goes_on_where_it_was() {
    let setting = setting().await;
    let events: Vec<_> = (0..4).map(|_| event("ORDER")).collect();
    setting.publish(&events).await;
    setting.all_in_state(4, EventState::Handled).await;
    let (first, stop) = (setting.runner(), CancellationToken::new());
    let running = tokio::spawn(first.run(stop.clone()));
    let slow = NewJob { rate: Some(4), again: true, ..ask(Action::Replay, What::Events, json!({})) };
    let job = setting.create(&slow).await;
    setting.job_is(&job, |job| job.progress > 0).await;
    let paused = pause(&setting.store, job.id()).await.unwrap().unwrap();
    assert_eq!(paused.state, JobState::Paused);
    stop.cancel();
    running.await.unwrap();
    let before = setting.shown(&job).await;
    assert!((1..4).contains(&before.progress), "{before:?}");

    // Another console takes what came later, and not the paused one.
    setting.run();
    let other = setting.create(&ask(Action::Replay, What::Events, json!({"id": events[0].id}))).await;
    assert_eq!(setting.ended(&other).await.state, JobState::Done);
    assert_eq!(setting.shown(&job).await, before);
    let resumed = resume(&setting.store, job.id()).await.unwrap().unwrap();
    assert_ne!(resumed.state, JobState::Paused);
    let done = setting.job_is(&job, |job| job.state == JobState::Done).await;
    assert_eq!((done.progress, done.sent), (4, 4));
    setting.all_in_state(8, EventState::Handled).await;
    assert_eq!(setting.handled(), 8, "each is handled again, once");
}

#[tokio::test]
async fn what_has_ended_is_neither_paused_nor_resumed_and_a_paused_job_can_be_cancelled() {
    let setting = setting().await;
    let job = setting.create(&ask(Action::Replay, What::Events, json!({}))).await;
    assert_eq!(resume(&setting.store, job.id()).await.unwrap().unwrap().state, JobState::Waiting);
    assert_eq!(pause(&setting.store, job.id()).await.unwrap().unwrap().state, JobState::Paused);
    assert_eq!(cancel(&setting.store, job.id()).await.unwrap().unwrap().state, JobState::Cancelled);
    assert_eq!(pause(&setting.store, job.id()).await.unwrap().unwrap().state, JobState::Cancelled);
    assert_eq!(resume(&setting.store, job.id()).await.unwrap().unwrap().state, JobState::Cancelled);
    assert_eq!(pause(&setting.store, EventId::generate()).await.unwrap(), None);
    let day = setting.create(&ask(Action::Reconcile, What::Events, json!({}))).await;
    let refused = pause(&setting.store, day.id()).await.unwrap_err().to_string();
    assert!(refused.contains("cancel it"), "{refused}");
}
